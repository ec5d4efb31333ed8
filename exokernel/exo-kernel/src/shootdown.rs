//! What one CPU asks of another: to forget translations, and to put vector registers away.
//!
//! Each CPU has a mailbox of counters. Who asks raises `wanted`, interrupts the CPU, and waits for
//! `done` to follow. A CPU answers when the interrupt comes, or while it waits for something itself:
//! never in the midst of code that uses what it has read from an environment's tables. So when the
//! answer is there, nobody uses an old translation or a copy of one.

use crate::hardware::Hardware;
use crate::x86_64::apic::ATTENTION;
use crate::x86_64::cpu::PerCpu;
use core::hint::spin_loop;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use exo_abi::FrameNumber;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr4, Cr4Flags};

/// The requests to one CPU.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    wanted: AtomicU64,
    done: AtomicU64,
    /// The slot of the environment whose vector registers are wanted, plus one.
    vectors: AtomicU64,
}

impl Hardware {
    /// Does what other CPUs have asked of this one.
    pub(crate) fn serve(&self) {
        let cpu = PerCpu::here();
        cpu.upcall.forget();
        let mailbox = &cpu.mailbox;
        let wanted = mailbox.wanted.load(SeqCst);
        if wanted == mailbox.done.load(Relaxed) {
            return;
        }
        if let Some(slot) = mailbox.vectors.swap(0, SeqCst).checked_sub(1) {
            self.put_vectors_away(slot as u16);
        }
        tlb::flush_all();
        mailbox.done.store(wanted, SeqCst);
    }

    /// Asks another CPU to look into its mailbox, and waits until it has.
    #[cold]
    #[inline(never)]
    pub(crate) fn ask(&self, other: &PerCpu) {
        let ticket = other.mailbox.wanted.fetch_add(1, SeqCst) + 1;
        self.interrupt(other);
        while other.mailbox.done.load(SeqCst) < ticket {
            self.serve();
            spin_loop();
        }
    }

    /// Interrupts another CPU.
    pub(crate) fn interrupt(&self, other: &PerCpu) {
        if let Some(identity) = other.identity() {
            self.apic.send(identity, ATTENTION);
        }
    }

    /// Forgets the translation of a page, or all, of an address space on every CPU where it is
    /// current. The caller has changed the tables before.
    pub(crate) fn shoot_down(&self, root: FrameNumber, address: Option<u64>) {
        self.board.note_break();
        PerCpu::here().upcall.forget();
        self.forget_translations(root, address);
    }

    /// As [`shoot_down`](Self::shoot_down), where nobody relies on what has changed but the CPUs.
    #[inline]
    pub(crate) fn forget_translations(&self, root: FrameNumber, address: Option<u64>) {
        let here = PerCpu::here();
        for cpu in self.cpus {
            if cpu.root.load(SeqCst) != root.address() {
                continue;
            }
            if cpu.number != here.number {
                self.ask(cpu);
            } else if let Some(address) = address {
                tlb::flush(VirtAddr::new_truncate(address));
            } else {
                tlb::flush_all();
            }
        }
    }

    /// Makes another CPU put away the vector registers of an environment.
    pub(crate) fn recall_vectors(&self, number: usize, slot: u16) {
        let Some(cpu) = self.cpus.get(number) else { return };
        // One request at a time: another that is in the box is served before.
        let value = u64::from(slot) + 1;
        while cpu.mailbox.vectors.compare_exchange(0, value, SeqCst, Relaxed).is_err() {
            self.serve();
            spin_loop();
        }
        self.ask(cpu);
    }

    /// All CPUs but this one.
    pub(crate) fn others(&self) -> impl Iterator<Item = &'static PerCpu> {
        let here = PerCpu::here().number;
        self.cpus.iter().filter(move |cpu| cpu.number != here)
    }
}

/// Forgets all translations of this CPU, those that are global too.
pub(crate) fn flush_everything() {
    let flags = Cr4::read();
    // SAFETY: what the flag does is back on at once; turning it off is what forgets.
    unsafe {
        Cr4::write(flags - Cr4Flags::PAGE_GLOBAL);
        Cr4::write(flags);
    }
}
