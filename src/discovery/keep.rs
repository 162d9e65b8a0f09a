//! What the next life of the daemon begins with: the book of an indexer and whose its DIDs are, the records last known, the
//! indexers.
//!
//! Owns one file in `state_dir`. Always: it is written beside its place and then named, so that a crash leaves the old one; a
//! line of it that cannot be read is left out; every record in it is verified again.

use super::book::life;
use super::cache::{Found, Whence};
use super::rules::verify_old;
use super::{Discovery, locked, now};
use crate::identity::free_bytes;
use crate::network::{Reach, Source};
use crate::wire::{PeerRecord, RECORD_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// The file in `state_dir`.
const FILE: &str = "records.jsonl";
/// How often it is written, when there is something to write, and it is small.
const EVERY: Duration = Duration::from_secs(30);
/// A large one is written so seldom that it is no more than this on the average: it changes with every heartbeat, and a full book
/// would write a hundred gigabytes a day. What a crash loses comes again with the next heartbeats.
const BYTES_PER_SECOND: u64 = 100_000;
/// Records of others that are remembered for the time without indexers.
const LAST_KNOWN: usize = 2_000;
/// Largest file written and read, in bytes: a full book and the rest.
const FILE_BYTES: u64 = 512 * 1024 * 1024;
/// Longest line of it.
const LINE_BYTES: u64 = 4 * RECORD_BYTES as u64;

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

/// One line. What a record says stays as its signer wrote it: its signature is over these texts.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    kind: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_none")]
    at: u64,
    /// Of a record: where it came from. Of a pin: whose the DID is.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    from: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    address: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    did: Cow<'a, str>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    record: Option<&'a RawValue>,
}

fn is_none(at: &u64) -> bool {
    *at == 0
}

impl<'a> Line<'a> {
    fn new(kind: &'a str) -> Self {
        Self {
            kind: kind.into(),
            at: 0,
            from: "".into(),
            address: "".into(),
            did: "".into(),
            record: None,
        }
    }

