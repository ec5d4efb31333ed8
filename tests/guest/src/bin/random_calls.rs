//! Rule: no call with any arguments harms the kernel or the others.
//!
//! A million calls in all, from two of these at once. They avoid only what would end the fun early:
//! giving away the memory that they run on, their own name and their last slice.
#![no_std]
#![no_main]

use exo_user::abi::calls::CALLS;
use exo_user::abi::layout::{CONTROL, SYSTEM, USER_END};
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::request::{BindRequest, NOBODY};
use exo_user::abi::tables::FrameState;
use exo_user::{
    Call, Capability, CapabilityName, EnvName, Error, FrameNumber, Rights, Start, call, capability,
    contract, environment, frame, println, ring, tables, time,
};
use guest_probes::child::{self, DONATION_MAX};
use guest_probes::ground::{self, DATA, page};
use guest_probes::random::Random;
use guest_probes::rule::{granted, holds, same};

exo_user::program!(main);

/// Pages of the ground that calls play with.
const PLAYGROUND: u64 = 32;
/// The page in which lists are forged.
const FORGE: u64 = page(1000);
/// A page that no call is told of.
const SECRET: u64 = page(2000);
/// How often the playground is put in order.
const ROUND: u64 = 1024;

struct Fuzzer {
    random: Random,
    /// The slice position that is kept.
    position: u64,
    /// Frames that are in use, a bit for each: they are named in no list.
    vital: [u64; 512],
    /// The program's own name.
    name: CapabilityName,
    refused: u64,
}

impl Fuzzer {
    fn new(seed: u64) -> Self {
        let own = contract::name();
        let position = tables::slices().iter().find(|(_, slice)| slice.holder == own.0);
        let mut vital = [0; 512];
        for (number, entry) in tables::frames().iter() {
            let mine = usize::from(entry.owner) == own.index();
            if mine && entry.state == FrameState::Held as u8 {
                vital[number / 64 % 512] |= 1 << (number % 64);
            }
        }
        let position = position.map_or(0, |(position, _)| position as u64);
        let name = child::own_name();
        Self { random: Random::new(seed), position, vital, name, refused: 0 }
    }

    fn frame(&mut self) -> u64 {
        let total = tables::system().frames_total;
        let number = match self.random.below(8) {
            0 => u64::from(FrameNumber::ANY.0),
            1 => self.random.next() as u32 as u64,
            2 => self.random.below(64),
            3 => {
                let behind = page(self.random.below(PLAYGROUND));
                let touched = guest_probes::attempt::read(behind).is_none();
                let frame = touched.then(|| tables::frame_behind(behind)).flatten();
                frame.unwrap_or(FrameNumber::ANY).0.into()
            }
            _ => self.random.below(total),
        };
        let vital = self.vital[number as usize / 64 % 512] >> (number % 64) & 1 != 0;
        if vital { FrameNumber::ANY.0.into() } else { number }
    }

    /// The name of somebody else, of nobody, or of a child.
    fn environment(&mut self) -> u64 {
        let name = match self.random.below(6) {
            0 => self.random.next(),
            1 => NOBODY.0,
            3 => EnvName::NONE.0,
            2 => EnvName::new(self.random.below(80) as u32, self.random.below(4) as u32).0,
            _ => {
                let slot = self.random.below(tables::environments().len() as u64);
                tables::environments().get(slot as usize).unwrap_or_default().name
            }
        };
        if name == contract::name().0 { 1 } else { name }
    }

    /// The address of a page.
    fn page(&mut self) -> u64 {
        let far = [0, USER_END, CONTROL, SYSTEM, 0x8000_0000_0000, 0xffff_8000_0000_0000, u64::MAX];
        match self.random.below(6) {
            0 => self.random.one_of(&far),
            1 => self.random.next() | 1 << 62,
            2 => page(self.random.below(PLAYGROUND)) + self.random.below(PAGE_SIZE),
            3 => page(3000 + self.random.below(1 << 20)),
            _ => page(self.random.below(PLAYGROUND)),
        }
    }

    /// The address of a list: mostly one that was just forged.
    fn list(&mut self) -> u64 {
        if self.random.below(4) == 0 { self.page() } else { FORGE }
    }

    fn count(&mut self) -> u64 {
        match self.random.below(8) {
            0 => self.random.next(),
            1 => self.random.one_of(&[511, 512, 513, 1024, 1025, 1 << 16, 1 << 32, u64::MAX]),
            _ => self.random.below(6),
        }
    }

