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
    for (id, name) in [("gpu-2", "A"), ("gpu-3", "B")] {
        alice.publish_create(DataType::Compute, &named(&alice, id, name)).await;
    }
    bob.expect_document(CREATE, "gpu-3").await;
    assert!(bob.heard(CREATE).iter().all(|told| told.document()["id"] != "gpu-2"));
    bob.wait_log(&["not_storable", "name"]).await;
    let refused = |told: &Value| {
        let parked = told["parked"].as_array();
        parked.is_some_and(|parked| {
            parked.len() == 1 && parked[0]["code"] == "not_storable" && parked[0]["id"] == "gpu-2"
        })
    };
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
    let again = alice.types(&["outbox", "retry", "bob", "--json"]).await.json();
    assert_eq!(again, json!({"again": 1, "gone": 0}));
    bob.expect_document(CREATE, "gpu-2").await;
    let none = |told: &Value| told["parked"].as_array().is_some_and(Vec::is_empty);
    alice.outbox("nothing is parked", &["bob", "--parked"], none).await;
}
