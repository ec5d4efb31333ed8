//! The first environment, from the boot module.

use crate::environment::Environment;
use crate::kernel::Kernel;
use crate::lifecycle::{Plan, TLB_FRAMES_MAX};
use crate::machine::{Devices, FILTERS, Machine};
use crate::network::RINGS;
use core::iter;
use core::sync::atomic::Ordering;
use exo_abi::boot::{
    HEADER_WORDS, MAGIC, MODULE_VERSION, ModuleHeader, ModuleSegment, SEGMENT_PAGES, SEGMENTS,
};
use exo_abi::contract::Kind;
use exo_abi::layout::LABEL;
use exo_abi::request::BindRequest;
use exo_abi::rights::Capability;
use exo_abi::tables::SystemWord;
use exo_abi::{CapabilityName, Error, FrameNumber, Rights};
use secure_bindings::Bindings;

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
    /// A segment can't be bound.
    Refused(Error),
}

impl From<Error> for BootError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
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
        let header = read_header(self.machine, first, frames)?;
        let slot = 0;
        self.expose_machine();
        let plan = self.first_plan(frames);
        let donated = self.donation_minimum() + plan.tlb_frames + SPARE_FRAMES;
        for index in 0..donated {
            let any = FrameNumber::ANY;
            self.lists.scratch[index] =
                self.bindings.frames.allocate(any, slot, CapabilityName::ROOT)?;
        }
        self.furnish(slot, &plan, donated)?;
        self.hold(slot, Kind::Frames, donated as u64)?;
        for segment in &header.segments[..header.segment_count as usize] {
            self.bind_segment(slot, (first, frames), segment)?;
        }
        self.start(slot, header.entry, header.stack, header.argument)?;
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
        let address = self.devices.link_address().unwrap_or_default();
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

    /// Gives the first environment pages of the module.
    fn bind_segment(
        &mut self,
        slot: u16,
        (module, frames): (FrameNumber, u64),
        segment: &ModuleSegment,
    ) -> Result<(), BootError> {
        let ModuleSegment { address, first, pages, rights, guard } = *segment;
        let rights = u16::try_from(rights).ok().and_then(Rights::from_bits);
        let (rights, part) = rights.zip(u8::try_from(guard).ok()).ok_or(BootError::BadHeader)?;
        let inside = first.checked_add(pages).is_some_and(|end| end <= frames);
        if !inside || !(1..=SEGMENT_PAGES).contains(&pages) {
            return Err(BootError::BadHeader);
        }
        let root = CapabilityName::ROOT;
        let guard = if part == 0 { root } else { root.child(part).unwrap_or_default() };
        let first = FrameNumber(module.0 + first as u32);
        for number in first.0..first.0 + pages as u32 {
            self.bindings.frames.adopt(FrameNumber(number), slot, guard);
        }
        self.environment_mut(slot).accounts.grant_in(Kind::Frames, pages);
        self.hold(slot, Kind::Frames, pages)?;
        let request = BindRequest::run(address, first, pages, rights, 0);
        Ok(self.bindings.bind_all(slot, iter::once(request), |_, _| Ok(()))?)
    }
}

fn read_header(
    machine: &impl Machine,
    first: FrameNumber,
    frames: u64,
) -> Result<ModuleHeader, BootError> {
    if frames == 0 {
        return Err(BootError::NoHeader);
    }
    let page = machine.page(first);
    let mut words = [0; HEADER_WORDS];
    for (word, stored) in words.iter_mut().zip(page) {
        *word = stored.load(Ordering::Relaxed);
    }
    let header = ModuleHeader::from_words(&words);
    if header.magic != MAGIC || header.version != MODULE_VERSION {
        return Err(BootError::NoHeader);
    }
    if header.segment_count > SEGMENTS as u64 {
        return Err(BootError::BadHeader);
    }
    Ok(header)
}
