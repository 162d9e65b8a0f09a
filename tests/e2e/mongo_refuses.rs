//! What a database of the apps refuses, and who hears of it.

use oc_testkit::{DataType, Federation, MongoDatabase, Peer, partners, resource, until};
use serde_json::{Value, json};

const CREATE: &str = "create_resource";

/// What an index of the apps does not take, from a partner or from an app, is refused by itself; what comes behind it goes on.
/// Its sender sees it, and sends it again when asked to.
#[tokio::test]
async fn what_a_database_refuses_for_good_holds_up_nobody() {
    let net = Federation::new();
    let Some(database) = MongoDatabase::new().await else {
        return;
    };
    let apps = database.connect().await;
    let computes = apps.collection::<mongodb::bson::Document>("compute_resource");
    let unique = mongodb::options::IndexOptions::builder().unique(true).build();
    let index = mongodb::IndexModel::builder().keys(mongodb::bson::doc! { "name": 1 });
    computes.create_index(index.options(unique).build()).await.unwrap();
    let builder = net.peer("bob").partner_of("alice").set("store.url", database.url());
    let bob = builder.set("store.writes", "daemon").start().await;
    let alice = net.peer("alice").partner_of("bob").start().await;
    partners(&[&alice, &bob]).await;
    let named = |of: &Peer, id: &str, name: &str| resource(of.did(), id, name);
    alice
        .publish_create(DataType::Compute, &named(&alice, "gpu-1", "A"))
        .await;
    bob.expect_document(CREATE, "gpu-1").await;
    for (id, name) in [("gpu-2", "A"), ("gpu-4", "A"), ("gpu-3", "B")] {
        alice.publish_create(DataType::Compute, &named(&alice, id, name)).await;
    }
    bob.expect_document(CREATE, "gpu-3").await;
    assert!(
        bob.heard(CREATE)
            .iter()
            .all(|told| !["gpu-2", "gpu-4"].contains(&told.document()["id"].as_str().unwrap()))
    );
    bob.wait_log(&["not_storable", "name"]).await;
    let parked = |told: &Value| {
        let parked = told["parked"].as_array().unwrap().iter();
        let told = parked.map(|parked| {
            format!(
                "{} {}",
                parked["id"].as_str().unwrap(),
                parked["code"].as_str().unwrap()
            )
        });
        let mut told: Vec<String> = told.collect();
        told.sort();
        told
    };
    let refused = |told: &Value| parked(told) == ["gpu-2 not_storable", "gpu-4 not_storable"];
    alice
        .outbox("what bob's database refused", &["bob", "--parked"], refused)
        .await;
    for (id, name) in [("own-1", "B"), ("own-2", "C")] {
        bob.create_resource(DataType::Compute, &named(&bob, id, name)).await;
    }
    until("what comes behind to be stored", async || {
        let ids = computes.distinct("_id", mongodb::bson::doc! {}).await.ok()?;
        (ids == ["gpu-1", "gpu-3", "own-2"].map(mongodb::bson::Bson::from)).then_some(())
    })
    .await;
    bob.wait_log(&["store_refused", "name"]).await;

    computes.drop_index("name_1").await.unwrap();
    let again = alice
        .types(&["outbox", "retry", "bob", "--id", "gpu-2", "--json"])
        .await
        .json();
    assert_eq!(again, json!({"again": 1, "gone": 0}));
    bob.expect_document(CREATE, "gpu-2").await;
    let one = |told: &Value| parked(told) == ["gpu-4 not_storable"];
    alice.outbox("one is still parked", &["bob", "--parked"], one).await;
    assert_eq!(alice.types(&["peer", "resync", "bob"]).await.status, 0);
    bob.expect_document(CREATE, "gpu-4").await;
    let none = |told: &Value| parked(told).is_empty();
    alice.outbox("nothing is parked", &["bob", "--parked"], none).await;
}
