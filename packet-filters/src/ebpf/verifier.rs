//! The typed pass: "verify or guard".
//!
//! The program is gone through in order, with the state at each place: what each register is (a
//! number, or a pointer into one region) and between which bounds it lies. Where a jump arrives,
//! states are joined. A loop is gone through until the state at its start does not change any more;
//! then the last pass has shown that the states hold for every way through the program. An access
//! that is not shown to be in bounds gets a guard: one comparison before it, and behind it the
//! region is known to be as long as the access needed. Guards of places that are known merge.
//!
//! The work is bounded by [`PASSES`] times the length of the program, whatever the program is.

use super::instruction::{Instruction, MAX_SLOTS, class, decode, operation::*};
use super::profile::{Argument, Helper, MAX_REGIONS, Profile};
use super::range::{EXCHANGED, NEGATED, Range};
use super::refusal::{Reason, Refusal};
use super::state::{Kind, NUMBER, POINTER, STACK, STACK_REGION, State, Value};
use crate::codegen::code::Label;

/// The most slots of a program that jumps may go to.
pub const MAX_TARGETS: usize = 256;

/// How often the program is gone through at most. Nested loops need one pass for each level and
/// two more.
const PASSES: usize = 16;

/// What the verifier and the compiler need while they work: about 270 KiB, to be used for one
/// program after the other.
#[derive(Debug)]
pub struct Workspace {
    slots: [Slot; MAX_SLOTS],
    states: [Option<State>; MAX_TARGETS],
}

/// An instruction, and what was found out about it.
#[derive(Debug)]
pub struct Slot {
    /// The instruction.
    pub instruction: Instruction,
    /// Whether any way leads here.
    pub reached: bool,
    /// Whether an access needs a guard.
    pub guarded: bool,
    /// How long the guard of an access that is always at the same place wants the region to be.
    pub wanted: u32,
    /// The region of an access, or [`STACK_REGION`].
    pub region: u8,
    /// Where in the region, if it is always the same place.
    pub fixed: Option<u32>,
    /// The most that can happen from here without going back, in instructions.
    pub cost: u32,
    /// The index of the state that is joined here, if jumps go here.
    target: Option<u16>,
    /// Where its code begins.
    pub(super) position: usize,
    /// Jumps to it from before.
    pub(super) jumps: Label,
    /// Where it goes if it can't be executed.
    pub(super) trap: Label,
}

/// A program that was verified: it can be compiled.
#[derive(Debug)]
pub struct Verified<'w> {
    /// What it was verified against.
    pub profile: &'w Profile<'w>,
    pub(super) slots: &'w mut [Slot],
}

/// Decodes and verifies a program, in the encoding of RFC 9669 for little-endian machines.
///
/// What comes back holds on to the workspace. The reason for a refusal is the first that is found,
/// not the only one.
pub fn verify<'w>(
    program: &[u8],
    profile: &'w Profile<'w>,
    workspace: &'w mut Workspace,
) -> Result<Verified<'w>, Refusal> {
    let slots = decode(program, &mut workspace.slots)?;
    workspace.states.fill(None);
    let mut verifier = Verifier { profile, slots, states: &mut workspace.states, changed: true };
    verifier.plan()?;
    for _ in 0..PASSES {
        verifier.changed = false;
        verifier.pass()?;
        if !verifier.changed {
            merge_guards(verifier.slots);
            return Ok(Verified { profile, slots: verifier.slots });
        }
    }
    Err(Refusal { at: 0, reason: Reason::TooTangled })
}

impl Workspace {
    /// An empty one, which may be a static's.
    #[expect(clippy::new_without_default, reason = "too large to be made in passing")]
    pub const fn new() -> Self {
        let slots = [const { Slot::new(Instruction::read(&[0; 8])) }; MAX_SLOTS];
        Workspace { slots, states: [None; MAX_TARGETS] }
    }
}

impl Slot {
    #[rustfmt::skip]
    pub(super) const fn new(instruction: Instruction) -> Self {
        let (jumps, trap) = (Label::new(), Label::new());
        Slot {
            instruction, reached: false, guarded: false, wanted: 0, region: 0, fixed: None, cost: 0,
            target: None, position: 0, jumps, trap,
        }
    }
}

impl Verified<'_> {
    /// The instructions and what was found out about each.
    pub fn slots(&self) -> &[Slot] {
        self.slots
    }

    /// The fuel with which the program executes at most `budget` instructions, helpers counting as
    /// what they cost; none if it may need more without going back.
    pub fn fuel(&self, budget: u64) -> Option<u64> {
        budget.checked_sub(self.slots.first()?.cost.into())
    }
}

