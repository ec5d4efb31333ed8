//! The real kernel, as the pager sees it.

use crate::memory::kernel::{Access, BindError, Kernel};
use crate::memory::page_table::PageIndex;
use crate::memory::pager::BATCH;
use crate::memory::replacement::Usage;
use crate::memory::resident::{HeldFrame, Resident};
use crate::memory::store::{PAGE_SIZE, PageBytes};
use crate::memory::wired::{PAGED, STORE, WINDOW, WIRED};
use core::arch::global_asm;
use core::ops::Range;
use exo_user::abi::layout::{LIST_MAX, PAGE_TABLE};
use exo_user::abi::request::BindRequest;
use exo_user::abi::tables::{FrameEntry, FrameState};
use exo_user::revocation::{self, Surrender};
use exo_user::tables::Table;
use exo_user::{
    Error, FrameNumber, Kind, Rights, binding, capability, contract, frame, loss, tables,
};

/// The bit of a hardware entry that says that the page was used.
const ACCESSED: u64 = 1 << 5;

/// The calls and tables of the kernel.
#[derive(Debug)]
pub struct Exokernel {
    frames: Table<'static, FrameEntry>,
    own: u16,
    /// What the window is bound to.
    window: HeldFrame,
    losses: loss::Reader,
    /// The epoch of the last loss that was read.
    epoch: u64,
}

impl Exokernel {
    /// For the program's one pager: it owns the paged area, the window and the store's area.
    pub(crate) fn new() -> Self {
        Self {
            frames: tables::frames(),
            own: contract::name().index() as u16,
            window: HeldFrame { number: FrameNumber::ANY, generation: 0 },
            losses: loss::Reader::new(),
            epoch: 0,
        }
    }

    fn bind_at(&self, page: u64, frame: HeldFrame, rights: Rights) -> Result<(), BindError> {
        // The number may have come back to us in another life, for another use.
        if !self.holds(frame) {
            return Err(BindError::FrameGone);
        }
        let request = BindRequest::new(page, frame.number, rights, capability::OWN);
        // SAFETY: the page is in an area of the pager's. In the paged area it keeps its contents,
        // since that is what the pager put into the frame; to the others nothing refers.
        match unsafe { binding::bind(&[request]) } {
            Ok(()) => Ok(()),
            Err(Error::NoFrame | Error::NotOwner | Error::NotDominated) => {
                Err(BindError::FrameGone)
            }
            Err(error) => Err(BindError::Refused(error)),
        }
    }

    fn unbind_at(&self, page: u64) {
        // SAFETY: the page is in an area of the pager's, and what it held is elsewhere or forgotten.
        // The kernel refuses nothing that is in range.
        let _ = unsafe { binding::unbind(page, 1) };
    }
}

impl Usage for Exokernel {
    fn take_accessed(&mut self, resident: &Resident) -> bool {
        let accessed = hardware_entry(page_address(resident.page)) & ACCESSED != 0;
        if accessed {
            // A new binding has not been used. If the frame is gone, the next fault notices.
            if let Some(access) = resident.access() {
                let _ = self.bind(resident.page, resident.frame, access);
            }
        }
        accessed
    }

    fn run_time(&self) -> u64 {
        tables::run_time(contract::name())
    }
}

impl Kernel for Exokernel {
    fn allocate(&mut self) -> Option<HeldFrame> {
        let number = frame::allocate_any(capability::OWN).ok()?;
        let generation = self.frames.get(number.0 as usize)?.generation;
        Some(HeldFrame { number, generation })
    }

    fn free(&mut self, frames: &[HeldFrame]) {
        let mut list = [FrameNumber::ANY; BATCH];
        let mut count = 0;
        for frame in frames.iter().filter(|&&frame| self.holds(frame)) {
            if let Some(place) = list.get_mut(count) {
                *place = frame.number;
                count += 1;
            }
        }
        // SAFETY: the pager has unbound the frames, or has no use for what is in them.
        if unsafe { frame::free(&list[..count]) }.is_err() {
            // One was repossessed a moment ago, so the batch was refused. That one alone fails now.
            for frame in &list[..count] {
                // SAFETY: as above.
                let _ = unsafe { frame::free(core::slice::from_ref(frame)) };
            }
        }
    }

    fn holds(&self, frame: HeldFrame) -> bool {
        self.frames.get(frame.number.0 as usize).is_some_and(|entry| {
            entry.generation == frame.generation
                && entry.owner == self.own
                && entry.state == FrameState::Held as u8
        })
    }

