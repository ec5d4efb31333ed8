//! The saver: writes checkpoints while the computation goes on.
//!
//! A checkpoint begins with a snapshot: that moment is what will be saved. The pages that the
//! computation has written to since the last one are then written to the log, some in each pause, as
//! they were at that moment. All others are there already. After that the snapshot only says what
//! changes.

use crate::log::Log;
use crate::region::Region;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use libos_posix::memory::{self, Snapshot, SnapshotError};

/// The pauses between the end of a checkpoint and the beginning of the next.
const INTERVAL: u64 = 8;
/// The pages that are written in each pause.
const PAGES_PER_PAUSE: usize = 4;

pub(crate) struct Saver {
    log: &'static Log,
    /// `None` only while there is none.
    snapshot: Option<Snapshot>,
    /// The pages that differ from what the last complete checkpoint says.
    changed: Vec<usize>,
    /// Those among them that are still to be written; `None` between two checkpoints.
    rest: Option<Vec<usize>>,
    pauses: u64,
}

impl Saver {
    /// For a region that is as the last complete checkpoint says, or new.
    ///
    /// # Errors
    /// As [`memory::snapshot`].
    pub(crate) fn new(log: &'static Log) -> Result<Self, SnapshotError> {
        let snapshot = Some(memory::snapshot()?);
        Ok(Self { log, snapshot, changed: Vec::new(), rest: None, pauses: 0 })
    }

    /// Does a little, while the computation waits.
    ///
    /// # Errors
    /// As [`memory::snapshot`].
    pub(crate) fn pause(&mut self, region: &Region) -> Result<(), SnapshotError> {
        self.pauses += 1;
        if self.rest.is_some() {
            self.write_some(region);
        } else if self.pauses >= INTERVAL {
            self.begin(region)?;
        }
        Ok(())
    }

    fn begin(&mut self, region: &Region) -> Result<(), SnapshotError> {
        if let Some(last) = self.snapshot.take() {
            self.changed.extend(last.changed(region.addresses()).map(|page| region.page(page)));
        }
        self.snapshot = Some(memory::snapshot()?);
        self.changed.sort_unstable();
        self.changed.dedup();
        self.rest = Some(self.changed.clone());
        self.log.begin();
        Ok(())
    }

    fn write_some(&mut self, region: &Region) {
        let (Some(snapshot), Some(rest)) = (&mut self.snapshot, &mut self.rest) else { return };
        let first = rest.len().saturating_sub(PAGES_PER_PAUSE);
        let written = rest.drain(first..).try_for_each(|page| {
            self.log.write(page, |place| snapshot.read(region.address(page), place))
        });
        match written {
            Ok(()) if !rest.is_empty() => return,
            Ok(()) => {
                self.log.commit();
                self.changed.clear();
                snapshot.forget_contents();
            }
            // What has changed is remembered, and the next checkpoint has it.
            Err(_) => drop(self.log.given_up.fetch_add(1, Ordering::Relaxed)),
        }
        (self.rest, self.pauses) = (None, 0);
    }
}
