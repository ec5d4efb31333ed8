//! A set of filters with its memory and its machine code.

use anyhow::{Context, Result, anyhow};
use filter_language::show;
use memmap2::{Advice, MmapMut};
use packet_filters::{
    Atom, Classifier, Filter, FilterSet, InsertError, Line, Link, Memory, SECRET, Shape, Step,
    code_for, lines_for, verdict,
};

use crate::executable::Executable;

/// The most shapes that a set here may have.
pub const SHAPES: usize = 254;
const LARGE_PAGE: usize = 2 << 20;

/// A part of the code: where it begins, and what it does.
#[derive(Clone, Debug)]
pub struct Part {
    /// Bytes from the start of the code.
    pub at: usize,
    /// What it does.
    pub work: Work,
}

/// What a part of the code does; see [`Step`].
#[derive(Clone, Debug)]
pub enum Work {
    /// A test that everything below has in common.
    Test(Atom),
    /// The filters of one shape.
    Shape {
        /// One of them.
        sample: Filter,
        /// The places of the atoms that differ.
        varies: u16,
        /// Their ids.
        members: Vec<u32>,
        /// Whether they are looked up in the table.
        hashed: bool,
    },
    /// The end of a test.
    End,
}

/// Why a filter was not merged, in words.
#[must_use]
pub fn told(error: InsertError) -> String {
    match error {
        InsertError::Full => "there is no room for another filter".to_owned(),
        InsertError::TooManyShapes => {
            format!("filters look at more than {SHAPES} combinations of bits")
        }
        InsertError::Duplicate(of) => {
            format!("it is the same as the one before with number {of}")
        }
    }
}

/// A set, merged and compiled. The memory is never given back: a tool makes few of them.
pub struct Merged {
    /// The set.
    pub set: FilterSet<'static>,
    code: Vec<u8>,
    executable: Option<Executable>,
}

impl Merged {
    /// An empty set with room for so many filters.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let memory = Memory {
            lines: lines(lines_for(capacity)),
            links: Box::leak(vec![Link::FREE; capacity].into_boxed_slice()),
            shapes: Box::leak(vec![Shape::FREE; SHAPES].into_boxed_slice()),
        };
        // Nobody here is hostile, and figures should not differ from run to run.
        let secret: [u64; SECRET] = std::array::from_fn(|place| {
            (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) | 1
        });
        Self { set: FilterSet::new(memory, &secret), code: Vec::new(), executable: None }
    }

    /// Merges these filters, each of which gets its place in the list as its id.
    ///
    /// # Errors
    /// Two are equal, or there are too many shapes; the message says which filter it is.
    pub fn of<'f>(filters: impl ExactSizeIterator<Item = &'f Filter>) -> Result<Self> {
        let mut merged = Self::new(filters.len());
        for filter in filters {
            let insert = merged.set.insert(filter);
            insert.map_err(|error| anyhow!("cannot merge {}: {}", show(filter), told(error)))?;
        }
        merged.compile()?;
        Ok(merged)
    }

    /// Compiles the set; what each part of the code does.
    ///
    /// # Errors
    /// The system has no memory that can be executed.
    pub fn compile(&mut self) -> Result<Vec<Part>> {
        let mut buffer = vec![0; code_for(SHAPES)];
        let mut steps = Vec::new();
        let mut trace = |at, step: Step<'_>| {
            let (work, first) = match step {
                Step::Test(atom) => (Work::Test(atom), None),
                Step::Shape(shape) => {
                    let (sample, varies, hashed) = (shape.sample, shape.varies, !shape.inline);
                    let work = Work::Shape { sample, varies, members: vec![], hashed };
                    (work, Some((shape.first, shape.members)))
                }
                Step::End => (Work::End, None),
            };
            steps.push((Part { at, work }, first));
        };
        let length = self.set.compile_traced(&mut buffer, &mut trace);
        buffer.truncate(length.map_err(|error| anyhow!("no code: {error:?}"))?);
        let executable = Executable::new(&buffer).context("no memory that can be executed")?;
        self.executable = Some(executable);
        self.code = buffer;
        let parts = steps.into_iter().map(|(mut part, list)| {
            if let (Work::Shape { members, .. }, Some((first, count))) = (&mut part.work, list) {
                *members = self.set.alike(first).take(count as usize).collect();
            }
            part
        });
        Ok(parts.collect())
    }

    /// The machine code.
    #[must_use]
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// The id of the filter that gets a packet, by the machine code.
    #[inline]
    #[must_use]
    pub fn classify(&self, packet: &[u8]) -> Option<u32> {
        let code = self.executable.as_ref()?;
        // SAFETY: the code was emitted for this set and not changed since.
        let classify: Classifier = unsafe { std::mem::transmute(code.start()) };
        // SAFETY: the code reads the packet, which is as long as it says, and the table of the set,
        // which is never freed.
        verdict(unsafe { classify(packet.as_ptr(), packet.len() as u64, self.set.table()) })
    }
}

/// Memory for a table, never given back, on large pages if the system has any: a kernel maps all
/// memory that way.
fn lines(count: usize) -> &'static [Line] {
    let room = (count * size_of::<Line>()).next_multiple_of(LARGE_PAGE) + LARGE_PAGE;
    let map = Box::leak(Box::new(MmapMut::map_anon(room).expect("memory for a table")));
    // Without large pages the table is only slower.
    let _ = map.advise(Advice::HugePage);
    let skip = map.as_ptr().align_offset(LARGE_PAGE);
    // SAFETY: the memory is zero, which is a line without anything, aligned, as long as it is said
    // behind the first large page, and never unmapped.
    unsafe { std::slice::from_raw_parts(map.as_ptr().add(skip).cast::<Line>(), count) }
}
