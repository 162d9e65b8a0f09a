//! Who may see a document: ours, and public or shared with the asker by a partnership.
//!
//! Pure. Always: what readers could disagree about (a key twice, in other letters, another value in a nested part) is
//! shown to nobody, since one of them could take it for private.

use serde_json::Value;

use super::fields::{self, Fields, get};
use super::relation::{is_number, names};

/// What the rule looks at.
pub const ACCESS_FIELDS: [&str; 3] = ["creator_id", "access_mode", "instances"];

/// Who asks for a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker<'a> {
    /// Its DID.
    pub did: &'a str,
    /// Its libp2p peer id, when known.
    pub peer_id: Option<&'a str>,
    /// Whether its peer document is in our store and not blacklisted. A record from the network alone gives public rights.
    pub trusted: bool,
}

/// Whether the asker may see the document: its creator is this organisation, and it is public, or a partnership of one of
/// its instances names the asker (or everyone, `*`) and the asker is trusted. Anything malformed grants nothing.
pub fn may_see(doc: &[u8], own_did: &str, asker: &Asker<'_>) -> bool {
    let Ok(Fields {
        values: [creator_id, access_mode, instances],
        irregular: None,
    }) = fields::read(doc, &ACCESS_FIELDS)
    else {
        return false;
    };
    let creator = creator_id.and_then(fields::string);
    let value = |raw: Option<&str>| serde_json::from_str::<Value>(raw?).ok();
    !own_did.is_empty()
        && creator.as_deref() == Some(own_did)
        && (value(access_mode).is_some_and(|mode| is_public(&mode))
            || asker.trusted && value(instances).is_some_and(|instances| is_shared(&instances, asker)))
}

/// Whether an `access_mode` is PUBLIC, by number or by name.
pub(super) fn is_public(access_mode: &Value) -> bool {
    match access_mode {
        Value::String(name) => names(name, "public"),
        other => is_number(other, 1),
    }
}

fn is_shared(instances: &Value, asker: &Asker<'_>) -> bool {
    partners(instances, |key| names_asker(key, asker))
}

/// Whether a partnership of one of these instances names anybody.
pub(super) fn names_anybody(instances: &Value) -> bool {
    partners(instances, |key| !key.is_empty())
}

fn partners(instances: &Value, meant: impl Fn(&str) -> bool) -> bool {
    let instances = instances.as_array().into_iter().flatten();
    instances
        .flat_map(|instance| items(instance, "partnerships"))
        .filter_map(|partnership| get(partnership, "peer_groups")?.as_object())
        .any(|groups| groups.keys().any(|key| meant(key)))
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    get(value, key).and_then(Value::as_array).into_iter().flatten()
}

