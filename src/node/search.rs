//! The search desk: opens searches, puts their questions, passes answers to NATS, and reports each end.
//!
//! Owns the table of open searches and its I/O. Always: every search an app asks for ends with one report on
//! `search_end`; answering others' questions happens beside it and is bounded by rate and number.

use super::searches::{AskedPeers, OpenSearch, SearchOver, Searches, TOO_MANY};
use super::wishes::{Listener, Search, SearchTold, Wish};
use crate::bus::Bus;
use crate::discovery::Discovery;
use crate::model::{Federation, Member, Relation, TokenBucket};
use crate::pubsub::PubSubService;
use crate::settings::Settings;
use crate::store::Store;
use crate::stream::{Asked, SearchLine, StreamService};
use crate::telemetry::{Metrics, Refusals};
use crate::wire::{DataType, Question, SearchEnd, SearchRequest, SearchScope};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Wishes of the apps and operators waiting. The node waits when it is full; the table behind it is bounded anyway.
const WISHES: usize = 256;
/// Peers asked at once for one search.
const ASKING: usize = 32;
/// Searches for peers at once. A further one is refused, and told to be over.
const PEER_SEARCHES: usize = 64;
/// How long those that are under way may take when the daemon leaves.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long such an end waits for its reader.
const TOLD_TIME: Duration = Duration::from_secs(10);

/// What the desk works with.
#[derive(Clone)]
pub struct SearchDesk {
    /// Our NATS.
    pub bus: Bus,
    /// Where resources and peers are.
    pub store: Arc<dyn Store>,
    /// Who is behind a DID, a PeerId or a name.
    pub discovery: Discovery,
    /// To ask and to answer.
    pub streams: StreamService,
    /// To ask everybody.
    pub pubsub: PubSubService,
    /// Who is who.
    pub federation: watch::Receiver<Arc<Federation>>,
    /// Times and limits, which may change while running.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to refuse.
    pub refusals: Refusals,
}

/// A peer that could not be asked.
struct NotAsked {
    search: String,
    did: String,
}

pub(super) struct Running {
    pub(super) desk: SearchDesk,
    pub(super) table: Searches,
    /// Who hears of a search in place of NATS; each as long as its search is open.
    pub(super) listeners: HashMap<String, Listener>,
    /// What ends the streams on which answers to a search come, by the answerer; each as long as its search is open.
    pub(super) streams: HashMap<String, HashMap<String, CancellationToken>>,
    rates: HashMap<String, TokenBucket>,
    not_asked: mpsc::Sender<NotAsked>,
    peer_searches: TaskTracker,
}

impl SearchDesk {
    /// Starts the desk; `lines` is what the streams read.
    #[must_use]
    pub fn start(
        self,
        lines: mpsc::Receiver<SearchLine>,
        shutdown: CancellationToken,
    ) -> (mpsc::Sender<Wish>, Search, JoinHandle<()>) {
        let (wishes, wished) = mpsc::channel(WISHES);
        let (not_asked, failures) = mpsc::channel(WISHES);
        let limits = self.settings.borrow().limits.clone();
        let table = Searches::new(limits.open_searches, limits.answers_per_peer);
        let running = Running {
            desk: self,
            table,
            listeners: HashMap::new(),
            streams: HashMap::new(),
            rates: HashMap::new(),
            not_asked,
            peer_searches: TaskTracker::new(),
        };
        let search = Search::new(wishes.downgrade());
        let running = tokio::spawn(running.run(wished, lines, failures, shutdown));
        (wishes, search, running)
    }
}

