//! What every environment of the mix does: a random step, checked at once.

use crate::tally::{Count, Tally};
use core::sync::atomic::Ordering::SeqCst;
use exo_user::abi::batch::{BatchEntry, BatchFlags};
use exo_user::abi::calls::TransferMode;
use exo_user::abi::control::ControlWord;
use exo_user::abi::request::NOBODY;
use exo_user::abi::upcall::{FaultCode, PAGE_FAULT};
use exo_user::{
    Call, EnvName, Error, FrameNumber, Kind, call, capability, contract, control, environment,
    frame, slice, tables, time,
};
use guest_probes::attempt::{self, INVALID_OPCODE, attempt};
use guest_probes::code;
use guest_probes::exchange::{self, Changed, Registers, Rest, Rested, WORDS};
use guest_probes::ground::{self, DATA, page};
use guest_probes::random::Random;
use guest_probes::rule::{granted, holds, same};

/// Ways to end that a parent knows of, in [`Count::Intent`].
pub(crate) const EXITS: u64 = 1;
pub(crate) const FAULTS: u64 = 2;
pub(crate) const LOSES_STACK: u64 = 3;
/// The code of a child that ends of its own will.
pub(crate) const DONE: u64 = 7;

/// The pages that come and go. They lie so far apart that each needs tables of its own, more than
/// the kernel has memory for: they are refilled time and again.
const PAGES: usize = 12;
const APART: u64 = 1 << 30;
/// What a request and an answer are told apart by.
const REQUEST: u64 = 0x5e90_0e57;
const ANSWER: u64 = 0xa05_7e12;
/// Where words are in the registers.
const SUM: usize = 5;
const KIND: usize = 6;
const TICKET: usize = 7;
/// The longest time that a sleep or a transfer waits.
const PATIENCE: u64 = 20 * time::MILLISECOND;

/// An environment of the mix.
pub(crate) struct Worker {
    pub(crate) random: Random,
    pub(crate) tally: Tally,
    /// Sleeps that end later than this are lost.
    bound: u64,
    pages: [Option<(FrameNumber, u64)>; PAGES],
    ticket: u64,
    /// The request that is under way: to whom, and its words.
    asked: Option<(EnvName, [u64; WORDS])>,
    /// How many answers are under way, each on the stack of the one before.
    depth: u64,
}

