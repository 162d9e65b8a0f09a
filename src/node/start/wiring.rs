//! What each part of the daemon is given.
//!
//! Owns nothing. Never decides when a part starts.

use super::{Daemon, NodeError, NodeParts};
use crate::bus::{self, Bus, IntakeFrom, IntakeState, Source};
use crate::delivery::{self, Delivery};
use crate::discovery::{self, Discovery, Own, Says};
use crate::model::Federation;
use crate::network;
use crate::node::inbound::InboundHandler;
use crate::node::outlet::NatsOutlet;
use crate::node::partner_rules::PartnerRules;
use crate::node::registry::{self, Registry};
use crate::pubsub::{Listening, judge::Judge};
use crate::settings::{Settings, Writes};
use crate::stream::{self, StreamService, Upward};
use crate::wire::{ReadLimits, TOPIC_SEARCH, TOPIC_SEARCH_ALIAS};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// The network as the settings want it.
pub(super) fn network_config(
    settings: &Settings,
    parts: &NodeParts,
    inboxes: Vec<(network::StreamProtocol, network::Inbox)>,
) -> network::Config {
    network::Config {
        keypair: parts.identity.keypair.clone(),
        psk: parts.identity.psk,
        listen: settings.network.listen.clone(),
        dht: settings.discovery.dht,
        inboxes,
        streams_per_protocol: settings.limits.streams_per_protocol,
        connections: u32::try_from(settings.limits.connections).unwrap_or(u32::MAX),
        connections_per_peer: u32::try_from(settings.limits.connections_per_peer).unwrap_or(u32::MAX),
        dial_timeout: settings.limits.dial_timeout,
        handshake_timeout: settings.limits.handshake_timeout,
        topics: vec![TOPIC_SEARCH, TOPIC_SEARCH_ALIAS],
        metrics: parts.metrics.clone(),
        refusals: parts.refusals.clone(),
    }
}

impl Daemon {
    fn own(&self, did: &str) -> Own {
        Own {
            name: self.settings.name.clone(),
            did: did.to_owned(),
            keypair: self.parts.identity.keypair.clone(),
        }
    }

    /// Finds others, and is found, from now on.
    pub(super) async fn start_discovery(
        &self,
        did: &str,
        federation: watch::Receiver<Arc<Federation>>,
        records: mpsc::Receiver<network::Incoming>,
        offered: mpsc::Receiver<network::Offered>,
    ) -> Result<Discovery, NodeError> {
        // A store that is away now tells later, by the registry's first reading.
        let document = self.store.self_peer().await.unwrap_or_default();
        let parts = discovery::Parts {
            own: self.own(did),
            says: document.map(|peer| Says::of(&peer)).unwrap_or_default(),
            network: self.network.clone(),
            federation,
            settings: Arc::clone(&self.settings),
            live: self.parts.settings.clone(),
            metrics: self.parts.metrics.clone(),
            refusals: self.parts.refusals.clone(),
            shutdown: self.end.clone(),
        };
        Ok(Discovery::start(parts, records, offered).await)
    }

    pub(super) fn streams(
        &self,
        did: &str,
        federation: watch::Receiver<Arc<Federation>>,
        discovery: Discovery,
    ) -> (StreamService, Upward) {
        let parts = stream::Parts {
            own: self.own(did),
            network: self.network.clone(),
            discovery,
            federation,
            settings: self.parts.settings.clone(),
            metrics: self.parts.metrics.clone(),
            refusals: self.parts.refusals.clone(),
            shutdown: self.end.clone(),
        };
        StreamService::new(parts)
    }

    pub(super) async fn start_registry(
        &self,
        did: &str,
        federation: watch::Sender<Arc<Federation>>,
        discovery: &Discovery,
        streams: &StreamService,
    ) -> Result<Registry, NodeError> {
        let pins = self.log.read(|journal| journal.pins()).await?;
        let parts = registry::Parts {
            store: Arc::clone(&self.store),
            log: self.log.clone(),
            network: self.network.clone(),
            discovery: discovery.clone(),
            streams: streams.clone(),
            federation,
            peers: self.settings.limits.peers,
            unknown_peers: self.settings.discovery.unknown_peers,
            own_peer: self.network.local(),
            metrics: self.parts.metrics.clone(),
            readiness: self.parts.readiness.clone(),
            refusals: self.parts.refusals.clone(),
        };
        Ok(Registry::start(did.to_owned(), pins, parts, self.end.clone()).await)
    }

