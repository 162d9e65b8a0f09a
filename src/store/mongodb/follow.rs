//! Follows the peer documents: by a change stream where the server has one, else by looking again and again.
//!
//! Always: whatever has changed is noticed in the end, also what changed while the server was away; looking takes no more than a
//! twentieth of the time, and whoever listens is told at most once a second.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use mongodb::bson::{Document, RawDocumentBuf, doc};
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
/// How often a change stream is tried again where there was none.
const LONG: Duration = Duration::from_secs(600);
/// How often indexes are looked at: a collection may have grown beyond what a search looks through without one.
const INDEXES: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });
/// Peer documents looked at; of more, what is beyond is noticed when everything is read.
const DOCUMENTS: i64 = 100_000;

/// Until nobody holds the store any more.
pub(super) async fn follow(shared: Arc<Shared>, changed: watch::Sender<u64>) {
    let closed = changed.clone();
    tokio::select! {
        () = closed.closed() => {}
        () = shared.end.cancelled() => {}
        () = rounds(&shared, &changed) => {}
        () = keep_indexes(&shared) => {}
    }
}

/// Beside all else: a change stream may last for weeks, in which collections grow.
async fn keep_indexes(shared: &Shared) {
    loop {
        let looked = look_at_indexes(shared).await;
        if let Err(error) = &looked {
            debug!(%error, "the indexes cannot be looked at");
        }
        tokio::time::sleep(if looked.is_ok() { INDEXES } else { AGAIN }).await;
    }
}

async fn look_at_indexes(shared: &Shared) -> Result<(), StoreError> {
    let database = &shared.link.handles().await?.database;
    let looking = shared
        .indexes
        .look(database, &shared.keys, shared.link.manages_indexes());
    looking.await.map_err(|error| shared.link.told(&error))
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
    let peers: Collection<Document> = database.collection(DataType::Peer.name());
    match peers.watch().await {
        Ok(stream) => {
            info!("peers are followed by a change stream");
            // What changed before it was opened is seen by a reading now.
            tell(changed).await;
            events(stream, changed).await.map_err(told)
        }
        Err(error) => {
            let why = shared.link.told(&error);
            let answers = match why {
                StoreError::Away { .. } => look(database).await.is_ok(),
                _ => true,
            };
            match without_stream(why, answers) {
                Without::Wait(away) => Err(away),
                Without::Look(why) => {
                    debug!(%why, "the server has no change streams: the peers are looked at again and again");
                    looks(database, changed, seen).await.map_err(told)
                }
            }
        }
    }
}

/// What is done where no change stream could be opened.
#[derive(Debug, PartialEq)]
enum Without {
    /// The server is away: it is tried again soon.
    Wait(StoreError),
    /// It has none, or does not let us: looking serves as well.
    Look(StoreError),
}

/// Pure: `answers` says whether the server answers a plain question, asked where it looked to be away. Some servers refuse
/// what they do not know by closing the connection.
fn without_stream(why: StoreError, answers: bool) -> Without {
    if answers {
        Without::Look(why)
    } else {
        Without::Wait(why)
    }
}

/// Tells of events until the stream ends, by its error or because its collection was dropped or renamed.
async fn events<T, E>(
    mut stream: impl Stream<Item = Result<T, E>> + Unpin,
    changed: &watch::Sender<u64>,
) -> Result<(), E> {
    while let Some(event) = stream.next().await {
        event?;
        // Of many at once, told is once: whoever listens reads everything.
        let mut broken = Ok(());
        while let (true, Some(Some(another))) = (broken.is_ok(), stream.next().now_or_never()) {
            broken = another.map(drop);
        }
        tell(changed).await;
        broken?;
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

    #[test]
    fn a_server_without_change_streams_is_looked_at_and_one_that_is_away_waited_for() {
        let store = || "mongodb://h/db".to_owned();
        let why = || "w".to_owned();
        let refused = || StoreError::Database {
            store: store(),
            why: why(),
        };
        let away = || StoreError::Away {
            store: store(),
            why: why(),
        };
        assert_eq!(without_stream(refused(), true), Without::Look(refused()));
        assert_eq!(without_stream(away(), true), Without::Look(away()));
        assert_eq!(without_stream(away(), false), Without::Wait(away()));
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_told_and_a_broken_stream_is_an_error() {
        let (changed, told) = watch::channel(0);
        let (event, stream) = tokio::sync::mpsc::unbounded_channel::<Result<(), &'static str>>();
        let stream = futures::stream::unfold(stream, async |mut stream| Some((stream.recv().await?, stream)));
        let follows = events(Box::pin(stream), &changed);
        let apps = async {
            let calm = || tokio::time::sleep(2 * CALM);
            calm().await;
            assert_eq!(*told.borrow(), 0);
            for _ in 0..50 {
                event.send(Ok(())).unwrap();
            }
            calm().await;
            assert_eq!(*told.borrow(), 1, "of many at once, once");
            event.send(Ok(())).unwrap();
            event.send(Err("gone")).unwrap();
            calm().await;
            assert_eq!(*told.borrow(), 2, "what came before the break counts");
        };
        assert_eq!(tokio::join!(follows, apps).0, Err("gone"));
        let ended = futures::stream::iter([Ok::<(), &str>(())]);
        assert_eq!(events(ended, &changed).await, Ok(()), "dropped or renamed");
        assert_eq!(*told.borrow(), 3);
    }
}
