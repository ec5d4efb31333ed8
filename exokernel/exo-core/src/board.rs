//! What every CPU uses without a lock: who runs where, and how environments are entered.
//!
//! The kernel's lock is for changes to what environments own. Running them needs no lock:
//!
//! - A *claim* is the right to run an environment. Its state word says who has it: only the CPU
//!   whose number is in a `Running` word may change the rest of the [`EnvCell`] or return to the
//!   environment's code. Claims are taken by one compare-and-exchange, which compares the
//!   generation of the name too, so that a stale name claims nobody.
//! - Who ends an environment sets [`DOOMED`] in the word, so that no claim succeeds any more, and
//!   waits until the CPU that has the claim has let go.
//! - Code without the lock runs with interrupts off and does not wait. Whoever takes a translation
//!   or a table away waits for each CPU on which the address space is current
//!   ([`TranslationCache`](secure_bindings::TranslationCache)), and a CPU answers only outside of
//!   such code. So what is read here cannot vanish while it is used.
//! - A sleeper first says that it sleeps and then looks for events; who posts an event first sets
//!   its bit and then looks for a sleeper. An idle CPU and who makes an environment runnable do the
//!   same with the bitmap of idle CPUs. One of the two always sees the other.

use crate::context::{CONTEXT_WORDS, Context, Frame};
use crate::exposed::Exposed;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use exo_abi::layout::LABEL;
use exo_abi::tables::{ENV_WORDS, EndReason, EnvState, EnvWord, STATISTICS_WORDS, StatisticsWord};
use exo_abi::{EnvName, FrameNumber};
use secure_bindings::{FrameMemory, Page, Tlb};

mod cache;

/// In a state word: the environment is being ended, and nobody may run it any more.
pub(crate) const DOOMED: u64 = 1 << 16;
/// The part of a state word and of a name that is the generation.
pub(crate) const GENERATION: u64 = !0xffff_ffff;
/// In [`CpuCell::current`]: nobody runs.
const NOBODY: u64 = u64::MAX;

/// What running an environment takes: all of it atomic words that only who has the claim writes,
/// or who holds the kernel's lock while nobody can claim the environment. What is public the entry code
/// uses itself.
#[derive(Debug)]
#[repr(align(64))]
pub struct EnvCell<'a> {
    /// The exposed entry; the state and the run time live there.
    pub entry: &'a [AtomicU64; ENV_WORDS],
    /// The frame number of the top-level table.
    pub root: AtomicU64,
    control: AtomicU64,
    /// Where the kernel sees the control page.
    pub control_address: AtomicU64,
    tlb: AtomicU64,
    vectors: AtomicU64,
    /// The CPU in whose registers the vector state is, plus one; 0 when it is in its page.
    pub vectors_on: AtomicU64,
    /// While at rest, having stopped of its own will: the instruction pointer.
    pub rip: AtomicU64,
    /// While at rest: the stack pointer.
    pub rsp: AtomicU64,
    /// While at rest: the flags.
    pub rflags: AtomicU64,
    /// While at rest: what the call returns.
    pub status: AtomicU64,
    /// While at rest: who may enter.
    pub keeper: AtomicU64,
    /// Whether events may be pending: not 0 if any is. Set behind the bit in the control page, and
    /// cleared before that is looked at.
    pub posted: AtomicU64,
    /// The bases of FS and GS while it does not run.
    pub bases: [AtomicU64; 2],
    /// While asleep: when to wake, in nanoseconds since boot.
    pub wake_at: AtomicU64,
    /// While asleep: who gets its slices, or 0.
    pub heir: AtomicU64,
    /// Twice the number of slices overrun in a row, plus 1 if it has been told of a slice's end and
    /// has not yet given the CPU up.
    pub reproach: AtomicU64,
    /// The last page that an upcall was written to, its frame, and the count of breaks up to which
    /// that holds: a translation cache of one entry.
    page: [AtomicU64; 3],
    /// The last leaf table that was looked for, as the address over its span, its frame, and the
    /// count of breaks up to which that holds.
    leaf: [AtomicU64; 3],
    /// A bit for each CPU on which it holds slices.
    pub(crate) homes: AtomicU64,
    /// All registers, when it was stopped by force.
    context: [AtomicU64; CONTEXT_WORDS],
}

