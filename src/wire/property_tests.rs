//! Whatever arrives is read or refused, never a panic; whatever is written reads back the same.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn words() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[<>&\\\\\"\u{2028}\u{0}-\u{1f}a-z🦀]{0,12}"]
}

fn payloads() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        words().prop_map(|text| Bytes::from(serde_json::json!({ "name": text, "n": [1, null] }).to_string())),
        words().prop_map(|text| Bytes::from(serde_json::Value::String(text).to_string())),
        Just(Bytes::from_static(b" { \"a\" : 1.50 }\n")),
    ]
}

fn kinds() -> impl Strategy<Value = DataType> {
    prop::sample::select(DataType::ALL.to_vec())
}

fn actions() -> impl Strategy<Value = Action> {
    prop::sample::select(Action::ALL.to_vec())
}

/// JSON-looking noise: arbitrary bytes alone would never get past the first brace.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "null",
        "true",
        "1",
        "-1e9",
        " ",
        "\"type\":",
        "\"from\":",
        "\"User\":",
        "\"payload\":",
        "\"sig\":",
        "\"search\":",
        "\"peer_ids\":",
        "\"action\":",
        "\"e30=\"",
        "\"x\"",
        "\u{2028}",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat().into_bytes()),
    ]
}

fn read_all(bytes: &[u8]) {
    let limits = ReadLimits {
        message_bytes: 4096,
        depth: 8,
    };
    let _ = Envelope::read(bytes, &limits);
    let _ = PropalgationMessage::read(bytes, &limits);
    let _ = Event::read_line(bytes, &limits);
    let _ = Heartbeat::read_line(bytes, &limits);
    let _ = SearchRequest::read(bytes);
    let _ = Question::read(bytes);
    let _ = read_peer_ids(bytes);
    let _ = read_peer_id(bytes);
    let _ = read_id(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_timestamp(text);
    }
}

proptest! {
    #[test]
    fn nothing_read_panics(bytes in noise()) {
        read_all(&bytes);
    }

    #[test]
    fn nothing_cut_short_panics_or_reads(event in events(), cut in 1_usize..400) {
        let line = event.write_line();
        let kept = line.len().saturating_sub(cut + 1);
        read_all(&line[..kept]);
        prop_assert!(Event::read_line(&line[..kept], &ReadLimits::default()).is_err());
    }

    #[test]
    fn envelopes_read_back(
        from_app in words(), datatype in kinds(), user in words(),
        groups in prop::collection::vec(words(), 0..3), payload in payloads(), search_id in prop::option::of(words()),
    ) {
        let envelope = Envelope { from_app, datatype, user, groups, payload, search_id };
        prop_assert_eq!(Envelope::read(&envelope.write(), &ReadLimits::default()), Ok(envelope));
    }

    #[test]
    fn messages_read_back(datatype in kinds(), action in actions(), payload in payloads()) {
        let message = PropalgationMessage { datatype, action, payload };
        prop_assert_eq!(PropalgationMessage::read(&message.write(), &ReadLimits::default()), Ok(message));
    }

    #[test]
    fn events_read_back(event in events(), sign in any::<bool>()) {
        let mut event = event;
        let key = libp2p::identity::Keypair::generate_ed25519();
        if sign {
            event.sign(&key).unwrap();
        }
        let back = Event::read_line(&event.write_line(), &ReadLimits::default()).unwrap();
        prop_assert_eq!(back.verify(&key.public()).is_ok(), sign);
        prop_assert_eq!(back, event);
    }

    #[test]
    fn heartbeats_and_questions_read_back(name in words(), text in words(), limit in prop::option::of(1_usize..)) {
        let beat = Heartbeat { name, did: "d".into(), peer_id: "p".into() };
        prop_assert_eq!(Heartbeat::read_line(&beat.write_line(), &ReadLimits::default()), Ok(beat));
        let question = Question { text, id: None, limit, timeout_ms: None, datatype: Some(DataType::DataResource) };
        prop_assert_eq!(Question::read(&question.write()), Some(question));
    }

    #[test]
    fn times_read_back(seconds in 0_u64..200_000_000_000, nanos in 0_u32..1_000_000_000) {
        let at = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanos);
        prop_assert_eq!(parse_timestamp(&timestamp(at)), Some(at));
    }
}

fn events() -> impl Strategy<Value = Event> {
    let end = prop::option::of(
        (0_usize..99, any::<bool>()).prop_map(|(results, truncated)| SearchEndMark { results, truncated }),
    );
    (actions(), words(), kinds(), payloads(), prop::option::of(words()), end).prop_map(
        |(kind, user, datatype, payload, search_id, end)| {
            let mut event = Event::new(kind, "did:a", &user, datatype, payload, "2024-01-02T03:04:05.6Z");
            event.search_id = search_id;
            event.end = end;
            event
        },
    )
}
