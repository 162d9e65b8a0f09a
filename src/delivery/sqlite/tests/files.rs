//! The file: what it survives, how it comes forward, and when it is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::super::{SqliteJournal, schema};
use super::{make, put, put_line};
use crate::delivery::Log;
use crate::delivery::journal::{Journal, JournalError};
use crate::delivery::types::{Cursor, Hash, Key, Parked, PartnerNote, Position, Token};
use crate::wire::DataType;

/// All that can be read.
fn everything(journal: &dyn Journal) -> String {
    format!(
        "{:?}",
        (
            journal.feed().unwrap(),
            journal.cursor().unwrap(),
            journal.rows_after(0, "b", false, 1000, usize::MAX).unwrap(),
            journal.own_keys(None, None, 1000).unwrap(),
            journal.was_stored(&key("k1")).unwrap(),
            journal.partners().unwrap(),
            journal.parked(None, 1000).unwrap(),
            journal.origin("a").unwrap(),
            journal.held("a", None, None, 1000).unwrap(),
            journal.todo(0, 1000).unwrap(),
            journal.last_todo().unwrap(),
        )
    )
}

fn key(id: &str) -> Key {
    Key {
        datatype: DataType::DataResource,
        id: id.to_owned(),
    }
}

/// Something of everything.
fn fill(journal: &mut dyn Journal) {
    journal.begin_incarnation(Token([9; 16])).unwrap();
    let cursor = Cursor {
        source: "s".to_owned(),
        created: "c".to_owned(),
        last_seq: 4,
    };
    let mut directed = put("m1");
    directed.dest = "b".to_owned();
    journal
        .take(&[put("k1"), put("k2"), put("k1"), directed], Some(&cursor))
        .unwrap();
    journal.note_stored(&[key("k1")]).unwrap();
    let note = PartnerNote {
        did: "b".to_owned(),
        ..PartnerNote::default()
    };
    journal.note_partner(&note).unwrap();
    let parked = Parked {
        dest: "b".to_owned(),
        key: key("k2"),
        seq: 2,
        code: "shape".to_owned(),
        detail: String::new(),
        at: 3,
    };
    journal.park(&parked, 10).unwrap();
    let position = Position {
        lineage: Token([1; 16]),
        incarnation: Token([2; 16]),
        seq: 8,
    };
    let lines = [put_line("x1"), put_line("x2")];
    journal.receive("a", &lines, Some(position), 5).unwrap();
    journal.published(1).unwrap();
}

#[test]
fn everything_is_there_after_reopening() {
    let (mut journal, dir) = make();
    fill(&mut journal);
    let before = everything(&journal);
    drop(journal);
    let path = dir.path().join("journal.db");
    let journal = SqliteJournal::open(&path).unwrap();
    assert_eq!(everything(&journal), before);
    assert_eq!(everything(&SqliteJournal::open_reader(&path).unwrap()), before);
    let mut modes = fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().permissions().mode());
    assert!(modes.all(|mode| mode & 0o777 == 0o600), "the file and those beside it");
}

/// What a process that dies leaves is the file and its log as they are at that moment.
#[test]
fn a_death_keeps_what_is_committed_and_nothing_else() {
    let (mut journal, dir) = make();
    fill(&mut journal);
    let before = everything(&journal);
    journal.begin_group().unwrap();
    journal
        .request(|journal| journal.take(&[put("never committed")], None))
        .unwrap();
    let after_death = copy(dir.path(), "after death", None);
    assert_eq!(
        everything(&SqliteJournal::open(&after_death.join("journal.db")).unwrap()),
        before
    );
    journal.end_group().unwrap();
    journal.sync().unwrap();
    let later = copy(dir.path(), "later", None);
    assert_ne!(
        everything(&SqliteJournal::open(&later.join("journal.db")).unwrap()),
        before
    );
}

/// A power cut may take the end of the log away: what is left is an earlier moment, whole.
#[test]
fn a_log_cut_anywhere_is_an_earlier_moment() {
    let (mut journal, dir) = make();
    let mut moments = vec![everything(&journal)];
    fill(&mut journal);
    for n in 0..20 {
        journal.take(&[put(&format!("k{n}")), put("same")], None).unwrap();
        moments.push(everything(&journal));
    }
    let size = fs::metadata(dir.path().join("journal.db-wal")).unwrap().len();
    let mut found = Vec::new();
    for cut in 1..40 {
        let cut_copy = copy(dir.path(), &format!("cut {cut}"), Some(size * cut / 40));
        let Ok(journal) = SqliteJournal::open(&cut_copy.join("journal.db")) else {
            panic!("cut {cut}: it must open");
        };
        let feed = journal.feed().unwrap();
        let rows = journal.rows_after(0, "b", false, 1000, usize::MAX).unwrap();
        assert_eq!(
            rows.last().map_or(0, |row| row.seq),
            feed.head,
            "rows and head are of one moment"
        );
        if let Some(moment) = moments.iter().position(|moment| *moment == everything(&journal)) {
            found.push(moment);
        }
    }
    assert!(found.is_sorted() && found.len() > 5, "{found:?}");
}