fn mix(word: u64) -> u64 {
    (word ^ word >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

fn sum(words: &[u64; WORDS]) -> u64 {
    words[..SUM].iter().fold(words[TICKET], |sum, word| mix(sum ^ word))
}

/// What an environment makes of a word of a request.
fn answer(of: EnvName, word: u64) -> u64 {
    word ^ mix(of.0)
}

fn place(index: usize) -> u64 {
    page(2000) + index as u64 * APART
}

/// Reads a word, if the page is there.
fn peek(address: u64) -> Result<u64, attempt::Fault> {
    let mut pair = [address, 0];
    let code = code!("mov rax, [rdi]", "mov rax, [rax]", "mov [rdi + 8], rax");
    // SAFETY: it reads what is at the address, and writes the second word of the pair.
    match unsafe { attempt(code, pair.as_mut_ptr() as u64) } {
        // SAFETY: the pair is this function's own.
        None => Ok(unsafe { pair.as_ptr().add(1).read_volatile() }),
        Some(fault) => Err(fault),
    }
}

/// Writes a word, if the page is there.
fn poke(address: u64, value: u64) -> Option<attempt::Fault> {
    let pair = [address, value];
    let code = code!("mov rax, [rdi]", "mov rcx, [rdi + 8]", "mov [rax], rcx");
    // SAFETY: the address is on the ground, to which nothing refers.
    unsafe { attempt(code, pair.as_ptr() as u64) }
}

/// Frees a frame that is bound on the ground, or nowhere.
fn give_back(frame: FrameNumber) -> Result<(), Error> {
    // SAFETY: nothing refers to the ground.
    unsafe { frame::free(&[frame]) }
}

impl Worker {
    /// One that has done nothing yet; its counters are at `tally`.
    pub(crate) fn new(seed: u64, tally: u64, bound: u64) -> Self {
        let random = Random::new(seed);
        let tally = Tally::at(tally);
        Self { random, tally, bound, pages: [None; PAGES], ticket: 0, asked: None, depth: 0 }
    }

    /// One random step.
    pub(crate) fn step(&mut self) {
        self.tally.add(Count::Steps);
        match self.random.below(20) {
            0..=4 => self.memory(),
            5 => self.keep_registers(),
            6 => self.fault(),
            7..=8 => self.sleep(),
            9 => self.give_way(),
            10..=16 => self.ask(),
            17 => self.batch(),
            18 => self.move_slice(),
            _ => same("its name", environment::name(), contract::name()),
        }
    }

    /// Takes a page, looks at one, or gives one back.
    fn memory(&mut self) {
        let index = self.random.below(PAGES as u64) as usize;
        let address = place(index);
        let offset = 8 * self.random.below(512);
        let Some((frame, pattern)) = self.pages[index] else {
            let Ok(frame) = frame::allocate_any(capability::OWN) else { return };
            let pattern = self.random.next() & !4095;
            // It may be taken back by force before it is bound.
            if ground::bind(address, frame, DATA).is_err() {
                let _ = give_back(frame);
                return;
            }
            for word in 0..512 {
                if poke(address + 8 * word, pattern + word).is_some() {
                    return self.lose(index);
                }
            }
            self.pages[index] = Some((frame, pattern));
            return;
        };
        match peek(address + offset) {
            Ok(word) => same(format_args!("a word of page {index}"), word, pattern + offset / 8),
            Err(fault) => {
                let code = FaultCode::from_bits_truncate(fault.code);
                let lost = fault.cause == PAGE_FAULT && code.contains(FaultCode::LOST);
                holds(format_args!("page {index} of {frame:?} is there: {fault:x?}"), lost);
                return self.lose(index);
            }
        }
        if self.random.below(3) == 0 {
            let freed = give_back(frame);
            let lost = freed == Err(Error::NotOwner) || freed == Err(Error::NoFrame);
            holds(format_args!("to free {frame:?}: {freed:?}"), freed.is_ok() || lost);
            self.pages[index] = None;
        }
    }

    fn lose(&mut self, index: usize) {
        let repossessed = contract::account(Kind::Frames).repossessed;
        holds(format_args!("page {index} was taken by force"), repossessed > 0);
        self.pages[index] = None;
        self.tally.add(Count::Lost);
    }

    fn keep_registers(&mut self) {
        let turns = 1 << self.random.below(18);
        let unchanged = Changed { register: 0, by: 0 };
        same("registers", exchange::spin(self.random.next(), turns), unchanged);
    }

    fn fault(&mut self) {
        self.tally.add(Count::Faults);
        let nowhere = page(1 << 20) + 8 * self.random.below(1 << 20);
        let (code, argument, cause) = match self.random.below(6) {
            0 => (code!("xor ecx, ecx", "xor edx, edx", "mov eax, 1", "div ecx"), 0, 0),
            1 => (code!("int3"), 0, 3),
            2 => (code!("ud2"), 0, INVALID_OPCODE),
            3 => (code!("mov [rdi], rdi"), exo_user::layout::START_BLOCK, PAGE_FAULT),
            4 => (code!("mov rax, [rdi]"), 0xffff_ffff_8010_0000, PAGE_FAULT),
            _ => (code!("call rdi"), nowhere, PAGE_FAULT),
        };
        // SAFETY: each of them faults and changes nothing.
        let fault = unsafe { attempt(code, argument) };
        attempt::raised("a fault", fault, cause);
        if cause == PAGE_FAULT {
            same("where", fault.map(|fault| fault.address), Some(argument));
        }
    }

    /// Rests and lets in who comes, and looks at all that is to be kept.
    fn rest(&mut self, words: [u64; WORDS], rest: Rest) -> (Rested, [u64; WORDS]) {
        let pattern = self.random.next();
        let vectors = core::array::from_fn(|n| [pattern + n as u64, !pattern - n as u64]);
        let mut registers = Registers { words, caller: 0, vectors };
        let keeper = if self.random.below(16) == 0 { NOBODY } else { EnvName::ANYBODY };
        let how = if self.random.below(2) == 0 { exchange::rest } else { exchange::rest_open };
        let rested = how(&mut registers, rest, keeper);
        same("vector registers", registers.vectors, vectors);
        holds(
            "who rests for nobody is not entered",
            match rested {
                Rested::Entered(_) => keeper == EnvName::ANYBODY,
                _ => true,
            },
        );
        (rested, registers.words)
    }

    fn until(&mut self) -> u64 {
        time::now() + self.random.below(PATIENCE)
    }

    /// Takes note of how late a rest has ended that nobody but the clock has ended.
    fn judge_time(&mut self, until: u64, had_time: bool) {
        let now = time::now();
        self.tally.add(Count::Sleeps);
        // Without a slice it runs when others give it theirs.
        let has_time = had_time && contract::account(Kind::Slices).held > 0;
        if control::word(ControlWord::Pending).swap(0, SeqCst) != 0 {
            return;
        }
        if now < until {
            self.tally.add(Count::Early);
        } else if has_time {
            self.tally.late(now - until, self.bound);
        }
    }

    fn sleep(&mut self) {
        let until = self.until();
        let has_time = contract::account(Kind::Slices).held > 0;
        control::word(ControlWord::Pending).store(0, SeqCst);
        match self.rest([0; WORDS], Rest::Sleep(until)) {
            (Rested::Entered(caller), words) => self.serve(caller, words),
            (Rested::Woken, _) => self.judge_time(until, has_time),
            (rested, _) => holds(format_args!("a sleep: {rested:?}"), false),
        }
    }

    fn give_way(&mut self) {
        let target = if self.random.below(2) == 0 { EnvName::NONE } else { self.target() };
        match self.rest([0; WORDS], Rest::Yield(target)) {
            (Rested::Entered(caller), words) => self.serve(caller, words),
            (Rested::Woken, _) => {}
            (Rested::Error(error), _) => self.refused(error, target),
        }
    }

    /// Somebody, nobody, or one that has ended.
    fn target(&mut self) -> EnvName {
        match self.random.below(16) {
            0 => EnvName(self.random.next()),
            1 => contract::name(),
            2 => {
                let slot = self.random.below(64) as u32;
                EnvName::new(slot, 1 + self.random.below(40) as u32)
            }
            _ => {
                let slot = self.random.below(tables::environments().len().min(40) as u64);
                EnvName(tables::environments().get(slot as usize).unwrap_or_default().name)
            }
        }
    }

    fn refused(&mut self, error: Error, target: EnvName) {
        self.tally.add(Count::Refused);
        let known = [
            Error::NoEnvironment,
            Error::StaleEnvironment,
            Error::WrongState,
            Error::NotRunnable,
            Error::GateClosed,
        ];
        holds(format_args!("{target:?} gives {error:?}"), known.contains(&error));
    }

    /// Asks another, and looks whether the answer is right.
    fn ask(&mut self) {
        let target = self.target();
        self.ticket += 1;
        let mut words: [u64; WORDS] = core::array::from_fn(|_| self.random.next());
        words[KIND] = REQUEST;
        words[TICKET] = self.ticket;
        words[SUM] = sum(&words);
        self.asked = Some((target, words));
        let mode = match self.random.below(4) {
            0 => TransferMode::Asynchronous,
            1 => TransferMode::Reply,
            _ => TransferMode::Synchronous,
        };
        self.transfer(target, mode, words);
        self.asked = None;
    }

    /// Transfers control, and deals with whatever comes of it.
    fn transfer(&mut self, target: EnvName, mode: TransferMode, words: [u64; WORDS]) {
        let until = self.until();
        let has_time = contract::account(Kind::Slices).held > 0;
        control::word(ControlWord::Pending).store(0, SeqCst);
        let (rested, words) = self.rest(words, Rest::Transfer(target, mode, until));
        match rested {
            Rested::Error(Error::StaleEnvironment) => self.tally.add(Count::Transfers),
            Rested::Error(error) => self.refused(error, target),
            Rested::Woken => {
                self.tally.add(Count::Transfers);
                holds("who is itself cannot be entered", target != contract::name());
                if mode != TransferMode::Asynchronous {
                    self.judge_time(until, has_time);
                }
            }
            Rested::Entered(caller) => {
                self.tally.add(Count::Transfers);
                self.serve(caller, words);
            }
        }
    }

    /// Somebody has come in.
    fn serve(&mut self, caller: EnvName, words: [u64; WORDS]) {
        self.tally.add(Count::Entered);
        if words[KIND] == ANSWER {
            // One that comes too late is nobody's.
            if let Some((asked, sent)) = self.asked
                && asked == caller
                && sent[TICKET] == words[TICKET]
            {
                for (word, sent) in words.iter().zip(sent).take(SUM) {
                    same("a word of an answer", *word, answer(caller, sent));
                }
                self.tally.add(Count::Answered);
            }
            return;
        }
        same("what came in", words[KIND], REQUEST);
        same("a request's words", words[SUM], sum(&words));
        if self.depth > 4 {
            return;
        }
        self.depth += 1;
        let mut reply = words.map(|word| answer(contract::name(), word));
        reply[KIND] = ANSWER;
        reply[TICKET] = words[TICKET];
        // Some answers are never given: who asks has a time of its own.
        match self.random.below(8) {
            0 => {}
            1 => self.transfer(caller, TransferMode::Asynchronous, reply),
            2 => self.transfer(caller, TransferMode::Synchronous, reply),
            _ => self.transfer(caller, TransferMode::Reply, reply),
        }
        self.depth -= 1;
    }

    /// Takes frames and gives them back by one entry to the kernel.
    fn batch(&mut self) {
        #[repr(align(4096))]
        struct Lists([BatchEntry; 4], [FrameNumber; 4]);
        self.tally.add(Count::Batches);
        let mut lists = Lists([BatchEntry::default(); 4], [FrameNumber::ANY; 4]);
        let (list, count) = (lists.1.as_mut_ptr() as u64, 1 + self.random.below(4));
        let bad = self.random.below(3) == 0;
        let calls = [
            Call::Null {},
            Call::FrameAllocate { list, count, capability: capability::OWN },
            if bad { Call::RingDestroy { ring: 9999 } } else { Call::Null {} },
            Call::FrameFree { list, count },
        ];
        lists.0 = calls.map(BatchEntry::new);
        let entries = lists.0.as_mut_ptr() as u64;
        let flags = BatchFlags::empty();
        // SAFETY: the lists are here until the call is made.
        let made = unsafe { call::call(Call::Batch { list: entries, count: 4, flags }) };
        let made = granted("a batch", made);
        let [first, taken, ..] = lists.0;
        same("the name", first.result(), Ok(contract::name().0));
        if taken.result().is_err() {
            return same("calls made", made, 1);
        }
        same("calls made", made, if bad { 2 } else { 4 });
        if bad {
            // SAFETY: nothing refers to the frames. Some may be taken by force already.
            let _ = unsafe { frame::free(&lists.1[..count as usize]) };
        }
    }

    /// Gives one of its positions back and takes another on another processor.
    fn move_slice(&mut self) {
        let system = tables::system();
        let positions = system.positions.max(1);
        let own = contract::name().0;
        let mut held = tables::slices().iter().filter(|(_, entry)| entry.holder == own);
        let count = held.by_ref().count() as u64;
        if count == 0 {
            return;
        }
        let nth = self.random.below(count) as usize;
        let found = tables::slices().iter().filter(|(_, entry)| entry.holder == own).nth(nth);
        let Some((index, _)) = found else { return };
        let (cpu, position) = (index as u64 / positions, index as u64 % positions);
        if slice::give_back(cpu as u32, position as u32, 0).is_err() {
            return;
        }
        self.tally.add(Count::Moved);
        // Its parent may take the limit for another meanwhile, and others all positions.
        for _ in 0..256 {
            let cpu = self.random.below(system.cpus) as u32;
            let position = self.random.below(positions) as u32;
            // One of a relative's, of the same name, would go from one to the other.
            let index = u64::from(cpu) * positions + u64::from(position);
            if tables::slices().get(index as usize).is_none_or(|entry| entry.holder != 0) {
                continue;
            }
            match slice::take(cpu, position, EnvName::NONE, 0) {
                Err(Error::SliceTaken) => {}
                _ => return,
            }
        }
    }

    /// Pays what was asked for.
    pub(crate) fn pay(&mut self) {
        for index in 0..PAGES {
            if contract::debt(Kind::Frames) > 0 {
                self.drop_page(index);
            }
        }
    }

    /// Gives back all pages.
    pub(crate) fn clear(&mut self) {
        (0..PAGES).for_each(|index| self.drop_page(index));
    }

    fn drop_page(&mut self, index: usize) {
        let Some((frame, _)) = self.pages[index].take() else { return };
        // One that was lost may be another page's by now.
        if peek(place(index)).is_ok() {
            let _ = give_back(frame);
        }
    }

    /// Ends in one of several ways.
    pub(crate) fn end(&mut self) -> ! {
        let intent = EXITS + self.random.below(3);
        self.tally.set(Count::Intent, intent);
        match intent {
            FAULTS => control::word(ControlWord::Entry).store(0, SeqCst),
            LOSES_STACK => {
                control::word(ControlWord::StackBase).store(0, SeqCst);
                control::word(ControlWord::StackTop).store(0, SeqCst);
            }
            _ => environment::exit(DONE),
        }
        // SAFETY: it ends the environment.
        unsafe { core::arch::asm!("ud2", options(noreturn)) }
    }
}