    fn bind(&mut self, page: PageIndex, frame: HeldFrame, access: Access) -> Result<(), BindError> {
        self.bind_at(page_address(page), frame, rights(access))
    }

    fn unbind(&mut self, page: PageIndex) {
        self.unbind_at(page_address(page));
    }

    fn protect(&mut self, pages: Range<u32>, access: Access) {
        for first in pages.clone().step_by(LIST_MAX as usize) {
            let last = pages.end.min(first + LIST_MAX as u32);
            let (start, count) = (page_address(PageIndex(first)), u64::from(last - first));
            // SAFETY: the pages are in the paged area. Whoever needs a right that is taken away
            // causes a fault, which the pager answers.
            if unsafe { binding::protect(start, count, rights(access)) }.is_err() {
                // One is not bound, or was bound with fewer rights. The next fault binds it anew.
                (first..last).for_each(|page| self.unbind(PageIndex(page)));
            }
        }
    }

    fn window(&mut self, frame: HeldFrame) -> Result<&mut PageBytes, BindError> {
        // The frame of a page that was just thrown out is there still. A binding goes with its
        // frame's life, and nothing else takes a wired one.
        if self.window != frame || !self.holds(frame) {
            self.bind_at(WINDOW, frame, WIRED)?;
            self.window = frame;
        }
        // SAFETY: the page is bound, and borrowed from here alone; the reference ends before the
        // window can be bound anew, since it borrows `self`.
        Ok(unsafe { &mut *(WINDOW as *mut PageBytes) })
    }

    fn lend(&mut self, block: u32, frame: HeldFrame) -> Result<&'static mut PageBytes, BindError> {
        let page = STORE.start + u64::from(block) * PAGE_SIZE as u64;
        if !STORE.contains(&page) {
            return Err(BindError::Refused(Error::TooLong));
        }
        self.bind_at(page, frame, WIRED)?;
        // SAFETY: the page is bound. A block is lent once, until the store has let go of it.
        Ok(unsafe { &mut *(page as *mut PageBytes) })
    }

    fn take_back(&mut self, block: u32) {
        self.unbind_at(STORE.start + u64::from(block) * PAGE_SIZE as u64);
    }

    fn list(&mut self, place: u8, frame: Option<HeldFrame>) {
        let surrender = frame.map(|frame| Surrender {
            kind: Kind::Frames,
            name: frame.number.0.into(),
            save: FrameNumber(0),
        });
        revocation::publish_at(place.into(), surrender);
    }

    fn debt(&self) -> u64 {
        contract::debt(Kind::Frames)
    }

    fn read_losses(&mut self) -> u64 {
        let epoch = contract::account(Kind::Frames).epoch;
        if epoch == self.epoch {
            return 0;
        }
        let mut told = 0;
        // The kernel has no reason to refuse; if it did, the generations tell the same.
        let _ = self.losses.frames(|_| told += 1);
        self.epoch = epoch;
        told
    }
}

fn rights(access: Access) -> Rights {
    match access {
        Access::Read => Rights::READ,
        Access::Write => Rights::READ | Rights::WRITE,
    }
}

/// The address of a page of the paged area.
fn page_address(page: PageIndex) -> u64 {
    PAGED.start + u64::from(page.0) * PAGE_SIZE as u64
}

// The hardware's tables are a cache: the one that holds an entry may be missing, and then the load
// faults. The handler knows the load by its address, and goes on behind it with a zero.
global_asm!(
    ".globl exo_posix_probe",
    ".globl exo_posix_probe_failed",
    "exo_posix_probe:",
    "mov rax, [rdi]",
    "ret",
    "exo_posix_probe_failed:",
    "xor eax, eax",
    "ret",
);

// SAFETY: the assembler above defines both, the first with this type; of the second only the address is
// taken.
unsafe extern "sysv64" {
    fn exo_posix_probe(address: u64) -> u64;
    fn exo_posix_probe_failed();
}

/// The hardware's entry for a page, 0 if there is none.
fn hardware_entry(page: u64) -> u64 {
    // SAFETY: the address is an aligned word of the table window, which the kernel lets the
    // program read; a fault there is answered with a zero.
    unsafe { exo_posix_probe(PAGE_TABLE + (page >> 12) * 8) }
}

/// Where to go on after a fault at this instruction, if it was a load that may fault.
pub(crate) fn after_probe(rip: u64) -> Option<u64> {
    (rip == exo_posix_probe as *const () as u64)
        .then_some(exo_posix_probe_failed as *const () as u64)
}
