//! Rule: a batch is a list of claims: however long, crooked, nested or changed while it runs, it
//! makes only calls, and keeps nothing.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering::Relaxed;
use exo_user::abi::batch::{BATCH_WORDS, BatchEntry, BatchFlags};
use exo_user::abi::layout::{BATCH_MAX, CONTRACT, SYSTEM, USER_END};
use exo_user::abi::name::PAGE_SIZE;
use exo_user::{
    Call, EnvName, Error, FrameNumber, Rights, Start, binding, call, capability, environment,
    frame, tables, time,
};
use guest_probes::attempt;
use guest_probes::fork::{Fork, Meeting};
use guest_probes::ground::{self, DATA, page};
use guest_probes::random::Random;
use guest_probes::rule::{granted, holds, refused, refused_with, same};

exo_user::program!(main);

const ENTRY: u64 = size_of::<BatchEntry>() as u64;
/// How often the list is changed while it runs.
const ROUNDS: u64 = 400;

fn batch(list: u64, count: u64, flags: BatchFlags) -> Call {
    Call::Batch { list, count, flags }
}

fn write(list: u64, index: u64, call: Call) {
    let registers = call.pack();
    let place = list + ENTRY * index;
    ground::store(place, registers.number);
    for (word, argument) in (1..).zip(registers.arguments) {
        ground::store(place + 8 * word, argument);
    }
    ground::store(place + 8 * (BATCH_WORDS as u64 - 1), 0);
}

fn error(list: u64, index: u64) -> Option<Error> {
    Error::from_number(ground::load(list + ENTRY * index) >> 32)
}

/// What a changed entry calls: nothing that lasts, since what it is about is chance.
const CALLS: [u64; 8] = [0, 1, 2, 5, 5, 6, 27, 99];

/// Changes the list in the meeting page for ever.
extern "sysv64" fn scribbler(seed: u64) -> ! {
    let mut random = Random::new(seed);
    let list = page(10);
    loop {
        let word = random.below(8 * BATCH_WORDS as u64) as usize;
        let value = match random.below(4) {
            _ if word.is_multiple_of(BATCH_WORDS) => random.one_of(&CALLS),
            0 => random.below(32),
            1 => list + 512 + 4 * random.below(8),
            2 => random.below(4),
            _ => random.next(),
        };
        Meeting::word(word).store(value, Relaxed);
    }
}

fn places(list: u64) {
    let none = BatchFlags::empty();
    for count in [BATCH_MAX + 1, 1 << 20, u64::MAX] {
        refused(batch(list, count, none), Error::TooLong);
    }
    for off in [1, 8, 32, 63] {
        refused(batch(list + off, 1, none), Error::BadAddress);
    }
    for place in [0, page(500), USER_END, CONTRACT, SYSTEM, 0xffff_ffff_8010_0000, u64::MAX - 63] {
        refused_with(batch(place, 2, none), &[Error::NotBound, Error::BadAddress]);
        refused_with(batch(place, 2, BatchFlags::ROLL_BACK), &[Error::NotBound, Error::BadAddress]);
    }
    // Its own text can be read, and not written.
    let text = main as *const () as u64 & !(PAGE_SIZE - 1);
    refused(batch(text, 1, none), Error::NotBound);
    // SAFETY: it makes no call.
    same("an empty one", unsafe { call::call(batch(page(500), 0, none)) }, Ok(0));
}

fn not_in_a_batch(list: u64) {
    let environment = EnvName::NONE;
    let calls = [
        batch(list, 2, BatchFlags::empty()),
        Call::Yield { target: EnvName::NONE, keeper: EnvName::NONE },
        Call::Sleep { until: time::NEVER, keeper: EnvName::NONE },
        Call::EnvironmentDestroy { environment, capability: 0, code: 9 },
        Call::MachineExit { capability: 0, code: 9 },
    ];
    for call in calls {
        write(list, 0, Call::Null {});
        write(list, 1, call);
        write(list, 2, Call::Null {});
        // SAFETY: it is refused in the middle.
        let made = unsafe { call::call(batch(list, 3, BatchFlags::empty())) };
        same("calls made", made, Ok(1));
        same("the refusal", error(list, 1), Some(Error::NotInBatch));
        write(list, 0, Call::Null {});
        refused(batch(list, 3, BatchFlags::ROLL_BACK), Error::NotInBatch);
    }
    write(list, 0, Call::Null {});
    ground::store(list, 99);
    // SAFETY: it is refused at once.
    same("no call", unsafe { call::call(batch(list, 1, BatchFlags::empty())) }, Ok(0));
    same("why", error(list, 0), Some(Error::UnknownCall));
}

/// The list's own page is unbound by the list.
fn saws_its_branch(list: u64) {
    let (environment, capability, count) = (EnvName::NONE, 0, 1);
    write(list, 0, Call::Unbind { environment, capability, page: list, count });
    write(list, 1, Call::Null {});
    // SAFETY: nothing refers to the page.
    same("calls made", unsafe { call::call(batch(list, 2, BatchFlags::empty())) }, Ok(1));
}

fn main(start: &Start<'_>) -> u64 {
    attempt::prepare();
    let list = page(20);
    let frame = ground::bound(list, DATA);
    places(list);
    not_in_a_batch(list);
    saws_its_branch(list);
    ground::free(&[frame]);
    // Another changes the list while it runs, on another processor if there is one.
    let meeting = Meeting::open();
    let numbers = ground::bound(page(10), DATA | Rights::WIRED);
    let cpu = (tables::system().cpus - 1) as u32;
    let held = ground::held();
    let child = Fork::start(start, Some(meeting), &[cpu], scribbler, start.seed);
    let inside = ground::held();
    let mut random = Random::new(start.seed);
    for _ in 0..ROUNDS {
        let (frames, count) = (page(10) + 512, 1 + random.below(4));
        for index in 0..4 {
            ground::store(frames + 8 * index, u64::MAX);
        }
        for index in 0..8 {
            let call = match index % 2 {
                0 => Call::FrameAllocate { list: frames, count, capability: capability::OWN },
                _ => Call::FrameFree { list: frames, count },
            };
            let registers = call.pack();
            Meeting::word(index * BATCH_WORDS).store(registers.number, Relaxed);
            for (word, argument) in (1..).zip(registers.arguments) {
                Meeting::word(index * BATCH_WORDS + word).store(argument, Relaxed);
            }
        }
        let flags = BatchFlags::from_bits_truncate(random.below(2));
        // SAFETY: whatever the list says then, it is about frames, and about pages by luck.
        let _ = unsafe { call::call(batch(Meeting::PAGE, 8, flags)) };
        if random.below(8) == 0 {
            granted("to give way", environment::yield_to(EnvName::NONE));
        }
        tidy(meeting, numbers);
    }
    same("frames held", ground::held(), inside);
    child.end();
    same("frames held in the end", ground::held(), held);
    // SAFETY: nothing refers to the page.
    granted("to unbind", unsafe { binding::unbind(page(10), 1) });
    holds("its name", environment::name() != EnvName::NONE);
    0
}

/// Gives back what a changed list has taken and not given back: frames that were bound nowhere.
fn tidy(meeting: FrameNumber, numbers: FrameNumber) {
    for index in 0..8 {
        let word = ground::load(page(10) + 512 + 4 * (index & !1));
        for number in [word as u32, (word >> 32) as u32].map(FrameNumber) {
            let entry = tables::frames().get(number.0 as usize).unwrap_or_default();
            if number != meeting && number != numbers && entry.bindings == 0 {
                // SAFETY: nothing is bound to it.
                let _ = unsafe { frame::free(&[number]) };
            }
        }
    }
}
