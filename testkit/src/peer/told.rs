//! What a peer's daemon tells: HTTP, metrics, logs.

use super::Peer;
use crate::federation::Identity;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::wait::{PATIENCE, until, until_within};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What its daemon tells.
impl Peer {
    /// Asks the daemon's HTTP side; `None` when it does not answer.
    pub async fn http(&self, path: &str) -> Option<(u16, String)> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.admin)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// The metrics now.
    ///
    /// # Panics
    /// When the daemon does not tell them.
    pub async fn metrics(&self) -> Metrics {
        until(format!("the metrics of {}", self.name), || async {
            let (status, body) = self.http("/metrics").await?;
            (status == 200).then(|| Metrics::parse(&body))
        })
        .await
    }

    /// Waits until the metrics are as wanted, and returns them.
    ///
    /// # Panics
    /// When they never are.
    pub async fn wait_metrics(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        until(format!("{what} at {}", self.name), || async {
            let (_, body) = self.http("/metrics").await?;
            Some(Metrics::parse(&body)).filter(&wanted)
        })
        .await
    }

    /// Waits until the sum of a metric's samples with these labels is as wanted.
    ///
    /// # Panics
    /// When it never is.
    pub async fn wait_metric(&self, name: &str, labels: &[(&str, &str)], wanted: impl Fn(f64) -> bool) {
        self.wait_metric_within(PATIENCE, name, labels, wanted).await;
    }

    /// The same for metrics that have their own time, as of what is tried again every minute.
    ///
    /// # Panics
    /// When it never is.
    pub async fn wait_metric_within(
        &self,
        patience: Duration,
        name: &str,
        labels: &[(&str, &str)],
        wanted: impl Fn(f64) -> bool,
    ) {
        let what = format!("the metric {name} {labels:?} at {}", self.name);
        until_within(patience, what, || async {
            let (_, body) = self.http("/metrics").await?;
            wanted(Metrics::parse(&body).sum(name, labels)).then_some(())
        })
        .await;
    }

    /// Whether `/readyz` says so now.
    pub async fn is_ready(&self) -> bool {
        self.http("/readyz").await.is_some_and(|(status, _)| status == 200)
    }

    /// Waits until `/readyz` says ready.
    ///
    /// # Panics
    /// When it never does.
    pub async fn wait_ready(&self) {
        until(format!("{} to be ready", self.name), || async {
            self.is_ready().await.then_some(())
        })
        .await;
    }

    /// Waits until `/readyz?verbose` answers that it is not ready, and returns what it says.
    ///
    /// # Panics
    /// When it never does.
    pub async fn wait_not_ready(&self) -> String {
        until(format!("{} to be not ready", self.name), || async {
            let (status, body) = self.http("/readyz?verbose").await?;
            (status == 503).then_some(body)
        })
        .await
    }

    /// Waits until the heartbeat that this peer sends to `partner` lives.
    ///
    /// # Panics
    /// When it never does.
    pub async fn wait_partner_up(&self, partner: &Identity) {
        self.wait_metric("ocd_partner_up", &[("partner", &partner.did)], |up| up == 1.0)
            .await;
    }

    /// Waits until it does not.
    ///
    /// # Panics
    /// When it always does.
    pub async fn wait_partner_down(&self, partner: &Identity) {
        self.wait_metric("ocd_partner_up", &[("partner", &partner.did)], |up| up == 0.0)
            .await;
    }

    /// Waits until what this peer delivers to `partner` is in step: who both are is said, lists are compared, and every
    /// change from now on goes out once. Asked of `/status`: the metric of it is some seconds old.
    ///
    /// # Panics
    /// When it never is, as where the partner takes no changes.
    pub async fn wait_delivering(&self, partner: &Identity) {
        let what = format!("{} to deliver to {}", self.name, partner.name);
        // An answer that does not come is waited for for a minute before the next try.
        until_within(4 * PATIENCE, what, || async {
            let (_, body) = self.http("/status").await?;
            let told: Value = serde_json::from_str(&body).ok()?;
            let mut rows = told["partners"].as_array()?.iter();
            let row = rows.find(|row| row["did"] == *partner.did)?;
            (row["state"] == "tail" || row["state"] == "legacy").then_some(())
        })
        .await;
    }

    /// What the daemon wrote on stderr since its last start.
    pub fn logs(&self) -> Vec<String> {
        self.daemon.as_ref().map(Process::err).unwrap_or_default()
    }

    /// Waits for a log line that has all of these words.
    ///
    /// # Panics
    /// When there never is one.
    pub async fn wait_log(&self, words: &[&str]) -> String {
        let find = || {
            self.logs()
                .into_iter()
                .find(|line| words.iter().all(|word| line.contains(word)))
        };
        until(format!("a log line of {} with {words:?}", self.name), || {
            std::future::ready(find())
        })
        .await
    }
}

/// Waits until each of these is connected with each other as a partner, heartbeats in both directions, and delivers to
/// it: what is published from now on is sent once, and counted so.
///
/// # Panics
/// When they never are; where one takes no changes, [`linked`] is what can be waited for.
pub async fn partners(peers: &[&Peer]) {
    linked(peers).await;
    for one in peers {
        for other in peers.iter().filter(|other| other.did() != one.did()) {
            one.wait_delivering(other.identity()).await;
        }
    }
}

/// Waits until heartbeats go in both directions between all of these, whatever of changes.
///
/// # Panics
/// When they never do.
pub async fn linked(peers: &[&Peer]) {
    // A dial, a handshake and a challenge that fail on a busy machine are tried again, after pauses.
    let patience = 3 * PATIENCE;
    for one in peers {
        for other in peers.iter().filter(|other| other.did() != one.did()) {
            let partner = [("partner", other.did())];
            one.wait_metric_within(patience, "ocd_partner_up", &partner, |up| up == 1.0)
                .await;
        }
        let inbound = [("protocol", "/opencloud/resource/heartbeat/partner/1.0")];
        let others = peers.len() - 1;
        one.wait_metric_within(patience, "ocd_streams_open", &inbound, |open| open as usize >= others)
            .await;
    }
}
