//! The embedded store keeps the contract, survives being closed, and refuses files it cannot trust.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::*;
use crate::store::Change;
use crate::store::contract::store_contract;

async fn make() -> Option<(SqliteStore, TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("documents.db")).unwrap();
    Some((store, dir))
}

store_contract!(make);

fn put(id: &str, doc: &str) -> Write {
    let change = Change::Put(Bytes::from(doc.to_owned()));
    Write {
        datatype: DataType::DataResource,
        id: id.to_owned(),
        change,
        only_if_owner: None,
    }
}

/// Order, spaces, doubled keys and the spelling of numbers come back as they were.
#[tokio::test]
async fn every_byte_stays() {
    let (store, _dir) = make().await.unwrap();
    let doc = "{ \"id\":\"r\",\n\"b\":1.50,\"a\":[1e3, 123456789012345678901234567890],\"a\":\"\\u0061é🦀\" } ";
    for (doc, wanted) in [
        (doc, Applied::Done),
        (doc, Applied::Unchanged),
        ("{ }", Applied::Done),
        ("{}", Applied::Done),
    ] {
        assert_eq!(store.apply(vec![put("r", doc)]).await, Ok(vec![wanted]));
        let stored = store.get(DataType::DataResource, "r").await.unwrap().unwrap();
        assert_eq!(stored.as_ref(), doc.as_bytes());
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.db");
    let store = SqliteStore::open(&path).unwrap();
    store.apply(vec![put("r", "{\"a\":1}")]).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    let document = store.get(DataType::DataResource, "r").await.unwrap().unwrap();
    assert_eq!(document.as_ref(), b"{\"a\":1}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn many_callers_share_commits_and_all_are_answered() {
    let (store, _dir) = make().await.unwrap();
    let writes = (0..500).map(|n| {
        store.apply(vec![
            put(&format!("r{n}"), "{}"),
            put("shared", &format!("{{\"n\":{n}}}")),
        ])
    });
    for applied in futures::future::join_all(writes).await {
        assert_eq!(applied, Ok(vec![Applied::Done, Applied::Done]));
    }
    let keys: Vec<_> = (0..500).map(|n| (DataType::DataResource, format!("r{n}"))).collect();
    for (datatype, id) in keys {
        assert!(store.get(datatype, &id).await.unwrap().is_some());
    }
}

#[test]
fn files_that_are_no_store_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.db");
    let opened = || SqliteStore::open(&path).map(|_| ());

    fs::write(&path, "not a database, but longer than the header of one ".repeat(20)).unwrap();
    assert_eq!(opened(), Err(StoreError::NotAStore { path: path.clone() }));
    assert!(opened().unwrap_err().to_string().contains(path.to_str().unwrap()));
    fs::remove_file(&path).unwrap();

    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE other (a)")
        .unwrap();
    assert_eq!(
        opened(),
        Err(StoreError::NotAStore { path: path.clone() }),
        "somebody else's database"
    );
    fs::remove_file(&path).unwrap();

    assert_eq!(opened(), Ok(()));
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", schema::FORMAT + 1)
        .unwrap();
    let newer = StoreError::NewerFormat {
        path: path.clone(),
        found: schema::FORMAT + 1,
        known: schema::FORMAT,
    };
    assert_eq!(opened(), Err(newer));

    let nowhere = dir.path().join("none/documents.db");
    assert!(matches!(
        SqliteStore::open(&nowhere),
        Err(StoreError::CannotOpen { .. })
    ));
    assert!(
        matches!(SqliteStore::open(dir.path()), Err(StoreError::CannotOpen { .. })),
        "a directory"
    );
}

/// What is in a file of an earlier format, as that version made it, is found by words, attributes and partnerships of now.
#[tokio::test]
async fn an_older_file_is_brought_forward() {
    let first = "name, description, short_description, content = '', contentless_delete = 1";
    let second = "name, description, short_description, attributes, seen, content = '', contentless_delete = 1, detail = full, prefix = '1 2 3 4'";
    for (format, words) in [(1, first), (2, second)] {
        brought_forward(format, words).await;
    }
}

async fn brought_forward(format: i64, words: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(&format!(
        "CREATE TABLE document (n INTEGER PRIMARY KEY, datatype INTEGER NOT NULL, id TEXT NOT NULL, creator_id TEXT,
            access INTEGER NOT NULL, relation INTEGER, peer_id TEXT, name TEXT, doc BLOB NOT NULL, UNIQUE (datatype, id)) STRICT;
         CREATE INDEX resource_by_creator ON document (creator_id, datatype) WHERE datatype BETWEEN 1 AND 5;
         CREATE INDEX peer_by_relation ON document (relation) WHERE datatype = 9;
         CREATE INDEX peer_by_peer_id ON document (peer_id) WHERE datatype = 9;
         CREATE INDEX peer_by_name ON document (name) WHERE datatype = 9;
         CREATE VIRTUAL TABLE words USING fts5 ({words}, tokenize = 'unicode61 remove_diacritics 2');
         PRAGMA application_id = 1329808467; PRAGMA user_version = {format};",
    ))
    .unwrap();
    let shared = r#"{"id":"shared","creator_id":"me","name":"alpha","architecture":"x86",
        "instances":[{"partnerships":[{"peer_groups":{"did:a":[]}}]}]}"#;
    let insert = "INSERT INTO document (datatype, id, creator_id, access, doc) VALUES (?1, ?2, 'me', ?3, ?4)";
    let public = r#"{"id":"public","creator_id":"me","access_mode":1,"name":"beta Κόμβος"}"#;
    let private = r#"{"id":"private","creator_id":"me","name":"alpha beta"}"#;
    for (kind, id, access, doc) in [
        (4, "shared", 0, shared),
        (4, "public", 1, public),
        (4, "private", 0, private),
    ] {
        old.execute(insert, (kind, id, access, doc.as_bytes())).unwrap();
    }
    drop(old);
    for _ in 0..2 {
        let store = SqliteStore::open(&path).unwrap();
        for (text, wanted) in [
            ("alpha", vec!["shared"]),
            ("x8", vec!["shared"]),
            ("", vec!["shared", "public"]),
            ("be", vec!["public"]),
            ("κομβοσ", vec!["public"]),
        ] {
            let (out, mut found) = mpsc::channel(10);
            let query = SearchQuery {
                text: text.to_owned(),
                datatypes: Vec::new(),
                own_did: "me".to_owned(),
                asker: crate::store::AskerId {
                    did: "did:a".to_owned(),
                    peer_id: None,
                    trusted: true,
                },
                limit: 10,
                deadline: Instant::now() + Duration::from_secs(60),
                cancel: CancellationToken::new(),
                room: None,
            };
            store.search(query, out).await.unwrap();
            let mut ids = Vec::new();
            while let Some(one) = found.recv().await {
                ids.push(one.document.value().unwrap()["id"].as_str().unwrap().to_owned());
            }
            assert_eq!(ids, wanted, "{text} in format {format}");
        }
        store.apply(vec![put("new", "{\"creator_id\":\"me\"}")]).await.unwrap();
    }
}

