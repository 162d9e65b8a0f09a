//! What the next life of the daemon begins with: the book of an indexer, the records last known, the indexers.
//!
//! Owns one file in `state_dir`. Always: it is written beside its place and then named, so that a crash leaves the old one; a
//! line of it that cannot be read is left out; every record in it is verified again.

use super::cache::{Found, Whence};
use super::rules::{LIFE, verify_old};
use super::{Discovery, locked, now};
use crate::network::{Reach, Source};
use crate::wire::{PeerRecord, RECORD_BYTES};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// The file in `state_dir`.
const FILE: &str = "records.jsonl";
/// How often it is written, when there is something to write.
const EVERY: Duration = Duration::from_secs(30);
/// Records of others that are remembered for the time without indexers.
const LAST_KNOWN: usize = 2_000;
/// Largest file read, in bytes: a full book and the rest.
const FILE_BYTES: u64 = 512 * 1024 * 1024;

fn source_text(source: Source) -> String {
    match source {
        Source::V4(ip) => ip.to_string(),
        Source::V6(ip) => ip.to_string(),
        Source::Other => String::new(),
    }
}

fn source_of(text: &str) -> Source {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Source::V4(ip),
        Ok(IpAddr::V6(ip)) => Source::V6(Ipv6Addr::from_bits(ip.to_bits())),
        Err(_) => Source::Other,
    }
}

fn record_value(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or(Value::Null)
}

fn write(path: &Path, lines: &[Value]) -> io::Result<()> {
    let beside = path.with_extension("jsonl.new");
    let mut out = BufWriter::new(std::fs::File::create(&beside)?);
    for line in lines {
        serde_json::to_writer(&mut out, line)?;
        out.write_all(b"\n")?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&beside, path)
}

fn read(path: &Path) -> io::Result<Vec<Value>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut lines = BufReader::new(file.take(FILE_BYTES));
    let mut read = Vec::new();
    let mut line = Vec::new();
    while {
        line.clear();
        let bytes = (&mut lines)
            .take(4 * RECORD_BYTES as u64)
            .read_until(b'\n', &mut line)?;
        bytes > 0
    } {
        read.extend(serde_json::from_slice::<Value>(&line).ok());
    }
    Ok(read)
}

impl Discovery {
    fn file(&self) -> PathBuf {
        self.0.parts.settings.state_dir.join(FILE)
    }

    /// Takes over what an earlier life knew.
    pub(super) async fn remember(&self) {
        let path = self.file();
        let lines = tokio::task::spawn_blocking(move || read(&path)).await;
        let lines = match lines {
            Ok(Ok(lines)) => lines,
            Ok(Err(error)) => {
                return warn!(%error, "what was known of other peers cannot be read; it is asked for anew");
            }
            Err(_) => return,
        };
        for line in lines {
            let at = line.get("at").and_then(Value::as_u64).unwrap_or_default();
            let record = line.get("record").map(Value::to_string);
            let record = record.and_then(|text| PeerRecord::read(text.as_bytes()).ok());
            match (line.get("kind").and_then(Value::as_str), record) {
                (Some("book"), Some(record)) if self.0.is_indexer => {
                    if now().saturating_sub(at) < u64::try_from(LIFE.as_millis()).unwrap_or_default() {
                        let from = line.get("from").and_then(Value::as_str).unwrap_or_default();
                        self.put_back(record, source_of(from), at);
                    }
                }
                (Some("known"), Some(record)) => {
                    if let Ok(record) = verify_old(record) {
                        locked(&self.0.cache).take(vec![(record, Whence::Before)], |_| None, at);
                    }
                }
                (Some("indexer"), None) => {
                    let address = line.get("address").and_then(Value::as_str);
                    if let Some(address) = address.and_then(|text| text.parse().ok()) {
                        locked(&self.0.choice).learnt(&address, Instant::now());
                    }
                }
                _ => debug!("a line of {FILE} is left out"),
            }
        }
    }

    /// Writes it from time to time.
    pub(super) async fn keep_state(self) {
        let mut before = Vec::new();
        loop {
            tokio::select! {
                () = self.0.parts.shutdown.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            before = self.save(before).await;
        }
    }

    /// Writes it for the last time; returns when it is on the disk.
    pub async fn keep_for_next_life(&self) {
        self.save(Vec::new()).await;
    }

    async fn save(&self, before: Vec<Value>) -> Vec<Value> {
        let lines = self.state();
        if lines == before {
            return before;
        }
        let (path, work) = (self.file(), lines.clone());
        match tokio::task::spawn_blocking(move || write(&path, &work)).await {
            Ok(Ok(())) => lines,
            Ok(Err(error)) => {
                self.0.parts.refusals.refuse("records_not_saved", "", error);
                before
            }
            Err(_) => before,
        }
    }

    fn state(&self) -> Vec<Value> {
        let mut lines: Vec<Value> = locked(&self.0.choice)
            .told(usize::MAX, Reach::Host)
            .iter()
            .map(|address| json!({"kind": "indexer", "address": address}))
            .collect();
        let known = locked(&self.0.cache).newest(LAST_KNOWN);
        lines.extend(known.iter().map(|Found { record, at, .. }| {
            json!({"kind": "known", "at": at, "record": record_value(&record.record.write())})
        }));
        let book = locked(&self.0.book);
        lines.extend(book.all().map(|(kept, source)| {
            let record = record_value(&kept.text);
            json!({"kind": "book", "at": kept.received, "from": source_text(source), "record": record})
        }));
        lines
    }
}
