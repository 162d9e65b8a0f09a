//! The list of every setting: name, type, default, form and meaning. Nothing else in the project repeats any of these.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use libp2p::Multiaddr;

use super::addresses::{
    address_with_peer, hide_user_info, listen_address, nats_url, reachable_address, socket, store_url, stream_name,
    subject,
};
use super::defaults::{default_state_dir, default_writes, host_name};
use super::forms::{
    Form, choice, count, directory, duration, flag, log_filter, optional, path, rate, several, size, text,
};
use super::reading::{Preset, Reading, Row};
use crate::telemetry::LogFormat;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A part of the list.
pub(super) trait Section: Sized {
    /// Its settings, in order.
    fn rows(into: &mut Vec<Row>);
    /// Reads every one of them, so that every mistake is found; `None` when there was one.
    fn read(from: &mut Reading<'_>) -> Option<Self>;
}

/// Every setting, in the order in which they are shown and written.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    Settings::rows(&mut rows);
    rows
}

/// Makes a struct and its part of the list from one text: the doc comment is the meaning shown to people, `=` the
/// default, then the form. What stands under `sections` has a section of its own.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident in $prefix:literal {
            $( $(#[doc = $help:literal])+ $field:ident: $type:ty = $preset:expr, $form:expr; )*
            $(sections { $( $(#[doc = $subhelp:literal])+ $sub:ident: $subtype:ty; )+ })?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $help])+ pub $field: $type, )*
            $( $( $(#[doc = $subhelp])+ pub $sub: $subtype, )+ )?
        }

        impl Section for $name {
            fn rows(into: &mut Vec<Row>) {
                $( into.push(Row {
                    key: concat!($prefix, stringify!($field)),
                    help: concat!($($help),+),
                    values: { let form: Form<$type> = $form; form.told },
                    preset: $preset,
                }); )*
                $( $( <$subtype as Section>::rows(into); )+ )?
            }

            fn read(from: &mut Reading<'_>) -> Option<Self> {
                $( let $field: Option<$type> = from.read(concat!($prefix, stringify!($field)), &$preset, &$form); )*
                $( $( let $sub = <$subtype as Section>::read(from); )+ )?
                Some(Self { $( $field: $field?, )* $( $( $sub: $sub?, )+ )? })
            }
        }
    };
}

/// A default that is written as it would be in the file.
const fn is(text: &'static str) -> Preset {
    Preset::Text(text)
}

section! {
    /// Every setting of the daemon, checked.
    #[derive(Debug)]
    pub struct Settings in "" {
        /// What partners see as the name of this daemon.
        name: String = Preset::Computed { told: "the host's name", sample: "my-organisation", of: host_name },
            text("a name", 255);
        /// The directory of the key, the embedded documents and all that the daemon remembers. One daemon at a time.
        state_dir: PathBuf = Preset::Computed {
            told: "`$STATE_DIRECTORY`, else `$XDG_STATE_HOME/oc-discovery`, else `~/.local/state/oc-discovery`",
            sample: "/var/lib/oc-discovery",
            of: default_state_dir,
        }, directory();
        /// How long the daemon may finish what it has begun when it is told to stop.
        shutdown_grace: Duration = is("10s"), duration(MS, HOUR);
        sections {
            /// Who this daemon is.
            identity: IdentitySettings;
            /// How the apps are reached.
            nats: NatsSettings;
            /// How other daemons are reached.
            network: NetworkSettings;
            /// Where documents are.
            store: StoreSettings;
            /// How unknown peers are found.
            discovery: DiscoverySettings;
            /// Searches.
            search: SearchSettings;
            /// What waits for partners.
            delivery: DeliverySettings;
            /// Every bound.
            limits: Limits;
            /// The HTTP side.
            admin: AdminSettings;
            /// The log.
            log: LogSettings;
        }
    }
}

section! {
    /// Who this daemon is.
    #[derive(Debug)]
    pub struct IdentitySettings in "identity." {
        /// The private key (PKCS#8 PEM, ed25519). Made at the first start; refused when others can read it.
        key_file: PathBuf = is("{state_dir}/node.key"), path();
        /// The pre-shared key of the network. It must exist, unless `network.private` is false.
        psk_file: PathBuf = is("{state_dir}/swarm.psk"), path();
    }
}

section! {
    /// The NATS servers and how to log in there.
    pub struct NatsSettings in "nats." {
        /// One address or several. `user:password@` before a host (other characters as `%20`) logs in, the first of them at all, when
        /// none of the settings below does. A password in it may come from the file or the environment, never from `--set`.
        url: Vec<String> = Preset::List(&["nats://127.0.0.1:4222"]), several(1, nats_url());
        /// NATS credentials (JWT and seed).
        creds_file: Option<PathBuf> = Preset::Unset, optional(path());
        /// User name, together with `nats.password_file`.
        user: Option<String> = Preset::Unset, optional(text("a name", 255));
        /// A file that holds the password of `nats.user`.
        password_file: Option<PathBuf> = Preset::Unset, optional(path());
        /// A file that holds a token.
        token_file: Option<PathBuf> = Preset::Unset, optional(path());
        /// Whether messages are taken from a JetStream stream, where they wait for the daemon: `auto` when the server has
        /// JetStream and lets us, `require` never without (not ready until then), `off` never.
        jetstream: JetStream = is("auto"),
            choice(&[("auto", JetStream::Auto), ("require", JetStream::Require), ("off", JetStream::Off)]);
        /// The stream to make over the subjects listened to, when no other covers them.
        stream: String = is("OC_DISCOVERY"), stream_name();
        /// Whether the daemon may make and change that stream.
        manage_stream: bool = is("true"), flag();
        /// How long a message stays in the stream that the daemon makes.
        stream_age: Duration = is("72h"), duration(HOUR, 24 * 365 * HOUR);
        /// How much that stream holds; beyond it the oldest messages leave.
        stream_bytes: usize = is("1GiB"), size(MIB, 1024 * GIB);
        sections {
            /// TLS towards NATS.
            tls: NatsTls;
            /// The subjects.
            subjects: Subjects;
        }
    }
}

section! {
    /// TLS towards NATS.
    #[derive(Debug)]
    pub struct NatsTls in "nats.tls." {
        /// Certificates (PEM) of the authorities to trust besides the system's.
        ca_file: Option<PathBuf> = Preset::Unset, optional(path());
        /// The daemon's own certificate (PEM), together with `nats.tls.key_file`.
        cert_file: Option<PathBuf> = Preset::Unset, optional(path());
        /// The private key (PEM) of that certificate.
        key_file: Option<PathBuf> = Preset::Unset, optional(path());
    }
}

section! {
    /// NATS subjects.
    #[derive(Debug)]
    pub struct Subjects in "nats.subjects." {
        /// Listened to: what apps want propagated. Spelled as the apps spell it.
        propalgation_event: String = is("propalgation_event"), subject();
        /// Listened to, and published to when a partner's resource arrives.
        create_resource: String = is("create_resource"), subject();
        /// Listened to, and published to when a partner's resource goes.
        remove_resource: String = is("remove_resource"), subject();
        /// Published to: each result of a search.
        search_event: String = is("search_event"), subject();
        /// Published to: the report that ends each search.
        search_end: String = is("search_end"), subject();
    }
}

section! {
    /// How other daemons are reached.
    #[derive(Debug)]
    pub struct NetworkSettings in "network." {
        /// The addresses listened on.
        listen: Vec<Multiaddr> = Preset::List(&["/ip4/0.0.0.0/tcp/4001"]), several(1, listen_address());
        /// Addresses told to others; empty: all that is listened on.
        announce: Vec<Multiaddr> = Preset::List(&[]), several(0, reachable_address());
        /// Whether the pre-shared key is required. Only a network on its own wires should do without.
        private: bool = is("true"), flag();
    }
}

section! {
    /// Where documents are.
    #[derive(Debug)]
    pub struct StoreSettings in "store." {
        /// The documents: a file of this daemon's own, or the database of the apps. The options of a mongodb address say how it is
        /// reached: `tls=true`, `tlsCAFile=PATH`, `replicaSet=NAME`, `readPreference=secondaryPreferred` (for searches alone).
        url: StoreUrl = is("sqlite:{state_dir}/documents.db"), store_url();
        /// A file that holds the password of the user in `store.url`, with mongodb. It may stand in the address as well.
        password_file: Option<PathBuf> = Preset::Unset, optional(path());
        /// Whether the daemon may make the indexes that its searches need, with mongodb. Without them searches in large
        /// collections are cut after 2 s, and the log says once how to make them.
        manage_indexes: bool = is("false"), flag();
        /// Who writes them: the daemon, from what it sees on NATS, or the apps. With `apps` and sqlite another program has to write
        /// this very file, the daemon's own peer document first: without that the daemon is never ready.
        writes: Writes = Preset::Computed {
            told: "`daemon` with sqlite, `apps` with mongodb",
            sample: "daemon",
            of: default_writes,
        }, choice(&[("daemon", Writes::Daemon), ("apps", Writes::Apps)]);
    }
}

section! {
    /// How unknown peers are found.
    #[derive(Debug)]
    pub struct DiscoverySettings in "discovery." {
        /// What this daemon is to others.
        role: Role = is("node"), choice(&[("node", Role::Node), ("indexer", Role::Indexer)]);
        /// The indexers to begin with, each with its `/p2p/` part. Others are learnt from these and from the DHT; up to five are
        /// kept. Without any, partners are found by the `stream_address` of their documents.
        indexers: Vec<Multiaddr> = Preset::List(&[]), several(0, address_with_peer());
        /// Whether peers are looked for in the DHT, too, and records of others kept for it. Its nodes connect to each other now and
        /// then, strangers among them.
        dht: bool = is("true"), flag();
        /// Records that an indexer keeps; further peers are told to ask another.
        records: usize = is("50000"), count(1, 10_000_000);
        /// Records that an indexer keeps of peers that come from one address (IPv6: one /64); further ones are refused.
        records_of_address: usize = is("1000"), count(1, 10_000_000);
        /// What a peer gets that neither the store nor anybody else knows, or that nobody could tell about within 5 s: `allow` is
        /// what a known peer without a relation gets on a connection, `refuse` ends it.
        unknown_peers: UnknownPeers = is("allow"),
            choice(&[("allow", UnknownPeers::Allow), ("refuse", UnknownPeers::Refuse)]);
    }
}

section! {
    /// Searches.
    #[derive(Debug)]
    pub struct SearchSettings in "search." {
        /// How long a search takes answers, when the question does not say, and the longest that a question may ask for, of
        /// us or of others.
        timeout: Duration = is("10s"), duration(MS, HOUR);
        /// How many results a search may have in all.
        max_results: usize = is("1000"), count(1, 1_000_000);
    }
}

section! {
    /// What waits for partners, and for how long.
    #[derive(Debug)]
    pub struct DeliverySettings in "delivery." {
        /// Directed events (considers) that wait for one peer; beyond it the oldest is parked as `expired`.
        directed_rows: usize = is("10000"), count(1, 1_000_000);
        /// The same in bytes.
        directed_bytes: usize = is("64MiB"), size(64 * KIB, 4 * GIB);
        /// How long a deleted resource is remembered, so that partners that were away hear of it without a comparison.
        tombstone_age: Duration = is("720h"), duration(HOUR, 24 * 3650 * HOUR);
        /// How many of them; beyond it the oldest are forgotten.
        tombstones: usize = is("100000"), count(0, 100_000_000);
        /// How long a directed event that arrived is remembered, so that a repetition is known.
        seen_age: Duration = is("720h"), duration(HOUR, 24 * 3650 * HOUR);
        /// Parked changes kept for each partner; beyond it the oldest are forgotten.
        parked: usize = is("1000"), count(1, 1_000_000);
        /// How often everything propagated is compared with the store, so that what was missed heals.
        reconcile_every: Duration = is("6h"), duration(SECOND, 24 * 365 * HOUR);
        /// Free space on the disk of `state_dir` below which nothing is taken any more, from apps or from partners.
        min_free_bytes: usize = is("256MiB"), size(0, 1024 * GIB);
    }
}

section! {
    /// Every bound. What happens at each is said with it.
    #[derive(Debug)]
    pub struct Limits in "limits." {
        /// The biggest document; a bigger one is refused. As base64 it should fit in a message (twice) and a line (once).
        document_bytes: usize = is("512KiB"), size(KIB, 64 * MIB);
        /// The biggest NATS message taken; a bigger one is refused.
        message_bytes: usize = is("1MiB"), size(KIB, 64 * MIB);
        /// The biggest line read from a stream; a bigger one ends the stream.
        line_bytes: usize = is("1MiB"), size(KIB, 64 * MIB);
        /// How long the rest of a line may take once it has begun; then the stream ends.
        line_timeout: Duration = is("10s"), duration(MS, HOUR);
        /// Long lines not yet whole, of all streams together, and an eighth of it of one peer's; beyond it the stream that wants more is reset, or told to come again.
        half_read_bytes: usize = is("64MiB"), size(64 * KIB, 4 * GIB);
        /// How deep JSON may be nested; deeper is refused.
        depth: usize = is("64"), count(8, 127);
        /// Messages taken from NATS and not yet handled; beyond it the newest are dropped and counted.
        intake_messages: usize = is("131072"), count(16, 16_777_216);
        /// The same in bytes.
        intake_bytes: usize = is("128MiB"), size(64 * KIB, 16 * GIB);
        /// Events waiting to be written to one peer. Beyond it the next waits a second for a connected peer; a peer that
        /// takes nothing for so long is stalled, and events for it are dropped and counted until its queue has moved.
        peer_queue_messages: usize = is("8192"), count(1, 1_048_576);
        /// The same in bytes.
        peer_queue_bytes: usize = is("16MiB"), size(64 * KIB, 4 * GIB);
        /// How long a planner line, or a try to send an event to a `/1.0` partner, waits for a peer that is not connected. The line
        /// is then dropped and counted; the event stays in the journal.
        send_wait: Duration = is("10s"), duration(MS, HOUR);
        /// Streams of one protocol that one peer may have open to us; a further one is reset and counted. Some peers write each
        /// event on a stream of its own.
        streams_per_protocol: usize = is("128"), count(1, 1024);
        /// Connections in all; a further one is refused.
        connections: usize = is("1024"), count(1, 100_000);
        /// Connections of one peer; a further one is refused.
        connections_per_peer: usize = is("4"), count(1, 64);
        /// Peer documents read from the store; further ones are left out, which is said in the log.
        peers: usize = is("10000"), count(16, 1_000_000);
        /// Events a second taken from one partner, over all of its streams; beyond it the partner's streams are read later, and
        /// nothing is lost. Somewhat more than a small host handles in all, so that only a flood meets it.
        partner_events_per_second: u32 = is("50000"), rate(1, 10_000_000);
        /// How many of them may come at once.
        partner_events_burst: u32 = is("200000"), rate(1, 100_000_000);
        /// Gossip messages a second from one source; more are dropped and counted.
        gossip_per_second: u32 = is("20"), rate(1, 100_000);
        /// How many of them may come at once.
        gossip_burst: u32 = is("100"), rate(1, 1_000_000);
        /// Direct questions a second from one peer; more are refused.
        questions_per_second: u32 = is("10"), rate(1, 100_000);
        /// How many of them may come at once.
        questions_burst: u32 = is("50"), rate(1, 1_000_000);
        /// Own searches open at a time; a further one is refused.
        open_searches: usize = is("256"), count(1, 65_536);
        /// Answers to one search taken from one peer, or given to one; more are dropped and counted.
        answers_per_peer: usize = is("100"), count(1, 100_000);
        /// Searches of others that are answered at a time; further ones wait until their asker's time is up.
        search_concurrency: usize = is("3"), count(1, 1024);
        /// How long a connection attempt may take.
        dial_timeout: Duration = is("10s"), duration(MS, HOUR);
        /// The longest pause between two attempts to reach the same peer.
        dial_backoff_max: Duration = is("5m"), duration(SECOND, HOUR);
        /// How long the handshakes of a connection may take; then it is closed.
        handshake_timeout: Duration = is("10s"), duration(MS, HOUR);
        /// How long giving one message to NATS may take. A partner's event is then tried again; a search's answer or report
        /// is given up and counted.
        nats_publish_timeout: Duration = is("10s"), duration(MS, HOUR);
    }
}

section! {
    /// The HTTP side: probes and metrics.
    #[derive(Debug)]
    pub struct AdminSettings in "admin." {
        /// Where `/livez`, `/readyz` and `/metrics` are answered. Empty turns it off.
        listen: Option<SocketAddr> = is("127.0.0.1:8080"), optional(socket());
    }
}

section! {
    /// The log.
    #[derive(Debug)]
    pub struct LogSettings in "log." {
        /// off, error, warn, info, debug, trace, or a filter such as `info,oc_discovery=debug`.
        level: String = is("info"), log_filter();
        /// `auto` is text on a terminal and JSON elsewhere.
        format: LogFormat = is("auto"),
            choice(&[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)]);
    }
}

/// Whether messages are taken through JetStream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JetStream {
    /// When the server has it.
    Auto,
    /// Not starting without it.
    Require,
    /// Never.
    Off,
}

/// Where the documents are.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file of this daemon's own.
    Sqlite(PathBuf),
    /// The address of the apps' database, with its user-info: never print it.
    MongoDb(String),
}

/// Who writes the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// The daemon, from what it sees on NATS.
    Daemon,
    /// The apps; the daemon only reads.
    Apps,
}

/// What this daemon is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A peer's own daemon.
    Node,
    /// One that keeps the records of others.
    Indexer,
}

/// What an unknown peer gets when nobody can tell who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPeers {
    /// What a known peer without a relation gets.
    Allow,
    /// Nothing.
    Refuse,
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => out.debug_tuple("Sqlite").field(path).finish(),
            Self::MongoDb(url) => out.debug_tuple("MongoDb").field(&hide_user_info(url)).finish(),
        }
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url: Vec<String> = self.url.iter().map(|url| hide_user_info(url)).collect();
        out.debug_struct("NatsSettings")
            .field("url", &url)
            .field("subjects", &self.subjects)
            .finish_non_exhaustive()
    }
}
