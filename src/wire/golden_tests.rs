//! Lines encoded by Go's own `encoding/json` and signed by its `crypto/ed25519`, kept in `tests/golden`.
//!
//! Each is read, and what was read is written again: not one byte may differ. The key is the one of the 32 bytes 1, 2, ..., 32.

use libp2p::identity::Keypair;

use super::*;

/// Quotes, controls, DEL, line separators, everything Go escapes and some it does not.
const HARD: &str = "a<b>&c \u{2028}\u{2029} \u{8}\u{c}\n\r\t\0\u{1f}\u{7f} \"\\/ é 🦀";

fn key() -> Keypair {
    Keypair::ed25519_from_bytes((1..=32).collect::<Vec<u8>>()).unwrap()
}

fn lines(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.split_inclusive('\n')
}

#[test]
fn envelopes() {
    let file = include_str!("../../tests/golden/envelope.jsonl");
    let read: Vec<Envelope> = lines(file)
        .map(|line| {
            let envelope = Envelope::read(line.as_bytes(), &ReadLimits::default()).unwrap();
            let written = String::from_utf8(envelope.write()).unwrap();
            assert_eq!(written, line.trim_end().replace("\"groups\":null", "\"groups\":[]"));
            envelope
        })
        .collect();
    assert_eq!(read.len(), 3);
    assert_eq!(
        (read[0].from_app.as_str(), read[0].datatype, read[0].user.as_str()),
        ("oc-catalog", DataType::Peer, "u1")
    );
    assert_eq!(
        (read[0].groups.as_slice(), read[0].payload.as_ref()),
        (["g1".into(), "g2".into()].as_slice(), &b"{\"id\":\"p1\"}"[..])
    );
    assert_eq!(read[1].search_id.as_deref(), Some("s-1"));
    assert_eq!((read[2].user.as_str(), read[2].payload.len()), (HARD, 0));
}

#[test]
fn propalgation_messages() {
    let file = include_str!("../../tests/golden/propalgation.jsonl");
    let mut seen = Vec::new();
    for line in lines(file) {
        let message = PropalgationMessage::read(line.as_bytes(), &ReadLimits::default()).unwrap();
        assert_eq!(String::from_utf8(message.write()).unwrap(), line.trim_end());
        seen.push((
            message.action.code(),
            message.datatype.code(),
            message.payload.is_empty(),
        ));
    }
    let mut wanted: Vec<_> = (0..=8).map(|code| (code, code + 1, false)).collect();
    wanted.push((0, 0, true));
    assert_eq!(seen, wanted);
}

#[test]
fn events_and_their_signatures() {
    let file = include_str!("../../tests/golden/event.jsonl");
    let mut kinds = Vec::new();
    let mut signed = 0;
    for line in lines(file) {
        let mut event = Event::read_line(line.as_bytes(), &ReadLimits::default()).unwrap();
        assert_eq!(String::from_utf8(event.write_line()).unwrap(), line);
        assert_eq!(timestamp(parse_timestamp(&event.ts).unwrap()), event.ts);
        kinds.push(event.kind);
        if event.is_signed() {
            signed += 1;
            assert_eq!(event.verify(&key().public()), Ok(()), "{line}");
            event.sign(&key()).unwrap();
            assert_eq!(
                String::from_utf8(event.write_line()).unwrap(),
                line,
                "signed here it is the same line"
            );
        }
    }
    assert_eq!(kinds[..9], Action::ALL);
    assert_eq!((kinds.len(), signed), (13, 11));

    let hard = Event::read_line(lines(file).nth(9).unwrap().as_bytes(), &ReadLimits::default()).unwrap();
    assert_eq!((hard.from.as_str(), hard.user.as_str()), (HARD, HARD));
    let end = Event::read_line(lines(file).nth(12).unwrap().as_bytes(), &ReadLimits::default()).unwrap();
    assert_eq!(
        end.end,
        Some(SearchEndMark {
            results: 7,
            truncated: true
        })
    );
    assert_eq!(end.search_id.as_deref(), Some("s-1"));
}