fn names_asker(key: &str, asker: &Asker<'_>) -> bool {
    !key.is_empty() && (key == "*" || key == asker.did || asker.peer_id == Some(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ME: &str = "did:me";

    fn sees(doc: &Value, asker: Asker<'_>) -> bool {
        may_see(doc.to_string().as_bytes(), ME, &asker)
    }

    fn shared(key: &str) -> Value {
        json!({ "creator_id": ME, "instances": [{}, { "partnerships": [{}, { "peer_groups": { key: ["g"] } }] }] })
    }

    #[test]
    fn the_access_rule_case_by_case() {
        let trusted = Asker {
            did: "did:a",
            peer_id: Some("12D3A"),
            trusted: true,
        };
        let stranger = Asker {
            trusted: false,
            ..trusted
        };
        let nameless = Asker {
            did: "",
            peer_id: None,
            trusted: true,
        };
        let star = Asker {
            did: "*",
            peer_id: Some("*"),
            trusted: false,
        };
        // document, trusted, stranger, without a name, stranger who calls itself `*`
        for (doc, wanted) in [
            (json!({ "creator_id": ME, "access_mode": 1 }), [true, true, true, true]),
            (
                json!({ "creator_id": ME, "access_mode": "public" }),
                [true, true, true, true],
            ),
            (
                json!({ "creator_id": ME, "access_mode": "PUBLIC" }),
                [true, true, true, true],
            ),
            (
                json!({ "creator_id": ME, "access_mode": 1.0 }),
                [true, true, true, true],
            ),
            (
                json!({ "abstractresource": { "abstractobject": { "creator_id": ME, "access_mode": 1 } } }),
                [true; 4],
            ),
            (json!({ "creator_id": ME, "access_mode": 0 }), [false; 4]),
            (json!({ "creator_id": ME, "access_mode": 2 }), [false; 4]),
            (json!({ "creator_id": ME, "access_mode": true }), [false; 4]),
            (json!({ "creator_id": ME, "access_mode": "Public" }), [false; 4]),
            (json!({ "creator_id": ME }), [false; 4]),
            (json!({ "creator_id": "did:b", "access_mode": 1 }), [false; 4]),
            (json!({ "creator_id": null, "access_mode": 1 }), [false; 4]),
            (json!({ "access_mode": 1 }), [false; 4]),
            (json!([]), [false; 4]),
            (shared("did:a"), [true, false, false, false]),
            (shared("12D3A"), [true, false, false, false]),
            (shared("*"), [true, false, true, false]),
            (shared("did:b"), [false; 4]),
            (shared(""), [false; 4]),
            (
                json!({ "creator_id": ME, "instances": { "partnerships": [] } }),
                [false; 4],
            ),
            (
                json!({ "creator_id": ME, "instances": [{ "partnerships": [{ "peer_groups": ["did:a"] }] }] }),
                [false; 4],
            ),
            (json!({ "creator_id": ME, "peer_groups": { "did:a": [] } }), [false; 4]),
            (
                json!({ "creator_id": ME, "abstractinstanciatedresource": {
                    "instances": [{ "abstractobject": { "partnerships": [{ "peer_groups": { "did:a": null } }] } }] } }),
                [true, false, false, false],
            ),
        ] {
            let seen = [trusted, stranger, nameless, star].map(|asker| sees(&doc, asker));
            assert_eq!(seen, wanted, "{doc}");
        }
        assert!(
            !may_see(br#"{ "creator_id": "", "access_mode": 1 }"#, "", &trusted),
            "no own DID, nothing is ours"
        );
    }

    #[test]
    fn what_some_reader_could_take_for_private_or_for_anothers_is_shown_to_nobody() {
        let everyone = Asker {
            did: "did:a",
            peer_id: None,
            trusted: true,
        };
        let seen = |extra: &str| {
            let doc = format!(r#"{{"creator_id":"{ME}","access_mode":1{extra}}}"#);
            may_see(doc.as_bytes(), ME, &everyone)
        };
        for extra in [
            "",
            r#","name":"n","NAME":"m""#,
            r#","abstractobject":null"#,
            r#","abstractobject":{"access_mode":1}"#,
            r#","deeper":{"access_mode":0}"#,
        ] {
            assert!(seen(extra), "{extra}");
        }
        for extra in [
            r#","access_mode":0"#,
            r#","access_mode":1"#,
            r#","\u0061ccess_mode":0"#,
            r#","Access_Mode":0"#,
            r#","acceſſ_mode":0"#,
            r#","CREATOR_ID":"did:b""#,
            r#","abstractobject":{"access_mode":0}"#,
            r#","abstractobject":{"ACCESS_MODE":0}"#,
            r#","abstractresource":{"abstractobject":{"creator_id":"did:b"}}"#,
            r#","abstractobject":[{"access_mode":0}]"#,
            r#","AbstractObject":{"access_mode":0}"#,
        ] {
            assert!(!seen(extra), "{extra}");
        }
        let hidden = r#"{"$serde_json::private::RawValue":"{\"creator_id\":\"did:me\",\"access_mode\":1}"}"#;
        assert!(!may_see(hidden.as_bytes(), ME, &everyone));
    }
}