impl<'a> EnvCell<'a> {
    /// The cell of a free slot with this exposed entry.
    pub const fn new(entry: &'a [AtomicU64; ENV_WORDS]) -> Self {
        Self {
            entry,
            root: zero(),
            control: zero(),
            control_address: zero(),
            tlb: zero(),
            vectors: zero(),
            vectors_on: zero(),
            rip: zero(),
            rsp: zero(),
            rflags: zero(),
            status: zero(),
            keeper: zero(),
            posted: zero(),
            bases: [const { zero() }; 2],
            wake_at: zero(),
            heir: zero(),
            reproach: zero(),
            page: [const { zero() }; 3],
            leaf: [const { zero() }; 3],
            homes: zero(),
            context: [const { zero() }; CONTEXT_WORDS],
        }
    }

    pub(crate) fn word(&self, word: EnvWord) -> &AtomicU64 {
        &self.entry[word as usize]
    }

    pub(crate) fn expose(&self, word: EnvWord, value: u64) {
        self.word(word).store(value, Relaxed);
    }

    pub(crate) fn count(&self, word: EnvWord, value: u64) {
        add(self.word(word), value);
    }

    /// Clears the exposed entry but for the state, for the slot's next life.
    pub(crate) fn clear(&self, label: &[u8; LABEL]) {
        let rest = |&(word, _): &(usize, _)| word != EnvWord::State as usize;
        self.entry.iter().enumerate().filter(rest).for_each(|(_, word)| word.store(0, Relaxed));
        for (word, bytes) in self.entry[EnvWord::Label as usize..].iter().zip(label.as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Relaxed);
        }
    }

    pub(crate) fn label(&self) -> [u8; LABEL] {
        let [low, high] =
            [0, 1].map(|part| self.entry[EnvWord::Label as usize + part].load(Relaxed));
        (low as u128 | (high as u128) << 64).to_le_bytes()
    }

    #[inline]
    pub(crate) fn state_word(&self) -> u64 {
        self.word(EnvWord::State).load(SeqCst)
    }

    /// The CPU on which it runs.
    pub(crate) fn runs_on(&self) -> Option<usize> {
        let word = self.state_word();
        (word & 0xff == EnvState::Running as u64).then_some((word >> 8) as usize & 0xff)
    }

    /// The name, which a free slot keeps until its next life.
    pub fn name(&self) -> EnvName {
        EnvName(self.word(EnvWord::Name).load(Relaxed))
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.state_word() & 0xff == EnvState::Asleep as u64
    }

    pub(crate) fn run_time(&self) -> u64 {
        self.word(EnvWord::RunTime).load(Relaxed)
    }

    /// The page in which the vector state is kept.
    pub fn vectors(&self) -> FrameNumber {
        FrameNumber(self.vectors.load(Relaxed) as u32)
    }

    pub(crate) fn root(&self) -> FrameNumber {
        FrameNumber(self.root.load(Relaxed) as u32)
    }

    pub(crate) fn tlb(&self) -> Tlb {
        Tlb::from_word(self.tlb.load(Relaxed))
    }

    /// The control page.
    pub fn control<'m, M: FrameMemory>(&self, machine: &'m M) -> &'m Page {
        machine.page(FrameNumber(self.control.load(Relaxed) as u32))
    }

    /// Whether it lets in who has this name, while it is at rest.
    pub(crate) fn lets_in(&self, name: EnvName) -> bool {
        [name, EnvName::ANYBODY].contains(&EnvName(self.keeper.load(Relaxed)))
    }

    /// Takes note of the pages of a new environment. Under the lock.
    pub(crate) fn furnish(
        &self,
        machine: &impl FrameMemory,
        root: FrameNumber,
        tlb: Tlb,
        [control, vectors]: [FrameNumber; 2],
    ) {
        let control_address = machine.page(control).as_ptr().addr() as u64;
        for (word, value) in [
            (&self.root, root.0.into()),
            (&self.tlb, tlb.to_word()),
            (&self.control, control.0.into()),
            (&self.control_address, control_address),
            (&self.vectors, vectors.0.into()),
            (&self.vectors_on, 0),
            (&self.heir, 0),
            (&self.reproach, 0),
            (&self.homes, 0),
            (&self.bases[0], 0),
            (&self.bases[1], 0),
            (&self.page[0], 0),
            (&self.leaf[0], u64::MAX),
            (&self.posted, 0),
        ] {
            word.store(value, Relaxed);
        }
    }

    /// Keeps all registers.
    pub(crate) fn save(&self, context: Context) {
        for (stored, word) in self.context.iter().zip(context.to_words()) {
            stored.store(word, Relaxed);
        }
    }

    pub(crate) fn load_saved(&self, context: &mut Context) {
        *context =
            Context::from_words(core::array::from_fn(|index| self.context[index].load(Relaxed)));
    }

    /// Keeps what an environment needs that stops of its own will: it goes on behind the call, which
    /// then returns 0, or where `keeper` has entered.
    pub(crate) fn rest(&self, frame: &Frame, keeper: u64) {
        self.rip.store(frame.rip, Relaxed);
        self.rsp.store(frame.rsp, Relaxed);
        self.rflags.store(frame.rflags, Relaxed);
        self.status.store(0, Relaxed);
        self.keeper.store(keeper, Relaxed);
        self.reproach.store(0, Relaxed);
    }

    /// Whether it has been told of a slice's end and has not yet given the CPU up.
    pub(crate) fn was_told(&self) -> bool {
        self.reproach.load(Relaxed) & 1 != 0
    }

    pub(crate) fn note_told(&self) {
        self.reproach.store(self.reproach.load(Relaxed) | 1, Relaxed);
    }

    /// Takes note of one more overrun. Returns how many there were in a row.
    pub(crate) fn count_overrun(&self) -> u64 {
        add(&self.reproach, 2);
        self.reproach.load(Relaxed) / 2
    }

    #[inline]
    pub(crate) fn load_rested(&self, context: &mut Context) {
        context.clear();
        context.rip = self.rip.load(Relaxed);
        context.rsp = self.rsp.load(Relaxed);
        context.rflags = self.rflags.load(Relaxed);
        context.rax = self.status.load(Relaxed);
    }

    /// Claims the environment, if it has this name and its state is `from`; otherwise says what word
    /// it has instead.
    #[inline]
    pub(crate) fn claim(&self, cpu: usize, name: EnvName, from: EnvState) -> Result<u64, u64> {
        let generation = name.0 & GENERATION;
        let (old, new) = (generation | from as u64, generation | running(cpu));
        self.word(EnvWord::State).compare_exchange(old, new, Acquire, Relaxed)
    }

    /// Makes a sleeper runnable, and says whether it was one.
    pub(crate) fn wake(&self) -> bool {
        let word = self.state_word();
        let generation = word & GENERATION;
        let (asleep, runnable) =
            (generation | EnvState::Asleep as u64, generation | EnvState::Runnable as u64);
        self.word(EnvWord::State).compare_exchange(asleep, runnable, SeqCst, Relaxed).is_ok()
    }
}

