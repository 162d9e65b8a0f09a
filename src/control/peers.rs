//! The verbs about peers: who there is, who somebody is, and changes of peer documents.
//!
//! Owns the document that is made of an invite. Never writes where the apps own the store: then it says what to publish.

use super::explain_peer::Facts;
use super::told_peers::{Explained, IndexerRow, NewPeer, OwnAddresses, PeerChanged, PeerList, PeerRow};
use super::verbs::value;
use super::{Refused, Request, records};
use crate::discovery::{Depth, millis};
use crate::model::{Member, Peer, Relation, peer_id_of};
use crate::node::{Hit, Up, get_peer_record, member_of};
use crate::settings::{Settings, Writes};
use crate::store::{Applied, Change, Write};
use crate::wire::{DataType, Envelope, timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longest that an explanation waits for store, indexers and DHT.
const LOOK_TIME: Duration = Duration::from_secs(20);
/// Most that one name explains.
const MEANT: usize = 20;

type Done<T> = Result<T, Refused>;

fn texts(addresses: &[libp2p::Multiaddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// Does what one of these verbs asks.
pub(super) async fn act(up: &Up, settings: &Settings, request: Request) -> Done<Value> {
    match request {
        Request::PeerList {} => value(&list(up)),
        Request::PeerRecords { limit } => value(&records::list(up, limit)?),
        Request::PeerExplain { who } => value(&explain(up, settings, &who).await?),
        Request::PeerAdd { peer } => value(&add(up, settings, &peer).await?),
        Request::PeerRemove { who, look } => value(&remove(up, settings, &who, look).await?),
        _ => value(&own_addresses(up)),
    }
}

/// Who there is.
pub(super) fn list(up: &Up) -> PeerList {
    let federation = Arc::clone(&up.federation.borrow());
    let conflicts = up.registry.conflicts();
    let mut peers: Vec<PeerRow> = federation
        .others()
        .map(|member| PeerRow {
            did: member.did.clone(),
            name: member.name.clone(),
            relation: member.relation.name().to_owned(),
            peer_id: member.peer_id.map(|peer| peer.to_string()).unwrap_or_default(),
            connected: member.peer_id.is_some_and(|peer| up.network.is_connected(&peer)),
            addresses: texts(&member.addresses),
            not_used: String::new(),
        })
        .collect();
    for conflict in conflicts.iter() {
        match peers.iter_mut().find(|row| row.did == conflict.did) {
            Some(row) => row.not_used.clone_from(&conflict.why),
            None => peers.push(PeerRow {
                did: conflict.did.clone(),
                not_used: conflict.why.clone(),
                ..PeerRow::default()
            }),
        }
    }
    peers.sort_by(|a, b| (&a.name, &a.did).cmp(&(&b.name, &b.did)));
    let indexers = up.discovery.indexers().into_iter().map(|shown| IndexerRow {
        peer_id: shown.peer.to_string(),
        addresses: texts(&shown.addresses),
        seed: shown.seed,
        kept: shown.kept,
        last: shown.last,
    });
    PeerList {
        peers,
        indexers: indexers.collect(),
        records: up.discovery.is_indexer().then(|| up.discovery.records().0 as u64),
    }
}

/// What the daemon does with whoever `who` means.
async fn explain(up: &Up, settings: &Settings, who: &str) -> Done<Explained> {
    let federation = Arc::clone(&up.federation.borrow());
    let mut facts: Vec<Facts> = Vec::new();
    let new = || Facts {
        asked: who.to_owned(),
        own_did: up.did.clone(),
        unknown: Some(settings.discovery.unknown_peers),
        can_ask: up.discovery.can_ask(),
        now: millis(SystemTime::now()),
        ..Facts::default()
    };
    let deadline = tokio::time::Instant::now() + LOOK_TIME;
    let looked = get_peer_record(up.store.as_ref(), &up.discovery, who, deadline).await;
    for hit in looked.hits.into_iter().take(MEANT) {
        facts.push(match hit {
            Hit::Stored(peer) => Facts {
                // As it stands: an event may be newer than the store.
                stored: Some(
                    federation
                        .get(&peer.did)
                        .cloned()
                        .unwrap_or_else(|| Arc::new(member_of(&peer))),
                ),
                ..new()
            },
            Hit::Record(found) => Facts {
                stored: federation.of_peer(&found.record.peer).cloned(),
                record: Some(found),
                ..new()
            },
        });
    }
    // While the store does not answer, what was read of it last counts.
    if looked.error.is_some() || looked.cut {
        let told = |did: &str| {
            facts
                .iter()
                .any(|fact| fact.stored.as_ref().is_some_and(|member| member.did == did))
        };
        let named = federation
            .others()
            .filter(|member| member.name == who && !told(&member.did));
        let named: Vec<Facts> = named
            .take(MEANT)
            .map(|member| Facts {
                stored: Some(Arc::clone(member)),
                ..new()
            })
            .collect();
        facts.extend(named);
    }
    if facts.is_empty() {
        let (stored, peer) = (federation.find(who).cloned(), peer_id_of(who));
        let unused = up.registry.conflicts().iter().any(|conflict| conflict.did == who);
        if stored.is_none() && peer.is_none() && !unused && !may_be_did(who) {
            let text = format!(
                "nobody is called {who:?}: {}, and {}",
                match &looked.error {
                    Some(error) => format!("our store does not answer ({error})"),
                    None => "not in our store (`peer ls`)".to_owned(),
                },
                match up.discovery.can_ask() {
                    true if looked.cut => "the indexers did not answer in time",
                    true => "no indexer has a record of that name",
                    false => "there is no indexer to ask",
                }
            );
            return Err(Refused::new("unknown_peer", text));
        }
        facts.push(Facts { stored, peer, ..new() });
    }
    let mut peers = Vec::new();
    for mut fact in facts {
        complete(up, &mut fact).await;
        peers.push(fact.explain());
    }
    Ok(Explained { peers })
}

/// What the daemon would do with a DID that nobody has can be said; of a name that nobody bears, nothing.
fn may_be_did(who: &str) -> bool {
    who.starts_with("did:") || uuid::Uuid::parse_str(who).is_ok()
}

/// Adds what the parts of the daemon know of it.
async fn complete(up: &Up, fact: &mut Facts) {
    let stored = fact.stored.as_ref();
    fact.peer = fact
        .peer
        .or_else(|| stored.and_then(|member| member.peer_id))
        .or_else(|| fact.record.as_ref().map(|found| found.record.peer));
    if let (None, Some(peer)) = (&fact.record, fact.peer.filter(|peer| *peer != up.network.local())) {
        let found = up.discovery.find(&peer.to_string(), Depth::Indexers).await;
        let known = found.into_iter().find(|found| found.record.peer == peer);
        fact.record = known.or_else(|| up.discovery.remembered(&peer));
    }
    let did = fact.stored.as_ref().map(|member| member.did.clone());
    let did = did.or_else(|| fact.record.as_ref().map(|found| found.record.record.did.clone()));
    let did = did.unwrap_or_else(|| fact.asked.clone());
    fact.conflict = up.discovery.conflict(&did);
    let conflicts = up.registry.conflicts();
    let unused = conflicts.iter().find(|conflict| conflict.did == did);
    fact.not_used = unused.map(|conflict| (conflict.rule, conflict.why.clone()));
    if let Some(peer) = fact.peer {
        fact.view = up.network.view(peer).await;
    }
}

/// Where others reach us.
fn own_addresses(up: &Up) -> OwnAddresses {
    OwnAddresses {
        addresses: texts(&up.discovery.own_addresses()),
    }
}

fn document(own_did: &str, new: &NewPeer) -> Done<Value> {
    let relation = Relation::ALL
        .into_iter()
        .find(|relation| relation.name() == new.relation);
    let relation = relation.filter(|relation| *relation != Relation::SelfPeer);
    let Some(relation) = relation else {
        return Err(Refused::new(
            "bad_request",
            "the relation is partner, none or blacklist",
        ));
    };
    let now = timestamp(SystemTime::now());
    Ok(json!({
        "id": new.did,
        "name": new.name,
        "is_draft": false,
        "creator_id": own_did,
        "creation_date": now,
        "update_date": now,
        "access_mode": 0,
        "api_url": new.api_url,
        "stream_address": new.stream_address,
        "nats_address": "",
        "wallet_address": "",
        "public_key": new.public_key,
        "peer_id": new.peer_id,
        "relation": relation.code(),
    }))
}

fn message(subject: &str, did: &str, document: &Value) -> PeerChanged {
    let envelope = Envelope {
        // As an app: the daemon does not listen to itself.
        from_app: "oc-discovery-cli".to_owned(),
        datatype: DataType::Peer,
        user: String::new(),
        groups: Vec::new(),
        payload: document.to_string().into_bytes().into(),
        search_id: None,
    };
    PeerChanged {
        did: did.to_owned(),
        subject: subject.to_owned(),
        message: String::from_utf8(envelope.write()).unwrap_or_default(),
        ..PeerChanged::default()
    }
}

/// Adds a peer, or says what to publish.
async fn add(up: &Up, settings: &Settings, new: &NewPeer) -> Done<PeerChanged> {
    let document = document(&up.did, new)?;
    let bytes = document.to_string().into_bytes();
    let peer = Peer::read_new(&bytes).map_err(|error| Refused::new("bad_request", error.to_string()))?;
    if peer.did == up.did || peer.peer_id == Some(up.network.local()) {
        return Err(Refused::new("self_relation", "that is this daemon itself"));
    }
    not_of_another(up, &peer)?;
    if settings.store.writes == Writes::Apps {
        return Ok(message(&settings.nats.subjects.create_resource, &peer.did, &document));
    }
    put(up, &peer.did, Change::Put(bytes.into())).await?;
    up.registry.changed(member_of(&peer)).await;
    let conflicts = up.registry.conflicts();
    if let Some(conflict) = conflicts.iter().find(|conflict| conflict.did == peer.did) {
        let text = format!("its document was written, but is not used: {}", conflict.why);
        return Err(Refused::new(conflict.rule, text));
    }
    Ok(PeerChanged {
        did: peer.did,
        written: true,
        ..PeerChanged::default()
    })
}

/// An invite takes no place of another peer: its document would be lost, and whoever it was would be a partner no more.
fn not_of_another(up: &Up, new: &Peer) -> Done<()> {
    let federation = up.federation.borrow();
    let same_did = federation.get(&new.did);
    if let Some(member) = same_did.filter(|member| member.peer_id.is_some() && member.peer_id != new.peer_id) {
        let text = format!(
            "its DID is that of {:?} in our store, whose PeerId is another; when it is the same organisation with a new key, \
             `peer rm {}` first",
            member.name, member.did
        );
        return Err(Refused::new("did_of_another", text));
    }
    // Whoever put it there had a reason, which whoever adds it now may not know.
    if let Some(member) = same_did.filter(|member| member.relation == Relation::Blacklist)
        && new.relation != Relation::Blacklist
    {
        let text = format!(
            "{:?} is blacklisted in our store, and no invite alone takes that back; when it shall be let in again, `peer rm {}` first",
            member.name, member.did
        );
        return Err(Refused::new("blacklisted", text));
    }
    let same_peer = new.peer_id.and_then(|peer| federation.of_peer(&peer));
    match same_peer.filter(|member| member.did != new.did) {
        Some(member) => {
            let text = format!("its PeerId is already that of {:?}, {}", member.name, member.did);
            Err(Refused::new("peer_id_taken", text))
        }
        None => Ok(()),
    }
}

/// Removes a peer, or says what to publish; with `look` it only says whom that means.
async fn remove(up: &Up, settings: &Settings, who: &str, look: bool) -> Done<PeerChanged> {
    let federation = Arc::clone(&up.federation.borrow());
    let meant: Vec<Arc<Member>> = match federation.find(who) {
        Some(member) => vec![Arc::clone(member)],
        None => federation
            .others()
            .filter(|member| member.name == who)
            .cloned()
            .collect(),
    };
    // One whose document is not used is in no federation: it can be removed by its DID.
    let unused = up
        .registry
        .conflicts()
        .iter()
        .find(|conflict| conflict.did == who)
        .map(|c| c.did.clone());
    let did = match (meant.as_slice(), unused) {
        ([one], _) => one.did.clone(),
        ([], Some(did)) => did,
        ([], None) => {
            return Err(Refused::new(
                "unknown_peer",
                format!("no peer of our store is called {who:?}"),
            ));
        }
        (several, _) => {
            let dids: Vec<&str> = several.iter().map(|member| member.did.as_str()).collect();
            let text = format!(
                "several peers are called {who:?}: say which by its DID, {}",
                dids.join(" or ")
            );
            return Err(Refused::new("ambiguous", text));
        }
    };
    if did == up.did {
        return Err(Refused::new("self_relation", "our own peer document cannot be removed"));
    }
    let name = federation
        .get(&did)
        .map(|member| member.name.clone())
        .unwrap_or_default();
    if settings.store.writes == Writes::Apps {
        let subject = &settings.nats.subjects.remove_resource;
        let told = message(subject, &did, &json!({ "id": did }));
        return Ok(PeerChanged { name, ..told });
    }
    if !look {
        put(up, &did, Change::Remove).await?;
        up.registry.removed(did.clone()).await;
    }
    Ok(PeerChanged {
        did,
        name,
        written: !look,
        ..PeerChanged::default()
    })
}

async fn put(up: &Up, did: &str, change: Change) -> Done<()> {
    let write = Write {
        datatype: DataType::Peer,
        id: did.to_owned(),
        change,
        only_if_owner: None,
    };
    let applied = up.store.apply(vec![write]).await;
    let applied = applied.map_err(|error| Refused::new("failed", error.to_string()))?;
    for applied in applied {
        if let Applied::Refused(why) = applied {
            return Err(Refused::new("failed", format!("the store refuses it: {why}")));
        }
    }
    up.store
        .sync()
        .await
        .map_err(|error| Refused::new("failed", error.to_string()))
}
