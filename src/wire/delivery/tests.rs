//! Golden lines, what is tolerated, what is refused, and that everything written reads back.

use super::read::ACTIONS;
use super::*;
use crate::wire::{ReadLimits, WireError};
use proptest::prelude::*;
use serde_json::value::RawValue;

fn sender(line: &str) -> Result<SenderLine, WireError> {
    SenderLine::read_line(line.as_bytes(), &ReadLimits::default())
}

fn receiver(line: &str) -> Result<ReceiverLine, WireError> {
    ReceiverLine::read_line(line.as_bytes(), &ReadLimits::default())
}

#[test]
fn golden_lines_are_written_as_they_were_read() {
    let file = include_str!("../../../tests/golden/delivery_sender.jsonl");
    let read: Vec<SenderLine> = file
        .split_inclusive('\n')
        .map(|line| {
            let read = sender(line).unwrap();
            assert_eq!(String::from_utf8(read.write_line()).unwrap(), line);
            read
        })
        .collect();
    let at = DeliveryPosition {
        lineage: std::array::from_fn(|n| n as u8),
        incarnation: std::array::from_fn(|n| 240 + n as u8),
        seq: 0,
    };
    assert_eq!(
        read[0],
        SenderLine::Begin {
            position: at,
            directed: false
        }
    );
    assert_eq!((&read[2], read.len()), (&SenderLine::List, 10));
    let SenderLine::Line(last) = &read[8] else {
        panic!("{:?}", read[8])
    };
    assert_eq!(
        (last.action, &last.payload[..]),
        (Some(Action::Considers), &b" {\"a\": 1}\n"[..])
    );
    let file = include_str!("../../../tests/golden/delivery_receiver.jsonl");
    for line in file.split_inclusive('\n') {
        let read = receiver(line).unwrap();
        assert_eq!(String::from_utf8(read.write_line()).unwrap(), line);
    }
}

