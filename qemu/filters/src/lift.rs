//! From classic BPF to declarative filters.
//!
//! Every path of a program that accepts is a conjunction of conditions on loads. A condition is a
//! union of masked compares, and so the program a union of filters. Where a value is computed in a
//! way that filters cannot express, the condition on it is left out, so that the filters match more
//! than the program accepts, and the program itself is what remains: the residual.
//!
//! A load that is outside of the packet refuses it, whatever becomes of the value. So a filter has to
//! look as far as the path has loaded, but for the Ethernet header, which is always there. One
//! difference is left: where a mask leaves out the last bytes of a load, a packet that ends there is
//! refused by the program only. Headers that are cut in the middle are nobody's anyway.

use std::collections::BTreeMap;

use packet_filters::{Atom, Filter, FilterError, MAX_SHIFT, Width, contains};

use crate::classic::{Arithmetic, Comparison, MEMORY, Operand, Operation, Program, Source};
use crate::field::{Condition, Field, Header, cover, possible};

/// The most paths that are followed, and the most filters that come out.
const MOST: usize = 2048;
/// The most filters that one path becomes. Exclusions multiply: what is not one address and not
/// another takes 32 by 32 compares, and costs less as a residual.
const PRODUCT: usize = 64;
/// No packet is longer.
const LONGEST: u32 = 65_535;
/// Every packet has so many bytes.
const LINK_HEADER: u32 = 14;

/// What came out.
#[derive(Clone, Debug)]
pub struct Lifted {
    /// Together they match what the program accepts, or more if there are reasons.
    pub filters: Vec<Filter>,
    /// What could not be expressed, and where: the program has to run behind the filters.
    pub residual: Vec<String>,
}

/// A value, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Constant(u32),
    /// `((load & mask) >> right) << left`
    Load {
        field: Field,
        mask: u32,
        shifts: (u32, u32),
    },
    /// The length of some headers, and a constant.
    Headers(Vec<Header>, u32),
    /// Anything else: what it is.
    Other(&'static str),
}

/// The registers at one place of a path.
#[derive(Clone, Debug)]
struct State {
    at: usize,
    a: Value,
    x: Value,
    memory: Vec<Value>,
    /// What has been loaded.
    loads: Vec<Field>,
    /// Why it is not known where else the packet may have been refused.
    doubt: Option<&'static str>,
}

/// One branch that a path took.
#[derive(Clone, Debug)]
struct Step {
    field: Field,
    condition: Condition,
    /// Where the other branch goes.
    other: State,
}

/// A path that has not ended.
#[derive(Clone, Debug)]
struct Path {
    state: State,
    steps: Vec<Step>,
}

/// What happens next.
#[expect(clippy::large_enum_variant, reason = "taken apart as soon as it is made")]
enum Next {
    Go(State),
    /// Accepted or not, or that depends on a value.
    End(Option<bool>),
    Branch {
        condition: Option<(Field, Condition)>,
        taken: State,
        other: State,
    },
}

/// Lifts a program.
#[must_use]
pub fn lift(program: &Program) -> Lifted {
    let mut lifter = Lifter { program, residual: Vec::new(), filters: Vec::new() };
    lifter.all();
    let Lifter { mut residual, filters, .. } = lifter;
    residual.sort();
    residual.dedup();
    Lifted { filters: widest(filters), residual }
}

/// Leaves out what another contains.
fn widest(mut filters: Vec<Filter>) -> Vec<Filter> {
    filters.sort_by_key(Filter::bits);
    let mut kept: Vec<Filter> = Vec::new();
    for filter in filters {
        if !kept.iter().any(|wider| contains(wider, &filter)) {
            kept.push(filter);
        }
    }
    kept
}

struct Lifter<'p> {
    program: &'p Program,
    residual: Vec<String>,
    filters: Vec<Filter>,
}

