//! What partners' events are checked for.

use super::*;

fn verdict(action: Action, datatype: DataType, payload: &str) -> Result<Accepted, &'static str> {
    handle_event_from_partner(action, datatype, payload.as_bytes(), "a", 100)
}

#[test]
fn a_partner_writes_its_own_resources_and_nothing_else() {
    let kind = DataType::ComputeResource;
    let data = Ok(Accepted::Data("r".into()));
    let own = r#"{"id":"r","creator_id":"a"}"#;
    assert_eq!(verdict(Action::Create, kind, own), data);
    assert_eq!(verdict(Action::Delete, kind, own), data);
    assert_eq!(verdict(Action::Delete, kind, r#"{"id":"r"}"#), data);
    assert_eq!(verdict(Action::Update, kind, r#"{"id":"r"}"#), Err("missing"));
    assert_eq!(
        verdict(Action::Create, kind, r#"{"id":"r","creator_id":"b"}"#),
        Err("not_creator")
    );
    assert_eq!(
        verdict(Action::Delete, kind, r#"{"id":"r","creator_id":"b"}"#),
        Err("not_creator")
    );
    assert_eq!(
        verdict(Action::Create, kind, r#"{"id":"r","creator_id":"a","ID":"x"}"#),
        Err("case_variant")
    );
    assert_eq!(verdict(Action::Create, DataType::Peer, own), Err("datatype_peer"));
    assert_eq!(verdict(Action::Considers, DataType::Peer, own), Err("datatype_peer"));
    assert_eq!(verdict(Action::Create, DataType::Invalid, own), Err("unknown_datatype"));
    assert_eq!(verdict(Action::Create, kind, &format!("{own:200}")), Err("too_large"));
    assert_eq!(verdict(Action::Considers, kind, "[1]"), Ok(Accepted::Passed));
}

#[test]
fn what_nats_gets_is_the_diagrams_word_for_each_action() {
    let payload = Bytes::from_static(br#"{"id":"r","creator_id":"a"}"#);
    let message = |action| message(action, DataType::ComputeResource, "u", &payload);
    assert_eq!(message(Action::Create).0, Out::CreateResource);
    assert_eq!(message(Action::Update).0, Out::CreateResource);
    assert_eq!(message(Action::Delete).0, Out::RemoveResource);
    let (out, bytes) = message(Action::Considers);
    assert_eq!(out, Out::PropalgationEvent);
    let limits = crate::wire::ReadLimits {
        message_bytes: 10_000,
        depth: 64,
    };
    let envelope = Envelope::read(&bytes, &limits).unwrap();
    let inner = PropalgationMessage::read(&envelope.payload, &limits).unwrap();
    assert_eq!((inner.action, inner.payload), (Action::Considers, payload));
}
