//! Time that others had to wait for the end of a slice: whoever holds it owes it to them, on that CPU,
//! and pays with slices.

use crate::board::CpuCell;
use crate::machine::Machine;
use crate::processor::Processor;
use core::sync::atomic::Ordering::Relaxed;

/// How much too long a slice may be, in nanoseconds: what it takes to save some registers and yield.
pub const EPILOGUE: u64 = 5_000;

impl<M: Machine> Processor<'_, M> {
    /// Charges the time since the end of the slice, if it is much, to who holds it.
    #[inline]
    pub(crate) fn bill(&self, now: u64) {
        let end = self.cpu.slice_end();
        if now <= end + EPILOGUE || end == 0 {
            return;
        }
        // Until the next slice begins, nobody holds one.
        self.cpu.set_slice_end(0);
        self.cpu.charge_owed(self.cpu.holder.load(Relaxed) as u16, now - end, self.board.slice);
    }

    /// Charges the time since the end of a slice when another begins.
    pub fn bill_slice(&self) {
        self.bill(self.cpu.since.load(Relaxed));
    }

    /// Whether anybody owes a slice on this CPU.
    #[inline]
    pub(crate) fn is_anybody_owing(&self) -> bool {
        // Who charges adds first and then says so.
        if self.cpu.owing.load(Relaxed) == 0 || self.cpu.owing.swap(0, Relaxed) == 0 {
            return false;
        }
        let owing = self.cpu.owed.iter().any(|owed| owed.load(Relaxed) >= self.board.slice);
        if owing {
            self.cpu.owing.store(1, Relaxed);
        }
        owing
    }
}

impl CpuCell<'_> {
    /// Makes an environment pay with slices of this length for time that was not its own.
    pub(crate) fn charge_owed(&self, slot: u16, time: u64, slice: u64) {
        if let Some(owed) = self.owed.get(slot as usize)
            && owed.fetch_add(time, Relaxed) + time >= slice
        {
            self.owing.store(1, Relaxed);
        }
    }

    /// What an environment owes.
    #[inline]
    pub(crate) fn owed(&self, slot: usize) -> u64 {
        self.owed.get(slot).map_or(0, |owed| owed.load(Relaxed))
    }

    /// Takes so much off what an environment owes, if it owes that.
    pub(crate) fn pay(&self, slot: u16, time: u64) {
        if let Some(owed) = self.owed.get(slot as usize) {
            let _ = owed.fetch_update(Relaxed, Relaxed, |owed| owed.checked_sub(time));
        }
    }

    /// Takes so much off what everybody owes: what all owe, nobody does.
    #[cold]
    pub(crate) fn forgive(&self, time: u64) {
        for owed in self.owed.iter().filter(|_| time > 0) {
            let _ = owed.fetch_update(Relaxed, Relaxed, |owed| Some(owed.saturating_sub(time)));
        }
    }

    /// Makes an environment the holder of the slice that another has that has ended, and returns what
    /// that owed.
    pub(crate) fn inherit(&self, from: u16, to: u16) -> u64 {
        let _ = self.holder.compare_exchange(from.into(), to.into(), Relaxed, Relaxed);
        self.owed.get(from as usize).map_or(0, |owed| owed.swap(0, Relaxed))
    }

    /// Adds to the slice what was taken from it for others.
    pub(crate) fn prolong(&self, time: u64) {
        let end = self.slice_end();
        if end != 0 {
            self.set_slice_end(end + time);
        }
    }
}
