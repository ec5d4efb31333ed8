//! The handlers' code, two pages for each ring, and running it.

use crate::drivers::network::NetworkDevice;
use crate::jit::Code;
use core::{mem, ptr};
use exo_abi::layout::{PACKET_MAX, PACKET_MIN};
use exo_core::{Arrival, Handled, RINGS};
use packet_filters::BufferTooSmall;
use packet_filters::ebpf::{
    Activation, Compiled, HANDLER, MAX_HELPERS, Routine, Workspace, verify,
};
use spin::{Mutex, MutexGuard};

/// The most bytes of a handler's code.
const SIZE: usize = 8192;
/// The most instructions that a packet may cost.
const BUDGET: u64 = 8192;

static CODE: [Code<SIZE>; RINGS] = [const { Code::new() }; RINGS];

/// What is large and used by one program after the other, taken once.
static WORKSPACE: Mutex<Workspace> = Mutex::new(Workspace::new());

/// The handlers of the rings.
pub(crate) struct Handlers {
    workspace: &'static mut Workspace,
    /// The code of each ring's handler, and its fuel.
    loaded: [Option<(Compiled, u64)>; RINGS],
}

impl Handlers {
    /// No handlers. To be called once.
    pub(crate) fn new() -> Self {
        Self { workspace: MutexGuard::leak(WORKSPACE.lock()), loaded: [None; RINGS] }
    }

    /// Replaces the handler of a ring; says whether the program was accepted.
    pub(crate) fn load(&mut self, ring: usize, program: &[u8]) -> bool {
        let Ok(mut verified) = verify(program, &HANDLER, self.workspace) else { return false };
        let Some(fuel) = verified.fuel(BUDGET) else { return false };
        // Measured first: a program that is refused leaves the one before it as it was.
        let Err(BufferTooSmall { needed: ..=SIZE }) = verified.compile(&mut []) else {
            return false;
        };
        // SAFETY: `self` is the only way to the code, and running it takes that too.
        let compiled = unsafe { CODE[ring].write(|code| verified.compile(code)) };
        // SAFETY: the code is a function of this type: the compiler says so, and its tests decode
        // and run what it emits.
        let function = unsafe { mem::transmute::<*const (), Compiled>(CODE[ring].start()) };
        self.loaded[ring] = compiled.ok().map(|_| (function, fuel));
        true
    }

    /// Runs the handler of a ring. `state` is the page that it may write.
    pub(crate) fn run(
        &mut self,
        mut device: Option<&mut NetworkDevice>,
        ring: usize,
        arrival: &Arrival<'_>,
        state: *mut u8,
    ) -> Handled {
        let Some((compiled, fuel)) = self.loaded[ring] else {
            return Some(0);
        };
        // Made where the device takes it from: nobody but the program writes there until it has ended.
        let spare = device.as_mut().and_then(|device| device.spare().ok());
        let room = spare.as_ref().map_or(0, |_| PACKET_MAX);
        let reply = spare.map_or(ptr::null_mut(), |bytes| bytes.as_mut_ptr());
        let mut run = Run { packet: arrival.packet, state, reply, room, length: 0, sent: 0 };
        let owner = (&raw mut run).cast();
        let arguments = [0, 0, 0, 0, arrival.filter.into()];
        let mut activation = Activation::new(fuel, arguments, &raw const ROUTINES, owner);
        let packet = arrival.packet.as_ptr().cast_mut();
        activation.set_region(0, packet, arrival.packet.len() as u64);
        activation.set_region(1, state, 4096);
        activation.set_region(2, reply, 0);
        let first = activation.first();
        // SAFETY: the regions are as `HANDLER` says: the packet has between 14 and 1514 bytes, the
        // state is a page of its own and pinned, the reply is empty and grows in its buffer, which is
        // aligned. The routines are those of `HANDLER`, and `run` outlives the call.
        let ended = unsafe { compiled(&raw mut activation, first) };
        let result = ended.outcome().ok()?;
        if run.sent > 0 {
            device?.transmit(run.sent as usize, arrival.may_send).ok()?;
        }
        Some(result)
    }
}

/// One run, as the helpers see it. They alone use it while the program runs.
struct Run<'a> {
    packet: &'a [u8],
    state: *mut u8,
    reply: *mut u8,
    /// How long the reply may be, how much of it there is, and how much is to be sent.
    room: u64,
    length: u64,
    sent: u64,
}

impl Run<'_> {
    /// Bytes of the packet that a program names.
    fn packet(&self, start: u64, length: u64) -> Option<&[u8]> {
        let end = start.checked_add(length)?;
        self.packet.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

/// By number, as in `HANDLER`; the verifier lets nobody call any other.
#[rustfmt::skip]
static ROUTINES: [Routine; MAX_HELPERS] = [
    take, take, copy, reply, take, take, take, take, take, take, take, take, take, take, take, take,
];

/// A helper, from registers 1 to 3.
macro_rules! routine {
    ($name:ident, |$activation:pat, $run:ident, $($argument:pat_param),*| $body:expr) => {
        // SAFETY: only the compiled program of this run calls it, with the activation that the run made.
        unsafe extern "sysv64" fn $name(
            first: u64, second: u64, third: u64, activation: *mut Activation, _: u64, _: u64,
        ) -> u64 {
            let ($activation, [$($argument),*]) = (activation, [first, second, third]);
            // SAFETY: the program was called with an activation whose owner is a run, and neither is
            // touched by anybody else while a helper works.
            let $run = unsafe { &mut *(*activation).owner.cast::<Run<'_>>() };
            $body
        }
    };
}

routine!(take, |activation, run, from, length, _| {
    if length <= run.room - run.length
        && let Some(bytes) = run.packet(from, length)
    {
        // SAFETY: the buffer has room for a packet, and these bytes still fit.
        let end = unsafe { run.reply.add(run.length as usize) };
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len()) };
        run.length += length;
        // SAFETY: nobody else touches the activation while a helper works.
        unsafe { &mut *activation }.set_region(2, run.reply, run.length);
    }
    run.length
});

routine!(copy, |_, run, from, length, to| {
    let fits = to.checked_add(length).is_some_and(|end| end <= 4096);
    let Some(bytes) = run.packet(from, length).filter(|_| fits) else { return u64::MAX };
    let (pairs, rest) = bytes.as_chunks::<2>();
    // SAFETY: the state is a page, and the bytes fit into it. A program that reads or writes it at
    // the same time only spoils what is its own.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), run.state.add(to as usize), bytes.len()) };
    let sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    let sum = sum + rest.first().map_or(0, |last| u32::from(*last) << 8);
    let folded = (sum & 0xffff) + (sum >> 16);
    u64::from((folded & 0xffff) + (folded >> 16))
});

routine!(reply, |_, run, length, _, _| {
    let there = (PACKET_MIN..=run.length).contains(&length);
    if there {
        run.sent = length;
    }
    u64::from(there)
});
