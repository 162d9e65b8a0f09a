//! The app's side of NATS: envelopes written as a Go app writes them, and an inbox of what the daemon published.

use crate::documents::{Action, DataType};
use crate::nats::NatsServer;
use crate::wait::until;
use async_nats::{Client, HeaderMap};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The subjects an app hears the daemon on.
const HEARD: [&str; 5] = [
    "propalgation_event",
    "create_resource",
    "remove_resource",
    "search_event",
    "search_end",
];

/// Something that can be a payload.
pub trait Payload {
    /// Its bytes.
    fn bytes(&self) -> Vec<u8>;
}

impl Payload for Value {
    fn bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl Payload for str {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Payload for String {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Payload for [u8] {
    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }
}

impl Payload for Vec<u8> {
    fn bytes(&self) -> Vec<u8> {
        self.clone()
    }
}

/// A message of the daemon.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its bytes.
    pub body: Vec<u8>,
    /// When the app heard it.
    pub at: Instant,
}

/// An envelope, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Who published it.
    pub from_app: String,
    /// The number of its datatype.
    pub datatype: u64,
    /// Whose doing it is.
    pub user: String,
    /// The payload's bytes.
    pub payload: Vec<u8>,
    /// The search it answers.
    pub search_id: Option<String>,
}

/// The payload of a PROPALGATION_EVENT, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Propalgation {
    /// The number of its action.
    pub action: u64,
    /// The number of its datatype.
    pub datatype: u64,
    /// The payload's bytes.
    pub payload: Vec<u8>,
}

impl Message {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as an envelope.
    ///
    /// # Panics
    /// When it is none.
    pub fn envelope(&self) -> Envelope {
        let json = self.json();
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        Envelope {
            from_app: text("from_app").unwrap_or_else(|| panic!("an envelope without from_app: {json}")),
            datatype: json["datatype"]
                .as_u64()
                .unwrap_or_else(|| panic!("an envelope without datatype: {json}")),
            user: text("user").unwrap_or_default(),
            payload: unwrap64(&json["payload"]),
            search_id: text("search_id"),
        }
    }

    /// The document inside; null when it is none.
    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.envelope().payload).unwrap_or(Value::Null)
    }

    /// What is inside a PROPALGATION_EVENT.
    ///
    /// # Panics
    /// When it is none.
    pub fn propalgation(&self) -> Propalgation {
        let inner = self.document();
        Propalgation {
            action: inner["action"].as_u64().unwrap_or_else(|| panic!("no action: {inner}")),
            datatype: inner["datatype"]
                .as_u64()
                .unwrap_or_else(|| panic!("no datatype: {inner}")),
            payload: unwrap64(&inner["payload"]),
        }
    }

    /// The `Oc-Origin` header.
    pub fn origin(&self) -> Option<String> {
        self.headers.get("Oc-Origin").map(ToString::to_string)
    }
}

fn unwrap64(value: &Value) -> Vec<u8> {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("a payload that is no base64 text: {value}"));
    STANDARD
        .decode(text)
        .unwrap_or_else(|error| panic!("a payload that is no base64: {error}"))
}

/// An app on a NATS server.
pub struct App {
    owner: String,
    client: Client,
    inbox: Arc<Mutex<Inbox>>,
}

#[derive(Default)]
struct Inbox {
    all: Vec<Message>,
    /// Which of them an `expect` has given out.
    taken: Vec<bool>,
}

