//! Kademlia in the swarm: its settings, the queries under way, and what comes of each.
//!
//! Owns who waits for which query. Never judges a record: what others want kept goes up as [`Offered`] and is kept when
//! somebody says so; what is found goes up as it came. Always: every query is answered, at most [`QUERIES`] run at once, and
//! only peers that were let in and speak the protocol are in the routing table.

use super::dht_store::{ADDRESS_BYTES, ADDRESSES, DhtStore, PROVIDER_LIFE, RECORD_LIFE};
use super::swarm::Actor;
use super::{Network, OFFERED};
use crate::wire::protocol;
use libp2p::kad::{
    self, BucketInserts, Caching, GetClosestPeersOk, GetProvidersOk, GetRecordOk, InboundRequest, Mode, QueryId,
    QueryResult, Quorum, Record, RecordKey, StoreInserts,
};
use libp2p::swarm::StreamProtocol;
use libp2p::{Multiaddr, PeerId};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Queries under way at once. A further one gets nothing, which is counted.
const QUERIES: usize = 64;
/// How long a query may take.
const QUERY_TIME: Duration = Duration::from_secs(5);
/// Nodes that a record is put on. Fewer than the twenty of public networks: each is a connection, and records are put again
/// every minute.
const REPLICAS: NonZeroUsize = NonZeroUsize::new(8).unwrap();
/// Values of one key that are looked at: those who lie are outvoted by validity, not by number.
const VALUES: usize = 8;
/// How often the routing table is refreshed.
const REFRESH: Duration = Duration::from_secs(5 * 60);

/// A record that somebody wants kept here; it is kept by [`Network::dht_keep`].
#[derive(Debug)]
pub struct Offered {
    /// Who sent it.
    pub from: PeerId,
    /// Its key.
    pub key: Vec<u8>,
    /// What it says.
    pub value: Vec<u8>,
}

/// What the handle asks of the DHT.
pub(super) enum DhtCommand {
    Get {
        key: Vec<u8>,
        reply: oneshot::Sender<Vec<Vec<u8>>>,
    },
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        reply: oneshot::Sender<bool>,
    },
    Keep {
        key: Vec<u8>,
        value: Vec<u8>,
        life: Duration,
    },
    Provide {
        key: Vec<u8>,
    },
    Providers {
        key: Vec<u8>,
        reply: oneshot::Sender<HashSet<PeerId>>,
    },
    Addresses {
        of: PeerId,
        reply: oneshot::Sender<Vec<Multiaddr>>,
    },
}

enum Waiting {
    Get(Vec<Vec<u8>>, oneshot::Sender<Vec<Vec<u8>>>),
    Put(oneshot::Sender<bool>),
    Providers(HashSet<PeerId>, oneshot::Sender<HashSet<PeerId>>),
    Addresses(PeerId, oneshot::Sender<Vec<Multiaddr>>),
}

/// The queries under way, and what is known of peers that may come to be in the routing table.
#[derive(Default)]
pub(super) struct Dht {
    /// Off, nothing is asked, answered or kept.
    on: bool,
    waiting: HashMap<QueryId, Waiting>,
    /// Where connected peers that speak Kademlia listen.
    speakers: HashMap<PeerId, Vec<Multiaddr>>,
}

impl Dht {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }
}

pub(super) fn behaviour(local: PeerId, on: bool) -> kad::Behaviour<DhtStore> {
    let mut config = kad::Config::new(StreamProtocol::new(protocol::KAD));
    config
        .set_query_timeout(QUERY_TIME)
        .set_replication_factor(REPLICAS)
        .set_record_ttl(Some(RECORD_LIFE))
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_record_ttl(Some(PROVIDER_LIFE))
        .set_provider_publication_interval(Some(PROVIDER_LIFE / 3))
        .set_max_packet_size(64 * 1024)
        .set_substreams_timeout(QUERY_TIME)
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_caching(Caching::Disabled)
        .set_periodic_bootstrap_interval(Some(REFRESH));
    let mut behaviour = kad::Behaviour::with_config(local, DhtStore::new(local), config);
    // A client answers nobody, and so is in nobody's table.
    behaviour.set_mode(Some(if on { Mode::Server } else { Mode::Client }));
    behaviour
}

