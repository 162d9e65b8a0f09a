//! A partner behind a link that is slow but works: what is sent takes its time, and nothing is lost.

use oc_testkit::{DataType, Federation, Identity, Relation, SlowLink, partners, resource};

/// Bytes a second. What one stream may have under way (256 KiB) takes 17 s, and every heartbeat waits behind it.
const RATE: usize = 15_000;
const COUNT: usize = 30;

#[tokio::test]
async fn a_slow_link_that_makes_progress_is_kept() {
    let net = Federation::new();
    let alice = net.peer("alice").start().await;
    let bob = net.peer("bob").start().await;
    // He cannot dial her: all goes on the connection that she dials.
    let nowhere = Identity {
        address: "/ip4/127.0.0.1/tcp/1".to_owned(),
        ..alice.identity().clone()
    };
    bob.tell_peer(&nowhere, Relation::Partner).await;
    bob.settled().await;
    let port = bob.identity().address.rsplit('/').next().unwrap().parse().unwrap();
    let link = SlowLink::new(port, RATE).await;
    let there = Identity {
        address: link.address(),
        ..bob.identity().clone()
    };
    alice.tell_peer(&there, Relation::Partner).await;
    partners(&[&alice, &bob]).await;
    for n in 0..COUNT {
        let mut large = resource(alice.did(), &format!("large-{n}"), "Large");
        large["description"] = "z".repeat(10_000).into();
        alice.publish_create(DataType::Data, &large).await;
    }
    for n in 0..COUNT {
        bob.expect_document("create_resource", &format!("large-{n}")).await;
    }
    // The scene is what it says; and both sides still have the streams that they had before.
    bob.wait_log(&["a heartbeat is late", "something else comes"]).await;
    for peer in [&alice, &bob] {
        let ended = |line: &String| line.contains("heartbeat stream") && line.contains("ended");
        assert_eq!(peer.logs().into_iter().find(ended), None, "{}", peer.name());
    }
}
