//! Puts questions to single peers and reads what comes on `/opencloud/resource/search/1.0`: questions and answers.
//!
//! Owns the telling apart of the two and the checks of their sender. Never knows which searches are open: answers go up
//! with everything that is needed to find theirs. Always: an answer that nobody waits for ends its stream.

use super::strangers::Denied;
use super::{Asked, StreamService, locked};
use crate::discovery::{Depth, Found};
use crate::identity::{is_self_proving, key_of};
use crate::model::Member;
use crate::network::{ByName, HalfRead, Incoming, LineLimits, Lines, OpenError, StreamProtocol, split};
use crate::wire::{Action, DataType, Event, Question, ReadLimits, protocol, timestamp};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// A search stream on which nothing comes for this long is closed: others may keep theirs open between questions.
const QUIET: Duration = Duration::from_secs(300);
/// The peer's own end of a question's stream is waited for this long, so that the question is known to be read.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerFrom {
    /// Its DID, checked against the connection.
    pub did: String,
}

/// Answers to a search, as many as one read brought.
#[derive(Debug)]
pub struct Answers {
    /// Who answers.
    pub from: AnswerFrom,
    /// Its events in their order; the payload of each is a resource.
    pub events: Vec<Event>,
    /// Ends the stream on which they came, for answers that nobody waits for.
    pub stream: CancellationToken,
    /// The same when their search has ended: then no end of the answer set is told either, since the search's id may be
    /// another one's by then.
    pub closed: CancellationToken,
}

/// What was read on a search stream.
#[derive(Debug)]
pub enum SearchLine {
    /// A question for us.
    Question(Asked),
    /// Answers to a question of ours.
    Answers(Answers),
    /// An answer set is over; `complete` when its writer ended it in good order.
    Over {
        /// Whose.
        from: AnswerFrom,
        /// The search, when its answers named one.
        search_id: Option<String>,
        /// Ended in good order.
        complete: bool,
        /// It was cut at a bound of the answerer.
        truncated: bool,
    },
}

impl StreamService {
    /// Puts a question to one peer, connecting first where needed.
    ///
    /// # Errors
    /// A sentence, when the peer could not be asked.
    pub async fn ask(&self, to: &Member, question: &Question, user: &str, kind: DataType) -> Result<(), String> {
        let peer = to.peer_id.ok_or("its document names no PeerId")?;
        self.0
            .discovery
            .connect(peer, &to.addresses)
            .await
            .map_err(|error| error.to_string())?;
        let opened = self.0.network.open(peer, protocol::SEARCH).await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        let now = timestamp(SystemTime::now());
        let mut event = Event::new(Action::Search, &self.0.own.did, user, kind, question.write(), now);
        event.sign(&self.0.own.keypair).map_err(|error| error.to_string())?;
        let write = async {
            stream.write_all(&event.write_line()).await?;
            stream.close().await
        };
        write.await.map_err(|error| error.to_string())?;
        // An end without a word, or a reset, is how both a reader that is done and one that refuses look: neither is an error.
        match tokio::time::timeout(FAREWELL, stream.read(&mut [0; 1])).await {
            Ok(Err(error)) if ByName::is_unknown(&error) => {
                Err(OpenError::Unsupported(StreamProtocol::new(protocol::SEARCH)).to_string())
            }
            _ => Ok(()),
        }
    }

