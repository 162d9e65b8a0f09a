//! Follows the peer documents: by a change stream where the server has one, else by looking again and again.
//!
//! Always: whatever has changed is noticed in the end, also what changed while the server was away; looking takes no more than a
//! twentieth of the time, and whoever listens is told at most once a second.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::error::Error;
use mongodb::{Collection, Database};
use tokio::sync::watch;
use tracing::{debug, info};

use super::Shared;
use super::link::SERVER_MAX;
use crate::store::StoreError;
use crate::wire::DataType;

/// Pause after the server was away, or a change stream ended.
const AGAIN: Duration = Duration::from_secs(2);
/// Pauses between two looks: the shortest, and the longest where looking takes long.
const LOOKS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));
/// A look's share of the time: one part in so many.
const SHARE: u32 = 20;
/// Least time between two words to those who listen.
const CALM: Duration = Duration::from_secs(1);
/// How often indexes are looked at, and a change stream is tried again where there was none.
const LONG: Duration = Duration::from_secs(600);
/// Peer documents looked at; of more, what is beyond is noticed when everything is read.
const DOCUMENTS: i64 = 100_000;

/// Until nobody holds the store any more.
pub(super) async fn follow(shared: Arc<Shared>, changed: watch::Sender<u64>) {
    let closed = changed.clone();
    tokio::select! {
        () = closed.closed() => {}
        () = shared.end.cancelled() => {}
        () = rounds(&shared, &changed) => {}
    }
}

async fn rounds(shared: &Shared, changed: &watch::Sender<u64>) {
    let mut seen = None;
    loop {
        if let Err(error) = round(shared, changed, &mut seen).await {
            debug!(%error, "the peers cannot be followed");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn round(shared: &Shared, changed: &watch::Sender<u64>, seen: &mut Option<u64>) -> Result<(), StoreError> {
    let database = &shared.link.handles().await?.database;
    let told = |error: Error| shared.link.told(&error);
    shared
        .indexes
        .look(database, shared.link.manages_indexes())
        .await
        .map_err(told)?;
    let peers: Collection<Document> = database.collection(DataType::Peer.name());
    match peers.watch().await {
        Ok(stream) => {
            info!("peers are followed by a change stream");
            // What changed before it was opened is seen by a reading now.
            tell(changed).await;
            events(stream, changed).await.map_err(told)
        }
        Err(error) => match shared.link.told(&error) {
            away @ StoreError::Away { .. } if look(database).await.is_err() => Err(away),
            _ => {
                debug!(%error, "the server has no change streams: the peers are looked at again and again");
                looks(database, changed, seen).await.map_err(told)
            }
        },
    }
}

async fn events(
    mut stream: ChangeStream<ChangeStreamEvent<Document>>,
    changed: &watch::Sender<u64>,
) -> Result<(), Error> {
    while let Some(event) = stream.next().await {
        event?;
        tell(changed).await;
    }
    Ok(())
}

/// Looks for a while.
async fn looks(database: &Database, changed: &watch::Sender<u64>, seen: &mut Option<u64>) -> Result<(), Error> {
    let until = Instant::now() + LONG;
    // One slow look says little: the faster one of two counts.
    let mut before = Duration::ZERO;
    while Instant::now() < until {
        let began = Instant::now();
        let found = look(database).await?;
        let took = began.elapsed();
        if seen.replace(found).is_some_and(|before| before != found) {
            tell(changed).await;
        }
        tokio::time::sleep(pause(took.min(before))).await;
        before = took;
    }
    Ok(())
}

fn pause(took: Duration) -> Duration {
    (took * SHARE).clamp(LOOKS.0, LOOKS.1)
}

/// A number that changes with the documents.
async fn look(database: &Database) -> Result<u64, Error> {
    let peers: Collection<RawDocumentBuf> = database.collection(DataType::Peer.name());
    let finding = peers
        .find(doc! {})
        .sort(doc! { "_id": 1 })
        .limit(DOCUMENTS)
        .max_time(SERVER_MAX);
    let mut cursor = finding.await?;
    let mut sum = DefaultHasher::new();
    while cursor.advance().await? {
        sum.write(cursor.current().as_bytes());
    }
    Ok(sum.finish())
}

async fn tell(changed: &watch::Sender<u64>) {
    changed.send_modify(|times| *times += 1);
    tokio::time::sleep(CALM).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_takes_a_small_share_of_the_time() {
        assert_eq!(pause(Duration::from_millis(1)), LOOKS.0);
        assert_eq!(pause(Duration::from_millis(500)), Duration::from_secs(10));
        assert_eq!(pause(Duration::from_secs(8)), LOOKS.1);
    }
}