/// What a CPU is doing. Only it writes here, but for what changes under the lock too: the positions, who
/// holds them, and what is owed. What is public the entry code uses itself.
#[derive(Debug)]
#[repr(align(64))]
pub struct CpuCell<'a> {
    pub(crate) number: usize,
    /// Its counters.
    pub statistics: &'a [AtomicU64; STATISTICS_WORDS],
    /// The holders of its slice positions, at most 64.
    pub slices: &'a [AtomicU64],
    /// The slot of who runs.
    pub current: AtomicU64,
    /// The time that each slot has taken from the others here, and that it has not paid.
    pub(crate) owed: &'a [AtomicU64],
    /// Whether one of them may be a slice or more.
    pub owing: AtomicU64,
    /// A bit for each position that somebody holds.
    pub held: AtomicU64,
    /// The position whose slice this is.
    pub position: AtomicU64,
    /// The slot of who holds it, or held it when the slice began, or of the parent if that has ended.
    pub holder: AtomicU64,
    /// When sleepers were looked for last.
    pub(crate) woken: AtomicU64,
    /// Whether the slice has ended and the epilogue runs.
    pub epilogue: AtomicU64,
    /// The instruction and the address of the last fault that a refill has answered, and how many
    /// upcalls its program had received.
    pub(crate) refilled: [AtomicU64; 3],
    /// Since when `current` runs, or nobody does.
    pub since: AtomicU64,
    /// What who runs is to be ended for: the code, and the reason plus one in the low byte.
    verdict: AtomicU64,
    /// Whether all registers of who runs were loaded since the last entry.
    pub(crate) loaded: AtomicU64,
}

impl<'a> CpuCell<'a> {
    /// The CPU with this number, which runs nobody, with its part of the exposed tables. `owed` is a
    /// word for each slot.
    pub const fn new(
        number: usize,
        statistics: &'a [AtomicU64; STATISTICS_WORDS],
        slices: &'a [AtomicU64],
        owed: &'a [AtomicU64],
    ) -> Self {
        Self {
            number,
            statistics,
            slices,
            owed,
            owing: zero(),
            current: AtomicU64::new(NOBODY),
            held: zero(),
            position: zero(),
            holder: zero(),
            woken: zero(),
            epilogue: zero(),
            refilled: [const { zero() }; 3],
            since: zero(),
            verdict: zero(),
            loaded: zero(),
        }
    }