    /// Reads one inbound stream of the search protocol.
    pub(super) async fn read_search(self, incoming: Incoming) {
        let Incoming {
            peer,
            stream,
            place: _place,
            ..
        } = incoming;
        if self.federation().of_peer(&peer).is_some() && self.federation().known(&peer).is_none() {
            return self
                .0
                .refusals
                .refuse("blacklisted", &peer.to_string(), protocol::SEARCH);
        }
        let limits = LineLimits {
            quiet: Some(QUIET),
            ..self.line_limits()
        };
        // Strangers share nothing with partners: their long lines find no room.
        let half_read = match self.federation().known(&peer) {
            Some(_) => self.half_read(peer),
            None => HalfRead::alone(0),
        };
        let mut lines = Lines::new(stream, limits, half_read);
        let stop = locked(&self.0.table).stop_of(peer);
        let closed = stop.child_token();
        let mut answers = AnswerSet::new(stop.clone(), closed.clone());
        let complete = loop {
            let piece = tokio::select! {
                () = closed.cancelled() => break false,
                () = self.0.stop_reading.cancelled() => break false,
                piece = lines.next() => piece,
            };
            match piece {
                Ok(Some(piece)) => {
                    if !self.search_piece(&piece, peer, &mut answers).await {
                        break false;
                    }
                }
                Ok(None) => break true,
                Err(error) => {
                    if let Some(rule) = error.rule() {
                        self.0.refusals.refuse(rule, &peer.to_string(), &error);
                    }
                    break false;
                }
            }
        };
        if closed.is_cancelled() && !stop.is_cancelled() {
            return;
        }
        if let Some(from) = answers.from {
            let AnswerSet {
                search_id,
                truncated,
                ended,
                ..
            } = answers;
            // A stream that was reset looks like one that ended. Whoever names the search marks the end, too.
            let complete = complete && (ended || search_id.is_none());
            let _ = self
                .0
                .search
                .send(SearchLine::Over {
                    from,
                    search_id,
                    complete,
                    truncated,
                })
                .await;
        }
    }

    /// Handles complete lines; false when the stream must end.
    async fn search_piece(&self, piece: &[u8], peer: PeerId, answers: &mut AnswerSet) -> bool {
        let limits = self.read_limits();
        for line in split(piece) {
            let question = match self.search_line(line, peer, &limits, answers).await {
                Ok(None) => continue,
                Ok(Some(question)) => question,
                Err((rule, detail)) => {
                    self.0.refusals.refuse(rule, &peer.to_string(), detail);
                    // What came before it in this piece counts.
                    self.send_up(answers.answers()).await;
                    return false;
                }
            };
            if !self.send_up(answers.answers()).await || !self.send_up(Some(question)).await {
                return false;
            }
        }
        self.send_up(answers.answers()).await
    }

    /// Handles one line: an answer is kept with those that were read with it, a question returned.
    async fn search_line(
        &self,
        line: &[u8],
        peer: PeerId,
        limits: &ReadLimits,
        answers: &mut AnswerSet,
    ) -> Result<Option<SearchLine>, (&'static str, String)> {
        let event = Event::read_line_of_search(line, limits).map_err(|error| (error.rule(), error.to_string()))?;
        // What names its search answers one.
        let may_ask = event.end.is_none() && event.search_id.is_none();
        let question = may_ask.then(|| Question::read(&event.payload)).flatten();
        let mut sender = self.sender(&event, &peer);
        // Its DID does not follow from its key: its record may say that it is its own. Strangers ask by gossip alone.
        if sender.as_ref().err() == Some(&"unknown_peer")
            && question.is_none()
            && self.has_record(&event.from, peer, answers.from.as_ref()).await
        {
            sender = Ok(Sender::Proven(event.from.clone()));
        }
        let sender = sender.map_err(|rule| (rule, "on the search protocol".to_owned()))?;
        if let Some(question) = question {
            let Sender::Known(by) = sender else {
                return Err(("unknown_peer", "a question".to_owned()));
            };
            self.0.metrics.event_received("question");
            let user = event.user;
            return Ok(Some(SearchLine::Question(Asked { by, question, user })));
        }
        // One stream is one answer set, whatever else its writer may make of it.
        if answers.from.as_ref().is_some_and(|from| from.did != sender.did()) {
            return Err(("from_changes", "in the middle of an answer set".to_owned()));
        }
        let from = answers.from.get_or_insert_with(|| AnswerFrom {
            did: sender.did().to_owned(),
        });
        answers.search_id = event.search_id.clone().or(answers.search_id.take());
        match event.end {
            Some(end) => {
                answers.truncated = end.truncated;
                answers.ended = true;
            }
            None => {
                let taken = answers.taken.get_or_insert_with(|| Answers {
                    from: from.clone(),
                    events: Vec::new(),
                    stream: answers.stop.clone(),
                    closed: answers.closed.clone(),
                });
                taken.events.push(event);
            }
        }
        Ok(None)
    }

