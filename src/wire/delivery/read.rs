//! Reading the lines, tolerantly and bounded; one pass over a line.

use super::{DeliveryKey, DeliveryLine, DeliveryPosition, KEYS_MAX, ReceiverLine, SenderLine};
use crate::wire::datatype::DataType;
use crate::wire::error::WireError;
use crate::wire::ids::TEXT_MAX;
use crate::wire::json::{self, ReadLimits};
use crate::wire::names::Action;
use crate::wire::payload;
use crate::wire::tagged::tagged;

/// Levels that a line puts around its payload.
const WRAPPING: usize = 2;

const SENDER_TAGS: [&str; 4] = ["line", "begin", "list", "end"];
const SENDER_NAMES: [&str; 13] = [
    "seq",
    "as",
    "datatype",
    "id",
    "user",
    "payload",
    "lineage",
    "incarnation",
    "from",
    "after",
    "to",
    "keys",
    "directed",
];
const RECEIVER_TAGS: [&str; 6] = ["ack", "have", "page", "keys", "reject", "stop"];
const RECEIVER_NAMES: [&str; 13] = [
    "seq",
    "lineage",
    "incarnation",
    "want",
    "directed",
    "to",
    "count",
    "sum",
    "last",
    "keys",
    "code",
    "max",
    "retryafter",
];
/// The actions a line may stand for.
pub(super) const ACTIONS: [Action; 4] = [Action::Update, Action::Create, Action::Delete, Action::Considers];

impl SenderLine {
    /// Reads one line (its newline may be there or not).
    ///
    /// # Errors
    /// Over a limit, not an object with one known key, a part of the wrong kind or missing.
    pub fn read_line(line: &[u8], limits: &ReadLimits) -> Result<Self, WireError> {
        let (tag, fields) = tagged(check(line, limits)?, &SENDER_TAGS, &SENDER_NAMES)?;
        let [
            seq,
            as_,
            datatype,
            id,
            user,
            body,
            lineage,
            incarnation,
            from,
            after,
            to,
            keys,
            directed,
        ] = fields;
        Ok(match tag {
            0 => Self::Line(DeliveryLine {
                seq: json::number(seq, "seq")?,
                action: read_action(as_)?,
                datatype: known_datatype(datatype)?,
                id: text(id, "id")?,
                user: text(user, "user")?,
                payload: payload::read(body, limits)?,
            }),
            1 => Self::Begin {
                position: read_position(lineage, incarnation, from, "from")?,
                directed: json::flag(directed, "directed")?,
            },
            2 if json::flag(keys, "keys")? => Self::ListKeys {
                after: read_key(after)?,
                to: read_key(to)?,
            },
            2 => Self::List,
            _ => Self::End(read_position(lineage, incarnation, seq, "seq")?),
        })
    }
}

impl ReceiverLine {
    /// Reads one line (its newline may be there or not).
    ///
    /// # Errors
    /// As for [`SenderLine::read_line`].
    pub fn read_line(line: &[u8], limits: &ReadLimits) -> Result<Self, WireError> {
        let (tag, fields) = tagged(check(line, limits)?, &RECEIVER_TAGS, &RECEIVER_NAMES)?;
        let [
            seq,
            lineage,
            incarnation,
            want,
            directed,
            to,
            count,
            sum,
            last,
            keys,
            code,
            max,
            retry_after,
        ] = fields;
        Ok(match tag {
            0 => Self::Ack {
                seq: json::number(seq, "seq")?,
            },
            1 => Self::Have {
                position: match json::given(lineage) {
                    Some(_) => Some(read_position(lineage, incarnation, seq, "seq")?),
                    None => None,
                },
                full: json::string(want, "want")?.is_some_and(|want| want == "full"),
                directed: json::flag(directed, "directed")?,
            },
            2 => Self::Page {
                to: read_key(to)?,
                count: json::number(count, "count")?,
                sum: read_hex(sum, "sum")?,
                last: json::flag(last, "last")?,
            },
            3 => Self::Keys {
                keys: read_keys(keys)?,
                last: json::flag(last, "last")?,
            },
            4 => Self::Reject {
                seq: json::number(seq, "seq")?,
                code: text(code, "code")?,
                max: json::count(max, "max")?,
            },
            _ => Self::Stop {
                code: text(code, "code")?,
                retry_after: json::count(retry_after, "retry_after")?.unwrap_or_default(),
            },
        })
    }
}

