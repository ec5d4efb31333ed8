//! The record of one run of a compiled program: what it may reach, and how it ended.

use super::profile::{MAX_HELPERS, MAX_REGIONS};

/// What the compiled program is called with, and what it keeps while it runs. It stays where it
/// is, and regions and helpers stay what they are, until the program returns.
#[derive(Debug)]
#[repr(C)]
pub struct Activation {
    regions: [Bounds; MAX_REGIONS],
    fuel: u64,
    arguments: [u64; 5],
    helpers: *const [Routine; MAX_HELPERS],
    /// The caller's, for helpers; programs can't reach it.
    pub owner: *mut (),
}

/// Where a region is, and at how many places in it an access of 1, 2, 4 and 8 bytes may start.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Bounds {
    start: *mut u8,
    places: [u64; 4],
}

/// A helper: registers 1 to 3, the activation, registers 4 and 5; its result is register 0.
///
/// # Safety
///
/// It is called by compiled programs alone, whose arguments are of the kinds that the profile says.
/// They are claims all the same: a pointer is an offset, and nobody has checked it.
// SAFETY: `Activation` is never made by a program, and a helper looks each pointer up in its regions.
pub type Routine = unsafe extern "sysv64" fn(u64, u64, u64, *mut Activation, u64, u64) -> u64;

/// The type of a compiled program: the activation, and what [`Activation::first`] says, so that it
/// need not wait for memory.
///
/// # Safety
///
/// To call it, the code must be unchanged since it was compiled; the activation must have been made
/// for the program's profile: each region readable, and writable if the profile says so, for its
/// length, which lies between the bounds of the profile; each helper of the profile a function that
/// may be called with this activation. Others may change the regions' contents meanwhile. The stack
/// must have 1 KiB left, and what the helpers need.
// SAFETY: the verifier has proved each access to lie in a region, or has put a comparison before it.
pub type Compiled = unsafe extern "sysv64" fn(*mut Activation, *mut u8) -> Ended;

/// How a compiled program ended, as it returns it; [`Ended::outcome`] reads it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ended {
    value: u64,
    /// 0, or the slot of a trap plus one.
    status: u64,
}

/// A program was ended at this slot, before its exit: at an access, since it would have been out of
/// bounds; at a jump, since the fuel was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap(pub u16);

impl Activation {
    /// A record without regions. `arguments` are used where the profile says that a register holds
    /// a number. `helpers` has a routine for each number; where the profile has no helper it is
    /// never called.
    pub fn new(
        fuel: u64,
        arguments: [u64; 5],
        helpers: *const [Routine; MAX_HELPERS],
        owner: *mut (),
    ) -> Self {
        let nothing = Bounds { start: core::ptr::null_mut(), places: [0; 4] };
        let regions = [nothing; MAX_REGIONS];
        Activation { regions, fuel, arguments, helpers, owner }
    }

    /// Says where a region is. A helper may call it to make the region longer, never shorter.
    #[inline]
    pub fn set_region(&mut self, region: u8, start: *mut u8, length: u64) {
        if let Some(bounds) = self.regions.get_mut(usize::from(region)) {
            *bounds =
                Bounds { start, places: [0, 1, 3, 7].map(|less| length.saturating_sub(less)) };
        }
    }

    /// The start of region 0.
    #[inline]
    pub fn first(&self) -> *mut u8 {
        self.regions[0].start
    }

    /// Where the start of a region is held.
    pub(super) fn start_of(region: u8) -> i32 {
        let bounds = usize::from(region) * size_of::<Bounds>();
        (core::mem::offset_of!(Activation, regions) + bounds) as i32
    }

    /// Where it is held at how many places an access of so many bytes may start.
    pub(super) fn places_of(region: u8, size: u32) -> i32 {
        let places = core::mem::offset_of!(Bounds, places) as u32 + 8 * size.trailing_zeros();
        Self::start_of(region) + places.cast_signed()
    }

    pub(super) const FUEL: i32 = core::mem::offset_of!(Activation, fuel) as i32;
    pub(super) const ARGUMENTS: i32 = core::mem::offset_of!(Activation, arguments) as i32;
    pub(super) const HELPERS: i32 = core::mem::offset_of!(Activation, helpers) as i32;
}

impl Ended {
    /// The value of register 0 at the exit, or why there was none.
    #[inline]
    pub fn outcome(self) -> Result<u64, Trap> {
        self.status.checked_sub(1).map_or(Ok(self.value), |at| Err(Trap(at as u16)))
    }
}
