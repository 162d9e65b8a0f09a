//! PROPALGATION_EVENT: what one app publishes comes out at the partners' NATS.

use oc_testkit::{DataType, Federation, Peer, partners, resource};

async fn alice_and_bob(net: &Federation) -> (Peer, Peer) {
    let alice = net.peer("alice").partner_of("bob").start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    (alice, bob)
}

#[tokio::test]
async fn pb_create_comes_out_as_create_resource() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    let gpu = resource(alice.did(), "gpu-1", "A graphics processor");
    alice.publish_create(DataType::Compute, &gpu).await;
    let out = bob.expect_document("create_resource", "gpu-1").await;
    let envelope = out.envelope();
    assert_eq!(envelope.from_app, "oc-discovery");
    assert_eq!(envelope.datatype, DataType::Compute as u64);
    assert_eq!(envelope.payload, gpu.to_string().into_bytes(), "byte for byte");
    assert_eq!(out.origin().as_deref(), Some(bob.did()));
}