fn copy(from: &Path, name: &str, log_length: Option<u64>) -> std::path::PathBuf {
    let to = from.join(name);
    fs::create_dir(&to).unwrap();
    for file in ["journal.db", "journal.db-wal"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    if let Some(length) = log_length {
        let log = fs::OpenOptions::new()
            .write(true)
            .open(to.join("journal.db-wal"))
            .unwrap();
        log.set_len(length).unwrap();
    }
    to
}

#[test]
fn an_older_file_comes_forward_step_by_step() {
    let (mut journal, dir) = make();
    fill(&mut journal);
    let before = everything(&journal);
    drop(journal);
    let path = dir.path().join("journal.db");
    let next = "ALTER TABLE partner ADD COLUMN peer_id TEXT NOT NULL DEFAULT ''";
    let steps = [schema::STEPS, &[next]].concat();
    let broken = [
        schema::STEPS,
        &[next, "CREATE TABLE half (a); ALTER TABLE nowhere ADD COLUMN a"],
    ]
    .concat();
    let format = |connection: &Connection| crate::store::file::pragma(connection, "user_version").unwrap();
    let known = i64::try_from(schema::STEPS.len()).unwrap();

    let mut connection = crate::store::file::open_writer(&path).unwrap();
    assert!(matches!(
        schema::prepare(&mut connection, &path, &broken),
        Err(JournalError::Failed(_))
    ));
    assert_eq!(
        format(&connection),
        known + 1,
        "the step before is whole, the broken one has left nothing"
    );
    assert!(connection.prepare("SELECT * FROM half").is_err());
    schema::prepare(&mut connection, &path, &steps).unwrap();
    schema::prepare(&mut connection, &path, &steps).unwrap();
    connection.prepare("SELECT peer_id FROM partner").unwrap();
    let journal = SqliteJournal::over(&path, connection);
    assert_eq!(everything(&journal), before);
    drop(journal);

    let newer = JournalError::Newer {
        path: path.display().to_string(),
        found: known + 1,
        known,
    };
    assert_eq!(SqliteJournal::open(&path).map(drop), Err(newer));
    let bytes = fs::read(&path).unwrap();
    SqliteJournal::open(&path).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), bytes, "and left as it was");
}

#[test]
fn what_is_no_journal_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let refused = |why: &str| match SqliteJournal::open(&path).map(drop) {
        Err(JournalError::Unusable { path: named, why: told }) => {
            assert_eq!(named, path.display().to_string());
            assert!(told.contains(why), "{told}");
        }
        other => panic!("{why}: {other:?}"),
    };
    fs::write(&path, "not a database, but longer than the header of one ".repeat(20)).unwrap();
    refused("not a journal");
    fs::remove_file(&path).unwrap();

    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE other (a)")
        .unwrap();
    refused("not a journal");
    fs::remove_file(&path).unwrap();

    drop(SqliteJournal::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .execute_batch("DELETE FROM meta")
        .unwrap();
    refused("damaged");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    refused("cannot be opened");
    let nowhere = dir.path().join("none/journal.db");
    assert!(matches!(
        SqliteJournal::open(&nowhere),
        Err(JournalError::Unusable { .. })
    ));
}

#[test]
fn damage_is_told_not_hidden() {
    let (mut journal, dir) = make();
    let many: Vec<_> = (0..500).map(|n| put(&format!("k{n}"))).collect();
    journal.take(&many, None).unwrap();
    journal.close().unwrap();
    let path = dir.path().join("journal.db");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let told = SqliteJournal::open(&path).and_then(|journal| journal.rows_after(0, "b", false, 1000, usize::MAX));
    let Err(JournalError::Unusable { why, .. }) = told else {
        panic!("{told:?}")
    };
    assert!(why.contains("damaged"), "{why}");
}

#[test]
fn a_file_that_cannot_be_written_is_refused() {
    let (journal, dir) = make();
    drop(journal);
    let path = dir.path().join("journal.db");
    // The mode does not bind a privileged user; a connection that may only read is bound for everyone.
    let mut connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let told = schema::prepare(&mut connection, &path, schema::STEPS);
    assert!(
        matches!(&told, Err(JournalError::Unusable { why, .. }) if why.contains("read-only")),
        "{told:?}"
    );
    let mut reader = SqliteJournal::open_reader(&path).unwrap();
    assert!(reader.take(&[put("k")], None).is_err());
}