#[tokio::test]
async fn damage_is_told_not_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.db");
    drop(schema::open(&path).unwrap());
    let whole = Connection::open(&path).unwrap();
    let insert = "INSERT INTO document (datatype, id, access, doc) VALUES (9, ?1, 0, ?2)";
    for n in 0..200 {
        let doc = format!("{{\"id\":\"p{n}\",\"name\":\"{}\"}}", "x".repeat(2000));
        whole.execute(insert, (format!("p{n}"), doc.as_bytes())).unwrap();
    }
    drop(whole);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 8;
    bytes[middle..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let told = match SqliteStore::open(&path) {
        Ok(store) => store.peers(1000).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(
        matches!(&told, Err(StoreError::Corrupt { path: named, .. }) if *named == path),
        "{told:?}"
    );
}

#[test]
fn a_file_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.db");
    fs::write(&path, "").unwrap();
    // The mode does not bind a privileged user; a connection that may only read is bound for everyone.
    let mut connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    assert_eq!(
        schema::prepare(&mut connection, &path),
        Err(StoreError::ReadOnly { path: path.clone() })
    );

    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    if fs::OpenOptions::new().write(true).open(&path).is_err() {
        assert_eq!(SqliteStore::open(&path).map(|_| ()), Err(StoreError::ReadOnly { path }));
    }
}
