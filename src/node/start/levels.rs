//! What others watch, told as checks: whether anything is listened on, and whether anything is taken from NATS.
//!
//! Owns the checks `network` and `listener`. Never changes what it watches.

use crate::bus::IntakeState;
use crate::telemetry::Readiness;
use libp2p::Multiaddr;
use tokio::sync::watch;

/// Tells whether others can reach us: a daemon without a listener hears of nobody who does not listen himself.
pub(super) async fn tell_network(mut listening: watch::Receiver<Vec<Multiaddr>>, readiness: Readiness) {
    let mut listened = false;
    loop {
        match listening.borrow_and_update().is_empty() {
            true if listened => {
                let why = "nothing is listened on any more, so that no partner can reach us; mend the addresses of \
                           network.listen (`ip address`), then start the daemon again";
                readiness.set_bad("network", why.to_owned());
            }
            empty => {
                listened |= !empty;
                readiness.set_ok("network");
            }
        }
        if listening.changed().await.is_err() {
            return;
        }
    }
}

/// Tells whether anything is taken from NATS.
pub(super) async fn tell_intake(mut intake: watch::Receiver<IntakeState>, readiness: Readiness) {
    let mut first = true;
    loop {
        match &*intake.borrow_and_update() {
            IntakeState::Choosing(why) if first => readiness.set_waiting("listener", why.clone()),
            IntakeState::Choosing(why) => readiness.set_bad("listener", why.clone()),
            IntakeState::Core | IntakeState::Stream { .. } => readiness.set_ok("listener"),
        }
        first = false;
        if intake.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_daemon_whose_last_listener_closed_is_not_ready() {
        let readiness = Readiness::new(&["network"]);
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        let (listening, seen) = watch::channel(vec![address.clone()]);
        let telling = tokio::spawn(tell_network(seen, readiness.clone()));
        let is = async |ready: bool| {
            while readiness.ready() != ready {
                tokio::task::yield_now().await;
            }
        };
        is(true).await;
        listening.send_modify(Vec::clear);
        is(false).await;
        assert!(readiness.reasons().0.concat().contains("network.listen"));
        listening.send_modify(|list| list.push(address));
        is(true).await;
        drop(listening);
        telling.await.unwrap();
    }
}
