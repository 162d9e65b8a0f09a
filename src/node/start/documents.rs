//! Opens the document store that the settings name, and tells whether it answers.
//!
//! Owns nothing. Always: a file that cannot be used ends the start; a database that is away never does, nor does anything here
//! wait for it.

use super::NodeParts;
use crate::settings::{Settings, StoreUrl};
use crate::store::{MongoOptions, MongoStore, SqliteStore, Store, StoreError};
use crate::telemetry::Readiness;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Pause between two looks whether a store that others run answers.
const WATCH_STORE: Duration = Duration::from_secs(3);

pub(super) async fn open_store(settings: &Settings, parts: &NodeParts) -> Result<Arc<dyn Store>, StoreError> {
    match &settings.store.url {
        // What is wrong with a file has to be mended by somebody.
        StoreUrl::Sqlite(path) => {
            let store = SqliteStore::open(path)?;
            store.ready().await?;
            parts.readiness.set_ok("store");
            Ok(Arc::new(store))
        }
        // A database that is away comes back by itself.
        StoreUrl::MongoDb(url) => {
            let store: Arc<dyn Store> = Arc::new(MongoStore::open(MongoOptions {
                url: url.clone(),
                password_file: settings.store.password_file.clone(),
                manage_indexes: settings.store.manage_indexes,
            })?);
            let watching = watch_store(Arc::clone(&store), parts.readiness.clone(), parts.shutdown.clone());
            tokio::spawn(watching);
            Ok(store)
        }
    }
}

/// Tells whether the store answers: once when it stops to, once when it does again.
async fn watch_store(store: Arc<dyn Store>, readiness: Readiness, shutdown: CancellationToken) {
    let mut answered = None;
    loop {
        let answer = tokio::select! {
            () = shutdown.cancelled() => return,
            answer = store.ready() => answer,
        };
        match &answer {
            Ok(()) => {
                readiness.set_ok("store");
                if answered != Some(true) {
                    info!("the document store answers");
                }
            }
            Err(error) => {
                readiness.set_bad("store", error.to_string());
                if answered != Some(false) {
                    warn!(%error, "the document store does not answer; what needs it waits, and nothing is taken for deleted");
                }
            }
        }
        answered = Some(answer.is_ok());
        tokio::time::sleep(WATCH_STORE).await;
    }
}
