//! What documents mean: peers and their relation, the header every document has, who may see what.
//!
//! Pure: no I/O, no clock of its own, nothing of the wire. A document is kept byte for byte; only what is needed is read.

mod access;
mod bucket;
mod document;
mod error;
mod federation;
mod fields;
mod header;
mod lift;
mod peer;
mod relation;
mod same;
mod stored;

pub use access::{ACCESS_FIELDS, Asker, may_see};
pub use bucket::TokenBucket;
pub use document::Document;
pub use error::ModelError;
pub use federation::{Federation, Member};
pub use fields::{NEST_DEPTH_MAX, NESTS};
pub use header::{Header, ID_MAX, read_document_id, read_header};
pub use lift::lift;
pub use peer::{ADDRESSES_MAX, Addresses, Peer, peer_id_of};
pub use relation::Relation;
pub use same::{same_number, same_time, same_value};
pub use stored::{ATTRIBUTES, StoredFields, read_stored};

#[cfg(test)]
mod property_tests;
