//! The intake before a disk that fails: the journal's log is away, so that it cannot be synced.

use super::*;
use crate::delivery::types::Key;
use crate::settings::{Sources, load};
use crate::telemetry::{Metrics, Readiness};
use crate::wire::{Action, DataType};
use std::path::PathBuf;
use tempfile::TempDir;

struct Scene {
    intake: Intake,
    log: Log,
    readiness: Readiness,
    dir: TempDir,
}

async fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources::of_process(Some(PathBuf::from("/dev/null")), vec!["name=here".to_owned()]);
    let bounds = Arc::new(load(&sources).unwrap().settings.delivery);
    let log = Log::open(&dir.path().join("journal.db")).unwrap();
    log.write(true, |_| Ok(())).await.unwrap();
    let readiness = Readiness::new(&["journal"]);
    let reach = (watch::Sender::new(Reach::default()), Arc::default());
    let told = (Sides::new(readiness.clone(), "journal"), Refusals::new(Metrics::new()));
    let intake = Intake::new(log.clone(), Arc::default(), reach, bounds, told);
    Scene {
        intake,
        log,
        readiness,
        dir,
    }
}

impl Scene {
    /// Takes the log away from the disk, or brings it back.
    fn disk_fails(&self, fails: bool) {
        let (wal, away) = (self.dir.path().join("journal.db-wal"), self.dir.path().join("away"));
        match fails {
            true => std::fs::rename(wal, away).unwrap(),
            false => std::fs::rename(away, wal).unwrap(),
        }
    }

    fn is_bad(&self) -> bool {
        matches!(&self.readiness.snapshot()[..], [(_, Some(why))] if why.contains("fsync"))
    }

    async fn wait_bad(&self, wanted: bool) {
        while self.is_bad() != wanted {
            tokio::task::yield_now().await;
        }
    }
}

fn batch() -> Arc<Batch> {
    let considers = Change {
        key: Key {
            datatype: DataType::Workspace,
            id: "message".into(),
        },
        dest: "did:b".into(),
        action: Action::Considers,
        user: String::new(),
        payload: "{}".into(),
        at: now(),
    };
    Arc::new(Batch {
        changes: vec![considers],
        ..Batch::default()
    })
}

#[tokio::test]
async fn what_is_promised_is_committed_once_however_often_the_disk_fails() {
    let scene = scene().await;
    scene.disk_fails(true);
    let (intake, stop) = (scene.intake.clone(), CancellationToken::new());
    let taking = tokio::spawn(async move { intake.take(&batch(), true, &stop).await });
    scene.wait_bad(true).await;
    scene.disk_fails(false);
    assert!(taking.await.unwrap(), "it is safe now");
    assert!(!scene.is_bad());
    let waiting = scene.log.read(|journal| journal.directed_waiting("did:b")).await;
    assert_eq!(waiting.unwrap().0, 1);
}

#[tokio::test]
async fn a_sync_that_fails_is_told_and_tried_again_though_nothing_new_is_committed() {
    let scene = scene().await;
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(scene.intake.clone().keep_synced(stop.clone()));
    scene.disk_fails(true);
    scene.intake.try_take(batch()).await.unwrap();
    scene.wait_bad(true).await;
    // What is taken meanwhile does not say that the disk is well.
    assert!(scene.intake.take(&batch(), false, &stop).await);
    assert!(scene.is_bad());
    scene.disk_fails(false);
    scene.wait_bad(false).await;
    stop.cancel();
    keeping.await.unwrap();
}
