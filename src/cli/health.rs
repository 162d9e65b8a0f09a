//! `health`: asks the running daemon, as the probe of an image without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Common, Failure, answer, tell};
use crate::settings::load_admin;

/// For everything: connecting, asking, reading.
const WAIT: Duration = Duration::from_secs(2);
/// Of an answer; what the daemon says is far shorter.
const ANSWER_BYTES: u64 = 64 * 1024;

pub(super) fn health(common: &Common, ready: bool) -> Result<(), Failure> {
    let (admin, mistakes) = load_admin(&common.sources())?;
    // A daemon goes on with the settings that it has, whatever stands in its file meanwhile.
    if !mistakes.0.is_empty() {
        tell(&mistakes.to_string());
    }
    let Some(listen) = admin.listen else {
        return Err(Failure::Failed(anyhow!(
            "admin.listen is empty: there is nothing to ask"
        )));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let path = if ready { "/readyz?verbose" } else { "/livez" };
    let (status, body) = runtime.block_on(ask(askable(listen), path))?;
    let well = status == 200;
    answer(&if common.json {
        format!("{}\n", json!({"ok": well, "status": status, "answer": body}))
    } else {
        body
    })?;
    if well { Ok(()) } else { Err(Failure::Told) }
}

/// Where to ask a daemon that listens on `listen`: on loopback when it listens everywhere.
fn askable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    listen
}

async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut text).await?;
        std::io::Result::Ok(text)
    };
    let text = match tokio::time::timeout(WAIT, asked).await {
        Ok(text) => text.with_context(|| format!("the daemon at {address} does not answer"))?,
        Err(_) => {
            return Err(anyhow!(
                "the daemon at {address} does not answer within {} s",
                WAIT.as_secs()
            ));
        }
    };
    parse(&String::from_utf8_lossy(&text)).ok_or_else(|| anyhow!("what answers at {address} does not speak HTTP"))
}

/// Status and body of an answer.
fn parse(text: &str) -> Option<(u16, String)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_on_loopback() {
        assert_eq!(askable("0.0.0.0:80".parse().unwrap()), "127.0.0.1:80".parse().unwrap());
        assert_eq!(askable("[::]:80".parse().unwrap()), "[::1]:80".parse().unwrap());
        assert_eq!(askable("10.0.0.1:80".parse().unwrap()), "10.0.0.1:80".parse().unwrap());
    }

    #[test]
    fn status_and_body_are_read() {
        assert_eq!(
            parse("HTTP/1.1 503 x\r\na: b\r\n\r\nno\n"),
            Some((503, "no\n".to_owned()))
        );
        for bad in ["", "HTTP/1.1 200 OK", "SSH-2.0\r\n\r\n", "HTTP/1.1 é\r\n\r\n"] {
            assert_eq!(parse(bad), None);
        }
    }
}