struct Verifier<'a> {
    profile: &'a Profile<'a>,
    slots: &'a mut [Slot],
    states: &'a mut [Option<State>],
    /// Whether the state at the start of a loop has changed in this pass.
    changed: bool,
}

/// An access to memory.
struct Access {
    region: u8,
    /// The bytes that it may touch, if it passes its guard: from the first, to behind the last.
    bytes: Range,
    /// Whether it touches all of them, and always the same.
    fixed: bool,
}

impl Access {
    /// Whether it is of 8 bytes at a place that is a multiple of 8.
    fn is_word(&self) -> bool {
        self.fixed && self.bytes.min.is_multiple_of(8) && self.bytes.max - self.bytes.min == 8
    }
}

impl<'a> Verifier<'a> {
    /// Finds where jumps go, whether they may, and what each way costs.
    fn plan(&mut self) -> Result<(), Refusal> {
        let mut targets = 0;
        for at in (0..self.slots.len()).rev() {
            let (instruction, next) = (self.instruction(at), self.cost(at + 1));
            let target = instruction.target(at);
            let ahead = target.filter(|target| *target > at).map_or(0, |at| self.cost(at));
            let refuse = |reason| Err(Refusal { at, reason });
            if instruction.goes_back(at) && !self.profile.loops {
                return refuse(Reason::Loop);
            }
            let rest = match (instruction.class(), instruction.operation()) {
                (class::JUMP, EXIT) => 0,
                (class::JUMP | class::NARROW_JUMP, JA) => ahead,
                (class::JUMP, CALL) => match self.helper(&instruction) {
                    Some(helper) => next.saturating_add(helper.cost),
                    None => return refuse(Reason::NoHelper),
                },
                _ => next.max(ahead),
            };
            let cost = rest.saturating_add(u32::from(instruction.code != 0));
            if i32::try_from(cost).is_err() {
                return refuse(Reason::TooCostly);
            }
            if let Some(slot) = self.slots.get_mut(at) {
                slot.cost = cost;
            }
            let slot = target.and_then(|target| self.slots.get_mut(target));
            if let Some(slot) = slot.filter(|slot| slot.target.is_none()) {
                slot.target = Some(targets);
                targets += 1;
            }
            if usize::from(targets) > MAX_TARGETS {
                return refuse(Reason::TooManyTargets);
            }
        }
        Ok(())
    }

    fn instruction(&self, at: usize) -> Instruction {
        self.slots.get(at).map(|slot| slot.instruction).unwrap_or_default()
    }

    fn cost(&self, at: usize) -> u32 {
        self.slots.get(at).map_or(0, |slot| slot.cost)
    }