    /// Any number.
    fn number(&mut self) -> u64 {
        let known = [0, 1, 2, 4, 5, 15, 16, 63, 64, 1 << 31, 1 << 32, 1 << 63, u64::MAX];
        if self.random.below(4) == 0 { self.random.next() } else { self.random.one_of(&known) }
    }

    /// Fills the beginning of the forge with what a call of this number reads.
    fn forge(&mut self, number: u64) {
        let bind = Call::Bind { environment: EnvName::NONE, capability: 0, list: 0, count: 0 };
        let words = 8 + self.random.below(8);
        for index in 0..words {
            let word = if number == bind.pack().number {
                let rights = Rights::from_bits_truncate(self.random.below(16) as u16);
                let slot = self.random.one_of(&[0, 0, 0, 4, 9, u64::from(u32::MAX)]);
                let page = if self.random.below(4) == 0 { self.page() } else { page(index) };
                let frame = FrameNumber(self.frame() as u32);
                let request = BindRequest::new(page, frame, rights, slot as u32);
                if index % 2 == 0 { request.page_and_rights } else { self.frame() | slot << 32 }
            } else {
                self.frame() | self.frame() << 32
            };
            ground::store(FORGE + 8 * index, word);
        }
    }

    /// A request for a child that could be granted, sometimes with a word changed.
    fn forge_request(&mut self) {
        let mut frames = [FrameNumber::ANY; DONATION_MAX];
        let count = tables::system().donation_minimum as usize + 1;
        if frame::allocate(&mut frames[..count], capability::OWN).is_err() {
            return;
        }
        let list = FORGE + 1024;
        for (index, pair) in (0..).zip(frames.chunks_exact(2)) {
            let word = u64::from(pair[0].0) | u64::from(pair[1].0) << 32;
            ground::store(list + 8 * index, word);
        }
        let name = self.name.child(self.random.next() as u8).unwrap_or_default();
        let rights = Rights::READ | Rights::WRITE | Rights::CONTROL | Rights::GRANT;
        let guard = Capability { name, rights }.to_words();
        let words = [list, count as u64, 1, 0, guard[0], guard[1], count as u64 + 4];
        for index in 0..19 {
            let word = words.get(index as usize).copied().unwrap_or(0);
            ground::store(FORGE + 8 * index, word);
        }
        ground::store(FORGE + 8 * 17, u64::from_le_bytes(*b"fuzzed\0\0"));
        if self.random.below(3) == 0 {
            let word = self.number();
            ground::store(FORGE + 8 * self.random.below(19), word);
        }
        let request = FORGE;
        self.perform(Call::EnvironmentCreate { request });
        // What was not donated is given back.
        for frame in &frames[..count] {
            let held = tables::frames().get(frame.0 as usize).unwrap_or_default();
            let own = usize::from(held.owner) == contract::name().index();
            if own && held.state == FrameState::Held as u8 {
                ground::free(&[*frame]);
            }
        }
    }

    fn perform(&mut self, call: Call) {
        // SAFETY: the calls are about the playground, about others and about nobody.
        let result = unsafe { call::give_up(call) };
        if let Err(error) = result {
            self.refused += 1;
            let description = CALLS.get(call.pack().number as usize);
            // A batch that is rolled back is refused with the error of the call that was.
            let of_a_call = matches!(call, Call::Batch { flags, .. } if !flags.is_empty());
            // Who lets others in while it rests may go on because one of them came.
            let entered = error == Error::UnknownCall
                && matches!(call, Call::Yield { keeper, .. } | Call::Sleep { keeper, .. }
                    | Call::Transfer { keeper, .. } if !keeper.is_none());
            let named = description.is_some_and(|text| text.errors.contains(&error));
            let known = of_a_call || entered || named;
            holds(format_args!("{call:x?} gives {error:?}, which its text does not name"), known);
        }
    }

