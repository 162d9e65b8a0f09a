//! Many callers at once, a disk that fails, the end, and copies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::{FEW, How, Log, QUEUE};
use crate::delivery::journal::{Journal, JournalError, Result};
use crate::delivery::sqlite::SqliteJournal;
use crate::delivery::types::{Change, Key, Row};
use crate::wire::{Action, DataType};

fn make() -> (Log, TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    (Log::open(&path).unwrap(), dir, path)
}

fn put(id: &str, payload: &str) -> Change {
    Change {
        key: Key {
            datatype: DataType::DataResource,
            id: id.to_owned(),
        },
        dest: String::new(),
        action: Action::Update,
        user: String::new(),
        payload: payload.to_owned().into(),
        at: 1,
    }
}

async fn take(log: &Log, durable: bool, change: Change) -> Result<Vec<Row>> {
    log.write(durable, move |journal| journal.take(&[change], None)).await
}

async fn head(log: &Log) -> u64 {
    log.read(|journal| Ok(journal.feed()?.head)).await.unwrap()
}

fn refused<T>(journal: &mut dyn Journal) -> Result<T> {
    journal.take(&[put("undone", "")], None)?;
    Err(JournalError::Failed("no".to_owned()))
}

#[tokio::test]
async fn many_callers_share_commits_and_all_are_answered() {
    let (log, _dir, _path) = make();
    let writes = (0..3 * QUEUE).map(|n| take(&log, n % 7 == 0, put(&format!("k{n}"), "")));
    let mut seqs: Vec<u64> = Vec::new();
    for taken in futures::future::join_all(writes).await {
        seqs.push(taken.unwrap()[0].seq);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=3 * QUEUE as u64).collect::<Vec<_>>());
    assert_eq!(head(&log).await, 3 * QUEUE as u64);
}

/// A request holds the writer until the others have queued up behind it, so that they make one group.
async fn as_one_group<T>(log: &Log, others: impl Future<Output = T>) -> T {
    let go = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&go);
    let holding = log.write(false, move |_| {
        while !held.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        Ok(())
    });
    let mut others = Box::pin(others);
    let mut holding = Box::pin(holding);
    assert!(futures::poll!(&mut holding).is_pending());
    // One poll queues all of them.
    assert!(futures::poll!(&mut others).is_pending());
    go.store(true, Ordering::Relaxed);
    // A disk that is full takes it along.
    holding.await.ok();
    others.await
}

#[tokio::test]
async fn a_request_that_fails_takes_no_other_with_it() {
    let (log, _dir, _path) = make();
    let (before, failed, after) = as_one_group(&log, async {
        tokio::join!(
            take(&log, false, put("before", "")),
            log.write(true, refused::<()>),
            take(&log, false, put("after", "")),
        )
    })
    .await;
    assert_eq!(failed, Err(JournalError::Failed("no".to_owned())));
    assert_eq!(
        (before.unwrap()[0].seq, after.unwrap()[0].seq),
        (1, 2),
        "its number is free again"
    );
    let keys = log.read(|journal| journal.own_keys(None, None, 10)).await.unwrap();
    assert_eq!(
        keys.iter().map(|own| own.key.id.as_str()).collect::<Vec<_>>(),
        ["after", "before"]
    );
}

#[tokio::test]
async fn what_a_caller_gave_up_is_not_begun() {
    let (log, _dir, _path) = make();
    let given_up = take(&log, false, put("given up", ""));
    as_one_group(&log, async {
        let mut given_up = Box::pin(given_up);
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        take(&log, false, put("kept", "")).await.unwrap();
    })
    .await;
    let keys = log.read(|journal| journal.own_keys(None, None, 10)).await.unwrap();
    assert_eq!((keys.len(), keys[0].key.id.as_str()), (1, "kept"));
}