#[test]
fn a_full_disk_is_an_error_and_an_end_of_it() {
    let (mut journal, _dir) = make();
    journal.take(&[put("before")], None).unwrap();
    journal.limit_growth(Some(0)).unwrap();
    let before = everything(&journal);
    let mut large = put("large");
    large.payload = vec![7; 1 << 20].into();
    let full = journal.take(&[put("small"), large.clone()], None);
    assert!(matches!(full, Err(JournalError::Full { .. })), "{full:?}");
    assert_eq!(everything(&journal), before, "whole or not at all");
    journal.limit_growth(None).unwrap();
    assert_eq!(journal.take(&[large], None).unwrap()[0].seq, 2);
}

/// After a sync that failed, a second one of the same pages would be believed for nothing.
#[test]
fn after_a_failed_sync_all_is_written_anew() {
    let (mut journal, dir) = make();
    let (log, away) = (dir.path().join("journal.db-wal"), dir.path().join("away"));
    let durable = |journal: &mut SqliteJournal, id: &str| {
        journal.begin_group().unwrap();
        journal.request(|journal| journal.take(&[put(id)], None)).unwrap();
        journal.end_group().unwrap();
        let synced = journal.sync();
        if synced.is_err() {
            journal.sync_failed();
        }
        synced
    };
    durable(&mut journal, "k").unwrap();
    assert!(fs::metadata(&log).unwrap().len() > 0, "a sync alone folds nothing");
    fs::rename(&log, &away).unwrap();
    assert!(matches!(durable(&mut journal, "l"), Err(JournalError::Failed(_))));
    fs::rename(&away, &log).unwrap();
    durable(&mut journal, "m").unwrap();
    assert_eq!(
        fs::metadata(&log).unwrap().len(),
        0,
        "all of it is in the file, and that is synced"
    );
    durable(&mut journal, "n").unwrap();
    assert!(fs::metadata(&log).unwrap().len() > 0);
    assert_eq!(journal.feed().unwrap().head, 4);
}

/// The state directory is locked, so two daemons do not share a journal; if they did, it would not be torn.
#[test]
fn two_that_write_take_turns() {
    let (mut one, dir) = make();
    let mut other = SqliteJournal::open(&dir.path().join("journal.db")).unwrap();
    std::thread::scope(|scope| {
        for (name, journal) in [("one", &mut one), ("other", &mut other)] {
            scope.spawn(move || {
                for n in 0..100 {
                    journal.take(&[put(&format!("{name} {n}"))], None).unwrap();
                }
            });
        }
    });
    let rows = one.rows_after(0, "", false, 1000, usize::MAX).unwrap();
    assert_eq!(
        rows.iter().map(|row| row.seq).collect::<Vec<_>>(),
        (1..=200).collect::<Vec<_>>()
    );
    assert_eq!(one.feed().unwrap(), other.feed().unwrap());
}

const CHILD: &str = "JOURNAL_OF_A_CHILD";

/// Not a test of its own: what the one below starts and kills.
#[test]
#[ignore = "started by another test"]
fn a_child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let log = Log::open(Path::new(&path)).unwrap();
        for n in 0_u64.. {
            let work = move |journal: &mut dyn Journal| journal.take(&[put(&format!("k{n}"))], None);
            let seq = log.write(n % 8 == 0, work).await.unwrap()[0].seq;
            fs::write(Path::new(&path).with_extension("told"), seq.to_string()).unwrap();
        }
    });
}

#[test]
fn a_killed_process_has_lost_nothing_it_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "delivery::sqlite::tests::files::a_child_that_writes_until_it_is_killed",
        ])
        .env(CHILD, &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let told = || -> Option<u64> { fs::read_to_string(path.with_extension("told")).ok()?.parse().ok() };
    let waited = std::time::Instant::now();
    while told().is_none_or(|seq| seq < 200) {
        assert!(
            waited.elapsed().as_secs() < 60 && child.try_wait().unwrap().is_none(),
            "the child must write"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let journal = SqliteJournal::open(&path).unwrap();
    let head = journal.feed().unwrap().head;
    // The note of it may have been cut off while it was written.
    assert!(head >= told().unwrap_or(0).max(200), "{head}");
    let rows = journal.rows_after(0, "", false, usize::MAX, usize::MAX).unwrap();
    assert_eq!(
        rows.iter().map(|row| row.seq).collect::<Vec<_>>(),
        (1..=head).collect::<Vec<_>>()
    );
    assert!(rows.iter().all(|row| row.hash == Hash::of(&row.change.payload)));
}
