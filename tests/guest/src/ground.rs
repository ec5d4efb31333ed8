//! Frames and pages to play on.

use crate::rule;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::request::BindRequest;
use exo_user::abi::tables::FrameState;
use exo_user::abi::upcall::Event;
use exo_user::{
    Call, EnvName, Error, FrameNumber, Kind, Rights, binding, capability, contract, control,
    environment, frame, layout, tables, time,
};

/// The first page of the ground. Nothing is bound from here on until a program does so.
pub const GROUND: u64 = layout::FREE.start;
/// Read and write.
pub const DATA: Rights = Rights::READ.union(Rights::WRITE);
/// Read and execute.
pub const TEXT: Rights = Rights::READ.union(Rights::EXECUTE);

/// The page number `index` of the ground.
pub const fn page(index: u64) -> u64 {
    GROUND + index * PAGE_SIZE
}

/// New frames of the program's own.
pub fn frames<const N: usize>() -> [FrameNumber; N] {
    let mut frames = [FrameNumber::ANY; N];
    rule::granted("frames", frame::allocate(&mut frames, capability::OWN));
    frames
}

/// Waits, deaf to every ask, until frames have been lost by force and none is owed any more.
pub fn wait_for_loss() {
    while contract::account(Kind::Frames).repossessed == 0 || contract::debt(Kind::Frames) > 0 {
        control::take(Event::Revoke);
        control::take(Event::Lost);
        environment::sleep(time::now() + 5 * time::MILLISECOND);
    }
}

/// A new frame, bound at a page of the ground or beyond it.
pub fn bound(page: u64, rights: Rights) -> FrameNumber {
    let [frame] = frames();
    rule::granted("a page", bind(page, frame, rights));
    frame
}

/// Binds a frame of the program's own at a page of the ground or beyond it.
///
/// # Errors
/// What the kernel says.
pub fn bind(page: u64, frame: FrameNumber, rights: Rights) -> Result<(), Error> {
    bind_by(page, frame, rights, capability::OWN)
}

/// As [`bind`], for a frame that the capability in this slot is good for.
///
/// # Errors
/// What the kernel says.
pub fn bind_by(page: u64, frame: FrameNumber, rights: Rights, slot: u32) -> Result<(), Error> {
    rule::holds("the page is on the ground", page >= GROUND);
    // SAFETY: nothing on the ground is referred to: it is read and written by address alone.
    unsafe { binding::bind(&[BindRequest::new(page, frame, rights, slot)]) }
}

/// The call that binds pages of the program's own. The list has to stay until the call is made.
pub fn bind_call(list: &[BindRequest]) -> Call {
    let (list, count) = (list.as_ptr() as u64, list.len() as u64);
    Call::Bind { environment: EnvName::NONE, capability: 0, list, count }
}

/// The call that allocates frames with the guard of the program's own name.
pub fn allocate_call(list: &mut [FrameNumber]) -> Call {
    let (list, count) = (list.as_mut_ptr() as u64, list.len() as u64);
    Call::FrameAllocate { list, count, capability: capability::OWN }
}

/// The call that frees frames.
pub fn free_call(list: &[FrameNumber]) -> Call {
    Call::FrameFree { list: list.as_ptr() as u64, count: list.len() as u64 }
}

/// The call that donates frames.
pub fn donate_call(list: &[FrameNumber]) -> Call {
    Call::Donate { list: list.as_ptr() as u64, count: list.len() as u64 }
}

/// The call that makes a ring.
pub fn ring_call(list: &[FrameNumber]) -> Call {
    Call::RingCreate { list: list.as_ptr() as u64, count: list.len() as u64 }
}

/// The call that transfers frames.
pub fn transfer_call(environment: EnvName, list: &[FrameNumber]) -> Call {
    let (list, count) = (list.as_ptr() as u64, list.len() as u64);
    Call::FrameTransfer { environment, capability: capability::OWN, list, count }
}

/// Frees frames that nothing refers to but pages of the ground.
pub fn free(frames: &[FrameNumber]) {
    // SAFETY: the ground is read and written by address alone.
    rule::granted("to free frames", unsafe { frame::free(frames) });
}

/// Reads a word of a bound page.
pub fn load(address: u64) -> u64 {
    // SAFETY: an address on the ground is read as a number. If it is not bound, the program ends.
    unsafe { (address as *const u64).read_volatile() }
}

/// Writes a word of a bound page of the ground.
pub fn store(address: u64, value: u64) {
    rule::holds("the address is on the ground", address >= GROUND);
    // SAFETY: nothing on the ground is referred to. If it is not bound, the program ends.
    unsafe { (address as *mut u64).write_volatile(value) };
}

/// How many frames the program holds.
pub fn held() -> u64 {
    contract::account(Kind::Frames).held
}

/// The first frame that an environment slot has in this state.
pub fn frame_of(slot: usize, state: FrameState) -> FrameNumber {
    let found = tables::frames().iter().find(|(_, entry)| {
        usize::from(entry.owner) == slot && entry.state == state as u8 && entry.pins == 0
    });
    rule::holds("there is such a frame", found.is_some());
    FrameNumber(found.map_or(0, |(number, _)| number as u32))
}