impl Actor {
    fn kad(&mut self) -> &mut kad::Behaviour<DhtStore> {
        &mut self.swarm.behaviour_mut().dht.inner
    }

    pub(super) fn ask_dht(&mut self, command: DhtCommand) {
        if !self.dht.on {
            return;
        }
        self.dht.waiting.retain(|_, waiting| !waiting.is_given_up());
        let full = self.dht.waiting.len() >= QUERIES;
        if full && !matches!(command, DhtCommand::Keep { .. }) {
            return self.metrics.dropped("dht_query", "full");
        }
        match command {
            DhtCommand::Get { key, reply } => {
                let id = self.kad().get_record(RecordKey::from(key));
                self.dht.waiting.insert(id, Waiting::Get(Vec::new(), reply));
            }
            DhtCommand::Put { key, value, reply } => {
                let mut record = Record::new(key, value);
                record.expires = Some(Instant::now() + RECORD_LIFE);
                if let Ok(id) = self.kad().put_record(record, Quorum::One) {
                    self.dht.waiting.insert(id, Waiting::Put(reply));
                }
            }
            DhtCommand::Keep { key, value, life } => {
                use kad::store::RecordStore;
                let mut record = Record::new(key, value);
                record.expires = Some(Instant::now() + life);
                if self.kad().store_mut().put(record).is_err() {
                    self.metrics.dropped("dht_record", "too_large");
                }
            }
            DhtCommand::Provide { key } => drop(self.kad().start_providing(RecordKey::from(key))),
            DhtCommand::Providers { key, reply } => {
                let id = self.kad().get_providers(RecordKey::from(key));
                self.dht.waiting.insert(id, Waiting::Providers(HashSet::new(), reply));
            }
            DhtCommand::Addresses { of, reply } => {
                let id = self.kad().get_closest_peers(of);
                self.dht.waiting.insert(id, Waiting::Addresses(of, reply));
            }
        }
    }

    pub(super) fn on_dht(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request:
                    InboundRequest::PutRecord {
                        source,
                        record: Some(record),
                        ..
                    },
            } => {
                let offered = Offered {
                    from: source,
                    key: record.key.to_vec(),
                    value: record.value,
                };
                if self.offered.try_send(offered).is_err() {
                    let detail = format_args!("{OFFERED} records wait to be judged");
                    self.refusals
                        .dropped("dht_record", "full", 1, &source.to_string(), detail);
                }
            }
            kad::Event::InboundRequest {
                request: InboundRequest::AddProvider { record: Some(provider) },
            } => {
                use kad::store::RecordStore;
                // Kademlia has checked that it speaks for itself. One key is known here; others take no room.
                let known = provider.key.as_ref() == super::INDEXERS_KEY.as_slice();
                if !known || self.kad().store_mut().add_provider(provider).is_err() {
                    self.metrics
                        .dropped("dht_provider", if known { "full" } else { "other_key" });
                }
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => self.on_result(id, result, step.last),
            _ => {}
        }
    }

    fn on_result(&mut self, id: QueryId, result: QueryResult, last: bool) {
        let Some(waiting) = self.dht.waiting.get_mut(&id) else {
            return;
        };
        let mut done = last;
        match (waiting, result) {
            (Waiting::Get(found, _), QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(record)))) => {
                found.push(record.record.value);
                done = last || found.len() >= VALUES;
            }
            (
                Waiting::Providers(found, _),
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                found.extend(providers);
            }
            (Waiting::Addresses(..), QueryResult::GetClosestPeers(result)) => {
                let Some(Waiting::Addresses(of, reply)) = self.dht.waiting.remove(&id) else {
                    return;
                };
                let peers = match result {
                    Ok(GetClosestPeersOk { peers, .. }) | Err(kad::GetClosestPeersError::Timeout { peers, .. }) => {
                        peers
                    }
                };
                let found = peers.into_iter().find(|info| info.peer_id == of);
                let _ = reply.send(found.map(|info| info.addrs).unwrap_or_default());
                return;
            }
            (Waiting::Put(_), QueryResult::PutRecord(result)) => {
                let Some(Waiting::Put(reply)) = self.dht.waiting.remove(&id) else {
                    return;
                };
                let _ = reply.send(result.is_ok());
                return;
            }
            _ => {}
        }
        if !done {
            return;
        }
        if !last && let Some(mut query) = self.kad().query_mut(&id) {
            query.finish();
        }
        match self.dht.waiting.remove(&id) {
            Some(Waiting::Get(found, reply)) => drop(reply.send(found)),
            Some(Waiting::Providers(found, reply)) => drop(reply.send(found)),
            _ => {}
        }
    }

    /// A connected peer told where it listens, and whether it speaks Kademlia.
    pub(super) fn told_listening(&mut self, peer: PeerId, speaks: bool, listens: Vec<Multiaddr>) {
        if !self.dht.on {
            return;
        }
        if speaks {
            let short = listens.into_iter().filter(|address| address.len() <= ADDRESS_BYTES);
            self.dht.speakers.insert(peer, short.take(ADDRESSES).collect());
        } else {
            self.dht.speakers.remove(&peer);
            self.kad().remove_peer(&peer);
        }
        if self.bars.is_lifted(&peer) {
            self.routable(peer);
        }
    }

    /// The peer was let in: it may be told to others.
    pub(super) fn routable(&mut self, peer: PeerId) {
        for address in self.dht.speakers.get(&peer).cloned().unwrap_or_default() {
            self.kad().add_address(&peer, address);
        }
    }

    pub(super) fn left_dht(&mut self, peer: &PeerId) {
        self.dht.speakers.remove(peer);
    }

    pub(super) fn sweep_dht(&mut self) {
        self.kad().store_mut().sweep(Instant::now());
        let kept = self.kad().store_mut().len();
        self.metrics.dht_records.set(i64::try_from(kept).unwrap_or(i64::MAX));
    }
}