impl Running {
    async fn run(
        mut self,
        mut wishes: mpsc::Receiver<Wish>,
        mut lines: mpsc::Receiver<SearchLine>,
        mut failures: mpsc::Receiver<NotAsked>,
        shutdown: CancellationToken,
    ) {
        loop {
            let deadline = self.table.next_deadline();
            tokio::select! {
                () = shutdown.cancelled() => return,
                wish = wishes.recv() => match wish {
                    Some(wish) => self.on_wish(wish).await,
                    // The node has ended: whoever still asks is told that it is over.
                    None => {
                        for over in self.table.close_all() {
                            self.ended(over).await;
                        }
                        self.peer_searches.close();
                        let _ = tokio::time::timeout(FAREWELL, self.peer_searches.wait()).await;
                        return;
                    }
                },
                Some(line) = lines.recv() => self.on_line(line).await,
                Some(NotAsked { search, did }) = failures.recv() => self.table.failed(&search, &did),
                () = until(deadline) => {}
            }
            for over in self.table.ended(Instant::now()) {
                self.ended(over).await;
            }
            self.desk.streams.strangers_may_answer(self.table.asks_everybody());
        }
    }

    async fn on_wish(&mut self, wish: Wish) {
        match wish {
            Wish::Search {
                request,
                datatype,
                user,
            } => self.search(request, datatype, user).await,
            Wish::Peer { request, user } if self.peer_searches.len() >= PEER_SEARCHES => {
                self.desk
                    .refusals
                    .refuse(TOO_MANY, "search", format_args!("searches for peers, of {user:?}"));
                let id = request.id.unwrap_or_else(new_id);
                self.desk.report(&SearchEnd::refused(id, TOO_MANY)).await;
            }
            // Beside the others: indexers, or a DHT, may take their time.
            Wish::Peer { request, user } => {
                let desk = self.desk.clone();
                self.peer_searches
                    .spawn(async move { desk.search_peer(request, user).await });
            }
            Wish::Operator { request, listener } => self.search_for(request, listener).await,
            // The end of a search that runs under this id would be taken for that one's.
            Wish::Refused { id, .. } if self.table.is_open(&id) => debug!(id, "another search has this id"),
            Wish::Refused { id, rule } => self.desk.report(&SearchEnd::refused(id, rule)).await,
            Wish::Close { id } => match self.table.close(&id) {
                Some(over) => self.ended(over).await,
                None => debug!(id, "no such search is open"),
            },
        }
    }

    /// PB_SEARCH, asked by an operator.
    async fn search_for(&mut self, request: SearchRequest, listener: Listener) {
        let id = request.id.clone().unwrap_or_else(new_id);
        if let Err(rule) = self.table.may_open(&id) {
            // Nothing was sent to it yet: there is room.
            return listener.last(SearchTold::Refused(rule)).await;
        }
        self.listeners.insert(id, listener);
        self.search(request, DataType::Invalid, String::new()).await;
    }

    /// The diagrams' PB_SEARCH with any other datatype.
    async fn search(&mut self, request: SearchRequest, datatype: DataType, user: String) {
        let named = request.id.is_some();
        let id = request.id.clone().unwrap_or_else(new_id);
        if let Err(rule) = self.table.may_open(&id) {
            self.desk.refusals.refuse(rule, "search", format_args!("search {id:?}"));
            // Whoever asks is told that it is over; under an id in use the running search's own report says so.
            if rule == TOO_MANY {
                self.desk.report(&SearchEnd::refused(id, TOO_MANY)).await;
            }
            return;
        }
        let search = self.desk.settings.borrow().search.clone();
        let time = request
            .timeout_ms
            .map_or(search.timeout, |ms| Duration::from_millis(ms).min(search.timeout));
        let limit = request.limit.unwrap_or(search.max_results).min(search.max_results);
        // The message's own datatype narrows the search, too, when it is a kind that can be searched.
        let wanted = request
            .datatype
            .or(Some(datatype).filter(|kind| kind.is_resource_kind()));
        let opened = OpenSearch::new(user.clone(), named, wanted, Instant::now() + time, limit);
        self.table.open(id.clone(), opened);
        let question = Question {
            text: request.text,
            id: Some(id.clone()),
            limit: Some(limit),
            timeout_ms: u64::try_from(time.as_millis()).ok(),
            datatype: wanted,
        };
        match request.scope {
            SearchScope::All => self.ask_everybody(id, &question, &user, datatype).await,
            SearchScope::Known => self.ask_each(id, question, user, datatype, "known", |_| true),
            SearchScope::Partner => {
                self.ask_each(id, question, user, datatype, "partner", |member| {
                    member.relation == Relation::Partner
                });
            }
        }
    }