    fn helper(&self, call: &Instruction) -> Option<&'a Helper> {
        self.profile.helpers.get(usize::try_from(call.immediate).ok()?)?.as_ref()
    }

    /// Goes through the program once.
    fn pass(&mut self) -> Result<(), Refusal> {
        let mut current = Some(State::entry(self.profile));
        for at in 0..self.slots.len() {
            if let Some(saved) = self.saved(at) {
                current.inspect(|state| _ = join(saved, state, false));
                current = *saved;
            }
            let Some(state) = &mut current else { continue };
            if let Some(slot) = self.slots.get_mut(at) {
                slot.reached = true;
            }
            let goes_on = self.step(at, state).map_err(|reason| Refusal { at, reason })?;
            current = current.filter(|_| goes_on);
        }
        let (at, reason) = (self.slots.len(), Reason::EndReached);
        current.map_or(Ok(()), |_| Err(Refusal { at, reason }))
    }

    /// The state that is joined at a slot, if jumps go there.
    fn saved(&mut self, at: usize) -> Option<&mut Option<State>> {
        self.states.get_mut(usize::from(self.slots.get(at)?.target?))
    }

    /// Control may come from slot `at` to its target, in this state.
    fn flow(&mut self, at: usize, instruction: &Instruction, state: &State) {
        let back = instruction.goes_back(at);
        let saved = instruction.target(at).and_then(|target| self.saved(target));
        self.changed |= saved.is_some_and(|saved| join(saved, state, back)) && back;
    }

    /// What an instruction does to the state; whether control may go on behind it.
    fn step(&mut self, at: usize, state: &mut State) -> Result<bool, Reason> {
        let instruction = &self.instruction(at);
        match (instruction.class(), instruction.operation()) {
            (class::CONSTANT, _) if instruction.code == Instruction::CONSTANT => {
                let value = instruction.constant(&self.instruction(at + 1));
                state.set(instruction.to, Value::number(Range::exact(value)));
            }
            (class::CONSTANT, _) => (),
            (class::LOAD, _) => {
                let access = self.access(at, instruction, instruction.from, state)?;
                state.set(instruction.to, loaded(state, &access, instruction)?);
            }
            (class::STORE | class::STORE_CONSTANT, _) => {
                let value = operand(state, instruction)?;
                let access = self.access(at, instruction, instruction.to, state)?;
                store(state, &access, value.kind)?;
            }
            (class::NARROW | class::WIDE, _) => {
                state.set(instruction.to, arithmetic(state, instruction)?);
            }
            (_, JA) => {
                self.flow(at, instruction, state);
                return Ok(false);
            }
            (class::JUMP, CALL) => {
                self.check_arguments(state, instruction)?;
                state.returned();
            }
            (class::JUMP, EXIT) if read(state, 0)?.is_pointer() => {
                return Err(Reason::PointerReturned);
            }
            (class::JUMP, EXIT) => return Ok(false),
            (_, test) => {
                let mut taken = *state;
                branch(&mut taken, instruction, test)?;
                self.flow(at, instruction, &taken);
                branch(state, instruction, NEGATED[usize::from(test & 15)])?;
            }
        }
        Ok(true)
    }

    /// Decides whether an access is allowed, and whether it needs a guard.
    fn access(
        &mut self,
        at: usize,
        instruction: &Instruction,
        base: u8,
        state: &mut State,
    ) -> Result<Access, Reason> {
        let Value { kind: Kind::Pointer(region), range } = read(state, base)? else {
            return Err(Reason::NotAPointer);
        };
        let offset = i64::from(instruction.offset).cast_unsigned();
        let (place, size) = (range.plus(Range::exact(offset)), u64::from(instruction.size()));
        let bounds = self.profile.regions.get(usize::from(region));
        let most = bounds.map_or(STACK, |bounds| bounds.maximum.into());
        if instruction.class() != class::LOAD && bounds.is_some_and(|bounds| !bounds.writable) {
            return Err(Reason::ReadOnly);
        }
        let (first_end, last_end) =
            (place.min.saturating_add(size), place.max.saturating_add(size));
        if first_end > most {
            return Err(Reason::OutOfBounds);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            slot.guarded = last_end > state.known(region);
            slot.region = region;
            slot.fixed = place.value().and_then(|place| u32::try_from(place).ok());
            slot.wanted = first_end as u32;
        }
        state.learn(region, first_end);
        let bytes = Range { min: place.min, max: last_end.min(most) };
        Ok(Access { region, bytes, fixed: bytes.max - bytes.min == size })
    }

    fn check_arguments(&self, state: &State, call: &Instruction) -> Result<(), Reason> {
        let helper = self.helper(call).ok_or(Reason::NoHelper)?;
        let fits = (1..).zip(helper.arguments).all(|(register, argument)| {
            let kind = state.get(register).kind;
            match argument {
                Argument::Nothing => true,
                Argument::Pointer(region) => kind == Kind::Pointer(region),
                _ => matches!(kind, Kind::Number | Kind::Length(_)),
            }
        });
        if fits { Ok(()) } else { Err(Reason::WrongArgument) }
    }
}

/// Lets one guard speak for those of the accesses behind it: as long as all are at known places,
/// nothing that others can see happens in between, and there is no other way to them.
fn merge_guards(slots: &mut [Slot]) {
    const NONE: [Option<&mut Slot>; MAX_REGIONS] = [const { None }; MAX_REGIONS];
    let mut next = NONE;
    for slot in slots.iter_mut().rev() {
        let is_target = slot.target.is_some();
        match slot.instruction.class() {
            class::JUMP | class::NARROW_JUMP => next = NONE,
            class::STORE | class::STORE_CONSTANT if slot.region != STACK_REGION => next = NONE,
            _ => (),
        }
        if slot.guarded
            && slot.fixed.is_some()
            && let Some(next) = next.get_mut(usize::from(slot.region))
        {
            if let Some(covered) = next.take() {
                covered.guarded = false;
                slot.wanted = slot.wanted.max(covered.wanted);
            }
            *next = Some(slot);
        }
        if is_target {
            next = NONE;
        }
    }
}

