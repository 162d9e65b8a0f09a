//! The publisher over a journal file, with an outlet that waits.

use super::super::commit::Committer;
use super::super::types::{Hash, Received, Verdict};
use super::*;
use crate::telemetry::Readiness;
use crate::wire::DataType;
use bytes::Bytes;

/// Takes all, and after the first time waits to be let on.
struct Seen(mpsc::UnboundedSender<u64>, mpsc::Receiver<()>);

#[async_trait]
impl Outlet for Seen {
    async fn put(&mut self, rows: &[Todo]) -> Put {
        for row in rows {
            let _ = self.0.send(row.n);
        }
        self.1.recv().await;
        Put {
            done: rows.len(),
            ..Put::default()
        }
    }

    async fn settle(&mut self) -> Option<Stuck> {
        None
    }
}

fn line(id: &str, version: &'static str) -> Received {
    Received {
        seq: 0,
        key: Key {
            datatype: DataType::DataResource,
            id: id.into(),
        },
        directed: false,
        once: true,
        action: Action::Update,
        user: String::new(),
        payload: Bytes::from_static(version.as_bytes()),
        hash: Hash::of(version.as_bytes()),
    }
}

#[tokio::test]
async fn what_comes_while_an_earlier_life_is_published_is_published_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&dir.path().join("journal.db")).unwrap();
    let (committer, committed) = Committer::new(log.clone());
    let commit = async |version| {
        let verdicts = committer.commit("did:a", vec![line("r", version)], None, None).await;
        assert!(matches!(verdicts.unwrap()[..], [Verdict::Todo(_)]));
    };
    log.write(false, |journal| journal.receive("did:a", &[line("r", "1")], None, 0))
        .await
        .unwrap();
    let (seen, mut puts) = mpsc::unbounded_channel();
    let (go, gone) = mpsc::channel(9);
    let (published, mut upto) = watch::channel(Published::default());
    let check = |name| Sides::new(Readiness::new(&[]), name);
    let publisher = Publisher {
        log: log.clone(),
        outlet: Seen(seen, gone),
        published,
        store: None,
        left_upto: 1,
        checks: (check("store_writes"), check("journal")),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(publisher.run(committed, CancellationToken::new(), stop.clone()));
    assert_eq!(puts.recv().await, Some(1));
    commit("2").await;
    commit("3").await;
    drop(go);
    upto.wait_for(|published| published.upto == 3).await.unwrap();
    stop.cancel();
    running.await.unwrap();
    let mut rest = Vec::new();
    while let Some(n) = puts.recv().await {
        rest.push(n);
    }
    assert_eq!(rest, [2, 3]);
}