    async fn ask_everybody(&mut self, id: String, question: &Question, user: &str, datatype: DataType) {
        self.desk.metrics.searched("all");
        self.desk.streams.strangers_may_answer(true);
        let listeners = match self.desk.pubsub.search_publish_event(question, user, datatype).await {
            Ok(listeners) => listeners,
            Err(error) => {
                debug!(%error, "a search was not gossiped");
                0
            }
        };
        self.table.set_asked(&id, AskedPeers::Everybody(listeners), Vec::new());
    }

    fn ask_each(
        &mut self,
        id: String,
        question: Question,
        user: String,
        datatype: DataType,
        scope: &'static str,
        wanted: impl Fn(&Member) -> bool,
    ) {
        self.desk.metrics.searched(scope);
        let federation = Arc::clone(&self.desk.federation.borrow());
        let (ask, skip): (Vec<_>, Vec<_>) = federation
            .others()
            .filter(|member| wanted(member))
            .cloned()
            .partition(|member| member.relation != Relation::Blacklist && member.peer_id.is_some());
        let dids: HashSet<String> = ask.iter().map(|member| member.did.clone()).collect();
        let skip = skip.iter().map(|member| member.did.clone()).collect();
        self.table.set_asked(&id, AskedPeers::These(dids), skip);
        let (streams, not_asked) = (self.desk.streams.clone(), self.not_asked.clone());
        let deadline = self.table.deadline_of(&id).unwrap_or_else(Instant::now);
        tokio::spawn(async move {
            let (question, user) = (&question, &user);
            let asks = ask.into_iter().map(|member| {
                let (streams, not_asked, id) = (streams.clone(), not_asked.clone(), id.clone());
                async move {
                    let asking = streams.ask(&member, question, user, datatype);
                    let asked = tokio::time::timeout_at(deadline.into(), asking).await;
                    if let Err(error) = asked.unwrap_or_else(|_| Err("time is up".to_owned())) {
                        debug!(did = %member.did, %error, "a peer could not be asked");
                        let _ = not_asked
                            .send(NotAsked {
                                search: id,
                                did: member.did.clone(),
                            })
                            .await;
                    }
                }
            });
            futures::StreamExt::for_each_concurrent(futures::stream::iter(asks), ASKING, |ask| ask).await;
        });
    }

    async fn on_line(&mut self, line: SearchLine) {
        match line {
            SearchLine::Question(asked) => self.on_question(asked),
            SearchLine::Answers(answers) => self.retrieve_response(answers).await,
            SearchLine::Over {
                from,
                search_id,
                complete,
                truncated,
            } => {
                let now = Instant::now();
                self.table
                    .over(&from.did, search_id.as_deref(), complete, truncated, now);
            }
        }
    }

    fn on_question(&mut self, asked: Asked) {
        let limits = &self.desk.settings.borrow().limits;
        let known = self.desk.federation.borrow();
        self.rates.retain(|did, _| known.get(did).is_some());
        let fresh = || TokenBucket::new(limits.questions_per_second, limits.questions_burst);
        if !self
            .rates
            .entry(asked.by.did.clone())
            .or_insert_with(fresh)
            .take(Instant::now())
        {
            return self
                .desk
                .refusals
                .refuse("question_rate", &asked.by.did, "limits.questions_per_second");
        }
        let (streams, store) = (self.desk.streams.clone(), Arc::clone(&self.desk.store));
        tokio::spawn(async move { streams.send_response(asked, store).await });
    }

    async fn ended(&mut self, over: SearchOver) {
        // Whoever still looks for more need not.
        for stream in self.streams.remove(&over.report.search_id).into_iter().flatten() {
            stream.1.cancel();
        }
        match self.listeners.remove(&over.report.search_id) {
            // Not waited for here: it may be slow, and others' searches go on.
            Some(listener) => drop(tokio::spawn(async move {
                let _ = tokio::time::timeout(TOLD_TIME, listener.last(SearchTold::Over(over))).await;
            })),
            None => self.desk.report(&over.report).await,
        }
    }
}

pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
