//! The first environment, from the boot module.

use crate::environment::Environment;
use crate::exposed::SystemWord;
use crate::kernel::Kernel;
use crate::lifecycle::{Plan, TLB_FRAMES_MAX};
use crate::machine::{FILTERS, Machine};
use crate::network::RINGS;
use core::iter;
use core::sync::atomic::Ordering;
use exo_abi::boot::{
    ARCHIVE, HEADER_WORDS, MAGIC, MODULE_VERSION, ModuleHeader, ModuleSegment, SEGMENTS,
    STACK_PAGES, STACK_TOP,
};
use exo_abi::contract::Kind;
use exo_abi::layout::{LABEL, USER_END, USER_START};
use exo_abi::name::PAGE_SIZE;
use exo_abi::request::BindRequest;
use exo_abi::rights::Capability;
use exo_abi::{CapabilityName, Error, FrameNumber, Rights};
use secure_bindings::Bindings;

/// The guard of the frames of the archive, so that it can be shared without sharing more.
pub const MODULE_GUARD: u8 = 255;

/// The first environment's software TLB, in frames, at least and at most.
const TLB_FRAMES: [usize; 2] = [64, TLB_FRAMES_MAX as usize];
/// Pages of the boot module for which the first environment's software TLB gets a frame: it is
/// then at most half full.
const PAGES_PER_TLB_FRAME: u64 = 64;
/// Donated frames beyond the minimum, for page tables.
const SPARE_FRAMES: usize = 64;

/// Why the first environment could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootError {
    /// The module does not begin with a header, or is of another version.
    NoHeader,
    /// The header contradicts itself or the module's length.
    BadHeader,
    /// A segment or the archive can't be bound.
    Refused(Error),
}

impl From<Error> for BootError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The frames of the boot module.
#[derive(Clone, Copy)]
struct Module {
    first: FrameNumber,
    frames: u64,
}

impl Module {
    /// The frames of `length` bytes from `offset` on.
    fn frames(self, offset: u64, length: u64) -> Result<(u32, u64), BootError> {
        let end = offset.checked_add(length).ok_or(BootError::BadHeader)?;
        if !offset.is_multiple_of(PAGE_SIZE) || end.div_ceil(PAGE_SIZE) > self.frames {
            return Err(BootError::BadHeader);
        }
        Ok((self.first.0 + (offset / PAGE_SIZE) as u32, length.div_ceil(PAGE_SIZE)))
    }
}