impl Lifter<'_> {
    fn all(&mut self) {
        let zero = Value::Constant(0);
        let memory = vec![zero.clone(); MEMORY];
        let (a, x) = (zero.clone(), zero);
        let state = State { at: 0, a, x, memory, loads: Vec::new(), doubt: None };
        let mut open = vec![Path { state, steps: Vec::new() }];
        let mut paths = 0;
        while let Some(mut path) = open.pop() {
            match self.step(&path.state) {
                Next::Go(state) => {
                    path.state = state;
                    open.push(path);
                }
                Next::End(Some(false)) => {}
                Next::End(_) => {
                    paths += 1;
                    self.accept(path);
                }
                Next::Branch { condition: None, taken, other } => {
                    open.push(Path { state: other, ..path.clone() });
                    open.push(Path { state: taken, ..path });
                }
                Next::Branch { condition: Some((field, condition)), taken, other } => {
                    for (condition, state, sibling) in
                        [(condition.negated(), &other, &taken), (condition, &taken, &other)]
                    {
                        if let Some(next) = follow(&path, &field, condition, state, sibling) {
                            open.push(next);
                        }
                    }
                }
            }
            if paths + open.len() > MOST || self.filters.len() > MOST {
                self.residual.push(format!("more than {MOST} ways through the program"));
                self.filters = vec![Filter::ANY];
                return;
            }
        }
    }

    /// Executes one instruction with what is known.
    fn step(&mut self, state: &State) -> Next {
        let instruction = self.program.instructions()[state.at];
        let k = instruction.k;
        let mut next = State { at: state.at + 1, ..state.clone() };
        let operand =
            |operand| if operand == Operand::K { Value::Constant(k) } else { next.x.clone() };
        let refused = Next::End(Some(false));
        let Ok(operation) = instruction.operation() else { return refused };
        match operation {
            Operation::Load(source) | Operation::LoadIndex(source) => {
                let Some((value, load)) = read(source, k, state) else { return refused };
                next.loads.extend(load);
                if value == ANYWHERE {
                    next.doubt = Some("a load at a place that is computed");
                }
                let is_index = matches!(operation, Operation::LoadIndex(_));
                *(if is_index { &mut next.x } else { &mut next.a }) = value;
            }
            Operation::Store => next.memory[k as usize] = state.a.clone(),
            Operation::StoreIndex => next.memory[k as usize] = state.x.clone(),
            Operation::Compute(arithmetic, with) => {
                let (with, divides) = (operand(with), arithmetic.divides());
                match with {
                    Value::Constant(0) if divides => return refused,
                    Value::Constant(_) => {}
                    _ if divides => next.doubt = Some("a division by what may be zero"),
                    _ => {}
                }
                next.a = compute(arithmetic, &state.a, &with);
            }
            Operation::Jump => next.at += k as usize,
            Operation::ToIndex => next.x = state.a.clone(),
            Operation::FromIndex => next.a = state.x.clone(),
            Operation::Return => return Next::End(Some(k != 0)),
            Operation::ReturnAccumulator => match state.a {
                Value::Constant(value) => return Next::End(Some(value != 0)),
                _ => {
                    self.residual.push(format!("instruction {}: returns a value", state.at));
                    return Next::End(None);
                }
            },
            Operation::Branch(comparison, with) => {
                let with = operand(with);
                let to = |skip: u8| State { at: state.at + 1 + usize::from(skip), ..state.clone() };
                let (taken, other) = (to(instruction.jt), to(instruction.jf));
                if let (Value::Constant(a), Value::Constant(b)) = (&state.a, &with) {
                    return Next::Go(if comparison.holds(*a, *b) { taken } else { other });
                }
                let condition = self.condition(state, comparison, &with);
                return Next::Branch { condition, taken, other };
            }
        }
        Next::Go(next)
    }

    /// The condition of a branch, or why there is none.
    fn condition(
        &mut self,
        state: &State,
        comparison: Comparison,
        with: &Value,
    ) -> Option<(Field, Condition)> {
        let why = match (&state.a, with) {
            (Value::Load { field, mask, shifts }, Value::Constant(constant)) => {
                let (mask, shifts, constant) = (*mask, *shifts, *constant);
                let condition = Condition { mask, shifts, comparison, constant, holds: true };
                return Some((field.clone(), condition));
            }
            (Value::Other(why), _) | (_, Value::Other(why)) => why,
            (Value::Headers(..), _) => "the length of a header is compared",
            _ => "two loads are compared with each other",
        };
        self.residual.push(format!("instruction {}: {why}", state.at));
        None
    }

    /// Turns a path that accepts into filters.
    fn accept(&mut self, mut path: Path) {
        self.drop_needless(&mut path);
        self.residual.extend(path.state.doubt.map(str::to_owned));
        let fields = by_field(&path.steps);
        let mut unions: Vec<Vec<Atoms>> = vec![vec![Atoms::default()]];
        for (field, conditions) in &fields {
            match cover(field.width, conditions, PRODUCT) {
                Some(covers) => unions.push(
                    covers.iter().map(|(mask, value)| Atoms::of(field, *mask, *value)).collect(),
                ),
                None => self.residual.push(format!(
                    "a condition on {} bytes at {} that takes more than {PRODUCT} compares",
                    field.width, field.offset
                )),
            }
        }
        let product = unions.iter().map(Vec::len).product::<usize>();
        if product > PRODUCT {
            self.residual
                .push(format!("a conjunction that takes {product} filters, more than {PRODUCT}"));
            unions.retain(|union| union.len() == 1);
        }
        let mut conjunctions = vec![Atoms::default()];
        for union in &unions {
            conjunctions = conjunctions
                .iter()
                .flat_map(|left| union.iter().map(|right| left.and(right)))
                .collect();
        }
        for conjunction in conjunctions {
            let short = path.state.loads.iter().find(|load| !conjunction.reaches(load));
            self.residual.extend(short.map(|load| {
                format!("a load of {} bytes at {} that is not compared", load.width, load.offset)
            }));
            self.add(conjunction);
        }
    }

    fn add(&mut self, mut atoms: Atoms) {
        loop {
            match atoms.filter() {
                Ok(filter) => return self.filters.push(filter),
                Err(Problem::Impossible) => return,
                Err(Problem::TooMuch(why)) => {
                    self.residual.push(why);
                    if atoms.compares.pop().is_none() {
                        return self.filters.push(Filter::ANY);
                    }
                }
            }
        }
    }

    /// Leaves out conditions without which the packet is accepted on another path anyway, so that
    /// alternatives need not exclude each other. From the last to the first: what is left out early
    /// was shown to be needless whatever the later ones are.
    fn drop_needless(&mut self, path: &mut Path) {
        let reasons = self.residual.len();
        for place in (0..path.steps.len()).rev() {
            let mut rest = path.steps.clone();
            let step = rest.remove(place);
            let condition = step.condition.negated();
            let facts = [&rest[..], &[Step { condition, ..step.clone() }]].concat();
            if let Some(loads) = self.surely_accepts(step.other.clone(), &facts)
                && path.state.loads.iter().chain(&loads).all(|load| reach(&rest, load))
            {
                path.steps = rest;
            }
        }
        self.residual.truncate(reasons);
    }

    /// If every packet for which the facts hold is accepted from here, as long as it reaches as far
    /// as is loaded: what is loaded.
    fn surely_accepts(&mut self, mut state: State, facts: &[Step]) -> Option<Vec<Field>> {
        loop {
            state = match self.step(&state) {
                Next::Go(state) => state,
                Next::End(accepted) => {
                    let sure = accepted == Some(true) && state.doubt.is_none();
                    return sure.then_some(state.loads);
                }
                Next::Branch { condition: None, .. } => return None,
                Next::Branch { condition: Some((field, condition)), taken, other } => {
                    let about = facts.iter().filter(|fact| fact.field == field);
                    let known: Vec<Condition> = about.map(|fact| fact.condition).collect();
                    let can =
                        |condition| possible(field.width, &[&known[..], &[condition]].concat());
                    match (can(condition), can(condition.negated())) {
                        (true, false) => taken,
                        (false, true) => other,
                        _ => return None,
                    }
                }
            };
        }
    }
}

