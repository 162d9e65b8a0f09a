//! What it costs here. Run with `cargo test --release --lib journal_figures -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::{make, put_line};
use crate::delivery::journal::Journal;
use crate::delivery::sqlite::SqliteJournal;
use crate::delivery::types::{Change, Received};

/// Each figure is measured for at least this long.
const LONG_ENOUGH: Duration = Duration::from_secs(2);
const PAYLOAD: usize = 1024;

/// CPU of this thread, as Linux counts it; zero elsewhere.
fn cpu() -> Duration {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = counted.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// Keys in an order that jumps about, so that pages are met as a real load meets them.
struct Keys {
    state: u64,
    keys: u64,
}

impl Keys {
    fn next(&mut self) -> String {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        format!("3f2c1e00-1111-4222-8333-{:012}", (self.state >> 33) % self.keys)
    }

    fn change(&mut self, n: u64) -> Change {
        let mut payload = vec![b'x'; PAYLOAD];
        payload[..8].copy_from_slice(&n.to_be_bytes());
        Change {
            payload: payload.into(),
            ..super::put(&self.next())
        }
    }

    fn line(&mut self, n: u64) -> Received {
        let Change { payload, key, .. } = self.change(n);
        Received {
            hash: crate::delivery::Hash::of(&payload),
            payload,
            key,
            ..put_line("")
        }
    }
}

fn measure(what: &str, rows: u64, mut group: impl FnMut(u64)) {
    let (begun, cpu_before) = (Instant::now(), cpu());
    let mut done = 0;
    while begun.elapsed() < LONG_ENOUGH {
        group(done);
        done += rows;
    }
    let (took, cpu) = (begun.elapsed(), cpu() - cpu_before);
    println!(
        "{what:60} {:8.0} rows/s  {:6.1} us CPU a row",
        done as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / done as f64
    );
}

fn in_a_group(journal: &mut SqliteJournal, durable: bool, work: impl FnOnce(&mut dyn Journal)) {
    journal.begin_group().unwrap();
    journal
        .request(|journal| {
            work(journal);
            Ok(())
        })
        .unwrap();
    journal.end_group().unwrap();
    if durable {
        journal.sync().unwrap();
    }
}

#[test]
#[ignore = "figures, not a test"]
fn journal_figures() {
    for keys in [5_000, 200_000] {
        let (mut journal, _dir) = make();
        let mut all = Keys { state: 1, keys };
        for chunk in 0..(keys * 3 / 1000) {
            let changes: Vec<_> = (0..1000).map(|n| all.change(chunk * 1000 + n)).collect();
            in_a_group(&mut journal, false, |journal| {
                drop(journal.take(&changes, None).unwrap())
            });
        }
        for (rows, durable) in [
            (1, false),
            (16, false),
            (256, false),
            (1, true),
            (16, true),
            (256, true),
        ] {
            let sync = if durable { "synced" } else { "not synced" };
            measure(&format!("take, {keys} keys, {rows} a commit, {sync}"), rows, |n| {
                let changes: Vec<_> = (0..rows).map(|i| all.change(n + i)).collect();
                in_a_group(&mut journal, durable, |journal| {
                    drop(journal.take(&changes, None).unwrap())
                });
            });
        }
        journal.connection.pragma_update(None, "synchronous", "FULL").unwrap();
        for rows in [1, 16, 256] {
            measure(
                &format!("take, {keys} keys, {rows} a commit, synchronous FULL"),
                rows,
                |n| {
                    let changes: Vec<_> = (0..rows).map(|i| all.change(n + i)).collect();
                    in_a_group(&mut journal, false, |journal| {
                        drop(journal.take(&changes, None).unwrap())
                    });
                },
            );
        }
        journal.connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
        let head = journal.feed().unwrap().head;
        let mut after = 0;
        measure(&format!("a partner's pages, {keys} keys, 256 rows each"), 256, |_| {
            let page = journal.rows_after(after, "b", false, 256, 4 << 20).unwrap();
            after = page.last().map_or(0, |row| row.seq);
        });
        measure(&format!("lag of everything, {keys} keys (calls)"), 1, |_| {
            let _ = journal.lag(0, "b").unwrap();
        });
        measure(&format!("lag of 100 rows, {keys} keys (calls)"), 1, |_| {
            let _ = journal.lag(head - 100, "b").unwrap();
        });
        measure(&format!("sum of all own, {keys} keys (keys)"), keys, |_| {
            let _ = journal.own_sum(None, None).unwrap();
        });
    }
    for keys in [5_000, 200_000] {
        let (mut journal, _dir) = make();
        let mut all = Keys { state: 1, keys };
        for chunk in 0..(keys * 3 / 1000) {
            let lines: Vec<_> = (0..1000).map(|n| all.line(chunk * 1000 + n)).collect();
            in_a_group(&mut journal, false, |journal| {
                journal.receive("a", &lines, None, 1).unwrap();
                journal.published(u64::MAX).unwrap();
            });
        }
        for (rows, durable) in [
            (1, false),
            (16, false),
            (256, false),
            (1, true),
            (16, true),
            (256, true),
        ] {
            let sync = if durable { "synced" } else { "not synced" };
            measure(
                &format!("receive and publish, {keys} keys, {rows} a commit, {sync}"),
                rows,
                |n| {
                    let lines: Vec<_> = (0..rows).map(|i| all.line(n + i)).collect();
                    in_a_group(&mut journal, false, |journal| {
                        drop(journal.receive("a", &lines, None, 1).unwrap())
                    });
                    in_a_group(&mut journal, durable, |journal| journal.published(u64::MAX).unwrap());
                },
            );
        }
    }
}
