//! The least that can stand between two NATS servers as two processes: messages out of one, over one TCP connection, into
//! the other. It keeps nothing, reads nothing, promises nothing and encrypts nothing: what the daemons cost beyond it is
//! theirs, what it costs itself nobody can save.

use anyhow::{Context, Result, bail};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, Stream, StreamExt};
use oc_testkit::NatsServer;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The subject at both ends.
pub const SUBJECT: &str = "propalgation_event";
/// The stream at the first end.
pub const STREAM: &str = "EVENTS";

/// The two processes; they end with this.
pub struct Relay(Vec<Child>);

impl Relay {
    /// From `a`, by JetStream or not, to `b`.
    pub fn start(a: &NatsServer, b: &NatsServer, port: u16, jetstream: bool) -> Result<Self> {
        let own = std::env::current_exe()?;
        let run = |words: &[&str]| Command::new(&own).args(words).stdin(Stdio::null()).spawn();
        let port = port.to_string();
        let from = if jetstream { "jetstream" } else { "core" };
        let into = run(&["relay-in", &b.url(), &port])?;
        let out = run(&["relay-out", &a.url(), &port, from])?;
        Ok(Self(vec![out, into]))
    }

    /// Their process ids.
    pub fn pids(&self) -> Result<[i32; 2]> {
        let [out, into] = self.0.as_slice() else {
            bail!("two processes")
        };
        Ok([out.id().try_into()?, into.id().try_into()?])
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What this process is when it was started as a part of a relay; false when it was not.
pub async fn part(words: &[String]) -> Result<bool> {
    match words {
        [name, nats, port] if name == "relay-in" => receive(nats, port.parse()?).await.map(|()| true),
        [name, nats, port, from] if name == "relay-out" => {
            send(nats, port.parse()?, from == "jetstream").await.map(|()| true)
        }
        _ => Ok(false),
    }
}

async fn send(nats: &str, port: u16, jetstream: bool) -> Result<()> {
    let client = async_nats::connect(nats).await?;
    let mut messages: Pin<Box<dyn Stream<Item = Bytes> + Send>> = if jetstream {
        let stream = jetstream::new(client.clone()).get_stream(STREAM).await?;
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::New,
            ..pull::OrderedConfig::default()
        };
        let messages = stream.create_consumer(config).await?.messages().await?;
        Box::pin(messages.filter_map(|message| async { message.ok().map(|message| message.message.payload) }))
    } else {
        Box::pin(client.subscribe(SUBJECT).await?.map(|message| message.payload))
    };
    let mut socket = loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(socket) => break socket,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    };
    socket.set_nodelay(true)?;
    let mut out = BytesMut::new();
    while let Some(message) = messages.next().await {
        let mut next = Some(message);
        while let Some(message) = next.take() {
            out.put_u32(message.len().try_into()?);
            out.put(message);
            if out.len() < 64 * 1024 {
                next = messages.next().now_or_never().flatten();
            }
        }
        socket.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

async fn receive(nats: &str, port: u16) -> Result<()> {
    let client = async_nats::connect(nats).await?;
    let (mut socket, _) = TcpListener::bind(("127.0.0.1", port)).await?.accept().await?;
    let mut read = BytesMut::with_capacity(64 * 1024);
    while socket.read_buf(&mut read).await? > 0 {
        while let Some(length) = read
            .first_chunk::<4>()
            .map(|length| u32::from_be_bytes(*length) as usize)
        {
            if read.len() < 4 + length {
                break;
            }
            let message = read.split_to(4 + length).freeze();
            client.publish(SUBJECT, message.slice(4..)).await?;
        }
        read.reserve(64 * 1024);
    }
    Err(anyhow::anyhow!("the other part ended")).context("relay")
}
