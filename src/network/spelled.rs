//! Streams of a connection, with the first frames of each put through [`Talk`].
//!
//! Owns the bytes between the two for as long as they are looked at. Always: no byte is lost, reordered or held back beyond a
//! frame; a stream whose first frames are through is nothing but the stream inside.

use super::frame::{Frame, Gathered, encode};
use super::spelling::{FarSaysOther, Talk, Way};
use futures::{AsyncRead, AsyncWrite, ready};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes read at a time while frames are looked at.
const PIECE: usize = 256;

/// A connection whose streams are [`Spelled`].
pub(super) struct SpelledMuxer<M> {
    inner: M,
    far: FarSaysOther,
}

impl<M> SpelledMuxer<M> {
    pub(super) fn new(inner: M) -> Self {
        Self {
            inner,
            far: FarSaysOther::default(),
        }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for SpelledMuxer<M>
where
    M::Substream: Unpin,
{
    type Substream = Spelled<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_inbound(context))?;
        Poll::Ready(Ok(Spelled::new(inner, Talk::new(Way::Read, self.far.clone()))))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_outbound(context))?;
        Poll::Ready(Ok(Spelled::new(inner, Talk::new(Way::Written, self.far.clone()))))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        Pin::new(&mut self.inner).poll_close(context)
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.inner).poll(context)
    }
}

/// One way: a frame that is gathered, and what is to be handed on.
#[derive(Default)]
struct Lane {
    frame: Frame,
    out: Vec<u8>,
    handed: usize,
}

impl Lane {
    fn rest(&self) -> &[u8] {
        self.out.get(self.handed..).unwrap_or_default()
    }

    fn has_handed(&mut self, count: usize) {
        self.handed += count;
        if self.rest().is_empty() {
            self.out.clear();
            self.handed = 0;
        }
    }

    fn push(&mut self, piece: &[u8], way: Way, talk: &mut Talk) {
        match self.frame.push(piece) {
            Gathered::Part => {}
            Gathered::Whole(frame) => self.out.extend(encode(&talk.hand_on(way, frame))),
            Gathered::None(raw) => {
                talk.give_up();
                self.out.extend(raw);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty() && !self.frame.is_begun()
    }
}

struct First {
    talk: Talk,
    read: Lane,
    written: Lane,
}

/// A stream; see the module's first lines.
pub(super) struct Spelled<S> {
    inner: S,
    /// While the first frames are looked at.
    first: Option<Box<First>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Spelled<S> {
    pub(super) fn new(inner: S, talk: Talk) -> Self {
        let first = First {
            talk,
            read: Lane::default(),
            written: Lane::default(),
        };
        Self {
            inner,
            first: Some(Box::new(first)),
        }
    }

    /// Forgets the first frames once all of them are handed on.
    fn settle(&mut self) {
        if let Some(first) = &mut self.first {
            for (way, lane) in [(Way::Read, &mut first.read), (Way::Written, &mut first.written)] {
                if !first.talk.looks(way) && lane.frame.is_begun() {
                    let raw = lane.frame.take_raw();
                    lane.out.extend(raw);
                }
            }
            let looks = first.talk.looks(Way::Read) || first.talk.looks(Way::Written);
            if !looks && first.read.is_empty() && first.written.is_empty() {
                self.first = None;
            }
        }
    }

    /// Writes what is to be handed on.
    fn hand_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.settle();
        while let Some(first) = self.first.as_mut().filter(|first| !first.written.rest().is_empty()) {
            let count = ready!(Pin::new(&mut self.inner).poll_write(context, first.written.rest()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            first.written.has_handed(count);
        }
        self.settle();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Spelled<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            this.settle();
            let Some(first) = this.first.as_mut().filter(|_| !into.is_empty()) else {
                return Pin::new(&mut this.inner).poll_read(context, into);
            };
            let ready = first.read.rest();
            if !ready.is_empty() {
                let count = ready.len().min(into.len());
                for (to, from) in into.iter_mut().zip(ready) {
                    *to = *from;
                }
                first.read.has_handed(count);
                return Poll::Ready(Ok(count));
            }
            if !first.talk.looks(Way::Read) {
                return Pin::new(&mut this.inner).poll_read(context, into);
            }
            let mut piece = [0; PIECE];
            let wanted = first.read.frame.wants().min(PIECE);
            let room = piece.get_mut(..wanted).unwrap_or_default();
            let count = ready!(Pin::new(&mut this.inner).poll_read(context, room))?;
            if count == 0 {
                // The end: what came of a frame comes out, and then the end.
                first.talk.give_up();
                if !first.read.frame.is_begun() {
                    return Poll::Ready(Ok(0));
                }
            }
            if count > 0 {
                let piece = piece.get(..count).unwrap_or_default();
                first.read.push(piece, Way::Read, &mut first.talk);
            }
        }
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.settle();
        if self.first.is_none() {
            return Pin::new(&mut self.inner).poll_read_vectored(context, into);
        }
        match into.iter_mut().find(|slice| !slice.is_empty()) {
            Some(slice) => self.poll_read(context, slice),
            None => Poll::Ready(Ok(0)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Spelled<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.hand_on(context))?;
        match &mut this.first {
            Some(first) if first.talk.looks(Way::Written) && !from.is_empty() => {
                let count = first.written.frame.wants().min(from.len());
                let piece = from.get(..count).unwrap_or_default();
                first.written.push(piece, Way::Written, &mut first.talk);
                Poll::Ready(Ok(count))
            }
            _ => Pin::new(&mut this.inner).poll_write(context, from),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.settle();
        if self.first.is_none() {
            return Pin::new(&mut self.inner).poll_write_vectored(context, from);
        }
        match from.iter().find(|slice| !slice.is_empty()) {
            Some(slice) => self.poll_write(context, slice),
            None => Poll::Ready(Ok(0)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.hand_on(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(first) = &mut self.first {
            let raw = first.written.frame.take_raw();
            first.written.out.extend(raw);
        }
        ready!(self.hand_on(context))?;
        Pin::new(&mut self.inner).poll_close(context)
    }
}

#[cfg(test)]
#[path = "spelled_tests.rs"]
mod tests;
