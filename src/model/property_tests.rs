//! No document makes reading panic, and a header that is accepted is the same for the most lenient reader.

use proptest::prelude::*;

use super::*;

/// A part of a document: keys in their order, doubled ones too, as no value tree could hold them.
#[derive(Debug, Clone)]
enum Part {
    Text(&'static str),
    Nest(Vec<(&'static str, Part)>),
}

const KEYS: [&str; 9] = [
    "id",
    "ID",
    "creator_id",
    "Creator_Id",
    "name",
    "creatorid",
    "abstractobject",
    "abstractresource",
    "AbstractObject",
];

fn parts() -> impl Strategy<Value = Part> {
    let leaf = prop::sample::select(vec!["a", "b"]).prop_map(Part::Text);
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop::collection::vec((prop::sample::select(KEYS.to_vec()), inner), 0..5).prop_map(Part::Nest)
    })
}

fn documents() -> impl Strategy<Value = Vec<(&'static str, Part)>> {
    prop::collection::vec((prop::sample::select(KEYS.to_vec()), parts()), 0..4).prop_map(|mut keys| {
        keys.push(("id", Part::Text("a")));
        keys.push(("creator_id", Part::Text("a")));
        keys
    })
}

fn text(keys: &[(&str, Part)]) -> String {
    let value = |part: &Part| match part {
        Part::Text(word) => format!("\"{word}\""),
        Part::Nest(keys) => text(keys),
    };
    let pairs: Vec<String> = keys
        .iter()
        .map(|(key, part)| format!("\"{key}\":{}", value(part)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// Everything a reader that ignores case and looks into nested parts could take for `wanted`.
fn candidates(keys: &[(&str, Part)], wanted: &str, found: &mut Vec<String>) {
    for (key, part) in keys {
        let key = key.to_ascii_lowercase();
        match part {
            Part::Nest(keys) if key.starts_with("abstract") => candidates(keys, wanted, found),
            Part::Text(word) if key == wanted => found.push((*word).to_owned()),
            Part::Nest(keys) if key == wanted => found.push(text(keys)),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn an_accepted_header_is_everybodys(keys in documents()) {
        let doc = text(&keys);
        if let Ok(header) = read_header(doc.as_bytes()) {
            for (wanted, value) in [("id", &header.id), ("creator_id", &header.creator_id)] {
                let mut found = Vec::new();
                candidates(&keys, wanted, &mut found);
                prop_assert!(found.iter().all(|one| one == value), "{} in {}", wanted, doc);
            }
            let lifted = lift(serde_json::from_str(&doc).unwrap());
            prop_assert_eq!(lifted["creator_id"].as_str(), Some(header.creator_id.as_str()));
        }
    }

    #[test]
    fn a_document_that_is_shown_is_everybodys(keys in documents()) {
        let doc = text(&keys).replacen('{', "{\"access_mode\":1,", 1);
        let asker = Asker { did: "b", peer_id: None, trusted: false };
        if may_see(doc.as_bytes(), "a", &asker) {
            let mut found = Vec::new();
            candidates(&keys, "creator_id", &mut found);
            prop_assert!(found.iter().all(|one| one == "a"), "{}", doc);
        }
    }

    #[test]
    fn nothing_read_panics(doc in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        documents().prop_map(|keys| text(&keys).into_bytes()),
        "[\\[\\]{}\",:0-9a-z\\\\ ]{0,48}".prop_map(String::into_bytes),
        "\\PC{0,40}".prop_map(|word| serde_json::json!({ "id": "d", "peer_id": word, "stream_address": word, "relation": word })
            .to_string().into_bytes()),
        "\\PC{0,40}".prop_map(|word| serde_json::json!({ "id": word, "stream_address": word, "public_key": word })
            .to_string().into_bytes()),
    ]) {
        let _ = read_header(&doc);
        let _ = read_stored(&doc, &crate::model::ATTRIBUTES);
        let _ = Peer::read(&doc);
        if let Ok(document) = Document::new(doc)
            && let Ok(value) = document.value()
        {
            let asker = Asker { did: "a", peer_id: None, trusted: true };
            let seen = |value: &serde_json::Value| may_see(value.to_string().as_bytes(), "a", &asker);
            prop_assert!(!seen(&value) || seen(&lift(value)));
        }
    }
}