impl<M: Machine> Kernel<'_, M> {
    /// Gives the kernel a frame of usable memory that it doesn't need itself. Only before
    /// [`Kernel::start_first`].
    pub fn add_free(&mut self, frame: FrameNumber) {
        self.bindings.frames.add_free(frame);
    }

    /// Makes and starts the first environment from the module in `frames` frames from `first` on,
    /// which are in the frame table and reserved so far. It gets everything: the root capability,
    /// and limits that are all there is.
    ///
    /// # Errors
    /// [`BootError`]; the machine can then do nothing.
    pub fn start_first(&mut self, first: FrameNumber, frames: u64) -> Result<(), BootError> {
        let module = Module { first, frames };
        let header = read_header(self.machine, module)?;
        let slot = 0;
        let guard = CapabilityName::ROOT;
        self.expose_machine();
        let plan = self.first_plan(frames);
        let donated = self.donation_minimum() + plan.tlb_frames + SPARE_FRAMES;
        for index in 0..donated {
            let frame = self.bindings.frames.allocate(FrameNumber::ANY, slot, guard)?;
            self.lists.scratch[index] = frame;
        }
        self.furnish(slot, &plan, donated)?;
        self.hold(slot, Kind::Frames, donated as u64)?;
        for segment in &header.segments[..header.segment_count as usize] {
            self.bind_segment(slot, module, segment)?;
        }
        let stack = (STACK_TOP - STACK_PAGES * PAGE_SIZE, STACK_PAGES);
        let rights = Rights::READ | Rights::WRITE | Rights::WIRED;
        self.bind_pages(slot, stack, None, rights, guard)?;
        let (archive, pages) = module.frames(header.archive_offset, header.archive_length)?;
        let guard = CapabilityName::ROOT.child(MODULE_GUARD).unwrap_or_default();
        self.bind_pages(slot, (ARCHIVE, pages), Some(archive), Rights::READ, guard)?;
        self.start(slot, header.entry, STACK_TOP, header.archive_length)?;
        let Environment { name, .. } = *self.environment(slot);
        Ok(self.slice(slot, (0, 0), name, 0).map(|_| ())?)
    }

    /// The frames that an environment needs for itself, beside its software TLB.
    pub(crate) fn donation_minimum(&self) -> usize {
        Bindings::<M>::donation_minimum(self.bindings.frames.count())
    }

    fn expose_machine(&mut self) {
        let minimum = self.donation_minimum() as u64;
        self.exposed.set_system(SystemWord::DonationMinimum, minimum);
        let address = self.machine.link_address().unwrap_or_default();
        let word = address.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        self.exposed.set_system(SystemWord::LinkAddress, word);
    }

    fn first_plan(&self, module_frames: u64) -> Plan {
        let mut limits = [0; Kind::ALL.len()];
        limits[Kind::Frames as usize] = self.bindings.frames.free_count();
        limits[Kind::Slices as usize] =
            self.board.cpus.iter().map(|cpu| cpu.slices.len() as u64).sum();
        limits[Kind::Filters as usize] = FILTERS as u64;
        limits[Kind::Rings as usize] = RINGS as u64;
        limits[Kind::Environments as usize] = self.environments.len() as u64 - 1;
        let mut label = [0; LABEL];
        label[..4].copy_from_slice(b"init");
        Plan {
            parent: None,
            guard: Capability::ROOT,
            limits,
            floors: [0; Kind::ALL.len()],
            notice: 0,
            tlb_frames: (module_frames / PAGES_PER_TLB_FRAME)
                .clamp(TLB_FRAMES[0] as u64, TLB_FRAMES[1] as u64) as usize,
            label,
        }
    }

    fn bind_segment(
        &mut self,
        slot: u16,
        module: Module,
        segment: &ModuleSegment,
    ) -> Result<(), BootError> {
        let rights = u16::try_from(segment.rights).ok().and_then(Rights::from_bits);
        let rights = rights.ok_or(BootError::BadHeader)?;
        let pages = segment.memory_size.div_ceil(PAGE_SIZE);
        let end = segment.address.checked_add(pages.saturating_mul(PAGE_SIZE));
        if !segment.address.is_multiple_of(PAGE_SIZE)
            || segment.address < USER_START
            || end.is_none_or(|end| end > USER_END)
            || segment.file_size > segment.memory_size
        {
            return Err(BootError::BadHeader);
        }
        let (first, filled) = module.frames(segment.offset, segment.file_size)?;
        let guard = CapabilityName::ROOT;
        self.bind_pages(slot, (segment.address, filled), Some(first), rights, guard)?;
        let rest = (segment.address + filled * PAGE_SIZE, pages - filled);
        Ok(self.bind_pages(slot, rest, None, rights | Rights::WIRED, guard)?)
    }

    /// Binds pages to frames of the first environment's: from `first` on, of the module, or zeroed
    /// ones.
    fn bind_pages(
        &mut self,
        slot: u16,
        (page, count): (u64, u64),
        first: Option<u32>,
        rights: Rights,
        guard: CapabilityName,
    ) -> Result<(), Error> {
        for index in 0..count {
            let frame = match first.map(|first| FrameNumber(first + index as u32)) {
                Some(frame) => {
                    self.bindings.frames.adopt(frame, slot, guard);
                    self.environment_mut(slot).accounts.grant_in(Kind::Frames, 1);
                    frame
                }
                None => {
                    let frame = self.bindings.frames.allocate(FrameNumber::ANY, slot, guard)?;
                    self.machine.clear(frame);
                    frame
                }
            };
            self.hold(slot, Kind::Frames, 1)?;
            let request = BindRequest::new(page + index * PAGE_SIZE, frame, rights, 0);
            self.bindings.bind_all(slot, iter::once(request), |_, _| Ok(()))?;
        }
        Ok(())
    }
}

fn read_header(machine: &impl Machine, module: Module) -> Result<ModuleHeader, BootError> {
    if module.frames == 0 {
        return Err(BootError::NoHeader);
    }
    let page = machine.page(module.first);
    let mut words = [0; HEADER_WORDS];
    for (word, stored) in words.iter_mut().zip(page) {
        *word = stored.load(Ordering::Relaxed);
    }
    let header = ModuleHeader::from_words(&words);
    if header.magic != MAGIC || header.version != MODULE_VERSION {
        return Err(BootError::NoHeader);
    }
    if header.length > module.frames * PAGE_SIZE || header.segment_count > SEGMENTS as u64 {
        return Err(BootError::BadHeader);
    }
    Ok(header)
}