    /// One random call.
    fn step(&mut self) {
        let number = self.random.below(CALLS.len() as u64 + 1);
        if number == (Call::EnvironmentCreate { request: 0 }).pack().number
            && self.random.below(4) == 0
        {
            return self.forge_request();
        }
        self.forge(number);
        let mut registers = (Call::Null {}).pack();
        registers.number = number;
        let description = CALLS.get(number as usize);
        let arguments = description.map_or(&[][..], |description| description.arguments);
        for (place, &(name, _)) in registers.arguments.iter_mut().zip(arguments) {
            *place = match name {
                "environment" | "target" => self.environment(),
                "list" | "address" | "request" => self.list(),
                "page" | "entry" | "stack" => self.page(),
                "count" | "length" => self.count(),
                "until" => self.random.below(time::now() + 10_000),
                "cpu" => self.random.one_of(&[0, 0, 0, 1, 1 << 40]),
                "position" => self.random.below(80),
                "rights" => self.random.below(1 << 10),
                "kind" => self.random.below(6),
                "destination" => 6 + self.random.below(12),
                "capability" | "authority" | "source" => {
                    self.random.one_of(&[0, 0, 0, 1, 2, 3, 4, 5, 6, 15, 16, 1 << 33])
                }
                _ => self.number(),
            };
        }
        match Call::unpack(&registers) {
            Ok(call) => {
                if let Some(call) = self.tame(call) {
                    self.perform(call);
                }
            }
            Err(_) => {
                // SAFETY: it is no call.
                self.refused += u64::from(unsafe { call::raw(registers) }.is_err());
            }
        }
    }

    /// Leaves out what ends the program or makes the rest of its calls be refused.
    fn tame(&mut self, call: Call) -> Option<Call> {
        let own = contract::name();
        Some(match call {
            Call::EnvironmentDestroy { environment, .. }
                if environment.is_none() || environment == own =>
            {
                return None;
            }
            // Ranges of the playground end in it.
            Call::Unbind { environment, capability, page, count } if environment.is_none() => {
                let count = if count <= 1 << 16 { count % PLAYGROUND } else { count };
                Call::Unbind { environment, capability, page, count }
            }
            Call::Protect { environment, capability, page, count, rights }
                if environment.is_none() =>
            {
                let count = if count <= 1 << 16 { count % PLAYGROUND } else { count };
                Call::Protect { environment, capability, page, count, rights }
            }
            Call::Slice { cpu, position, environment: NOBODY, capability } => {
                let kept = u64::from(position) == self.position;
                let position = if kept { position + 1 } else { position };
                Call::Slice { cpu, position, environment: NOBODY, capability }
            }
            // Few are carried out, or the contract would soon be spent.
            Call::Grant { environment, kind, count } if self.random.below(64) != 0 => {
                Call::Grant { environment, kind, count: count | 1 << 40 }
            }
            Call::Donate { list, count } if self.random.below(64) != 0 => {
                Call::Donate { list, count: count | 1 << 40 }
            }
            Call::ConsoleWrite { length, .. } if length <= 1024 => {
                Call::ConsoleWrite { address: FORGE, length: length % 4 }
            }
            other => other,
        })
    }

    /// Looks whether what was never touched is as it was, and fills the playground again.
    fn tidy(&mut self, secret: u64) {
        same("the page that no call was told of", ground::load(SECRET), secret);
        let own = contract::name();
        for (number, entry) in tables::frames().iter() {
            let vital = self.vital[number / 64 % 512] >> (number % 64) & 1 != 0;
            if usize::from(entry.owner) == own.index()
                && entry.state == FrameState::Held as u8
                && entry.pins == 0
                && !vital
            {
                ground::free(&[FrameNumber(number as u32)]);
            }
        }
        for (id, entry) in tables::rings().iter() {
            if entry.holder == own.0 {
                granted("to end a ring", ring::destroy(id as u32));
            }
        }
        for index in 0..PLAYGROUND {
            let Ok(frame) = frame::allocate_any(capability::OWN) else { break };
            if ground::bind(page(index), frame, DATA).is_err() {
                ground::free(&[frame]);
                break;
            }
        }
        for (_, entry) in tables::environments().iter() {
            if entry.parent == own.0 && entry.name != 0 && self.random.below(4) == 0 {
                // One that has ended goes for good, one that lives ends.
                let _ = environment::destroy(EnvName(entry.name), capability::OWN, 1);
            }
        }
    }
}

fn main(start: &Start<'_>) -> u64 {
    guest_probes::attempt::prepare();
    let calls = start.number("calls", 10_000);
    let seed = start.number("seed", start.seed);
    println!("seed {seed}, {calls} calls");
    ground::bound(FORGE, DATA | Rights::WIRED);
    ground::bound(SECRET, DATA | Rights::WIRED);
    ground::store(SECRET, seed);
    // Two of these with one seed make different calls.
    let mut fuzzer = Fuzzer::new(seed ^ contract::name().0);
    for index in 0..calls {
        if index % ROUND == 0 {
            fuzzer.tidy(seed);
        }
        fuzzer.step();
    }
    fuzzer.tidy(seed);
    // Random calls have written to the console too: what is left of their line would break this one.
    println!("\n{calls} calls, {} refused", fuzzer.refused);
    granted("to give way", environment::yield_to(EnvName::NONE));
    0
}
