//! What each partner has received, what is parked, and what shall be compared.
//!
//! Owns who is meant by a partner's name, and how many parked changes are told at once. Never decides what delivery decides.

use super::told::{Destination, Dropped, Outbox, ParkedChange, Resync, Retried};
use super::{INTAKE, Refused, explain};
use crate::delivery::{JournalError, PARKED_COUNTED, Parked, PartnerStatus, Resynced};
use crate::model::{Federation, Member};
use crate::node::Up;
use std::sync::Arc;

/// Most parked changes told at once.
const TOLD: usize = 1_000;

type Done<T> = Result<T, Refused>;

fn journal(error: JournalError) -> Refused {
    Refused::new("failed", error.to_string())
}

fn destination(status: PartnerStatus, federation: &Federation) -> Destination {
    let peer_id = federation.get(&status.did).and_then(|member| member.peer_id);
    Destination {
        peer_id: peer_id.map(|peer| peer.to_string()).unwrap_or_default(),
        state: status.state.to_owned(),
        state_says: explain::state(status.state, status.lag_rows),
        acked_seq: status.acked_seq,
        acked_at: status.acked_at,
        head: status.head,
        lag_rows: status.lag_rows,
        lag_seconds: status.lag_seconds,
        legacy: status.legacy,
        hold_says: explain::hold(&status.hold_code),
        hold_code: status.hold_code,
        last_error: status.last_error,
        parked: status.parked,
        did: status.did,
        name: status.name,
    }
}

fn parked_change(parked: Parked, federation: &Federation) -> ParkedChange {
    let name = federation.get(&parked.dest).map(|member| member.name.clone());
    ParkedChange {
        says: explain::parked(&parked.code, parked.dest.is_empty()),
        name: name.unwrap_or_default(),
        dest: parked.dest,
        datatype: parked.key.datatype.name().to_owned(),
        id: parked.key.id,
        seq: parked.seq,
        at: parked.at,
        code: parked.code,
        detail: parked.detail,
    }
}

/// Which parked changes are told one by one.
#[derive(Default)]
pub(super) struct Wanted {
    /// Of this id only.
    pub(super) id: Option<String>,
    /// Behind so many.
    pub(super) skip: usize,
}

pub(super) async fn outbox(up: &Up, partner: Option<&str>, parked: Option<Wanted>) -> Done<Outbox> {
    let mut partners = up.delivery.status().await;
    let federation = Arc::clone(&up.federation.borrow());
    let only = partner.map(|key| whom(key, &partners, &federation)).transpose()?;
    let mut not_delivered = String::new();
    if let Some(only) = &only {
        partners.retain(|status| status.did == *only);
        if let (true, Some(member)) = (partners.is_empty(), federation.get(only)) {
            not_delivered = undelivered(member);
        }
    }
    let ours = up.delivery.parked(Some(String::new()), PARKED_COUNTED).await;
    let intake_parked = ours.map_err(journal)?.len() as u64;
    let (mut changes, mut total, mut skipped) = (Vec::new(), 0, 0);
    if let Some(Wanted { id, skip }) = parked {
        let page = up.delivery.parked_page(only, id, skip, TOLD).await;
        (changes, total) = page.map_err(journal)?;
        skipped = skip;
    }
    Ok(Outbox {
        partners: partners
            .into_iter()
            .map(|status| destination(status, &federation))
            .collect(),
        not_delivered,
        intake_parked,
        more: (skipped.saturating_add(changes.len()) as u64) < total,
        parked: changes
            .into_iter()
            .map(|parked| parked_change(parked, &federation))
            .collect(),
        parked_total: total,
    })
}

/// What is said of a peer that has no courier.
fn undelivered(member: &Member) -> String {
    let relation = member.relation.name();
    format!(
        "{} is known, with the relation {relation}: nothing is delivered to it",
        member.name
    )
}

pub(super) async fn known(up: &Up) -> Vec<Destination> {
    let federation = Arc::clone(&up.federation.borrow());
    let partners = up.delivery.status().await;
    partners
        .into_iter()
        .map(|status| destination(status, &federation))
        .collect()
}