/// Another way to the same place; says whether that changed anything.
fn join(saved: &mut Option<State>, state: &State, back: bool) -> bool {
    let first = saved.is_none();
    saved.get_or_insert(*state).join(state, back) || first
}

fn read(state: &State, register: u8) -> Result<Value, Reason> {
    let value = state.get(register);
    if value.kind == Kind::Unset { Err(Reason::UnsetRegister) } else { Ok(value) }
}

/// The second operand.
fn operand(state: &State, instruction: &Instruction) -> Result<Value, Reason> {
    let immediate = i64::from(instruction.immediate).cast_unsigned();
    match instruction.source() {
        Some(register) => read(state, register),
        None if instruction.is_wide() => Ok(Value::number(Range::exact(immediate))),
        None => Ok(Value::number(Range::exact(immediate & u64::from(u32::MAX)))),
    }
}

fn arithmetic(state: &State, instruction: &Instruction) -> Result<Value, Reason> {
    let (wide, operation) = (instruction.is_wide(), instruction.operation());
    let right = operand(state, instruction)?;
    let keeps = wide || matches!(right.kind, Kind::Length(_)) && right.range.low() == right.range;
    if operation == MOV && instruction.offset == 0 && keeps {
        return Ok(right);
    }
    let unread = Ok(Value::number(Range::FULL));
    let left = if operation == MOV { unread } else { read(state, instruction.to) }?;
    let range = Range::apply(instruction, left.range, right.range);
    let kind = match (operation, left.kind, right.kind) {
        (ADD | SUB, Kind::Pointer(_), _) if wide && !right.is_pointer() => left.kind,
        (ADD, _, Kind::Pointer(_)) if wide && !left.is_pointer() => right.kind,
        (SUB, Kind::Pointer(a), Kind::Pointer(b)) if wide && a == b => Kind::Number,
        _ if left.is_pointer() || right.is_pointer() => return Err(Reason::PointerArithmetic),
        _ => Kind::Number,
    };
    Ok(Value { kind, range })
}

/// The state behind a branch, where `test` holds.
fn branch(state: &mut State, instruction: &Instruction, test: u8) -> Result<(), Reason> {
    let wide = instruction.is_wide();
    let (left, right) = (read(state, instruction.to)?, operand(state, instruction)?);
    if (left.is_pointer() || right.is_pointer()) && (left.kind != right.kind || !wide) {
        return Err(Reason::PointerArithmetic);
    }
    let exchanged = EXCHANGED[usize::from(test & 15)];
    let narrowed = [
        (Some(instruction.to), left, left.range.narrow(test, wide, right.range)),
        (instruction.source(), right, right.range.narrow(exchanged, wide, left.range)),
    ];
    for (register, value, range) in narrowed {
        let Some(register) = register else { continue };
        state.set(register, Value { range, ..value });
        if let Kind::Length(region) = value.kind {
            state.learn(region, range.min);
        }
    }
    Ok(())
}

/// The value of a load.
fn loaded(state: &State, access: &Access, instruction: &Instruction) -> Result<Value, Reason> {
    if access.region == STACK_REGION {
        let bytes = state.bytes(access.bytes);
        let held = bytes.first().filter(|first| bytes.iter().all(|byte| byte == *first));
        match held {
            Some(&NUMBER) => (),
            Some(held @ POINTER..) if access.is_word() => {
                return Ok(Value { kind: Kind::Pointer(held - POINTER), range: Range::FULL });
            }
            _ => return Err(Reason::UnsetStack),
        }
    }
    let unknown = instruction.is_signed() || instruction.size() == 8;
    let max = if unknown { u64::MAX } else { (1 << (8 * instruction.size())) - 1 };
    Ok(Value::number(Range::up_to(max)))
}

/// A store of a value of this kind.
fn store(state: &mut State, access: &Access, kind: Kind) -> Result<(), Reason> {
    let is_pointer = matches!(kind, Kind::Pointer(_));
    if is_pointer && !(access.is_word() && access.region == STACK_REGION) {
        return Err(Reason::PointerStored);
    }
    if access.region == STACK_REGION {
        if access.fixed {
            state.store(access.bytes, kind);
        } else if state.bytes(access.bytes).iter().any(|byte| *byte >= POINTER) {
            return Err(Reason::PointerOverwritten);
        }
    }
    Ok(())
}