/// The line as text; what wraps the payload is not counted in its depth.
fn check<'a>(line: &'a [u8], limits: &ReadLimits) -> Result<&'a str, WireError> {
    let limits = ReadLimits {
        depth: limits.depth.saturating_add(WRAPPING),
        ..*limits
    };
    limits.check(line)
}

fn read_action(raw: Option<&str>) -> Result<Option<Action>, WireError> {
    let name = json::string(raw, "as")?.ok_or(WireError::Missing("as"))?;
    Ok(ACTIONS.into_iter().find(|action| action.protocol() == Some(&*name)))
}

/// A kind of a later version is none, so that the line can be refused alone and not the stream with it.
fn known_datatype(raw: Option<&str>) -> Result<DataType, WireError> {
    match json::datatype(raw) {
        Err(WireError::UnknownDataType(_)) => Ok(DataType::Invalid),
        read => read,
    }
}

fn text(raw: Option<&str>, key: &'static str) -> Result<String, WireError> {
    bounded(json::string_or_empty(raw, key)?, key)
}

fn bounded(text: String, what: &'static str) -> Result<String, WireError> {
    json::at_most(text, what, TEXT_MAX)
}

fn read_hex(raw: Option<&str>, key: &'static str) -> Result<[u8; 16], WireError> {
    let text = json::string(raw, key)?.ok_or(WireError::Missing(key))?;
    from_hex(&text, key)
}

fn from_hex(text: &str, key: &'static str) -> Result<[u8; 16], WireError> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| WireError::WrongType {
        key,
        expected: "32 hex digits",
    })?;
    Ok(bytes)
}

fn read_position(
    lineage: Option<&str>,
    incarnation: Option<&str>,
    seq: Option<&str>,
    name: &'static str,
) -> Result<DeliveryPosition, WireError> {
    Ok(DeliveryPosition {
        lineage: read_hex(lineage, "lineage")?,
        incarnation: read_hex(incarnation, "incarnation")?,
        seq: json::number(seq, name)?,
    })
}

fn key(datatype: u64, id: String) -> Result<DeliveryKey, WireError> {
    let datatype = DataType::from_code(datatype).ok_or_else(|| WireError::UnknownDataType(datatype.to_string()))?;
    let id = bounded(id, "id")?;
    Ok(DeliveryKey { datatype, id })
}

fn read_key(raw: Option<&str>) -> Result<Option<DeliveryKey>, WireError> {
    let Some(raw) = json::given(raw) else { return Ok(None) };
    let (datatype, id) = serde_json::from_str(raw).map_err(|_| WireError::WrongType {
        key: "to",
        expected: "[datatype, id]",
    })?;
    key(datatype, id).map(Some)
}

fn read_keys(raw: Option<&str>) -> Result<Vec<(DeliveryKey, [u8; 16])>, WireError> {
    let raw = json::given(raw).ok_or(WireError::Missing("keys"))?;
    let list: Vec<(u64, String, String)> = serde_json::from_str(raw).map_err(|_| WireError::WrongType {
        key: "keys",
        expected: "a list of [datatype, id, hash]",
    })?;
    if list.len() > KEYS_MAX {
        return Err(WireError::TooLarge {
            what: "keys",
            size: list.len(),
            limit: KEYS_MAX,
        });
    }
    list.into_iter()
        .map(|(datatype, id, hash)| Ok((key(datatype, id)?, from_hex(&hash, "hash")?)))
        .collect()
}