async fn named(up: &Up, partner: &str) -> Done<String> {
    let statuses = up.delivery.status().await;
    let federation = Arc::clone(&up.federation.borrow());
    whom(partner, &statuses, &federation)
}

fn found(count: usize, partner: &str, id: Option<&str>) -> Done<()> {
    match id {
        Some(id) if count == 0 => {
            let text = format!("nothing with the id {id:?} is parked for {partner}");
            Err(Refused::new("not_found", text))
        }
        _ => Ok(()),
    }
}

pub(super) async fn retry(up: &Up, partner: &str, id: Option<&str>) -> Done<Retried> {
    let did = named(up, partner).await?;
    if did.is_empty() {
        let text = "what our own intake could not take is not kept, only why: its app has to publish it again; \
                    `outbox drop intake` forgets the notes";
        return Err(Refused::new("not_kept", text));
    }
    let (again, gone) = up.delivery.retry(&did, id).await.map_err(journal)?;
    found(again + gone, partner, id)?;
    Ok(Retried {
        again: again as u64,
        gone: gone as u64,
    })
}

pub(super) async fn drop_parked(up: &Up, partner: &str, id: Option<&str>) -> Done<Dropped> {
    let did = named(up, partner).await?;
    let dropped = up.delivery.drop_parked(&did, id).await.map_err(journal)?;
    found(dropped, partner, id)?;
    Ok(Dropped {
        dropped: dropped as u64,
    })
}

pub(super) async fn resync(up: &Up, partner: &str, allow_deletes: bool) -> Done<Resync> {
    let did = named(up, partner).await?;
    let resynced = match did.is_empty() {
        true => Resynced::NotPartner,
        false => up.delivery.resync(&did, allow_deletes).await,
    };
    match resynced {
        Resynced::Begun => Ok(Resync { did }),
        Resynced::NotPartner => {
            let federation = Arc::clone(&up.federation.borrow());
            let relation = federation.get(&did).map(|member| member.relation.name());
            let is = relation
                .map(|is| format!(" (its relation is {is})"))
                .unwrap_or_default();
            let text = format!("{partner} is not a partner{is}: there is nothing to compare with it");
            Err(Refused::new("not_partner", text))
        }
        Resynced::Legacy => {
            let text = format!(
                "{partner} knows only the /1.0 protocols, by which nothing can be compared: what it was sent is not confirmed; \
                 it is asked again whether it knows more by now"
            );
            Err(Refused::new("legacy", text))
        }
    }
}

pub(super) fn reconcile(up: &Up, allow_deletes: bool) -> Resync {
    up.delivery.compare_with_store(allow_deletes);
    Resync { did: String::new() }
}

/// The DID that a DID, PeerId or name means; empty for our own intake. A name must be borne by one alone; those that are
/// delivered to come before other peers.
pub(super) fn whom(key: &str, statuses: &[PartnerStatus], federation: &Federation) -> Done<String> {
    if key == INTAKE {
        return Ok(String::new());
    }
    if let Some(status) = statuses.iter().find(|status| status.did == key) {
        return Ok(status.did.clone());
    }
    if let Some(member) = federation.find(key) {
        return Ok(member.did.clone());
    }
    let served = |member: &&Arc<Member>| statuses.iter().any(|status| status.did == member.did);
    let bearers: Vec<&Arc<Member>> = federation.others().filter(|member| member.name == key).collect();
    let mut meant: Vec<&str> = bearers
        .iter()
        .copied()
        .filter(served)
        .map(|member| member.did.as_str())
        .collect();
    if meant.is_empty() {
        meant = bearers.iter().map(|member| member.did.as_str()).collect();
    }
    match meant.as_slice() {
        [did] => Ok((*did).to_owned()),
        [] => {
            let names: Vec<&str> = statuses.iter().map(|status| status.name.as_str()).take(20).collect();
            let text = format!("no partner is called {key:?}; there are: {}", names.join(", "));
            Err(Refused::new("unknown_partner", text))
        }
        several => {
            let text = format!(
                "several peers are called {key:?}: say which by its DID, {}",
                several.join(" or ")
            );
            Err(Refused::new("ambiguous", text))
        }
    }
}
