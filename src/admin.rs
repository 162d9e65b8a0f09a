//! The HTTP side: `/livez`, `/readyz`, `/status`, `/metrics`. Reads only.
//!
//! Owns the bounds of its own connections: how many, and how long each may last. Never takes a body and never changes
//! anything. It stays up while the daemon drains, so that a probe sees "not ready" and not a dead process.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::control::{Status, Verbs};
use crate::telemetry::{Metrics, Readiness};

/// Connections at a time; a further one waits in the system's queue until one ends.
const CONNECTIONS: usize = 32;
/// How long a connection may last, kept alive or not: a slow or silent client cannot hold its place longer.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which is most often a want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What can be wrong with the HTTP side.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error(
        "admin.listen = \"{address}\" cannot be listened on: {source}; choose another address, or \"\" to turn it off"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Listens on `address`.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, AdminError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| AdminError::Bind { address, source })
}

/// Answers until the task is dropped.
pub async fn serve(listener: TcpListener, metrics: Metrics, readiness: Readiness, verbs: Verbs) -> io::Result<()> {
    let told = Told {
        metrics,
        readiness,
        verbs,
    };
    serve_for(listener, told, CONNECTION_TIME).await
}

async fn serve_for(listener: TcpListener, told: Told, time: Duration) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(encode))
        .with_state(told);
    let bounded = BoundedListener {
        listener,
        places: Arc::new(Semaphore::new(CONNECTIONS)),
        time,
    };
    axum::serve(bounded, router).await
}

#[derive(Clone)]
struct Told {
    metrics: Metrics,
    readiness: Readiness,
    verbs: Verbs,
}

/// That it answers is the answer.
async fn livez() -> &'static str {
    "alive\n"
}

async fn readyz(State(told): State<Told>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    let checks = told.readiness.snapshot();
    let ready = checks.iter().all(|(_, why)| why.is_none());
    let mut body = String::new();
    if verbose {
        for (name, why) in checks {
            // Writing to a String cannot fail.
            let _ = match why {
                None => writeln!(body, "[+] {name}: ok"),
                Some(why) => writeln!(body, "[-] {name}: {why}"),
            };
        }
    }
    body.push_str(if ready { "ready\n" } else { "not ready\n" });
    (
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        body,
    )
}

/// The same objects as `outbox --json`, and how the daemon is.
async fn status(State(told): State<Told>) -> impl IntoResponse {
    let status: Status = told.verbs.status().await;
    let body = serde_json::to_string(&status).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body)
}

async fn encode(State(told): State<Told>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], told.metrics.encode())
}

struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    time: Duration,
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // The semaphore is never closed; if it were, there would be no bound and so no connection.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let end = Box::pin(tokio::time::sleep(self.time));
                    return (
                        BoundedStream {
                            stream,
                            end,
                            _place: place,
                        },
                        address,
                    );
                }
                Err(error) => {
                    tracing::debug!(%error, "an admin connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its time is over.
struct BoundedStream {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl BoundedStream {
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use tokio::sync::watch;

    use super::*;
    use crate::settings::{Sources, load};

    async fn started(time: Duration) -> (SocketAddr, Metrics, Readiness) {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, readiness) = (Metrics::new(), Readiness::new(&["nats", "store"]));
        let settings = load(&Sources::of_process(
            Some("/dev/null".into()),
            vec!["name=here".to_owned()],
        ));
        let verbs = Verbs::new(
            watch::Sender::new(Arc::new(settings.unwrap().settings)).subscribe(),
            "peer".to_owned(),
            readiness.clone(),
            watch::Sender::new(None).subscribe(),
        );
        let told = Told {
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            verbs,
        };
        tokio::spawn(serve_for(listener, told, time));
        (address, metrics, readiness)
    }

    async fn try_ask(address: SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        try_ask(address, path).await.unwrap()
    }

    #[tokio::test]
    async fn probes_and_metrics_tell_the_state() {
        let (address, metrics, readiness) = started(CONNECTION_TIME).await;
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        readiness.set_ok("nats");
        let told = ask(address, "/readyz?verbose").await;
        assert!(told.contains("[+] nats: ok\n[-] store: not yet\nnot ready\n"), "{told}");
        readiness.set_ok("store");
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let told = ask(address, "/status").await;
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/json"), "{head}");
        let status: Status = serde_json::from_str(body).unwrap();
        assert_eq!((status.name.as_str(), status.ready, status.did), ("here", true, None));
        readiness.drain();
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        metrics.refused("size");
        assert!(
            ask(address, "/metrics")
                .await
                .contains("ocd_refused_total{rule=\"size\"} 1")
        );
        assert!(ask(address, "/").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_taken_port_names_the_setting() {
        let (address, ..) = started(CONNECTION_TIME).await;
        let told = bind(address).await.unwrap_err().to_string();
        assert!(
            told.starts_with(&format!("admin.listen = \"{address}\" cannot be listened on: ")),
            "{told}"
        );
    }

    #[tokio::test]
    async fn silent_clients_lose_their_places() {
        let (address, ..) = started(Duration::from_millis(50)).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // Answered only because the time of the silent ones runs out. On a slow machine that of the question may too.
        while !try_ask(address, "/livez")
            .await
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {}
        let mut byte = [0];
        for mut stream in silent {
            assert!(!matches!(stream.read(&mut byte).await, Ok(1)));
        }
    }
}
