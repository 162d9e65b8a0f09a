//! What the hostile-input tests share: the proof that an offence was counted, told once, and did no harm.

use oc_testkit::{DataType, Peer, resource, until};
use std::sync::atomic::{AtomicU64, Ordering};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// Waits until `rule` has refused `count` things in all at `peer`.
pub async fn refused(peer: &Peer, rule: &str, count: usize) {
    let told = format!("{count} refusals by {rule}");
    let reached = peer.wait_metrics(&told, |metrics| metrics.refused(rule) >= count as f64);
    assert_eq!(reached.await.refused(rule), count as f64, "{rule}");
}

/// The log's lines about what `rule` refused, or gave up at `peer`.
pub fn told(peer: &Peer, rule: &str) -> Vec<String> {
    let rule = format!("rule=\"{rule}\"");
    let about = |line: &String| line.contains(&rule);
    peer.logs().into_iter().filter(about).collect()
}

/// Asserts that the log says one time, within a minute, that `rule` refused something of `source`, and why.
pub async fn told_once(peer: &Peer, rule: &str, source: &str) {
    // Counted first, then told.
    peer.wait_log(&[&format!("rule=\"{rule}\""), &format!("source=\"{source}\"")])
        .await;
    let source = format!("source=\"{source}\"");
    let lines: Vec<String> = told(peer, rule)
        .into_iter()
        .filter(|line| line.contains(&source))
        .collect();
    // Once a minute, that is: a slow test may see the next line.
    let at = |line: &String| OffsetDateTime::parse(line.split(' ').next().unwrap(), &Rfc3339).unwrap();
    for (one, next) in lines.iter().zip(lines.iter().skip(1)) {
        let apart = at(next) - at(one);
        assert!(
            apart > Duration::seconds(59),
            "{rule} of {source} is told once: {lines:#?}"
        );
    }
    let (_, why) = lines[0].split_once("detail=").expect("a reason");
    assert!(!why.trim().is_empty(), "{}", lines[0]);
}

/// A good event of `from`'s app comes out at `to`.
pub async fn still_crosses(from: &Peer, to: &Peer) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!("good-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    from.publish_create(DataType::Compute, &resource(from.did(), &id, "Good"))
        .await;
    to.expect_document("create_resource", &id).await;
}

/// Resident memory of the daemon, in bytes.
pub async fn resident(peer: &Peer) -> f64 {
    peer.metrics().await.sum("ocd_process_resident_memory_bytes", &[])
}

/// Waits until the daemon holds less than `most` bytes.
pub async fn stays_below(peer: &Peer, most: f64) {
    until(format!("{} to hold less than {most} bytes", peer.name()), || async {
        (resident(peer).await < most).then_some(())
    })
    .await;
}
