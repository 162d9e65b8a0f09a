//! Answers a search: looks through our store and streams what the asker may see, `/opencloud/resource/search/1.0`.
//!
//! Owns the bounds of answering. Never decides who may see what: that is the access rule, asked by the store. Always: nothing
//! is searched for an asker that is not connected,
//! the first result leaves before the last is found, what is found while a piece is written, and of many results for a
//! millisecond behind it, leaves together in the next,
//! an asker that goes away or takes nothing stops the query, and an asker that gave an id is told at the end how many there
//! were and whether that was all.

use super::{StreamService, locked};
use crate::model::Member;
use crate::network::Stream;
use crate::store::{AskerId, Found, Room, SearchQuery, Store, StoreError};
use crate::wire::{Action, DataType, Event, Question, SearchEndMark, protocol, timestamp};
use futures::io::WriteHalf;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Results between the store and the wire; a slow asker stops the store's query here.
const FOUND: usize = 256;
/// The same in bytes.
const FOUND_BYTES: u32 = 1024 * 1024;
/// How long what is found gathers after a piece, while the query runs: each piece costs both sides much more than a result.
const GATHER: Duration = Duration::from_millis(1);
/// It gathers behind so many results: a shorter answer set is over sooner without.
const GATHERS_AFTER: usize = 1_000;
/// Results of the first piece; the next ones grow to [`PIECES`], so that the asker soon has something to do.
const FIRST_PIECE: usize = 4;
/// Results of a piece, before it gathers.
const PIECES: usize = 32;
/// Bytes written in one go; one line more at the most.
const PIECE: usize = 64 * 1024;

/// Searches of one asker that run at a time; its further ones wait.
pub(super) const TURNS_OF_ONE: usize = 2;
/// Questions of one asker that run or wait; further ones are refused, so that others' find a place.
pub(super) const PLACES_OF_ONE: usize = 16;

/// A question that was put to us.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who asks.
    pub by: Arc<Member>,
    /// What.
    pub question: Question,
    /// Whose question it is at the asker's; repeated in the answers.
    pub user: String,
}

/// How many results the next piece may have, behind so many.
fn most_of_a_piece(written: usize) -> usize {
    match written {
        0..GATHERS_AFTER => written.clamp(FIRST_PIECE, PIECES),
        _ => FOUND,
    }
}

/// Why an answer set ended before its end.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Unreachable(String),
    #[error("the asker went away")]
    AskerLeft,
    #[error("time is up")]
    TimeUp,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("writing to the asker failed: {0}")]
    Write(#[from] std::io::Error),
}

impl StreamService {
    /// The diagrams' `SendResponse`: searches the store for `asked` and streams the matches to the asker.
    pub async fn send_response(&self, asked: Asked, store: Arc<dyn Store>) {
        let Some(peer) = asked.by.peer_id else { return };
        // First of its own, so that no asker takes all places; nor do strangers together, who may be one.
        let own = self.0.waiting.of(asked.by.did.clone()).try_acquire_owned();
        let is_strange = self.federation().known(&peer).is_none();
        let strange = is_strange.then(|| self.0.strange_questions.try_acquire()).transpose();
        let (Ok(_own), Ok(_strange), Ok(_place)) = (own, strange, self.0.questions.try_acquire()) else {
            return self.0.refusals.refuse(
                "too_many_questions",
                &asked.by.did,
                "too many questions wait for an answer",
            );
        };
        let longest = self.0.settings.borrow().search.timeout;
        let wanted = asked.question.timeout_ms.map(Duration::from_millis);
        let deadline = Instant::now() + wanted.map_or(longest, |wanted| wanted.min(longest));
        let stop = locked(&self.0.table).stop_of(peer);
        let query_stop = stop.child_token();
        let _stops_query = query_stop.clone().drop_guard();
        let own_turn = self.0.askers.of(asked.by.did.clone());
        let answering = async {
            // First among the asker's own, so that no asker takes all turns; and whoever cannot be reached takes none at all.
            let _own = own_turn.acquire().await;
            let connected = self.0.discovery.connect(peer, &asked.by.addresses).await;
            connected.map_err(|error| Ended::Unreachable(error.to_string()))?;
            let _turn = self.0.searching.acquire().await;
            self.answer(&asked, peer, store, deadline, query_stop).await
        };
        let outcome = tokio::select! {
            () = stop.cancelled() => Err(Ended::AskerLeft),
            outcome = tokio::time::timeout_at(deadline, answering) => outcome.unwrap_or(Err(Ended::TimeUp)),
        };
        match outcome {
            Ok(mark) => {
                debug!(asker = %asked.by.did, results = mark.results, truncated = mark.truncated, "answered a search")
            }
            Err(error) => debug!(asker = %asked.by.did, %error, "a search was not answered to its end"),
        }
    }

