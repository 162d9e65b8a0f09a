//! What a peer's app publishes, and what it hears.

use super::Peer;
use crate::app::{self, Message, Payload};
use crate::documents::{Action, DataType, Relation, peer_document};
use crate::federation::Identity;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// What its app says.
impl Peer {
    /// PB_CREATE.
    pub async fn publish_create(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.propagate(Action::Create, datatype, document).await;
    }

    /// PB_UPDATE.
    pub async fn publish_update(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.propagate(Action::Update, datatype, document).await;
    }

    /// PB_DELETE, with the document or `{id}`.
    pub async fn publish_delete(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.propagate(Action::Delete, datatype, document).await;
    }

    /// PB_CONSIDERS: `payload` with `peer_ids` set to these.
    pub async fn publish_considers(&self, datatype: DataType, to: &[&str], mut payload: Value) {
        payload["peer_ids"] = json!(to);
        self.app.propagate(Action::Considers, datatype, &payload).await;
    }

    /// PB_PLANNER: `payload` with `peer_id` set to this.
    pub async fn publish_planner(&self, datatype: DataType, to: &str, mut payload: Value) {
        payload["peer_id"] = json!(to);
        self.app.propagate(Action::Planner, datatype, &payload).await;
    }

    /// PB_CLOSE_PLANNER.
    pub async fn publish_close_planner(&self, datatype: DataType, to: &str) {
        self.app
            .propagate(Action::ClosePlanner, datatype, &json!({"peer_id": to}))
            .await;
    }

    /// PB_SEARCH: `{type, search, id?, limit?, timeout_ms?, datatype?}`.
    pub async fn publish_search(&self, datatype: DataType, request: Value) {
        self.app.propagate(Action::Search, datatype, &request).await;
    }

    /// PB_CLOSE_SEARCH.
    pub async fn publish_close_search(&self, id: &str) {
        self.app
            .propagate(Action::CloseSearch, DataType::Invalid, &json!({"id": id}))
            .await;
    }

    /// CREATE_RESOURCE: the app has written this document.
    pub async fn create_resource(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.publish("create_resource", datatype, document).await;
    }

    /// REMOVE_RESOURCE: the app has removed this document.
    pub async fn remove_resource(&self, datatype: DataType, document: &(impl Payload + ?Sized)) {
        self.app.publish("remove_resource", datatype, document).await;
    }

    /// CREATE_RESOURCE of the peer document of `who`.
    pub async fn tell_peer(&self, who: &Identity, relation: Relation) {
        self.create_resource(DataType::Peer, &peer_document(who, relation))
            .await;
    }

    /// REMOVE_RESOURCE of the peer document of `who`.
    pub async fn forget_peer(&self, who: &Identity) {
        self.remove_resource(DataType::Peer, &peer_document(who, Relation::None))
            .await;
    }

    /// A whole search: publishes it under an id of its own, and returns its results and its end when it is over.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn search(&self, datatype: DataType, mut request: Value) -> (Vec<Message>, Value) {
        let id = unique("search");
        request["id"] = json!(id);
        self.publish_search(datatype, request).await;
        let end = self
            .expect("search_end", |message| message.json()["search_id"] == *id)
            .await
            .json();
        // Of one publisher NATS keeps the order, over all subjects: what came after the end would be a mistake.
        let results = self.app.heard("search_event");
        let ours = |message: &Message| message.json()["search_id"] == *id;
        (results.into_iter().filter(ours).collect(), end)
    }

    /// Returns when the daemon has handled all that was published on its NATS before: a question that it answers in
    /// its turn is put behind it.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn settled(&self) {
        self.search(DataType::Peer, json!({"search": "no peer has this name"}))
            .await;
    }

    /// Waits for a message of the daemon on `subject` that no other `expect` has taken, and takes it.
    ///
    /// # Panics
    /// When none comes.
    pub async fn expect(&self, subject: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        self.app.expect(subject, wanted).await
    }

    /// [`Peer::expect`] for the document with this `id`.
    ///
    /// # Panics
    /// When none comes.
    pub async fn expect_document(&self, subject: &str, id: &str) -> Message {
        self.expect(subject, |message| message.document()["id"] == id).await
    }

    /// Everything the daemon published on `subject` so far.
    pub fn heard(&self, subject: &str) -> Vec<Message> {
        self.app.heard(subject)
    }
}

/// What [`Peer`] publishes, for tests that want the bytes.
impl Peer {
    /// The bytes of an envelope as its app writes them, with any `from_app`.
    pub fn envelope(from_app: &str, datatype: DataType, payload: &(impl Payload + ?Sized)) -> Vec<u8> {
        app::envelope(from_app, datatype, &payload.bytes())
    }

    /// The bytes of a `PropalgationMessage` as its app writes them.
    pub fn propalgation(action: Action, datatype: DataType, payload: &(impl Payload + ?Sized)) -> Vec<u8> {
        app::propalgation(action, datatype, &payload.bytes())
    }
}

/// A word that was not used before in this process.
fn unique(word: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{word}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
