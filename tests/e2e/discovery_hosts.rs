//! Peers find each other at whatever kind of address their hosts have.

use crate::discovery::{finds, indexer, knowing};
use crate::hostile::still_crosses;
use oc_testkit::{Federation, partners};

/// An indexer and two peers at one kind of address find each other, and become partners by their documents.
async fn find_each_other_at(host: &'static str) {
    if host.contains('6') && std::net::TcpListener::bind("[::1]:0").is_err() {
        return println!("skipped: there is no IPv6 on this machine");
    }
    let net = Federation::on(host);
    let _index = indexer(&net, "index", &[]).start().await;
    let alice = knowing(&net, "alice", &["index"]).partner_of("bob").start().await;
    let bob = knowing(&net, "bob", &["index"]).partner_of("alice").start().await;
    let carol = knowing(&net, "carol", &["index"]).start().await;
    let document = finds(&alice, "carol", carol.did()).await;
    let address = document["stream_address"].as_str().unwrap();
    assert!(address.starts_with(host), "{address}");
    partners(&[&alice, &bob]).await;
    still_crosses(&alice, &bob).await;
}

#[tokio::test]
async fn a_federation_on_ipv6() {
    find_each_other_at("/ip6/::1").await;
}

#[tokio::test]
async fn a_federation_by_name_on_ipv4() {
    find_each_other_at("/dns4/localhost").await;
}

#[tokio::test]
async fn a_federation_by_name_on_ipv6() {
    find_each_other_at("/dns6/localhost").await;
}