impl App {
    /// Connects, also to a server that is not there yet, and listens.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn connect(owner: &str, server: &NatsServer, deaf: bool) -> Self {
        // What the app itself says does not come back to it, so all it hears is the daemon's.
        let options = server.connect_options().no_echo().name("oc-catalog");
        let client = options.connect(server.url()).await.expect("the app connects to NATS");
        let inbox: Arc<Mutex<Inbox>> = Arc::default();
        let mut heard = Vec::new();
        for subject in HEARD.into_iter().filter(|subject| !deaf || *subject == "search_end") {
            heard.push(client.subscribe(subject).await.expect("the app subscribes"));
        }
        let filled = Arc::clone(&inbox);
        tokio::spawn(async move {
            let mut messages = futures::stream::select_all(heard);
            while let Some(message) = messages.next().await {
                let mut inbox = filled.lock().unwrap();
                inbox.all.push(Message {
                    subject: message.subject.to_string(),
                    headers: message.headers.unwrap_or_default(),
                    body: message.payload.to_vec(),
                    at: Instant::now(),
                });
                inbox.taken.push(false);
            }
        });
        let app = Self {
            owner: owner.to_owned(),
            client,
            inbox,
        };
        if server.runs() {
            app.flush().await;
        }
        app
    }

    /// The connection, for what this kit does not do.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns when the server has taken all that was published and subscribed before, also over a reconnection.
    ///
    /// # Panics
    /// When it does not.
    pub async fn flush(&self) {
        // The client's own flush ends at the socket. Nobody answers on this subject, and the server says so after it has
        // done everything else.
        until(format!("NATS to answer {}", self.owner), || async {
            let answer = self.client.request("oc_testkit.round_trip", bytes::Bytes::new()).await;
            let error = answer.err()?;
            (error.kind() == async_nats::RequestErrorKind::NoResponders).then_some(())
        })
        .await;
    }

    /// Publishes bytes as they are.
    ///
    /// # Panics
    /// When NATS does not take them.
    pub async fn publish_bytes(&self, subject: &str, body: impl Into<bytes::Bytes>) {
        self.client
            .publish(subject.to_owned(), body.into())
            .await
            .expect("NATS takes a message");
        self.flush().await;
    }

    /// Publishes an envelope.
    pub async fn publish(&self, subject: &str, datatype: DataType, payload: &(impl Payload + ?Sized)) {
        self.publish_bytes(subject, envelope("oc-catalog", datatype, &payload.bytes()))
            .await;
    }

    /// Publishes a PROPALGATION_EVENT.
    pub async fn propagate(&self, action: Action, datatype: DataType, payload: &(impl Payload + ?Sized)) {
        self.publish(
            "propalgation_event",
            datatype,
            &propalgation(action, datatype, &payload.bytes()),
        )
        .await;
    }

    /// Waits for a message of the daemon that nobody has taken yet, and takes it.
    ///
    /// # Panics
    /// When none comes; the message names what came instead.
    pub async fn expect(&self, subject: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let seen = || {
            let inbox = self.inbox.lock().unwrap();
            let seen: Vec<String> = inbox
                .all
                .iter()
                .map(|m| format!("{} {}", m.subject, String::from_utf8_lossy(&m.body)))
                .collect();
            let last = seen.len().saturating_sub(10);
            format!("{} messages, the last of them {:#?}", seen.len(), &seen[last..])
        };
        let what = Told(|| format!("a message on {subject} at {}; there were {}", self.owner, seen()));
        until(what, || std::future::ready(self.take(subject, &wanted))).await
    }

    fn take(&self, subject: &str, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
        let inbox = &mut *self.inbox.lock().unwrap();
        let at = inbox
            .all
            .iter()
            .zip(&inbox.taken)
            .position(|(m, taken)| !taken && m.subject == subject && wanted(m))?;
        inbox.taken[at] = true;
        Some(inbox.all[at].clone())
    }

    /// Everything the daemon published on `subject` so far, taken or not.
    pub fn heard(&self, subject: &str) -> Vec<Message> {
        self.inbox
            .lock()
            .unwrap()
            .all
            .iter()
            .filter(|message| message.subject == subject)
            .cloned()
            .collect()
    }
}

/// Written only when it is shown.
struct Told<F>(F);

impl<F: Fn() -> String> std::fmt::Display for Told<F> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&(self.0)())
    }
}

/// An envelope as Go's `json.Marshal` writes the reference's struct.
pub(crate) fn envelope(from_app: &str, datatype: DataType, payload: &[u8]) -> Vec<u8> {
    let body = json!({
        "from_app": from_app,
        "datatype": datatype as u8,
        "user": "user-of-the-app",
        "groups": null,
        "method": 0,
        "payload": STANDARD.encode(payload),
    });
    body.to_string().into_bytes()
}

/// A `PropalgationMessage` as Go's `json.Marshal` writes it.
pub(crate) fn propalgation(action: Action, datatype: DataType, payload: &[u8]) -> Vec<u8> {
    let body = json!({"datatype": datatype as u8, "action": action as u8, "payload": STANDARD.encode(payload)});
    body.to_string().into_bytes()
}
