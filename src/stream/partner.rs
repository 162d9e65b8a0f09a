//! Keeps one partner connected: dials it while it is away, opens the heartbeat stream, writes a heartbeat every 3 s.
//!
//! Owns the opener's side of a partnership. Always: as long as the peer is PARTNER it is tried again, with growing
//! pauses, and at once when it connects by itself; where to dial is read afresh for each try.

use super::heartbeat::{Beat, PERIOD};
use super::table::Direction;
use super::{StreamService, locked};
use crate::model::Member;
use crate::network::Stream;
use crate::network::dial::Backoff;
use crate::wire::{Heartbeat, protocol};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use rand::Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A stream that lived this long was a success: the next failure starts from the first pause again. A refused opener
/// is closed much sooner and cannot tell why, so its pauses grow.
const SETTLED: Duration = Duration::from_secs(8);
/// A partner that refuses the stream has closed it by then; one that has not counts as connected.
const NOT_REFUSED: Duration = Duration::from_millis(500);
/// A write that the connection does not take for this long means that it is dead.
const WRITE_TIME: Duration = Duration::from_secs(10);

impl StreamService {
    /// Runs until `stop`; see the module's first lines.
    pub(super) async fn keep_partner(self, partner: Arc<Member>, stop: CancellationToken) {
        let did = partner.did.clone();
        let mut backoff = Backoff::new(FIRST_PAUSE, self.0.limits.dial_backoff_max);
        self.0.metrics.set_partner_up(&did, false);
        loop {
            let mut opened = None;
            let current = self.federation().get(&did).cloned();
            let peer = current.as_ref().and_then(|member| member.peer_id);
            let outcome = tokio::select! {
                // A partner that is let go loses its stream at the same moment, and must not be told as away after it is forgotten.
                biased;
                () = stop.cancelled() => break,
                outcome = self.partner_session(current, &mut opened) => outcome,
            };
            self.0.metrics.set_partner_up(&did, false);
            if opened.is_some_and(|at| at.elapsed() >= SETTLED) {
                backoff.succeeded();
            }
            let pause = backoff.failed(rand::thread_rng().r#gen());
            let why = outcome.err().unwrap_or_else(|| "the stream ended".to_owned());
            // Said aloud once an outage; the further tries of it are for those who look closer.
            if backoff.failures() == 1 {
                info!(partner = %partner.name, %did, %why, retry_in_s = pause.as_secs_f32(), "partner is away");
            } else {
                debug!(partner = %partner.name, %did, %why, retry_in_s = pause.as_secs_f32(), "partner is still away");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                () = self.connects_by_itself(peer) => {}
            }
        }
    }

    /// One life of the heartbeat stream; `opened` tells since when it is open.
    async fn partner_session(&self, partner: Option<Arc<Member>>, opened: &mut Option<Instant>) -> Result<(), String> {
        let partner = partner.ok_or("its document is gone")?;
        let peer = partner.peer_id.ok_or("its document names no PeerId")?;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        self.0
            .discovery
            .connect(peer, &partner.addresses)
            .await
            .map_err(|error| text(&error))?;
        let stream = self.0.network.open(peer, protocol::HEARTBEAT_PARTNER).await;
        let stream = stream.map_err(|error| text(&error))?;
        let mut pulse = stream.pulse();
        let (mut reader, mut writer) = stream.split();
        let began = *opened.insert(Instant::now());
        let line = Heartbeat {
            name: self.0.own.name.clone(),
            did: self.0.own.did.clone(),
            peer_id: self.0.network.local().to_string(),
        }
        .write_line();
        let ticket = locked(&self.0.table).keep(
            peer,
            protocol::HEARTBEAT_PARTNER,
            Direction::Out,
            Some(Beat::at(Instant::now()).expiry),
        );
        let (mut up, mut settled) = (false, None);
        let mut older = None;
        let mut due = tokio::time::interval(PERIOD);
        let mut byte = [0; 1];
        let ended = loop {
            tokio::select! {
                () = ticket.stop.cancelled() => break Ok(()),
                // The other side writes nothing: whatever is read here is the end.
                _ = reader.read(&mut byte) => break Err("the partner closed the heartbeat stream".to_owned()),
                _ = due.tick() => {
                    let write = async { writer.write_all(&line).await?; writer.flush().await };
                    match tokio::time::timeout(WRITE_TIME, write).await {
                        Ok(Ok(())) => locked(&self.0.table).renew(&ticket, Beat::at(Instant::now()).expiry),
                        Ok(Err(error)) => break Err(error.to_string()),
                        Err(_) => break Err("a heartbeat could not be written in time".to_owned()),
                    }
                    settled.get_or_insert_with(|| tokio::time::Instant::now() + NOT_REFUSED);
                    // Of two connections one is spare, and closes when its streams have moved. The partner keeps the newer
                    // of two heartbeat streams; the older one stays until the next beat, so that there is always one.
                    drop(older.take());
                    if !pulse.is_preferred()
                        && let Some(newer) = self.heartbeat_on_preferred(peer, &line).await
                    {
                        pulse = newer.pulse();
                        let newer = newer.split();
                        older = Some((std::mem::replace(&mut reader, newer.0), std::mem::replace(&mut writer, newer.1)));
                    }
                }
                () = until(settled), if !up => {
                    up = true;
                    self.0.metrics.set_partner_up(&partner.did, true);
                    info!(partner = %partner.name, did = %partner.did, %peer, "partner is connected");
                }
            }
        };
        locked(&self.0.table).forget(&ticket);
        debug!(partner = %partner.name, lived_s = began.elapsed().as_secs(), "a heartbeat stream of ours ended");
        if self.0.shutdown.is_cancelled() || ticket.stop.is_cancelled() {
            let _ = writer.close().await;
        }
        ended
    }

    /// Another heartbeat stream, on the connection that is preferred now, with its first line written.
    async fn heartbeat_on_preferred(&self, peer: PeerId, line: &[u8]) -> Option<Stream> {
        let open = async {
            let mut stream = self.0.network.open(peer, protocol::HEARTBEAT_PARTNER).await.ok()?;
            stream.write_all(line).await.ok()?;
            stream.flush().await.ok()?;
            Some(stream)
        };
        tokio::time::timeout(PERIOD, open).await.ok().flatten()
    }

    /// Returns when the peer, not connected before, connects.
    async fn connects_by_itself(&self, peer: Option<PeerId>) {
        let Some(peer) = peer else {
            return std::future::pending().await;
        };
        let mut connected = self.0.network.connected();
        if connected.wait_for(|links| !links.contains_key(&peer)).await.is_err()
            || connected.wait_for(|links| links.contains_key(&peer)).await.is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

async fn until(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
