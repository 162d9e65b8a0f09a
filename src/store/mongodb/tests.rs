//! The store beside apps keeps the contract on a server that speaks MongoDB's wire, and reads what others wrote there.

use mongodb::Database;
use oc_testkit::{MongoDatabase, until};
use serde_json::json;

use super::*;
use crate::store::contract::store_contract;

async fn make() -> Option<(MongoStore, MongoDatabase)> {
    let database = MongoDatabase::new().await?;
    Some((open(&database), database))
}

fn open(database: &MongoDatabase) -> MongoStore {
    let options = MongoOptions {
        url: database.url().to_owned(),
        password_file: None,
        manage_indexes: false,
    };
    MongoStore::open(options).unwrap()
}

store_contract!(make);