/// The path that goes on to one side of a branch, if any packet does.
fn follow(
    path: &Path,
    field: &Field,
    condition: Condition,
    to: &State,
    other: &State,
) -> Option<Path> {
    let about = path.steps.iter().filter(|step| step.field == *field);
    let mut conditions: Vec<Condition> = about.map(|step| step.condition).collect();
    conditions.push(condition);
    if !possible(field.width, &conditions) {
        return None;
    }
    let mut steps = path.steps.clone();
    steps.push(Step { field: field.clone(), condition, other: other.clone() });
    Some(Path { state: to.clone(), steps })
}

/// The conditions on each field.
fn by_field(steps: &[Step]) -> BTreeMap<&Field, Vec<Condition>> {
    let mut fields: BTreeMap<&Field, Vec<Condition>> = BTreeMap::new();
    for step in steps {
        fields.entry(&step.field).or_default().push(step.condition);
    }
    fields
}

/// Whether a packet that meets these conditions is sure to reach the first byte of this.
fn reach(steps: &[Step], load: &Field) -> bool {
    Atoms::default().reaches(load)
        || by_field(steps).iter().any(|(field, conditions)| {
            let covers = cover(field.width, conditions, PRODUCT).unwrap_or_default();
            let reaches = |(mask, _): &(u32, u32)| Atoms::of(field, *mask, 0).reaches(load);
            !covers.is_empty() && covers.iter().all(reaches)
        })
}

