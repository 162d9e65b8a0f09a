//! Every `alt` box of the diagrams and every refusal, as a table of messages.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const OWN: &str = "did-a";

fn view() -> View<'static> {
    View {
        own_did: OWN,
        limits: ReadLimits {
            message_bytes: 1 << 20,
            depth: 64,
        },
        document_bytes: 2000,
    }
}

/// A message as a Go app writes it: payloads are base64.
fn message(from_app: &str, datatype: u8, payload: &str) -> Vec<u8> {
    let payload = STANDARD.encode(payload);
    format!(
        r#"{{"from_app":"{from_app}","datatype":{datatype},"user":"u","groups":null,"method":0,"payload":"{payload}"}}"#
    )
    .into_bytes()
}

fn event(action: u8, datatype: u8, payload: &str) -> Decision {
    let inner = format!(
        r#"{{"datatype":{datatype},"action":{action},"payload":"{}"}}"#,
        STANDARD.encode(payload)
    );
    dispatch(Subject::PropalgationEvent, &message("oc-api", 0, &inner), None, &view())
}

fn rule(decision: &Decision) -> &'static str {
    match decision {
        Decision::Refuse { rule, .. } => rule,
        other => panic!("not refused: {other:?}"),
    }
}

const OURS: &str = r#"{"id":"r","creator_id":"did-a","name":"gpu"}"#;

fn change(action: Action) -> Decision {
    let (datatype, id, user) = (DataType::ComputeResource, "r".into(), "u".into());
    Decision::ToPartners(Change {
        action,
        datatype,
        id,
        user,
        payload: Bytes::from_static(OURS.as_bytes()),
    })
}

#[test]
fn pb_create_update_and_delete_of_our_own_go_to_partners_untouched() {
    assert_eq!(event(2, 4, OURS), change(Action::Create));
    assert_eq!(event(3, 4, OURS), change(Action::Update));
    assert_eq!(event(4, 4, OURS), change(Action::Delete));
}

