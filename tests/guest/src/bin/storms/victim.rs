//! A child: holds frames and slices, answers in its own way, and checks that it is told of every loss.

use core::sync::atomic::Ordering::Relaxed;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::tables::FrameState;
use exo_user::abi::upcall::{Event, FaultCode, PAGE_FAULT};
use exo_user::loss::Reader;
use exo_user::revocation::{self, SURRENDER_SLOTS, Surrender};
use exo_user::{
    EnvName, FrameNumber, Kind, capability, contract, control, environment, frame, slice, tables,
    time,
};
use guest_probes::attempt::{self, Fault};
use guest_probes::fork::Meeting;
use guest_probes::ground::{self, DATA, page};
use guest_probes::random::Random;
use guest_probes::rule::{granted, holds, same};

/// How many frames a child may hold beside those that it is made of.
pub(crate) const FRAMES: u64 = 28;
/// How many of these nobody may ask for: its upcall stack.
pub(crate) const FLOOR: u64 = 6;
/// How many slices it is given.
pub(crate) const SLICES: usize = 3;
/// Its pages.
const PAGES: usize = 22;
/// The most of its own frames that are kernel memory of its own at a time.
const DONATED: usize = 4;
/// How many there may be with those that it was made of.
const KERNEL: usize = 64;
/// The page whose frame is the place where others are saved.
const SAVED: usize = PAGES - 1;
/// How long a round rests, in nanoseconds.
const REST: u64 = time::MILLISECOND / 10;

/// How it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Cooperative,
    Deaf,
    Lying,
}

/// A count over all children: 0 of rounds, 1 of losses that were told, 2 of these of kernel memory.
pub(crate) fn count(word: usize) -> u64 {
    Meeting::word(word).load(Relaxed)
}

struct Victim {
    policy: Policy,
    random: Random,
    record: Reader,
    /// The frame behind each page, as long as there is one.
    pages: [Option<FrameNumber>; PAGES],
    /// What is the kernel's, and how many of these it was made of.
    kernel: [Option<FrameNumber>; KERNEL],
    made_of: usize,
    /// In which order they were taken.
    since: [u64; PAGES],
    turn: u64,
    lost: u64,
}

fn address(index: usize) -> u64 {
    page(100 + index as u64)
}

/// What stands in a page: different for every page of every child and every frame.
fn pattern(index: usize, frame: FrameNumber) -> u64 {
    contract::name().0 << 40 ^ u64::from(frame.0) << 8 ^ index as u64 ^ 0x5a5a << 48
}

/// Reads a word that may be gone.
fn load(address: u64) -> Result<u64, Fault> {
    let mut pair = [address, 0];
    let code = guest_probes::code!("mov rax, [rdi]", "mov rax, [rax]", "mov [rdi + 8], rax");
    // SAFETY: it reads the word and writes the second of the pair.
    let fault = unsafe { attempt::attempt(code, pair.as_mut_ptr() as u64) };
    // SAFETY: the pair is on this stack.
    fault.map_or_else(|| Ok(unsafe { pair.as_ptr().add(1).read_volatile() }), Err)
}

/// Writes a word of a page that may be gone.
fn store(address: u64, word: u64) {
    let pair = [address, word];
    let code = guest_probes::code!("mov rax, [rdi]", "mov rcx, [rdi + 8]", "mov [rax], rcx");
    // SAFETY: it reads the pair and writes the word, to which nothing refers.
    let _ = unsafe { attempt::attempt(code, pair.as_ptr() as u64) };
}

fn is_lost(fault: &Fault) -> bool {
    fault.cause == PAGE_FAULT && FaultCode::from_bits_truncate(fault.code).contains(FaultCode::LOST)
}

/// A frame that is not this child's; number 0 if it is.
fn foreign(number: u32) -> FrameNumber {
    let owner = tables::frames().get(number as usize).map(|entry| usize::from(entry.owner));
    FrameNumber(if owner == Some(contract::name().index()) { 0 } else { number })
}

