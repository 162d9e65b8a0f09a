//! KEEP=1: both stay, and a person is told how to speak to them.

use crate::show::Show;
use crate::steps;
use oc_testkit::Peer;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// How often the daemons' new words are added to their files.
const LOG_EVERY: Duration = Duration::from_millis(500);

/// Makes them partners again and waits for Ctrl-C.
pub async fn keep(show: &Show, alice: &Peer, bob: &Peer) {
    steps::again(alice, bob).await;
    show.line("\nKEEP: alice and bob are partners again and stay until Ctrl-C.");
    let mut logs = Vec::new();
    for peer in [alice, bob] {
        let log = peer.dir().join("daemon.log");
        let http = format!("http://127.0.0.1:{}", peer.admin_port());
        show.line(&format!("\n   {:<8}{}", peer.name(), peer.did()));
        show.line(&format!("   NATS    {}", peer.config_value("nats.url")));
        show.line(&format!("   HTTP    {http}/readyz?verbose  {http}/metrics"));
        show.line(&format!("   config  {}", peer.config().display()));
        show.line(&format!("   log     {}", log.display()));
        logs.push((peer, File::create(&log).expect("the log file is made"), 0));
    }
    let (from, to) = (alice.config_value("nats.url"), bob.config_value("nats.url"));
    show.line("\nIn a second terminal: what bob's app hears,");
    show.line(&format!("   scripts/app.py --nats {to} listen"));
    show.line("and in a third, what alice's app says:");
    show.line(&format!("   scripts/app.py --nats {from} propagate create \\"));
    show.line(&format!(
        "     compute_resource '{{\"id\":\"mine\",\"creator_id\":\"{}\"}}'",
        alice.did()
    ));
    show.line(&format!("   scripts/app.py --nats {from} propagate search \\"));
    show.line("     invalid '{\"type\":\"partner\",\"search\":\"disk\",\"id\":\"s3\"}' --wait");
    let mut tick = tokio::time::interval(LOG_EVERY);
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            _ = tick.tick() => {
                for (peer, file, written) in &mut logs {
                    for line in peer.logs().iter().skip(*written) {
                        let _ = writeln!(file, "{line}");
                        *written += 1;
                    }
                }
            }
        }
    }
    show.line("\nStopped.");
}
