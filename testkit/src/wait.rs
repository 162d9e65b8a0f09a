//! Waiting for conditions: the only place of the kit that sleeps.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may need. Long, since machines that run tests are slow and busy; a test that passes never
/// waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// Asks `probe` until it gives something.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub async fn until<T, F, Fut>(what: impl Display, probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    until_within(PATIENCE, what, probe).await
}

/// As [`until`], for conditions that have their own time, as a re-read of the store every 30 s.
///
/// # Panics
/// After `patience`, naming `what`.
pub async fn until_within<T, F, Fut>(patience: Duration, what: impl Display, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {patience:?} for {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
