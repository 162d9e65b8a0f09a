//! The upgrade behind every stream: agrees on a protocol's name and hands the bytes over as they are.
//!
//! Owns the list of names offered, and which of them are counted on. Never reads or writes. Always: it cannot fail, and tells
//! which name was agreed on.

use crate::wire::protocol;
use futures::future::{Ready, ready};
use libp2p::core::upgrade::{InboundUpgrade, NegotiationError, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::{Stream, StreamProtocol};
use std::convert::Infallible;
use std::io;

/// The trivial upgrade: the negotiated stream together with the name that was agreed on.
#[derive(Debug, Clone)]
pub struct ByName(pub(super) Vec<StreamProtocol>);

/// Protocols that whoever is asked by them is counted on to know: the question leaves with the name, a round trip sooner. A peer
/// that does not know it ends the stream, which reads as no answer.
const COUNTED_ON: [&str; 2] = [protocol::SEARCH, protocol::RECORD_GET];
/// What is offered in the second place: streams wait for the answer to all names but the last one. Nobody serves it.
const NONE: StreamProtocol = StreamProtocol::new("/opencloud/none");

impl ByName {
    /// To open a stream of this protocol.
    pub(super) fn outbound(name: StreamProtocol) -> Self {
        match COUNTED_ON.contains(&name.as_ref()) {
            true => Self(vec![name]),
            false => Self(vec![name, NONE]),
        }
    }

    /// Whether reading failed because the peer does not know a protocol that it was counted on to know.
    pub(crate) fn is_unknown(error: &io::Error) -> bool {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        matches!(inner, Some(NegotiationError::Failed))
    }

    /// Whether this name came of [`ByName::outbound`] because the peer does not know the one that was meant.
    pub(super) fn is_none(name: &StreamProtocol) -> bool {
        *name == NONE
    }
}

impl UpgradeInfo for ByName {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for ByName {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl OutboundUpgrade<Stream> for ByName {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}