    /// Charges the time since the last charge to an environment, which has run here.
    #[inline]
    pub(crate) fn charge(&self, cell: &EnvCell<'_>, now: u64) {
        let passed = now.saturating_sub(self.since.load(Relaxed));
        self.since.store(now, Relaxed);
        let run_time = cell.run_time().wrapping_add(passed);
        cell.word(EnvWord::RunTime).store(run_time, Relaxed);
    }

    pub(crate) fn count(&self, word: StatisticsWord, value: u64) {
        add(&self.statistics[word as usize], value);
    }

    /// When the slice ends; 0 if nobody has one.
    pub(crate) fn slice_end(&self) -> u64 {
        self.statistics[StatisticsWord::SliceEnd as usize].load(Relaxed)
    }

    pub(crate) fn set_slice_end(&self, at: u64) {
        self.statistics[StatisticsWord::SliceEnd as usize].store(at, Relaxed);
    }

    /// The slot of who runs here.
    pub fn current(&self) -> Option<u16> {
        let slot = self.current.load(Relaxed);
        (slot != NOBODY).then_some(slot as u16)
    }

    /// Whether the registers in the context are all those of who runs. If not, some are still in
    /// the CPU, where the program left them.
    pub fn take_loaded(&self) -> bool {
        let loaded = self.loaded.load(Relaxed) != 0;
        self.loaded.store(0, Relaxed);
        loaded
    }

    pub(crate) fn set_verdict(&self, reason: EndReason, code: u64) {
        self.verdict.store(code << 8 | (reason as u64 + 1), Relaxed);
    }

    pub(crate) fn is_judged(&self) -> bool {
        self.verdict.load(Relaxed) != 0
    }

    fn verdict(&self) -> Option<(EndReason, u64)> {
        let word = self.verdict.load(Relaxed);
        let reason = (word & 0xff).checked_sub(1).and_then(EndReason::from_number)?;
        Some((reason, word >> 8))
    }

    pub(crate) fn take_verdict(&self) -> Option<(EndReason, u64)> {
        let verdict = self.verdict();
        self.verdict.store(0, Relaxed);
        verdict
    }

    pub(crate) fn set_current(&self, slot: Option<u16>) {
        self.current.store(slot.map_or(NOBODY, u64::from), Relaxed);
    }
}

const fn zero() -> AtomicU64 {
    AtomicU64::new(0)
}

/// Adds to a word that nobody else writes.
fn add(word: &AtomicU64, value: u64) {
    word.store(word.load(Relaxed).wrapping_add(value), Relaxed);
}

/// What all CPUs share without a lock.
#[derive(Debug)]
pub struct Board<'a> {
    /// The cells of all slots.
    pub cells: &'a [EnvCell<'a>],
    /// The cells of the CPUs, by number.
    pub cpus: &'a [CpuCell<'a>],
    pub(crate) exposed: Exposed<'a>,
    /// The length of a slice in nanoseconds.
    pub slice: u64,
    /// No sleeper wakes by the clock before this.
    pub next_wake: AtomicU64,
    /// No debt is due before this.
    pub(crate) next_due: AtomicU64,
    /// A bit for each CPU that has nobody to run.
    pub idle: AtomicU64,
    /// How often translations were taken away, from anybody.
    pub(crate) breaks: AtomicU64,
}

impl<'a> Board<'a> {
    /// A board of CPUs that run nobody and of free slots.
    pub const fn new(
        cells: &'a [EnvCell<'a>],
        cpus: &'a [CpuCell<'a>],
        exposed: Exposed<'a>,
        slice: u64,
    ) -> Self {
        Self {
            cells,
            cpus,
            exposed,
            slice,
            next_wake: AtomicU64::new(u64::MAX),
            next_due: AtomicU64::new(u64::MAX),
            idle: zero(),
            breaks: zero(),
        }
    }

    /// Takes note that translations have been taken away. To be called after the tables have changed
    /// and before anybody relies on it.
    pub fn note_break(&self) {
        self.breaks.fetch_add(1, SeqCst);
    }

    /// How often [`note_break`](Self::note_break) was called.
    #[inline]
    pub fn breaks(&self) -> u64 {
        self.breaks.load(SeqCst)
    }

    /// The cell of a slot.
    pub fn cell(&self, slot: u16) -> &EnvCell<'a> {
        &self.cells[slot as usize]
    }
}

/// The state of an environment that runs on a CPU, without its generation.
pub const fn running(cpu: usize) -> u64 {
    EnvState::Running as u64 | (cpu as u64) << 8
}