/// Lets the file grow by at most this many pages from now on, as a disk that fills up; none lifts it.
async fn limit(log: &Log, pages: Option<i64>) {
    log.write_raw(
        How::of_rows(false, FEW + 1),
        move |journal| journal.limit_growth(pages),
        |_| (),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_to_everybody_in_the_group_and_the_writer_lives_on() {
    let (log, _dir, _path) = make();
    take(&log, true, put("before", "")).await.unwrap();
    limit(&log, Some(0)).await;
    let large = "x".repeat(1 << 20);
    let (small, full, later) = as_one_group(&log, async {
        tokio::join!(
            take(&log, false, put("small", "")),
            take(&log, true, put("large", &large)),
            take(&log, false, put("later", "")),
        )
    })
    .await;
    assert!(matches!(full, Err(JournalError::Full { .. })), "{full:?}");
    let kept = |result: &Result<Vec<Row>>| match result {
        Ok(_) => true,
        Err(JournalError::Full { .. }) => false,
        Err(error) => panic!("{error:?}"),
    };
    let kept = [&small, &later].into_iter().filter(|result| kept(result)).count() as u64;
    assert_eq!(
        head(&log).await,
        1 + kept,
        "who was told that it is there finds it there, and nothing else"
    );
    for n in 0..3 {
        assert!(take(&log, true, put(&format!("again {n}"), &large)).await.is_err());
    }
    limit(&log, None).await;
    assert_eq!(take(&log, true, put("large", &large)).await.unwrap()[0].seq, 2 + kept);
}

#[tokio::test]
async fn a_request_that_hides_an_error_writes_nothing_half() {
    let (log, _dir, _path) = make();
    limit(&log, Some(0)).await;
    let hidden = log.write(false, |journal| {
        journal.take(&[put("large", &"x".repeat(1 << 20))], None).ok();
        journal.take(&[put("small", "")], None).ok();
        Ok(())
    });
    let told = hidden.await;
    let keys = log.read(|journal| journal.own_keys(None, None, 10)).await.unwrap();
    assert_eq!(keys.len(), usize::from(told.is_ok()), "{told:?}");
    limit(&log, None).await;
    take(&log, true, put("small", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_does_not_wait_for_writing_and_sees_one_moment() {
    let (log, _dir, _path) = make();
    take(&log, false, put("k", "")).await.unwrap();
    let (heads, _) = as_one_group(&log, async {
        let mid_read = log.read(|journal| Ok((journal.feed()?.head, journal.own_keys(None, None, 10)?.len())));
        let seen = mid_read.await.unwrap();
        (seen, take(&log, false, put("l", "")).await.unwrap())
    })
    .await;
    assert_eq!(heads, (1, 1));
    assert_eq!(head(&log).await, 2, "what was answered is seen");
    let writing = log
        .read(|journal| journal.rows_after(0, "", false, 10, 1000))
        .await
        .unwrap();
    assert_eq!(writing.len(), 2);
}

#[tokio::test]
async fn what_is_committed_counts_though_the_disk_does_not_have_it() {
    let (log, dir, path) = make();
    let (wal, away) = (dir.path().join("journal.db-wal"), dir.path().join("away"));
    take(&log, true, put("before", "")).await.unwrap();
    fs::rename(&wal, &away).unwrap();
    assert!(take(&log, true, put("unsynced", "")).await.is_err());
    fs::rename(&away, &wal).unwrap();
    // A reader elsewhere keeps the log from being folded, which alone makes a failed sync good.
    let mut reader = rusqlite::Connection::open(&path).unwrap();
    let reading = reader.transaction().unwrap();
    reading.query_row("SELECT head FROM meta", [], |_| Ok(())).unwrap();
    let told = Arc::new(AtomicBool::new(false));
    let then = Arc::clone(&told);
    let (durable, committed) = as_one_group(&log, async {
        tokio::join!(
            take(&log, true, put("durable", "")),
            log.write_then(
                How::of_rows(false, FEW + 1),
                |journal| journal.take(&[put("committed", "")], None),
                move |_| then.store(true, Ordering::Relaxed),
            ),
        )
    })
    .await;
    assert!(durable.is_err(), "{durable:?}");
    assert_eq!(committed.unwrap()[0].seq, 4, "it is there, as the one before it");
    assert!(told.load(Ordering::Relaxed), "and whoever follows commits is told");
    drop(reading);
    take(&log, true, put("after", "")).await.unwrap();
    assert_eq!(head(&log).await, 5);
}

fn files(dir: &TempDir) -> Vec<String> {
    let names = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> = names
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn closing_finishes_what_was_asked_and_leaves_one_file() {
    let (log, dir, path) = make();
    let other = log.clone();
    let writes = (0..100).map(|n| take(&log, false, put(&format!("k{n}"), "")));
    let (writes, closed) = tokio::join!(futures::future::join_all(writes), other.close());
    closed.unwrap();
    let kept = writes.iter().filter(|taken| taken.is_ok()).count() as u64;
    assert_eq!(files(&dir), ["journal.db"]);
    assert_eq!(take(&log, false, put("k", "")).await, Err(JournalError::Closed));
    assert_eq!(log.read(|journal| journal.feed()).await, Err(JournalError::Closed));
    assert_eq!(log.close().await, Err(JournalError::Closed));
    let again = Log::open(&path).unwrap();
    again.write(true, |_| Ok(())).await.unwrap();
    assert_eq!(head(&again).await, kept);
    assert!(kept > 0);
}

#[tokio::test]
async fn the_last_handle_closes_it_too() {
    let (log, dir, _path) = make();
    take(&log, false, put("k", "")).await.unwrap();
    drop(log);
    let mut tries = 0;
    while files(&dir) != ["journal.db"] {
        tries += 1;
        assert!(tries < 2000, "{:?}", files(&dir));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_a_moment_of_it_while_it_is_used() {
    let (log, dir, _path) = make();
    let to = dir.path().join("copy.db");
    let writes = futures::future::join_all((0..200).map(|n| take(&log, false, put(&format!("k{n}"), "{}"))));
    let (writes, copied) = tokio::join!(writes, async {
        take(&log, false, put("first", "")).await.unwrap();
        log.backup(&to).await
    });
    copied.unwrap();
    assert!(writes.iter().all(Result::is_ok));
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    let (copy, whole) = (
        SqliteJournal::open(&to).unwrap(),
        log.read(|journal| journal.feed()).await.unwrap(),
    );
    let feed = copy.feed().unwrap();
    assert_eq!(feed.lineage, whole.lineage);
    let rows = copy.rows_after(0, "", false, 1000, usize::MAX).unwrap();
    assert_eq!((rows.len() as u64, rows.last().unwrap().seq), (feed.head, feed.head));

    let before = fs::read(&to).unwrap();
    let told = log.backup(&to).await;
    assert!(
        matches!(&told, Err(JournalError::Unusable { why, .. }) if why.contains("overwrites nothing")),
        "{told:?}"
    );
    assert_eq!(fs::read(&to).unwrap(), before);
    let nowhere = log.backup(&dir.path().join("none/copy.db")).await;
    assert!(matches!(nowhere, Err(JournalError::Unusable { .. })), "{nowhere:?}");
    assert!(
        !files(&dir).iter().any(|name| name.ends_with(".part")),
        "nothing half is left: {:?}",
        files(&dir)
    );
}