    async fn answer(
        &self,
        asked: &Asked,
        peer: PeerId,
        store: Arc<dyn Store>,
        deadline: Instant,
        stop: CancellationToken,
    ) -> Result<SearchEndMark, Ended> {
        let (out, found) = mpsc::channel(FOUND);
        let room = Room::new(FOUND_BYTES);
        let query = SearchQuery {
            room: Some(room.clone()),
            ..self.query(asked, peer, deadline, stop)
        };
        // The query begins while the stream is being opened.
        let over = CancellationToken::new();
        let searching = async {
            let done = store.search(query, out).await;
            over.cancel();
            done.map_err(Ended::from)
        };
        let (done, (mut stream, results)) =
            futures::future::try_join(searching, self.write_found(asked, peer, found, (&room, &over))).await?;
        let mark = SearchEndMark {
            results,
            truncated: done.truncated,
        };
        if asked.question.id.is_some() {
            // Only for those who gave an id, which others never do: they would take this for an empty resource.
            let mut end = self.answer_event(asked, DataType::Invalid, bytes::Bytes::new());
            end.end = Some(mark);
            stream.write_all(&end.write_line()).await?;
        }
        stream.close().await?;
        Ok(mark)
    }

    /// Opens a stream to the asker and writes what is found, to the end; `over` tells that the query has found everything.
    async fn write_found(
        &self,
        asked: &Asked,
        peer: PeerId,
        mut found: mpsc::Receiver<Found>,
        (room, over): (&Room, &CancellationToken),
    ) -> Result<(WriteHalf<Stream>, usize), Ended> {
        let opened = self.0.network.open(peer, protocol::SEARCH).await;
        let opened = opened.map_err(|error| Ended::Unreachable(error.to_string()))?;
        let (mut asker, mut stream) = opened.split();
        let writing = async {
            let (mut results, mut hits, mut piece) = (0, Vec::with_capacity(FOUND), Vec::new());
            while found.recv_many(&mut hits, most_of_a_piece(results)).await > 0 {
                results += hits.len();
                let taken: usize = hits.iter().map(|hit| room.of(hit) as usize).sum();
                self.write_answers(&mut stream, asked, peer, &mut hits, &mut piece)
                    .await?;
                room.give_back(taken);
                if results >= GATHERS_AFTER {
                    let _ = tokio::time::timeout(GATHER, over.cancelled()).await;
                }
            }
            Ok::<usize, Ended>(results)
        };
        let mut byte = [0; 1];
        let results = tokio::select! {
            written = writing => written?,
            // The asker writes nothing: a read that returns means that it has had enough, or is gone.
            _ = asker.read(&mut byte) => return Err(Ended::AskerLeft),
        };
        Ok((stream, results))
    }

    fn query(&self, asked: &Asked, peer: PeerId, deadline: Instant, cancel: CancellationToken) -> SearchQuery {
        let datatypes = match asked.question.datatype {
            Some(one) => vec![one],
            None => DataType::ALL
                .into_iter()
                .filter(|kind| kind.is_resource_kind())
                .collect(),
        };
        let most = self.0.limits.answers_per_peer;
        SearchQuery {
            text: asked.question.text.clone(),
            datatypes,
            own_did: self.0.own.did.clone(),
            asker: AskerId {
                did: asked.by.did.clone(),
                peer_id: Some(peer.to_string()),
                // Only what our store says of it grants more than what is public.
                trusted: self.federation().known(&peer).is_some(),
            },
            limit: asked.question.limit.map_or(most, |limit| limit.min(most)),
            deadline: deadline.into_std(),
            cancel,
            room: None,
        }
    }

    /// Writes what is in `hits`, which is empty then; `piece` is used again and again.
    async fn write_answers(
        &self,
        stream: &mut WriteHalf<Stream>,
        asked: &Asked,
        peer: PeerId,
        hits: &mut Vec<Found>,
        piece: &mut Vec<u8>,
    ) -> Result<(), Ended> {
        let (unsigned, plain) = match self.0.network.connected().borrow().get(&peer) {
            Some(link) => (link.takes_unsigned, link.takes_unsigned && link.takes_plain),
            None => (false, false),
        };
        let mut event = self.answer_event(asked, DataType::Invalid, bytes::Bytes::new());
        for hit in hits.drain(..) {
            event.datatype = hit.datatype;
            event.payload = hit.document.into_bytes();
            if !unsigned && let Err(error) = event.sign(&self.0.own.keypair) {
                debug!(%error, "an answer could not be signed");
            }
            match plain {
                true => event.write_plain_line_onto(piece),
                false => event.write_line_onto(piece),
            }
            if piece.len() >= PIECE {
                stream.write_all(piece).await?;
                piece.clear();
                piece.shrink_to(2 * PIECE);
            }
        }
        stream.write_all(piece).await?;
        piece.clear();
        stream.flush().await?;
        Ok(())
    }

    fn answer_event(&self, asked: &Asked, datatype: DataType, payload: bytes::Bytes) -> Event {
        let now = timestamp(SystemTime::now());
        let mut event = Event::new(Action::Search, &self.0.own.did, &asked.user, datatype, payload, now);
        event.search_id = asked.question.id.clone();
        event
    }
}
