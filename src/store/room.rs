//! How many bytes a search may have found that nobody has taken yet.
//!
//! Owns the counting. Always: a document larger than all of the room takes all of it, so that it comes through alone.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Found;

/// Shared by the search and whoever takes what it finds.
#[derive(Debug, Clone)]
pub struct Room {
    all: u32,
    left: Arc<Semaphore>,
}

impl Room {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: u32) -> Self {
        Self {
            all: bytes,
            left: Arc::new(Semaphore::new(bytes as usize)),
        }
    }

    /// What this one takes.
    #[must_use]
    pub fn of(&self, found: &Found) -> u32 {
        let size = u32::try_from(found.document.bytes().len()).unwrap_or(u32::MAX);
        size.min(self.all)
    }

    /// Takes the room for one; false when there is not enough now.
    pub(super) fn try_take(&self, found: &Found) -> bool {
        self.left
            .try_acquire_many(self.of(found))
            .map(|room| room.forget())
            .is_ok()
    }

    /// Takes the room for one, when there is enough.
    pub(super) async fn take(&self, found: &Found) {
        if let Ok(room) = self.left.acquire_many(self.of(found)).await {
            room.forget();
        }
    }

    /// Gives back what [`Room::of`] said of those that are taken.
    pub fn give_back(&self, bytes: usize) {
        self.left.add_permits(bytes);
    }
}