/// What is loaded from where nobody knows.
const ANYWHERE: Value = Value::Other("a load at a place that is computed");

/// What a load gives, and what is loaded for that if it is known; nothing if no packet is so long.
fn read(source: Source, k: u32, state: &State) -> Option<(Value, Option<Field>)> {
    let load = |base: &[Header], offset: u32, width: u8| {
        let field = Field { base: base.to_vec(), offset, width };
        let mask = u32::MAX >> (32 - 8 * u32::from(width));
        (Value::Load { field: field.clone(), mask, shifts: (0, 0) }, Some(field))
    };
    let within = |offset: &u32| *offset <= LONGEST;
    let known = match source {
        Source::Immediate => (Value::Constant(k), None),
        Source::Memory => (state.memory[k as usize].clone(), None),
        Source::Length => (Value::Other("the length of the packet"), None),
        Source::Absolute(width) => load(&[], Some(k).filter(within)?, width),
        Source::Header => {
            let headers = vec![Header { offset: k, mask: 0x0f, shift: 2 }];
            (Value::Headers(headers, 0), load(&[], Some(k).filter(within)?, 1).1)
        }
        Source::Indirect(width) => {
            let header;
            let (base, more) = match &state.x {
                Value::Constant(x) => (&[][..], *x),
                Value::Headers(headers, more) => (&headers[..], *more),
                value => match as_header(value) {
                    Some(([], found)) => {
                        header = [found];
                        (&header[..], 0)
                    }
                    _ => return Some((ANYWHERE, None)),
                },
            };
            match more.checked_add(k).filter(within) {
                Some(offset) => load(base, offset, width),
                None if base.is_empty() => return None,
                // The header's length may make it small again.
                None => (ANYWHERE, None),
            }
        }
    };
    Some(known)
}

/// A loaded byte as the length of a header: the base it was loaded from, and the header.
fn as_header(value: &Value) -> Option<(&[Header], Header)> {
    let Value::Load { field, mask, shifts: (0, left) } = value else { return None };
    let mask = u8::try_from(*mask).ok()?;
    let shift = u8::try_from(*left).ok().filter(|left| *left <= MAX_SHIFT)?;
    let last = field.offset + u32::from(field.width) - 1;
    Some((&field.base, Header { offset: last, mask, shift }))
}

/// The result of an operation.
fn compute(arithmetic: Arithmetic, a: &Value, b: &Value) -> Value {
    if let (Value::Constant(a), Value::Constant(b)) = (a, b) {
        return arithmetic
            .apply(*a, *b)
            .map_or(Value::Other("a division by zero"), Value::Constant);
    }
    if arithmetic == Arithmetic::Add {
        return add(a, b).or_else(|| add(b, a)).unwrap_or(Value::Other("a sum"));
    }
    let (Value::Load { field, mask, shifts: (right, left) }, Value::Constant(k)) = (a, b) else {
        return Value::Other("a value that is computed");
    };
    let made = |mask, shifts| Value::Load { field: field.clone(), mask, shifts };
    let power = k.is_power_of_two().then(|| k.trailing_zeros());
    match (arithmetic, power) {
        (Arithmetic::And, _) => {
            let kept = k.checked_shr(*left).and_then(|k| k.checked_shl(*right)).unwrap_or(0);
            // Bits that were shifted out stay out.
            let out = u32::MAX.checked_shl(*right).unwrap_or(0);
            made(mask & kept & out, (*right, *left))
        }
        (Arithmetic::ShiftRight, _) if *left == 0 => made(*mask, (right.saturating_add(*k), 0)),
        (Arithmetic::Divide, Some(bits)) if *left == 0 => made(*mask, (right + bits, 0)),
        (Arithmetic::ShiftLeft, _) if *k < 32 => {
            made(*mask, shifted_left(*mask, *right, *left, *k))
        }
        (Arithmetic::Multiply, Some(bits)) => made(*mask, shifted_left(*mask, *right, *left, bits)),
        _ => Value::Other("a value that is computed"),
    }
}

