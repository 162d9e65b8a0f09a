//! Peers by the thousand in this process, each with a key and a connection of its own, that speak the record protocols.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::pnet::{PnetConfig, PreSharedKey};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Transport, noise, swarm, tcp, yamux};
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;

/// One of them, connected as long as it lives.
pub struct Member {
    /// Its key.
    pub key: Keypair,
    at: PeerId,
    control: libp2p_stream::Control,
    /// Streams that stay open: a connection without any is closed by the far side.
    kept: Vec<(ReadHalf<libp2p::Stream>, WriteHalf<libp2p::Stream>)>,
    running: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Member {
    /// Connects to `address`, which ends in `/p2p/`.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn connect(psk: PreSharedKey, address: Multiaddr, at: PeerId) -> Result<Self> {
        let key = Keypair::generate_ed25519();
        let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        let transport = tcp
            .and_then(move |socket, _| PnetConfig::new(psk).handshake(socket))
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&key)?)
            .multiplex(yamux::Config::default())
            .boxed();
        let streams = libp2p_stream::Behaviour::new();
        let control = streams.new_control();
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(3600));
        let mut swarm = Swarm::new(transport, streams, key.public().to_peer_id(), config);
        swarm.dial(DialOpts::peer_id(at).addresses(vec![address]).build())?;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => break,
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
        let running = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Ok(Self {
            key,
            at,
            control,
            kept: Vec::new(),
            running,
        })
    }

    /// Writes lines on one stream of `protocol`, all at once, and returns when as many are answered.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn exchange(&mut self, protocol: &'static str, lines: &[String]) -> Result<Vec<String>> {
        let opened = self.control.open_stream(self.at, StreamProtocol::new(protocol)).await;
        let stream = opened.map_err(|error| anyhow::anyhow!("{error}"))?;
        let (mut reader, mut writer) = stream.split();
        let write = async {
            for line in lines {
                writer.write_all(line.as_bytes()).await?;
                writer.write_all(b"\n").await?;
            }
            writer.flush().await
        };
        let read = async {
            let mut text = Vec::new();
            let mut piece = vec![0; 4096];
            while text.iter().filter(|byte| **byte == b'\n').count() < lines.len() {
                let read = reader.read(&mut piece).await?;
                anyhow::ensure!(read > 0, "the stream ended");
                text.extend_from_slice(piece.get(..read).unwrap_or_default());
            }
            Ok(String::from_utf8(text)?)
        };
        let (written, text) = futures::join!(write, read);
        written?;
        self.kept.push((reader, writer));
        Ok(text?.lines().map(str::to_owned).collect())
    }
}

/// A record as any implementation makes it, that holds for a little less than two minutes and `more`.
///
/// # Errors
/// When the key cannot sign.
pub fn record(key: &Keypair, did: &str, name: &str, more: Duration) -> Result<String> {
    let peer = key.public().to_peer_id();
    let public = STANDARD.encode(key.public().encode_protobuf());
    let expires = (SystemTime::now() + Duration::from_secs(115) + more).duration_since(SystemTime::UNIX_EPOCH)?;
    let expires = time::OffsetDateTime::from_unix_timestamp_nanos(i128::try_from(expires.as_nanos())?)?
        .format(&time::format_description::well_known::Rfc3339)
        .context("a time")?;
    let unsigned = format!(
        r#"{{"name":"{name}","did":"{did}","pub_key":"{public}","expiry_date":"{expires}","peer_id":"{peer}","api_url":"https://api.example.org","stream_address":"/dns4/peer.example.org/tcp/4001/p2p/{peer}","nats_address":"","wallet_address":"","signature":null}}"#
    );
    let signature = STANDARD.encode(key.sign(unsigned.as_bytes())?);
    Ok(unsigned.replace("\"signature\":null", &format!("\"signature\":\"{signature}\"")))
}
