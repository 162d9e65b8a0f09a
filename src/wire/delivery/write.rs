//! Writing the lines; the one form of each.

use super::{DeliveryKey, DeliveryLine, DeliveryPosition, ReceiverLine, SenderLine};
use crate::wire::names::Action;
use crate::wire::write::{ObjectWriter, push_string};
use serde_json::value::RawValue;

impl SenderLine {
    /// The one written form and a newline.
    pub fn write_line(&self) -> Vec<u8> {
        match self {
            Self::Line(line) => line.write_line(),
            Self::Begin { position: at, directed } => {
                let begin = position(ObjectWriter::tagged("begin", 112), at, "from");
                optional_flag(begin, "directed", *directed).finish_tagged()
            }
            Self::End(at) => position(ObjectWriter::tagged("end", 112), at, "seq").finish_tagged(),
            Self::List => ObjectWriter::tagged("list", 0).finish_tagged(),
            Self::ListKeys { after, to } => {
                let list = ObjectWriter::tagged("list", 128);
                let list = optional_key(optional_key(list, "after", after.as_ref()), "to", to.as_ref());
                list.flag("keys", true).finish_tagged()
            }
        }
    }
}

impl DeliveryLine {
    /// As [`SenderLine::write_line`], without a copy of the line.
    pub fn write_line(&self) -> Vec<u8> {
        let protocol = self.action.and_then(Action::protocol).unwrap_or_default();
        let line = ObjectWriter::tagged("line", self.payload.len() + self.id.len() + self.user.len() + 160)
            .number("seq", self.seq)
            .string("as", protocol)
            .number("datatype", self.datatype.code().into())
            .string("id", &self.id)
            .string("user", &self.user);
        match embeddable(&self.payload) {
            Some(raw) => line.raw("payload", raw),
            None => line.bytes("payload", &self.payload),
        }
        .finish_tagged()
    }
}

impl ReceiverLine {
    /// The one written form and a newline.
    pub fn write_line(&self) -> Vec<u8> {
        match self {
            Self::Have {
                position: at,
                full,
                directed,
            } => {
                let mut have = ObjectWriter::tagged("have", 160);
                if let Some(at) = at {
                    have = position(have, at, "seq");
                }
                let have = have.optional_string("want", full.then_some("full"));
                optional_flag(have, "directed", *directed).finish_tagged()
            }
            Self::Page { to, count, sum, last } => {
                let page = optional_key(ObjectWriter::tagged("page", 160), "to", to.as_ref())
                    .number("count", *count)
                    .string("sum", &hex::encode(sum));
                optional_flag(page, "last", *last).finish_tagged()
            }
            Self::Keys { keys, last } => {
                let mut list = String::with_capacity(keys.len() * 80 + 2);
                list.push('[');
                for (at, (key, hash)) in keys.iter().enumerate() {
                    list.push_str(if at > 0 { ",[" } else { "[" });
                    push_key(&mut list, key);
                    list.push_str(",\"");
                    list.push_str(&hex::encode(hash));
                    list.push_str("\"]");
                }
                list.push(']');
                let line = ObjectWriter::tagged("keys", list.len() + 24).raw("keys", &list);
                line.flag("last", *last).finish_tagged()
            }
            Self::Ack { seq } => ObjectWriter::tagged("ack", 32).number("seq", *seq).finish_tagged(),
            Self::Reject { seq, code, max } => ObjectWriter::tagged("reject", 96)
                .number("seq", *seq)
                .string("code", code)
                .optional_number("max", *max)
                .finish_tagged(),
            Self::Stop { code, retry_after } => ObjectWriter::tagged("stop", 64)
                .string("code", code)
                .number("retry_after", *retry_after)
                .finish_tagged(),
        }
    }
}

/// A payload that can stand in a line as it is: an object or a list, and not a byte that reading would not give back.
fn embeddable(payload: &[u8]) -> Option<&str> {
    let whole = matches!(
        (payload.first(), payload.last()),
        (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']'))
    );
    if !whole || payload.contains(&b'\n') {
        return None;
    }
    serde_json::from_slice::<&RawValue>(payload).ok().map(RawValue::get)
}

fn position(object: ObjectWriter, at: &DeliveryPosition, seq: &str) -> ObjectWriter {
    object
        .string("lineage", &hex::encode(at.lineage))
        .string("incarnation", &hex::encode(at.incarnation))
        .number(seq, at.seq)
}

fn optional_flag(object: ObjectWriter, key: &str, flag: bool) -> ObjectWriter {
    if flag { object.flag(key, true) } else { object }
}

fn optional_key(object: ObjectWriter, name: &str, key: Option<&DeliveryKey>) -> ObjectWriter {
    let Some(key) = key else { return object };
    let mut list = String::from("[");
    push_key(&mut list, key);
    list.push(']');
    object.raw(name, &list)
}

fn push_key(out: &mut String, key: &DeliveryKey) {
    let mut id = Vec::with_capacity(key.id.len() + 2);
    push_string(&mut id, &key.id);
    out.push_str(&key.datatype.code().to_string());
    out.push(',');
    out.push_str(&String::from_utf8_lossy(&id));
}
