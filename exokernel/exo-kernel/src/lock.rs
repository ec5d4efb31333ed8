//! Locks in a fixed order.
//!
//! A CPU takes locks only in the order of [`Rank`], so that no two wait for each other. While it
//! waits it serves the other CPUs: who holds the lock may be waiting for this CPU's translations
//! to be gone. Interrupts are off in the kernel, so that nobody takes a lock twice.

use crate::x86_64::cpu::PerCpu;
use core::hint::spin_loop;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering::Relaxed;
use spin::{Mutex, MutexGuard};

/// The order of the locks. One that is held must be before one that is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Rank {
    /// What environments own: [`Kernel`](exo_core::Kernel).
    Kernel,
    /// The code of the handlers, which send.
    Handlers,
    /// The network device.
    Network,
    /// The code of the packet filters.
    Filters,
    /// The serial line.
    Serial,
}

/// A lock with its place in the order.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    rank: Rank,
    inner: Mutex<T>,
}

/// The right to use what the lock protects.
pub(crate) struct Guard<'a, T> {
    inner: MutexGuard<'a, T>,
    cpu: &'static PerCpu,
    before: u64,
}

impl<T> Lock<T> {
    /// A lock that nobody holds.
    pub(crate) const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: Mutex::new(value) }
    }

    /// Waits until nobody else holds the lock. `serve` is what other CPUs wait for meanwhile.
    pub(crate) fn lock(&self, serve: impl Fn()) -> Guard<'_, T> {
        let cpu = PerCpu::here();
        let before = cpu.locks.load(Relaxed);
        assert!(before >> self.rank as u8 == 0, "{:?} is taken out of order", self.rank);
        let inner = loop {
            match self.inner.try_lock() {
                Some(guard) => break guard,
                None => serve(),
            }
            spin_loop();
        };
        cpu.locks.store(before | 1 << self.rank as u8, Relaxed);
        Guard { inner, cpu, before }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.cpu.locks.store(self.before, Relaxed);
    }
}
