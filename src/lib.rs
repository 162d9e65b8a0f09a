//! The map of the house. Calls go down this list, events come up by channel, and nothing imports what is above it
//! (`tests/layers.rs` reads the imports and says so). `ARCHITECTURE.md` walks one event and one search through it.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | one file a verb; the life of the process in `run` |
//! | [`admin`] | probes and metrics over HTTP; reads only |
//! | [`control`] | the operators' unix socket: what each partner has received, retry, drop, resync, backup |
//! | [`node`] | the loop from NATS to the services; `dispatch`, `partners`, `searches`, `overtaken` are its pure rules |
//! | [`pubsub`] | PubSubService: signed questions on gossip, and who is answered |
//! | [`delivery`] | the journal, and the rules by which nothing taken is lost |
//! | [`stream`] | StreamService: every stream between this daemon and others, by protocol, peer and direction |
//! | [`discovery`] | indexers, signed records, the DHT: who others say they are, and where they listen |
//! | [`network`] | the libp2p swarm, one actor; connections and the hand-over of streams |
//! | [`bus`] | NATS: connection, intake, publishing, the lease of a DID |
//! | [`store`] | documents, behind one trait; SQLite embedded, or the apps' MongoDB |
//! | [`wire`] | every byte form spoken with apps and daemons, and nothing else |
//! | [`model`] | what documents mean; pure |
//! | [`identity`] | key, pre-shared key, the locked directory |
//! | [`settings`] | one list of all settings |
//! | [`telemetry`] | metrics, readiness, counted refusals, the log |
//!
//! # Every bounded queue
//!
//! In the order in which an event from NATS A to NATS B meets them, then the rest. What is lost is counted in
//! `ocd_dropped_total{where, reason}` under the words given.
//!
//! | queue | bound | when it is full |
//! |---|---|---|
//! | messages that JetStream sends ahead | 512 | they stay in the stream; what leaves it by its bounds is a gap: `intake`, and `reconcile` |
//! | client's subscription to core NATS, each subject | 65,536 messages | the newest lost: `nats_subscription` |
//! | intake: taken, not yet handled | `limits.intake_messages`, `limits.intake_bytes` | from a stream: it waits there. From core NATS: the newest lost: `intake` |
//! | journal: changes for every partner | one row a resource; `delivery.tombstones` and `delivery.tombstone_age` for deleted ones | the oldest tombstones go; a partner that was away longer compares lists |
//! | journal: directed events of one peer | `delivery.directed_rows`, `delivery.directed_bytes` | the oldest parked as `expired`: `directed` |
//! | parked changes of one partner | `delivery.parked` | the oldest forgotten |
//! | free room on the disk | `delivery.min_free_bytes` | nothing is taken from apps or partners, not ready |
//! | newest rows in memory | 8,192, 8 MiB | couriers read the rest from the journal |
//! | changes on their way to one partner | 4,096, 4 MiB | its courier waits for acknowledgements |
//! | words for a courier | 64 | the desk waits |
//! | partners that began to deliver, not yet told to their couriers | 256 | not told: their couriers try by themselves |
//! | delivery streams not looked at | 256 | reset: `stream_inbox`, `delivery` |
//! | lines that gather while a transaction is under way, each session | 512, 1 MiB, past the piece that passes it | the session reads on when it has ended, and its sender waits |
//! | messages that gather while others are being journaled | 512, 4 MiB, past 64 messages | the node takes no more from the intake's queue |
//! | lines committed, not yet published | 64 MiB of all sessions | sessions wait, and with them their senders |
//! | partner table's events | 64 | the node waits: a partner is in effect before what follows is sent |
//! | a `/1.0` peer's queue to write, planner lines to any | `limits.peer_queue_messages`, `limits.peer_queue_bytes` | connected: waits 1 s, then lost as `stalled` until half is free; else lost as `away`: `peer_queue` |
//! | a planner line waiting for an absent peer | `limits.send_wait` | lost: `peer_queue`, `peer_away` |
//! | streams being opened, each connection | 64 | the opener is told `Busy`: writers try again, questions and answers are given up |
//! | handshakes with others | 256; 16 of one address (IPv6: /64) | refused: `inbound_connection` |
//! | peers that wait for a verdict | `limits.connections`; 5 s each; 64 look-ups at once, 4 for one address | the next look-up waits; then `discovery.unknown_peers` decides: `quarantine` |
//! | streams of a peer that waits | `limits.streams_per_protocol` for each connection | reset: `stream_inbox` |
//! | records of an indexer | `discovery.records`; `discovery.records_of_address` from one address | a further peer is refused with the reason, and goes to another |
//! | DIDs of an indexer whose keys are remembered | twice as many as records, a day each | those make room behind which no record stands, the oldest that no key proves last |
//! | streams to an indexer not looked at | 1,024 | reset: `stream_inbox` |
//! | heartbeats and records of one peer, its questions | 2 a second (20 at once), 500 (2,000) | refused: `record_rate`; after 100 in a row its stream is reset |
//! | look-ups of peers | 256 at once, one for each key; 2 s for an indexer, 5 s for the DHT | what is known already: `look_up` |
//! | apps' searches for peers | 64 at once | refused: `too_many_searches` |
//! | askers by gossip that our store does not know | 64 looked up at once | not answered: `gossip_stranger` |
//! | records known, absences, conflicts | 10,000 each | the oldest forgotten |
//! | indexers known | 256, 8 addresses each; `discovery.indexers` besides | further ones are not learnt |
//! | strangers' answers looked up, since their DID does not follow from their key | 50 a second (200 at once), 64 under way, one of a peer; none while no search is open that everybody may answer | refused: `unknown_peer`, `look_up` |
//! | questions that an indexer passes on to others | 200 a second, 1,000 at once | answered with what is here: `look_up` |
//! | queries of the DHT | 64 | nothing is found: `dht_query` |
//! | records for the DHT, not yet judged; kept | 256; 4,096 of 4 KiB, two minutes each | dropped: `dht_record`; what ends first makes room |
//! | records that one node has brought for the DHT | 64 | refused: `dht_too_many` |
//! | first frames of a stream, gathered | one of 4 KiB each way | passed on as they are |
//! | indexers announced in the DHT | 256, half an hour each, with 8 addresses | what ends first makes room |
//! | verdicts that nobody knows a peer | 10,000, 10 s each | the oldest forgotten, which costs a look-up |
//! | pins of DIDs on disk | 100,000 | further ones hold for the life of the process: `pins` |
//! | inbound streams not looked at | 1,024; `limits.streams_per_protocol` of each peer and protocol | reset: `stream_inbox` |
//! | half-read long lines | an eighth of `limits.half_read_bytes` for a peer, one line at the least; that for all | the stream that wants more is reset, and counted as refused; a delivery stream is told to come again |
//! | events of one partner | `limits.partner_events_per_second`, `limits.partner_events_burst` | its streams are read later: `ocd_throttled_total` |
//! | batches of events read, not handled | 256, 64 MiB in all | readers wait: the back-pressure from NATS B to NATS A |
//! | client's messages to the NATS socket | 4,096 | publishers wait, `limits.nats_publish_timeout` at most |
//! | store: writes, readers | 256 writes, 4 readers | callers wait, 10 s at most |
//! | store on MongoDB: connections, writes of a batch, searches | 16; 16; 4, of which 1 without an index and 2 s long | callers wait, 10 s at most; a search is cut and says so |
//! | journal: writes, reads | 256 each | callers wait |
//! | swarm's commands | 256 | callers wait |
//! | gossip not yet judged | 1,024, 4 MiB, each at most 32 KiB | the newest lost: `gossip_waiting`; a larger one is refused: `gossip_too_large` |
//! | gossip to send, each peer | 256 | dropped for that peer: gossip carries questions only |
//! | apps' and operators' searches, and peers that could not be asked | 256 each | the node, or the asking task, waits |
//! | an operator's results not yet read | 16,384, 4 MiB | dropped: `search_answer`, `slow_asker`; the end says that there was more |
//! | open searches | `limits.open_searches` | a further one is refused: `too_many_searches` |
//! | questions, and answers as many as one read brought, not handled | 32 | readers wait |
//! | others' questions | 256, 128 of strangers, 16 of one asker; `limits.search_concurrency` at once, 2 of one asker, of askers that are connected | refused: `too_many_questions`; a turn is waited for until the asker's time is up |
//! | results between store and wire | 256, and 1 MiB, a search | the query waits for its asker |
//! | operators' connections | 8; 64 requests of 16 KiB, 10 s for each to come | further ones wait in the system's queue |
//! | HTTP connections | 32, of 10 s each | further ones wait in the system's queue |
// The map is for readers of the source, and names what others cannot use.
#![allow(rustdoc::private_intra_doc_links)]

mod admin;
mod bus;
pub mod cli;
pub mod control;
pub mod delivery;
mod discovery;
pub mod identity;
pub mod model;
mod network;
mod node;
mod pubsub;
pub mod settings;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod wire;
