//! Names, labels, and whom they name.

use super::*;

#[test]
fn every_name_begins_with_ocd_and_labels_are_the_agreed_ones() {
    let metrics = Metrics::new();
    metrics.nats_received("propalgation_event");
    metrics.dropped("intake", "full");
    metrics.dropped_many("intake", "full", 2);
    metrics.refused("not_partner");
    metrics.set_partners(2, 1);
    metrics.event_took(Duration::from_micros(700));
    let text = metrics.encode();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("ocd_"), "{line}");
    }
    for expected in [
        "ocd_nats_received_total{subject=\"propalgation_event\"} 1",
        "ocd_dropped_total{where=\"intake\",reason=\"full\"} 3",
        "ocd_refused_total{rule=\"not_partner\"} 1",
        "ocd_partners{state=\"connected\"} 2",
        "ocd_partners{state=\"away\"} 1",
        "ocd_event_seconds_bucket{le=\"0.001\"} 1",
        "ocd_event_seconds_bucket{le=\"0.0005\"} 0",
        "ocd_build_info{version=",
        "ocd_process_start_time_seconds ",
    ] {
        assert!(text.contains(expected), "{expected} is missing from:\n{text}");
    }
}

#[test]
fn a_partner_that_left_is_no_longer_named() {
    let metrics = Metrics::new();
    metrics.set_partner_up("did:a", true);
    metrics.set_peer_queue_waiting("did:a", 4);
    assert!(metrics.encode().contains("ocd_partner_up{partner=\"did:a\"} 1"));
    metrics.forget_partner("did:a");
    assert!(!metrics.encode().contains("did:a"));
}
