//! Both ends of a stream, in memory: what goes in at one comes out at the other, but for the spelling.

use super::*;
use futures::executor::block_on;
use futures::io::{AllowStdIo, Cursor};
use futures::{AsyncReadExt, AsyncWriteExt};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A stream that has what the far side said, keeps what it is told, and moves as many bytes at a time as it is asked to.
struct Far {
    says: Cursor<Vec<u8>>,
    told: Vec<u8>,
    piece: usize,
}

impl AsyncRead for Far {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = into.len().min(self.piece);
        Pin::new(&mut self.says).poll_read(context, &mut into[..count])
    }
}

impl AsyncWrite for Far {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let count = from.len().min(self.piece);
        let mut told = AllowStdIo::new(&mut self.told);
        Pin::new(&mut told).poll_write(context, &from[..count])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn stream(proposal: Way, says: Vec<u8>, piece: usize) -> Spelled<Far> {
    let far = Far {
        says: Cursor::new(says),
        told: Vec::new(),
        piece,
    };
    Spelled::new(far, Talk::new(proposal, Arc::new(AtomicBool::new(true))))
}

fn said(frames: &[&str], rest: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = frames.iter().flat_map(|frame| encode(frame.as_bytes())).collect();
    bytes.extend_from_slice(rest);
    bytes
}

const HEADER: &str = "/multistream/1.0.0\n";
const OURS: &str = "/oc/kad/1.0.0\n";
const OTHER: &str = "oc/kad/1.0.0\n";

proptest! {
    #[test]
    fn whatever_else_goes_in_comes_out(
        proposal in any::<bool>(),
        says in proptest::collection::vec(any::<u8>(), 0..600),
        told in proptest::collection::vec(any::<u8>(), 0..600),
        begins in any::<bool>(),
        piece in 1_usize..70,
    ) {
        let begin = |rest: &[u8]| if begins { said(&[HEADER, "/other/1\n"], rest) } else { rest.to_vec() };
        let (says, told) = (begin(&says), begin(&told));
        let mut stream = stream(if proposal { Way::Read } else { Way::Written }, says.clone(), piece);
        let mut read = Vec::new();
        block_on(async {
            stream.write_all(&told).await.unwrap();
            stream.close().await.unwrap();
            stream.read_to_end(&mut read).await.unwrap();
        });
        prop_assert_eq!(read, says);
        prop_assert_eq!(&stream.inner.told, &told);
    }

    #[test]
    fn of_the_other_spelling_only_the_spelling_changes(
        inbound in any::<bool>(),
        says in proptest::collection::vec(any::<u8>(), 0..300),
        told in proptest::collection::vec(any::<u8>(), 0..300),
        piece in 1_usize..70,
    ) {
        let proposal = if inbound { Way::Read } else { Way::Written };
        let mut stream = stream(proposal, said(&[HEADER, OTHER], &says), piece);
        let names = said(&[HEADER, OURS], &[]);
        let mut read = vec![0; names.len()];
        let mut rest = Vec::new();
        block_on(async {
            if inbound {
                stream.read_exact(&mut read).await.unwrap();
                stream.write_all(&names).await.unwrap();
            } else {
                stream.write_all(&names).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_exact(&mut read).await.unwrap();
            }
            stream.flush().await.unwrap();
            stream.write_all(&told).await.unwrap();
            stream.read_to_end(&mut rest).await.unwrap();
        });
        prop_assert_eq!((read, rest), (names, says));
        prop_assert_eq!(&stream.inner.told, &said(&[HEADER, OTHER], &told));
        prop_assert!(stream.first.is_none(), "nothing is looked at any more");
    }
}

#[test]
fn a_far_side_that_ends_in_the_middle_of_a_frame_is_at_its_end() {
    let cut = said(&[HEADER, OTHER], &[]);
    let cut = &cut[..cut.len() - 3];
    let mut stream = stream(Way::Read, cut.to_vec(), 7);
    let mut read = Vec::new();
    block_on(stream.read_to_end(&mut read)).unwrap();
    assert_eq!(read, cut);
}
