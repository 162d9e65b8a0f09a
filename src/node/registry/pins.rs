//! The table's pins on disk: which key was seen first with each DID.
//!
//! Owns how their changes are written. Never decides about a pin. Always: what cannot be written holds in memory and is
//! tried again.

use super::Desk;
use crate::delivery::{Pin, now};

/// Pins kept on disk. Further ones hold for the life of the process, which is counted.
const PINS: usize = 100_000;

impl Desk {
    /// Writes what has changed about pins. What cannot be written holds in memory, and is tried again with the next change
    /// or tick.
    pub(super) async fn save_pins(&mut self) {
        let changes = self.table.take_pin_changes();
        if changes.is_empty() {
            return;
        }
        let at = now();
        let work = changes.clone();
        let written = self.parts.log.write(true, move |journal| {
            let mut refused = 0;
            for (did, peer) in &work {
                match peer {
                    Some(peer) => {
                        let (did, peer_id) = (did.clone(), peer.to_string());
                        refused += u64::from(!journal.pin(&Pin { did, peer_id, at }, PINS)?);
                    }
                    None => journal.unpin(did)?,
                }
            }
            Ok(refused)
        });
        let refusals = &self.parts.refusals;
        match written.await {
            Ok(0) => {}
            Ok(refused) => refusals.dropped("pins", "full", refused, "", format_args!("{PINS} pins are kept")),
            Err(error) => {
                refusals.refuse("pins_not_saved", "", error);
                self.table.put_pin_changes_back(changes);
            }
        }
    }
}