/// Where a child starts; ends only when it is ended, or has seen a rule broken.
pub(crate) extern "sysv64" fn run(argument: u64) -> ! {
    attempt::prepare();
    let policy = match argument & 3 {
        0 => Policy::Cooperative,
        1 => Policy::Deaf,
        _ => Policy::Lying,
    };
    let mut victim = Victim {
        policy,
        random: Random::new(argument),
        record: Reader::new(),
        pages: [None; PAGES],
        kernel: [None; KERNEL],
        made_of: 0,
        since: [0; PAGES],
        turn: 0,
        lost: 0,
    };
    let own = contract::name().index();
    let donated = tables::frames().iter().filter(|(_, entry)| {
        usize::from(entry.owner) == own && entry.state == FrameState::Donated as u8
    });
    for (place, (number, _)) in victim.kernel.iter_mut().zip(donated) {
        *place = Some(FrameNumber(number as u32));
        victim.made_of += 1;
    }
    // Its parent gives it slices first.
    let slices = || contract::account(Kind::Slices);
    while slices().held < slices().limit {
        environment::sleep(time::now() + REST);
    }
    loop {
        victim.round();
        Meeting::word(0).fetch_add(1, Relaxed);
        control::take(Event::Revoke);
        control::take(Event::Lost);
        environment::sleep(time::now() + REST);
    }
}

impl Victim {
    fn round(&mut self) {
        self.read_record();
        self.look_at_pages();
        match self.policy {
            Policy::Cooperative => self.pay(),
            Policy::Deaf => {}
            Policy::Lying => self.lie(),
        }
        self.publish();
        if contract::debt(Kind::Frames) == 0 {
            self.donate();
            self.fill();
        }
        if contract::debt(Kind::Slices) == 0 {
            self.take_slice();
        }
    }

    /// Every loss is in the record, and nothing else is.
    fn read_record(&mut self) {
        let epoch = contract::account(Kind::Frames).epoch;
        let (pages, since, lost) = (&mut self.pages, &self.since, &mut self.lost);
        let kernel = &mut self.kernel;
        let read = self.record.frames(|frame| {
            // What was the kernel's was that before it was a page.
            if let Some(place) = kernel.iter_mut().find(|place| **place == Some(frame)) {
                *place = None;
                *lost += 1;
                for word in 1..3 {
                    Meeting::word(word).fetch_add(1, Relaxed);
                }
                return;
            }
            // A frame may be lost, this child's again, and lost again: first it is told of the first.
            let places = (0..PAGES).filter(|&index| pages[index] == Some(frame));
            if let Some(index) = places.min_by_key(|&index| since[index]) {
                pages[index] = None;
                *lost += 1;
                Meeting::word(1).fetch_add(1, Relaxed);
            }
        });
        granted("to read the record", read);
        let account = contract::account(Kind::Frames);
        if account.epoch == epoch {
            same("losses told", *lost, account.repossessed);
        }
        // Slices that were lost are this child's again only if it has taken them again.
        let epoch = contract::account(Kind::Slices).epoch;
        if revocation::acknowledge(Kind::Slices, epoch).is_ok() {
            same("the epoch of slices", contract::account(Kind::Slices).repossessed >= epoch, true);
        }
    }

    /// What is not lost is as it was, and what is lost is out of reach and told.
    fn look_at_pages(&mut self) {
        for index in 0..SAVED {
            let Some(frame) = self.pages[index] else { continue };
            match load(address(index)) {
                Ok(word) => same("what stands in a page", word, pattern(index, frame)),
                Err(fault) if is_lost(&fault) => {
                    self.read_record();
                    holds(
                        format_args!("the loss of {frame:?} is told"),
                        self.pages[index].is_none(),
                    );
                }
                Err(fault) => {
                    same("the fault of a page that was dropped", fault.cause, PAGE_FAULT);
                    // It may be lost by now; then the record tells.
                    let _ = ground::bind(address(index), frame, DATA);
                }
            }
        }
    }

    fn pay(&mut self) {
        while contract::debt(Kind::Frames) > 0 {
            let Some(index) = self.pages.iter().rposition(Option::is_some) else { break };
            let frame = self.pages[index];
            let list = frame.as_slice();
            // SAFETY: the page is read and written by address alone.
            if unsafe { frame::free(list) }.is_ok() {
                self.pages[index] = None;
            } else {
                // It was taken in between, and is told.
                self.read_record();
                holds("what cannot be freed is lost", self.pages[index] != frame);
            }
        }
        while contract::debt(Kind::Slices) > 0 {
            let Some((cpu, position)) = slices_of(contract::name().0).last() else { break };
            // It may be lost in between.
            let _ = slice::give_back(cpu, position, 0);
        }
    }