#[test]
fn what_a_later_version_says_too_is_skipped() {
    assert_eq!(
        receiver(r#"{"more":[{}],"ack":{"seq":1,"new":{"x":[]}},"x":null}"#),
        Ok(ReceiverLine::Ack { seq: 1 })
    );
    let line = sender(r#"{"line":{"seq":1,"as":"/new/2.0","datatype":99,"id":"r","payload":{}}}"#).unwrap();
    let SenderLine::Line(line) = line else {
        panic!("{line:?}")
    };
    assert_eq!(
        (line.action, line.datatype),
        (None, DataType::Invalid),
        "refused alone, not the stream"
    );
    assert_eq!(sender(r#"{"list":{"after":[1,"a"]}}"#), Ok(SenderLine::List));
}

#[test]
fn refusals_have_their_rule() {
    let long = format!(r#"{{"list":{{"keys":true,"to":[1,"{}"]}}}}"#, "a".repeat(1025));
    for (line, rule) in [
        ("", "not_json"),
        ("{}", "unknown_line"),
        (r#"{"greet":{}}"#, "unknown_line"),
        (r#"{"list":[]}"#, "wrong_type"),
        (r#"{"list":{},"end":{}}"#, "duplicate_key"),
        (r#"{"line":{"as":"x","id":"r"}}"#, "missing"),
        (r#"{"line":{"seq":1,"id":"r"}}"#, "missing"),
        (r#"{"line":{"seq":-1,"as":"x"}}"#, "wrong_type"),
        (r#"{"line":{"seq":1,"seq":1,"as":"x"}}"#, "duplicate_key"),
        (
            r#"{"begin":{"lineage":"00","incarnation":"00","from":1}}"#,
            "wrong_type",
        ),
        (r#"{"list":{"keys":true,"to":[99,"a"]}}"#, "unknown_datatype"),
        (r#"{"list":{"keys":true,"to":["a"]}}"#, "wrong_type"),
        (&long, "too_large"),
    ] {
        assert_eq!(sender(line).map_err(|error| error.rule()), Err(rule), "{line}");
    }
    let many = format!(r#"{{"keys":{{"keys":{:?}}}}}"#, vec!["x"; 3]);
    for (line, rule) in [
        (r#"{"keys":{}}"#, "missing"),
        (&*many, "wrong_type"),
        (r#"{"page":{"count":1}}"#, "missing"),
        (r#"{"have":{"lineage":"000102030405060708090a0b0c0d0e0f"}}"#, "missing"),
        (r#"{"line":{}}"#, "unknown_line"),
    ] {
        assert_eq!(receiver(line).map_err(|error| error.rule()), Err(rule), "{line}");
    }
}

#[test]
fn the_payload_may_be_as_deep_as_a_message_of_its_own() {
    let line = |depth: usize| {
        let payload = "[".repeat(depth) + &"]".repeat(depth);
        sender(&format!(r#"{{"line":{{"seq":1,"as":"x","payload":{payload}}}}}"#)).map(drop)
    };
    assert_eq!(line(64), Ok(()));
    assert!(matches!(line(65), Err(WireError::TooDeep(_))));
}

fn words() -> impl Strategy<Value = String> {
    "[<>&\\\\\"\u{2028}\u{0}-\u{1f}a-z🦀]{0,12}"
}

fn keys() -> impl Strategy<Value = DeliveryKey> {
    (prop::sample::select(DataType::ALL.to_vec()), words()).prop_map(|(datatype, id)| DeliveryKey { datatype, id })
}

fn positions() -> impl Strategy<Value = DeliveryPosition> {
    (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u64>()).prop_map(|(lineage, incarnation, seq)| DeliveryPosition {
        lineage,
        incarnation,
        seq,
    })
}

fn payloads() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        words().prop_map(|text| Bytes::from(serde_json::json!({ "name": text, "n": [1, null] }).to_string())),
        words().prop_map(|text| Bytes::from(serde_json::Value::String(text).to_string())),
        prop::sample::select(vec![
            "{\"a\"\n:1}",
            " {}",
            "[1 , 2]",
            "[]\n",
            "null",
            "\"\"",
            "1.50",
            "{\"a\":1}{}"
        ])
        .prop_filter("JSON", |text| serde_json::from_str::<&RawValue>(text).is_ok())
        .prop_map(|text| Bytes::from_static(text.as_bytes())),
    ]
}

fn sender_lines() -> impl Strategy<Value = SenderLine> {
    let action = prop::option::of(prop::sample::select(ACTIONS.to_vec()));
    let kind = prop::sample::select(DataType::ALL.to_vec());
    let line = (any::<u64>(), action, kind, words(), words(), payloads()).prop_map(
        |(seq, action, datatype, id, user, payload)| {
            SenderLine::Line(DeliveryLine {
                seq,
                action,
                datatype,
                id,
                user,
                payload,
            })
        },
    );
    let range = (prop::option::of(keys()), prop::option::of(keys()));
    prop_oneof![
        4 => line,
        1 => (positions(), any::<bool>()).prop_map(|(position, directed)| SenderLine::Begin { position, directed }),
        1 => positions().prop_map(SenderLine::End),
        1 => Just(SenderLine::List),
        1 => range.prop_map(|(after, to)| SenderLine::ListKeys { after, to }),
    ]
}

fn receiver_lines() -> impl Strategy<Value = ReceiverLine> {
    let have = (prop::option::of(positions()), any::<bool>(), any::<bool>()).prop_map(|(position, full, directed)| {
        ReceiverLine::Have {
            position,
            full,
            directed,
        }
    });
    let page = (prop::option::of(keys()), any::<u64>(), any::<[u8; 16]>(), any::<bool>())
        .prop_map(|(to, count, sum, last)| ReceiverLine::Page { to, count, sum, last });
    let list = prop::collection::vec((keys(), any::<[u8; 16]>()), 0..4);
    prop_oneof![
        have,
        page,
        (list, any::<bool>()).prop_map(|(keys, last)| ReceiverLine::Keys { keys, last }),
        any::<u64>().prop_map(|seq| ReceiverLine::Ack { seq }),
        (any::<u64>(), words(), prop::option::of(1_u64..)).prop_map(|(seq, code, max)| ReceiverLine::Reject {
            seq,
            code,
            max
        }),
        (words(), any::<u64>()).prop_map(|(code, retry_after)| ReceiverLine::Stop { code, retry_after }),
    ]
}

proptest! {
    #[test]
    fn sender_lines_read_back(line in sender_lines(), cut in 2_usize..60) {
        let bytes = line.write_line();
        prop_assert_eq!(bytes.iter().position(|byte| *byte == b'\n'), Some(bytes.len() - 1));
        prop_assert!(SenderLine::read_line(&bytes[..bytes.len().saturating_sub(cut)], &ReadLimits::default()).is_err());
        prop_assert_eq!(SenderLine::read_line(&bytes, &ReadLimits::default()), Ok(line));
    }

    #[test]
    fn receiver_lines_read_back(line in receiver_lines(), noise in any::<Vec<u8>>()) {
        let bytes = line.write_line();
        prop_assert_eq!(bytes.iter().position(|byte| *byte == b'\n'), Some(bytes.len() - 1));
        prop_assert_eq!(ReceiverLine::read_line(&bytes, &ReadLimits::default()), Ok(line));
        let _ = ReceiverLine::read_line(&noise, &ReadLimits::default());
        let _ = SenderLine::read_line(&noise, &ReadLimits::default());
    }
}