#[test]
fn answers_with_their_document_as_it_is() {
    let file = include_str!("../../tests/golden/answer_plain.jsonl");
    let mut documents = Vec::new();
    for line in lines(file) {
        let event = Event::read_line_of_search(line.as_bytes(), &ReadLimits::default()).unwrap();
        let mut written = Vec::new();
        event.write_plain_line_onto(&mut written);
        assert_eq!(String::from_utf8(written).unwrap(), line);
        assert_eq!(event.kind, Action::Search);
        documents.push(event.payload);
    }
    assert!(documents[0].starts_with(b"{\"id\":\"r1\""));
    assert_eq!(documents[1], "{}");
}

#[test]
fn heartbeats() {
    let file = include_str!("../../tests/golden/heartbeat.jsonl");
    let read: Vec<Heartbeat> = lines(file)
        .map(|line| {
            let beat = Heartbeat::read_line(line.as_bytes(), &ReadLimits::default()).unwrap();
            assert_eq!(String::from_utf8(beat.write_line()).unwrap(), line);
            beat
        })
        .collect();
    assert_eq!(
        read[0],
        Heartbeat {
            name: "site A".into(),
            did: "did:a".into(),
            peer_id: "12D3KooWA".into()
        }
    );
    assert_eq!(read[1].name, HARD);
}

#[test]
fn questions() {
    let file = include_str!("../../tests/golden/question.jsonl");
    let read: Vec<Question> = lines(file)
        .map(|line| {
            let question = Question::read(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(question.write().to_vec()).unwrap(), line.trim_end());
            question
        })
        .collect();
    assert_eq!((read[0].text.as_str(), read[1].text.as_str()), ("", HARD));
    let full = &read[2];
    assert_eq!(
        (full.id.as_deref(), full.limit, full.timeout_ms),
        (Some("s-1"), Some(10), Some(5000))
    );
    assert_eq!(full.datatype, Some(DataType::StorageResource));
}

#[test]
fn search_ends() {
    let file = include_str!("../../tests/golden/search_end.jsonl");
    let plain = SearchEnd {
        search_id: "s-1".into(),
        asked: 5,
        answered: 3,
        failed: 1,
        skipped: 1,
        results: 42,
        truncated: true,
        error: None,
    };
    let search_id = HARD.into();
    let hard = SearchEnd {
        search_id,
        asked: 0,
        answered: 0,
        failed: 0,
        skipped: 0,
        results: 0,
        truncated: false,
        error: None,
    };
    let written = [plain, hard]
        .map(|end| String::from_utf8(end.write()).unwrap() + "\n")
        .concat();
    assert_eq!(written, file);
    let refused = String::from_utf8(SearchEnd::refused("s-2".into(), "too_large").write()).unwrap();
    assert!(
        refused.ends_with(r#""truncated":false,"error":"too_large"}"#),
        "{refused}"
    );
}

#[test]
fn peer_records_and_their_signatures() {
    let file = include_str!("../../tests/golden/record.jsonl");
    let mut signed = 0;
    for line in lines(file) {
        let mut record = PeerRecord::read(line.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(record.write()).unwrap(), line.trim_end());
        assert_eq!(
            timestamp(parse_timestamp(&record.expiry_date).unwrap()),
            record.expiry_date
        );
        assert_eq!(record.peer_id, key().public().to_peer_id().to_string());
        if record.signature.is_some() {
            signed += 1;
            assert_eq!(record.verify(&key().public()), Ok(()), "{line}");
            record.sign(&key()).unwrap();
            let again = String::from_utf8(record.write()).unwrap();
            assert_eq!(again, line.trim_end(), "signed here it is the same record");
        }
    }
    assert_eq!(signed, 2);

    let beat = include_str!("../../tests/golden/record_beat.jsonl");
    let read = RecordBeat::read_line(beat.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(read.write_line()).unwrap(), beat);
    let answers = include_str!("../../tests/golden/record_answer.jsonl");
    for line in lines(answers) {
        let (answer, bad) = RecordAnswer::read_line(line.as_bytes()).unwrap();
        assert_eq!(
            (String::from_utf8(answer.write_line()).unwrap().as_str(), bad),
            (line, 0)
        );
    }
}