    fn lie(&mut self) {
        let own = contract::name().index();
        let theirs = tables::frames().iter().find(|(_, entry)| {
            entry.state == FrameState::Held as u8 && usize::from(entry.owner) != own
        });
        if let Some((number, _)) = theirs {
            let list = [FrameNumber(number as u32)];
            // SAFETY: the frame is not this child's.
            let freed = unsafe { frame::free(&list) }.is_ok();
            // Unless it has become this child's meanwhile, which only it could have done.
            holds("nobody pays with others' frames", !freed);
        }
        for kind in [Kind::Frames, Kind::Slices] {
            let epoch = contract::account(kind).epoch + 1000;
            holds("an early epoch is refused", revocation::acknowledge(kind, epoch).is_err());
        }
    }

    /// A surrender list of what it holds, what it doesn't and what cannot be, at a moment of nobody's
    /// choice.
    fn publish(&mut self) {
        let nothing = Surrender { kind: Kind::Frames, name: 0, save: FrameNumber(0) };
        let mut list = [nothing; 8];
        for entry in &mut list {
            let index = self.random.below(SAVED as u64) as usize;
            let own = self.pages[index].map_or(1 << 40, |frame| frame.0.into());
            let place = self.pages[SAVED].filter(|_| self.random.below(2) == 0);
            let foreign = foreign(self.random.below(20_000) as u32);
            let name = if self.random.below(4) == 0 { foreign.0.into() } else { own };
            let save = match self.random.below(8) {
                0 => foreign,
                _ => place.unwrap_or_default(),
            };
            *entry = match self.random.below(5) {
                0 => Surrender { kind: Kind::Slices, name: self.random.below(64), save },
                _ => Surrender { kind: Kind::Frames, name, save },
            };
        }
        // A name may be listed as often as there is room, and with others' frames to save in: these
        // stay what they are, which their owners check.
        const { assert!(SURRENDER_SLOTS >= 8) };
        revocation::publish(&list);
    }

    /// Makes a frame kernel memory now and then.
    fn donate(&mut self) {
        let donated = self.kernel.iter().flatten().count();
        if donated >= self.made_of + DONATED || self.random.below(4) > 0 {
            return;
        }
        let place = self.kernel.iter().position(Option::is_none);
        holds("there is room for what is donated", place.is_some());
        let (Some(place), Ok(frame)) = (place, frame::allocate_any(capability::OWN)) else {
            return;
        };
        self.kernel[place] = Some(frame);
        // SAFETY: nothing is bound to it.
        if unsafe { frame::donate(&[frame]) }.is_err() {
            self.read_record();
            holds("what cannot be donated is lost", self.kernel[place].is_none());
        }
    }

    fn fill(&mut self) {
        for index in 0..PAGES {
            if self.pages[index].is_some() {
                continue;
            }
            let Ok(frame) = frame::allocate_any(capability::OWN) else { return };
            self.pages[index] = Some(frame);
            self.turn += 1;
            self.since[index] = self.turn;
            if ground::bind(address(index), frame, DATA).is_ok() {
                store(address(index), pattern(index, frame));
            }
            if load(address(index)).is_err() {
                // Lost at once, or there was no place for it: then it is given back unread.
                // SAFETY: the page is read and written by address alone.
                if unsafe { frame::free(&[frame]) }.is_ok() {
                    self.pages[index] = None;
                }
            }
        }
    }

    /// Takes a slice that nobody has.
    fn take_slice(&mut self) {
        let free = slices_of(0).nth(self.random.below(16) as usize);
        if let Some((cpu, position)) = free {
            // Somebody else may have been quicker, and the limit may be reached.
            let _ = slice::take(cpu, position, EnvName::NONE, 0);
        }
    }
}

fn slices_of(holder: u64) -> impl Iterator<Item = (u32, u32)> {
    let positions = tables::system().positions.max(1) as usize;
    let entries = tables::slices().iter().filter(move |(_, entry)| entry.holder == holder);
    entries.map(move |(index, _)| ((index / positions) as u32, (index % positions) as u32))
}

const _: () = assert!(PAGE_SIZE == 4096 && SAVED < PAGES);