/// The shifts after another to the left. One to the right before it is undone as far as no bits are
/// lost.
fn shifted_left(mask: u32, right: u32, left: u32, by: u32) -> (u32, u32) {
    let undone = if mask.trailing_zeros() >= right { right.min(by) } else { 0 };
    (right - undone, left + by - undone)
}

fn add(a: &Value, b: &Value) -> Option<Value> {
    match (a, b) {
        (Value::Headers(headers, more), Value::Constant(k)) => {
            Some(Value::Headers(headers.clone(), more.wrapping_add(*k)))
        }
        (Value::Headers(headers, more), Value::Load { .. }) => {
            let (base, header) = as_header(b)?;
            let next = || Value::Headers([base, &[header]].concat(), *more);
            (base == headers).then(next)
        }
        (Value::Load { .. }, Value::Constant(k)) => {
            let (base, header) = as_header(a)?;
            base.is_empty().then(|| Value::Headers(vec![header], *k))
        }
        _ => None,
    }
}

/// A conjunction before it is a filter: the compares behind each header.
#[derive(Clone, Debug, Default)]
struct Atoms {
    compares: Vec<(Field, u32, u32)>,
}

/// Why a conjunction is no filter.
enum Problem {
    /// No packet meets it.
    Impossible,
    /// It is more than a filter can say.
    TooMuch(String),
}

impl Atoms {
    fn of(field: &Field, mask: u32, value: u32) -> Self {
        Self { compares: vec![(field.clone(), mask, value)] }
    }

    fn and(&self, other: &Self) -> Self {
        Self { compares: [&self.compares[..], &other.compares[..]].concat() }
    }

    /// Whether a packet that it matches is sure to reach the first byte of this.
    fn reaches(&self, load: &Field) -> bool {
        load.base.is_empty() && load.offset + u32::from(load.width) <= LINK_HEADER
            || self.compares.iter().filter(|(_, mask, _)| *mask != 0).any(|(field, mask, _)| {
                let unread = mask.trailing_zeros() / 8;
                let last = field.offset + u32::from(field.width) - unread;
                let headers = field.base.iter().enumerate().map(|(at, h)| (at, h.offset + 1));
                let behind = field.base.starts_with(&load.base);
                let mut ends = headers.chain([(field.base.len(), last)]);
                behind && ends.any(|(level, end)| level >= load.base.len() && end > load.offset)
            })
    }

    /// The filter. Bases come in the order of their headers, since one is the start of the next.
    fn filter(&self) -> Result<Filter, Problem> {
        let mut compares: Vec<&(Field, u32, u32)> =
            self.compares.iter().filter(|(_, mask, _)| *mask != 0).collect();
        compares.sort_by_key(|(field, ..)| field.base.len());
        let (mut atoms, mut base) = (Vec::new(), &[][..]);
        for (field, mask, value) in compares {
            let Some(more) = field.base.strip_prefix(base) else {
                return Err(Problem::TooMuch("headers of two kinds in one conjunction".to_owned()));
            };
            for header in more {
                let offset = narrow(header.offset)?;
                atoms.push(Atom::Shift { offset, mask: header.mask, shift: header.shift });
            }
            base = &field.base;
            let Some(width) = Width::from_bytes(field.width.into()) else {
                return Err(Problem::Impossible);
            };
            let offset = narrow(field.offset)?;
            atoms.push(Atom::Compare { offset, width, mask: *mask, value: *value });
        }
        filter_language::filter(&atoms).map_err(|error| match error {
            FilterError::Contradiction(_) => Problem::Impossible,
            other => Problem::TooMuch(filter_language::explain(other).to_string()),
        })
    }
}

fn narrow(offset: u32) -> Result<u16, Problem> {
    u16::try_from(offset).map_err(|_| Problem::TooMuch(format!("offset {offset}")))
}