impl Waiting {
    fn is_given_up(&self) -> bool {
        match self {
            Self::Get(_, reply) => reply.is_closed(),
            Self::Put(reply) => reply.is_closed(),
            Self::Providers(_, reply) => reply.is_closed(),
            Self::Addresses(_, reply) => reply.is_closed(),
        }
    }
}

impl Network {
    /// The values found under a key, as they came.
    pub async fn dht_get(&self, key: Vec<u8>) -> Vec<Vec<u8>> {
        let asked = self.ask_dht(|reply| DhtCommand::Get { key, reply });
        asked.await.unwrap_or_default()
    }

    /// Puts a value on the nodes nearest to its key, for two minutes; whether at least one has taken it.
    pub async fn dht_put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let asked = self.ask_dht(|reply| DhtCommand::Put { key, value, reply });
        asked.await.unwrap_or(false)
    }

    /// Keeps a value that was offered, for `life` and two minutes at the most.
    pub async fn dht_keep(&self, key: Vec<u8>, value: Vec<u8>, life: Duration) {
        self.tell_dht(DhtCommand::Keep { key, value, life }).await;
    }

    /// Tells, now and from time to time, that we provide what [`super::INDEXERS_KEY`] means.
    pub async fn dht_provide(&self) {
        let key = super::INDEXERS_KEY.to_vec();
        self.tell_dht(DhtCommand::Provide { key }).await;
    }

    /// Who tells to be an indexer.
    pub async fn dht_indexers(&self) -> HashSet<PeerId> {
        let key = super::INDEXERS_KEY.to_vec();
        let asked = self.ask_dht(|reply| DhtCommand::Providers { key, reply });
        asked.await.unwrap_or_default()
    }

    /// Where a peer listens, as those nearest to it say.
    pub async fn dht_addresses(&self, of: PeerId) -> Vec<Multiaddr> {
        let asked = self.ask_dht(|reply| DhtCommand::Addresses { of, reply });
        asked.await.unwrap_or_default()
    }

    async fn ask_dht<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> DhtCommand) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell_dht(command(reply)).await;
        // The query has a time of its own; this is for one that is never told to be over.
        tokio::time::timeout(QUERY_TIME * 2, answer).await.ok()?.ok()
    }
}
