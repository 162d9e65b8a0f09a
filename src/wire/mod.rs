//! Every byte form spoken with apps (NATS) and with other daemons (streams, gossip), and nothing else.
//!
//! Owns: names, enums, field spellings, base64 and signing rules. Never does I/O, never decides what a message means.
//! Always holds: reading is tolerant (aliases, names or numbers, base64 or plain payload) but bounded by [`ReadLimits`],
//! writing has exactly one form, and no code outside knows how a field of a message is spelled.

mod apart;
mod datatype;
mod delivery;
mod envelope;
mod error;
mod event;
mod heartbeat;
mod ids;
mod json;
mod names;
mod payload;
mod plain;
mod propalgation;
mod record;
mod record_lines;
mod search;
mod tagged;
mod time;
mod write;

pub use datatype::DataType;
pub use delivery::{DeliveryKey, DeliveryLine, DeliveryPosition, KEYS_MAX, ReceiverLine, SenderLine};
pub use envelope::Envelope;
pub use error::WireError;
pub use event::{Event, SearchEndMark};
pub use heartbeat::Heartbeat;
pub use ids::{PEER_IDS_MAX, read_id, read_peer_id, read_peer_ids};
pub use json::ReadLimits;
pub use names::{Action, INDEXERS_KEY, NODE_KEY, ORIGIN_HEADER, OWN_NAME, TOPIC_SEARCH, TOPIC_SEARCH_ALIAS, protocol};
pub use propalgation::PropalgationMessage;
pub use record::{PeerRecord, RECORD_BYTES};
pub use record_lines::{
    BeatAnswer, INDEXERS_MAX, RECORD_LINE_BYTES, RECORDS_MAX, RecordAnswer, RecordBeat, RecordQuery, read_published,
};
pub use search::{Question, SEARCH_TEXT_MAX, SearchEnd, SearchRequest, SearchScope};
pub use time::{parse_timestamp, timestamp};

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod property_tests;