#[test]
fn only_our_proper_resource_can_be_propalgated() {
    let theirs = r#"{"id":"r","creator_id":"did-b"}"#;
    for action in [2, 3, 4] {
        assert_eq!(rule(&event(action, 4, theirs)), "not_creator");
    }
    assert_eq!(rule(&event(2, 4, r#"{"id":"r"}"#)), "missing");
    assert_eq!(rule(&event(2, 4, r#"{"creator_id":"did-a"}"#)), "missing");
    assert_eq!(
        rule(&event(2, 4, r#"{"id":"r","creator_id":"did-a","Creator_ID":"did-b"}"#)),
        "case_variant"
    );
}

#[test]
fn pb_delete_may_name_only_the_id() {
    assert!(matches!(event(4, 4, r#"{"id":"r"}"#), Decision::DeleteById { change } if change.id == "r"));
    assert_eq!(rule(&event(4, 4, "{}")), "missing");
}

#[test]
fn pb_considers_and_pb_planner_name_their_peers() {
    let Decision::ToListed(considers) = event(7, 7, r#"{"peer_ids":["b","c"],"x":1}"#) else {
        panic!()
    };
    assert_eq!(
        (considers.action, considers.to),
        (Action::Considers, vec!["b".to_owned(), "c".to_owned()])
    );
    let Decision::ToListed(planner) = event(5, 7, r#"{"peer_id":"b"}"#) else {
        panic!()
    };
    assert_eq!((planner.action, planner.to), (Action::Planner, vec!["b".to_owned()]));
    assert_eq!(
        event(6, 7, r#"{"peer_id":"b"}"#),
        Decision::ClosePlanner { peer: "b".into() }
    );
}

#[test]
fn pb_search_goes_by_datatype_and_type() {
    assert!(
        matches!(event(0, 9, r#"{"search":"bob"}"#), Decision::SearchPeer { request, .. } if request.text == "bob")
    );
    let Decision::Search { request, user, .. } = event(0, 0, r#"{"type":"known","search":"gpu"}"#) else {
        panic!()
    };
    assert_eq!(
        (request.scope, request.text.as_str(), user.as_str()),
        (crate::wire::SearchScope::Known, "gpu", "u")
    );
    assert_eq!(event(8, 0, r#"{"id":"s"}"#), Decision::CloseSearch { id: "s".into() });
    assert_eq!(rule(&event(0, 0, r#"{"type":"some","search":"gpu"}"#)), "unknown_scope");
}

#[test]
fn peer_documents_never_leave() {
    for action in [2, 3, 4, 5] {
        assert_eq!(
            rule(&event(action, 9, r#"{"id":"r","creator_id":"did-a","peer_id":"b"}"#)),
            "datatype_peer"
        );
    }
    assert_eq!(rule(&event(7, 9, r#"{"peer_ids":["b"]}"#)), "datatype_peer");
}

#[test]
fn the_inner_datatype_wins_unless_it_is_zero() {
    let inner = |datatype: u8| format!(r#"{{"datatype":{datatype},"action":"PB_CREATE","payload":{OURS}}}"#);
    let decide = |outer: u8, inner_kind: u8| {
        dispatch(
            Subject::PropalgationEvent,
            &message("oc-api", outer, &inner(inner_kind)),
            None,
            &view(),
        )
    };
    assert!(matches!(decide(3, 4), Decision::ToPartners(change) if change.datatype == DataType::ComputeResource));
    assert!(matches!(decide(3, 0), Decision::ToPartners(change) if change.datatype == DataType::StorageResource));
    assert_eq!(rule(&decide(0, 0)), "unknown_datatype");
}

#[test]
fn a_daemons_own_word_is_ignored() {
    let message_of = |from_app: &str, origin: Option<&str>| {
        let inner = format!(r#"{{"datatype":4,"action":2,"payload":{OURS}}}"#);
        dispatch(
            Subject::PropalgationEvent,
            &message(from_app, 0, &inner),
            origin,
            &view(),
        )
    };
    assert!(matches!(message_of("oc-discovery", None), Decision::Ignore(_)));
    assert!(matches!(message_of("oc-api", Some("did-b")), Decision::Ignore(_)));
    assert!(matches!(message_of("oc-api", None), Decision::ToPartners(_)));
}

#[test]
fn create_resource_of_a_peer_changes_the_federation_and_of_anything_else_the_store() {
    let create = |datatype, doc: &str| {
        dispatch(
            Subject::CreateResource,
            &message("oc-api", datatype, doc),
            None,
            &view(),
        )
    };
    assert!(matches!(
        create(9, r#"{"id":"did-b","relation":2}"#),
        Decision::PeerChanged(peer) if peer.did == "did-b" && peer.relation == Relation::Partner
    ));
    assert_eq!(rule(&create(9, r#"{"id":"did-a","relation":3}"#)), "self_relation");
    assert_eq!(rule(&create(9, r#"{"id":"did-b","relation":1}"#)), "self_relation");
    assert!(matches!(create(4, r#"{"id":"r"}"#), Decision::Put { id, .. } if id == "r"));
    let remove_by = |datatype, doc: &str| {
        dispatch(
            Subject::RemoveResource,
            &message("oc-api", datatype, doc),
            None,
            &view(),
        )
    };
    let remove = |datatype| remove_by(datatype, r#"{"id":"x"}"#);
    // A document's id is the same wherever it is read: in a nested part, and whatever the database calls its own.
    for doc in [
        r#"{"_id":"of the database","id":"x"}"#,
        r#"{"abstractobject":{"id":"x"}}"#,
        r#"{"id":"x","ID":"y"}"#,
    ] {
        let wanted = if doc.contains("ID") { "duplicate_key" } else { "" };
        match (create(4, doc), remove_by(9, doc)) {
            (Decision::Put { id, .. }, Decision::PeerRemoved { did }) => {
                assert_eq!((wanted, id.as_str(), did.as_str()), ("", "x", "x"));
            }
            (put, removed) => assert_eq!((rule(&put), rule(&removed)), (wanted, wanted), "{doc}"),
        }
    }
    assert_eq!(
        remove_by(9, r#"{"ID":"x"}"#),
        remove(9),
        "as Go writes it without a tag"
    );
    assert_eq!(remove(9), Decision::PeerRemoved { did: "x".into() });
    assert_eq!(
        remove(4),
        Decision::Remove {
            datatype: DataType::ComputeResource,
            id: "x".into()
        }
    );
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let decide = |text: &str| dispatch(Subject::PropalgationEvent, text.as_bytes(), None, &view());
    assert_eq!(rule(&decide("not json")), "not_json");
    assert_eq!(rule(&decide("[]")), "wrong_type");
    assert_eq!(rule(&decide(r#"{"datatype":99,"payload":""}"#)), "unknown_datatype");
    assert_eq!(rule(&event(77, 4, OURS)), "unknown_action");
    assert_eq!(rule(&event(1, 4, OURS)), "unknown_action");
    assert_eq!(
        rule(&decide(r#"{"from_app":"a","From_App":"b","payload":""}"#)),
        "duplicate_key"
    );
    let deep = format!(r#"{{"payload":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    assert_eq!(rule(&decide(&deep)), "too_deep");
    let large = format!(r#"{{"id":"r","creator_id":"did-a","x":"{}"}}"#, "x".repeat(3000));
    assert_eq!(rule(&event(2, 4, &large)), "too_large");
    assert_eq!(rule(&event(2, 4, "\"text\"")), "not_object");
}

#[test]
fn a_search_that_cannot_be_put_names_the_one_that_waits_for_its_end() {
    let refused = |payload: &str| match event(0, 4, payload) {
        Decision::RefuseSearch { id, rule, .. } => (Some(id), rule),
        decision => (None, rule(&decision)),
    };
    assert_eq!(
        refused(r#"{"search":1,"id":"s"}"#),
        (Some("s".to_owned()), "wrong_type")
    );
    assert_eq!(refused(r#"{"search":1}"#), (None, "wrong_type"));
    assert_eq!(refused(r#"{"search":1,"id":2}"#), (None, "wrong_type"));
}