    /// Nothing when the text is no JSON.
    fn of_record(kind: &'a str, at: u64, record: &'a [u8]) -> Option<Self> {
        let record = serde_json::from_slice(record).ok()?;
        Some(Self {
            at,
            record: Some(record),
            ..Self::new(kind)
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        if serde_json::to_writer(&mut *out, self).is_ok() {
            out.push(b'\n');
        }
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("jsonl.new");
    let whole = || {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    // A part of it would take what room is left.
    whole().inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

/// How long after so many bytes the next ones are written.
fn pause(bytes: u64) -> Duration {
    EVERY.max(Duration::from_secs(bytes / BYTES_PER_SECOND))
}

/// What was written last, or would have been.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    digest: u64,
    bytes: u64,
}

/// Calls `take` with each line.
fn read(path: &Path, mut take: impl FnMut(&Line<'_>)) -> io::Result<()> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut lines = BufReader::new(file.take(FILE_BYTES));
    let mut line = Vec::new();
    while {
        line.clear();
        let bytes = (&mut lines).take(LINE_BYTES).read_until(b'\n', &mut line)?;
        bytes > 0
    } {
        match serde_json::from_slice(&line) {
            Ok(line) => take(&line),
            Err(_) => debug!("a line of {FILE} is left out"),
        }
    }
    Ok(())
}

impl Discovery {
    fn file(&self) -> PathBuf {
        self.0.parts.settings.state_dir.join(FILE)
    }

    /// Takes over what an earlier life knew.
    pub(super) async fn remember(&self) {
        let (path, service) = (self.file(), self.clone());
        let read = tokio::task::spawn_blocking(move || read(&path, |line| service.take_over(line))).await;
        if let Ok(Err(error)) = read {
            warn!(%error, "what was known of other peers cannot be read; it is asked for anew");
        }
    }

    fn take_over(&self, line: &Line<'_>) {
        let record = line.record.and_then(|raw| PeerRecord::read(raw.get().as_bytes()).ok());
        match (&*line.kind, record) {
            ("pin", None) if self.0.is_indexer => {
                if let Ok(peer) = line.from.parse() {
                    locked(&self.0.book).put_pin(&line.did, peer, line.at);
                }
            }
            ("book", Some(record)) if self.0.is_indexer => {
                if now().saturating_sub(line.at) < life() {
                    self.put_back(record, source_of(&line.from), line.at);
                }
            }
            ("known", Some(record)) => {
                if let Ok(record) = verify_old(record) {
                    locked(&self.0.cache).take(vec![(record, Whence::Before)], |_| None, line.at);
                }
            }
            ("indexer", None) => {
                if let Ok(address) = line.address.parse() {
                    locked(&self.0.choice).learnt(&address, Instant::now());
                }
            }
            _ => debug!("a line of {FILE} is left out"),
        }
    }

    /// Writes it from time to time.
    pub(super) async fn keep_state(self) {
        let mut before = Kept::default();
        loop {
            tokio::select! {
                () = self.0.parts.shutdown.cancelled() => return,
                () = tokio::time::sleep(pause(before.bytes)) => {}
            }
            before = self.save(before).await;
        }
    }

    /// Writes it for the last time; returns when it is on the disk.
    pub async fn keep_for_next_life(&self) {
        self.save(Kept::default()).await;
    }

    /// Writes it unless it is what was kept `before`, or room is low; says what is kept now.
    async fn save(&self, before: Kept) -> Kept {
        let (path, service) = (self.file(), self.clone());
        let work = move || {
            let _alone = locked(&service.0.keeping);
            service.has_room()?;
            let text = service.state();
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let digest = hasher.finish();
            if digest != before.digest {
                write(&path, &text)?;
            }
            let bytes = text.len() as u64;
            Ok::<Kept, io::Error>(Kept { digest, bytes })
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => {
                self.0.parts.refusals.refuse("records_not_saved", "", error);
                before
            }
            Err(_) => before,
        }
    }

    /// What is left of the disk is for changes that cannot come again.
    fn has_room(&self) -> io::Result<()> {
        let settings = &self.0.parts.settings;
        let wanted = settings.delivery.min_free_bytes as u64;
        let free = free_bytes(&settings.state_dir)?;
        if free < wanted {
            let why = format!("{FILE} is as it was: {} MiB are free in state_dir", free >> 20);
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        Ok(())
    }

    fn state(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for address in locked(&self.0.choice).told(usize::MAX, Reach::Host) {
            let line = Line {
                address: address.to_string().into(),
                ..Line::new("indexer")
            };
            line.put(&mut out);
        }
        let known = locked(&self.0.cache).newest(LAST_KNOWN);
        for Found { record, at, .. } in known {
            if let Some(line) = Line::of_record("known", at, &record.record.write()) {
                line.put(&mut out);
            }
        }
        // Written when others may use the book again: it may be long.
        let (pins, records): (Vec<_>, Vec<_>) = {
            let book = locked(&self.0.book);
            (book.pins().collect(), book.all().collect())
        };
        // Before the records: they must not pin anew what is pinned.
        for (did, peer, seen) in &pins {
            let line = Line {
                at: *seen,
                from: peer.to_string().into(),
                did: Cow::Borrowed(did),
                ..Line::new("pin")
            };
            line.put(&mut out);
        }
        for (count, (text, received, source)) in records.iter().enumerate() {
            if out.len() as u64 >= FILE_BYTES - LINE_BYTES {
                // Those left out come again with their next heartbeat, within seconds.
                let left = records.len() - count;
                let detail = format_args!("{FILE} is full: {left} records are not kept for the next start");
                self.0.parts.refusals.refuse("records_not_saved", "", detail);
                break;
            }
            if let Some(line) = Line::of_record("book", *received, text) {
                let line = Line {
                    from: source_text(*source).into(),
                    ..line
                };
                line.put(&mut out);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::rules::tests::made;
    use libp2p::identity::Keypair;
    use std::time::SystemTime;

    #[test]
    fn a_large_one_is_written_seldom() {
        assert_eq!((pause(0), pause(3_000_000)), (EVERY, EVERY));
        let book = 36_000_000;
        let a_day = Duration::from_secs(24 * 3600).as_secs() / pause(book).as_secs() * book;
        assert!(a_day < 10_000_000_000, "{a_day} bytes a day");
        assert!(pause(FILE_BYTES) < Duration::from_secs(2 * 3600));
    }

    #[test]
    fn of_what_cannot_be_written_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        // Nothing can take the place of a directory.
        std::fs::create_dir(&path).unwrap();
        write(&path, b"a line").unwrap_err();
        let left = std::fs::read_dir(dir.path()).unwrap();
        assert_eq!(left.count(), 1, "the directory alone");
    }

    #[test]
    fn a_record_is_kept_as_its_signer_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let key = Keypair::generate_ed25519();
        let record = made(&key, "did:1", "a<b> \u{2028} \"c\"", SystemTime::now()).write();
        let mut text = Vec::new();
        Line::of_record("known", 7, &record).unwrap().put(&mut text);
        text.extend(b"no line at all\n{}\n");
        Line {
            address: "/ip4/1.2.3.4/tcp/1".into(),
            ..Line::new("indexer")
        }
        .put(&mut text);
        write(&path, &text).unwrap();
        let mut lines = Vec::new();
        read(&path, |line| {
            let record = line.record.map(|raw| PeerRecord::read(raw.get().as_bytes()).unwrap());
            assert!(record.is_none_or(|record| verify_old(record).is_ok()));
            lines.push((line.kind.to_string(), line.at, line.address.to_string()));
        })
        .unwrap();
        let indexer = ("indexer".to_owned(), 0, "/ip4/1.2.3.4/tcp/1".to_owned());
        assert_eq!(lines, [("known".to_owned(), 7, String::new()), indexer]);
    }
}