    pub(super) fn inbound(
        &self,
        federation: &watch::Receiver<Arc<Federation>>,
        committer: delivery::Committer,
        bus: &Bus,
    ) -> InboundHandler {
        InboundHandler {
            store: Arc::clone(&self.store),
            bus: bus.clone(),
            leaving: self.parts.shutdown.clone(),
            committer,
            federation: federation.clone(),
            document_bytes: self.settings.limits.document_bytes,
            metrics: self.parts.metrics.clone(),
            refusals: self.parts.refusals.clone(),
        }
    }

    /// Takes from NATS, from where the journal says we had come to.
    pub(super) async fn listen(
        &self,
        bus: &Bus,
    ) -> Result<(mpsc::Receiver<bus::Taken>, watch::Receiver<IntakeState>), NodeError> {
        let cursor = self.log.read(|journal| journal.cursor()).await?;
        let from = cursor.map(|cursor| IntakeFrom {
            source: Source {
                name: cursor.source,
                created: cursor.created,
            },
            last_seq: cursor.last_seq,
        });
        let Settings { nats, limits, .. } = self.settings.as_ref();
        let counted = (self.parts.metrics.clone(), self.parts.refusals.clone());
        Ok(bus::listen(
            bus,
            nats,
            limits,
            from,
            counted,
            self.parts.shutdown.clone(),
        ))
    }

    pub(super) async fn start_delivery(
        &self,
        did: &str,
        streams: &StreamService,
        federation: &watch::Receiver<Arc<Federation>>,
        bus: &Bus,
        sessions: mpsc::Receiver<network::Incoming>,
    ) -> Result<Delivery, NodeError> {
        let lineage = self.log.read(|journal| journal.feed()).await?.lineage;
        let outlet = NatsOutlet {
            bus: bus.clone(),
            heard: None,
            store: Arc::clone(&self.store),
            writes_store: self.settings.store.writes == Writes::Daemon,
            federation: federation.clone(),
            lineage,
            confident: false,
            store_writes: self.store_writes.clone(),
            refusals: self.parts.refusals.clone(),
        };
        let examiner = PartnerRules {
            store: Arc::clone(&self.store),
            bus: bus.clone(),
            document_bytes: self.settings.limits.document_bytes,
            writes_store: self.settings.store.writes == Writes::Daemon,
        };
        let parts = delivery::Parts {
            own_did: did.to_owned(),
            log: self.log.clone(),
            store: Arc::clone(&self.store),
            apps_own_store: self.settings.store.writes == Writes::Apps,
            network: self.network.clone(),
            streams: streams.clone(),
            federation: federation.clone(),
            settings: Arc::clone(&self.settings),
            examiner: Arc::new(examiner),
            metrics: self.parts.metrics.clone(),
            readiness: self.parts.readiness.clone(),
            journal: self.journal.clone(),
            store_writes: self.store_writes.clone(),
            refusals: self.parts.refusals.clone(),
            shutdown: self.parts.shutdown.clone(),
            end: self.end.clone(),
        };
        Ok(Delivery::start(parts, outlet, sessions).await?)
    }

    pub(super) fn listening(
        &self,
        gossip: mpsc::Receiver<network::Gossip>,
        federation: &watch::Receiver<Arc<Federation>>,
        streams: &StreamService,
        discovery: &Discovery,
    ) -> Listening {
        let limits = &self.settings.limits;
        Listening {
            gossip,
            federation: federation.clone(),
            streams: streams.clone(),
            discovery: discovery.clone(),
            store: Arc::clone(&self.store),
            limits: ReadLimits {
                message_bytes: limits.line_bytes,
                depth: limits.depth,
            },
            judge: Judge::new(
                Instant::now(),
                limits.gossip_per_second.into(),
                limits.gossip_burst.into(),
            ),
            metrics: self.parts.metrics.clone(),
            refusals: self.parts.refusals.clone(),
        }
    }
}