    /// False when nobody takes what is read any more.
    async fn send_up(&self, line: Option<SearchLine>) -> bool {
        let Some(line) = line else { return true };
        if let SearchLine::Answers(answers) = &line {
            self.0.metrics.events_received_many("answer", answers.events.len());
        }
        self.0.search.send(line).await.is_ok()
    }

    /// Whether an indexer knows this DID as this peer's, and our store knows neither; `before` has answered on the same stream.
    async fn has_record(&self, did: &str, peer: PeerId, before: Option<&AnswerFrom>) -> bool {
        let federation = self.federation();
        if federation.get(did).is_some() || federation.of_peer(&peer).is_some() {
            return false;
        }
        if before.is_some_and(|before| before.did == did) {
            return true;
        }
        let is_it = |found: &Found| found.record.peer == peer && found.record.record.did == did;
        // What is at hand costs nobody anything.
        if let Some(found) = self.0.discovery.at_hand(did) {
            return found.iter().any(is_it);
        }
        let _turn = match self.0.strangers.turn(peer).await {
            Ok(turn) => turn,
            Err(Denied::Unwanted) => return false,
            Err(Denied::Full) => {
                let detail = "too many strangers' answers are looked up";
                self.0
                    .refusals
                    .dropped("look_up", "stranger", 1, &peer.to_string(), detail);
                return false;
            }
        };
        let found = self.0.discovery.find(did, Depth::Indexers).await;
        found.iter().any(is_it)
    }

    /// Who wrote `event` on `peer`'s stream.
    fn sender(&self, event: &Event, peer: &PeerId) -> Result<Sender, &'static str> {
        if !matches!(event.kind, Action::Search | Action::SearchResponse) {
            return Err("not_a_search");
        }
        if event.is_signed() {
            let key = key_of(peer).ok_or("no_key_in_peer_id")?;
            event.verify(&key).map_err(|error| error.rule())?;
        }
        let federation = self.federation();
        match federation.known(peer) {
            Some(member) if member.did == event.from => Ok(Sender::Known(Arc::clone(member))),
            Some(_) => Err("from_is_not_sender"),
            // A stranger may answer a gossiped question, if its DID follows from its key.
            None if federation.get(&event.from).is_none()
                && key_of(peer).is_some_and(|key| is_self_proving(&event.from, &key)) =>
            {
                Ok(Sender::Proven(event.from.clone()))
            }
            None => Err("unknown_peer"),
        }
    }
}

/// What one stream brought of an answer set.
struct AnswerSet {
    stop: CancellationToken,
    closed: CancellationToken,
    from: Option<AnswerFrom>,
    search_id: Option<String>,
    truncated: bool,
    /// The end was marked.
    ended: bool,
    /// Read and not yet sent up.
    taken: Option<Answers>,
}

impl AnswerSet {
    fn new(stop: CancellationToken, closed: CancellationToken) -> Self {
        Self {
            stop,
            closed,
            from: None,
            search_id: None,
            truncated: false,
            ended: false,
            taken: None,
        }
    }

    fn answers(&mut self) -> Option<SearchLine> {
        self.taken.take().map(SearchLine::Answers)
    }
}

enum Sender {
    Known(Arc<Member>),
    Proven(String),
}

impl Sender {
    fn did(&self) -> &str {
        match self {
            Self::Known(member) => &member.did,
            Self::Proven(did) => did,
        }
    }
}
