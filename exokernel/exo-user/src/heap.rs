//! A heap for programs that want no other: buddies over wired frames, taken as they are needed.
//!
//! Its pages are wired and never given back, so it works without handlers; a program that has to
//! answer revocations brings another ([`program!`](crate::program) takes it).

use crate::control::Masked;
use crate::{binding, capability, frame, layout};
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use exo_abi::name::PAGE_SIZE;
use exo_abi::request::BindRequest;
use exo_abi::{Error, FrameNumber, Rights};
use spin::Mutex;

/// How much the heap grows when it must, where the contract allows it.
const CHUNK: u64 = 16 * PAGE_SIZE;
/// Frames asked for in one call.
const BATCH: usize = 64;

/// A global allocator. Events are held back while it works, so that handlers can allocate too.
#[derive(Debug)]
pub struct Heap {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    buddies: buddy_system_allocator::Heap<32>,
    /// The addresses that have never been part of the heap.
    rest: Range<u64>,
}

impl Heap {
    /// A heap without memory, which grows at its first use.
    pub const fn new() -> Self {
        let buddies = buddy_system_allocator::Heap::empty();
        Self { state: Mutex::new(State { buddies, rest: layout::HEAP }) }
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Allocates, and grows the heap where it must: with `bind` (first address, pages), which
    /// returns how many of the pages it has bound.
    ///
    /// # Safety
    /// The pages that `bind` says it has bound are there to stay.
    unsafe fn allocate(
        &mut self,
        layout: Layout,
        mut bind: impl FnMut(u64, u64) -> u64,
    ) -> Option<NonNull<u8>> {
        if let Ok(memory) = self.buddies.alloc(layout) {
            return Some(memory);
        }
        let size = layout.size().max(layout.align()).checked_next_power_of_two()? as u64;
        // If a chunk is too much for the contract, then as much as the block itself.
        for growth in [size.max(CHUNK), size.max(PAGE_SIZE)] {
            // A block lies at a multiple of its size.
            let start = self.rest.start.checked_next_multiple_of(growth)?;
            if start.checked_add(growth).is_none_or(|end| end > self.rest.end) {
                continue;
            }
            let bound = bind(start, growth / PAGE_SIZE) * PAGE_SIZE;
            if bound > 0 {
                self.rest.start = start + bound;
                // SAFETY: the pages were behind the end of the heap and are bound now.
                unsafe { self.buddies.add_to_heap(start as usize, (start + bound) as usize) };
            }
            if let Ok(memory) = self.buddies.alloc(layout) {
                return Some(memory);
            }
        }
        None
    }
}

/// Binds new wired frames from the address `start` on. Returns how many pages it has bound.
fn bind_new(start: u64, pages: u64) -> u64 {
    let mut bound = 0;
    while bound < pages {
        let count = (pages - bound).min(BATCH as u64);
        if bind_batch(start + bound * PAGE_SIZE, count as usize).is_err() {
            break;
        }
        bound += count;
    }
    bound
}

fn bind_batch(start: u64, count: usize) -> Result<(), Error> {
    let mut frames = [FrameNumber::ANY; BATCH];
    let frames = &mut frames[..count];
    frame::allocate(frames, capability::OWN)?;
    let rights = Rights::READ | Rights::WRITE | Rights::WIRED;
    let mut requests = [BindRequest::new(0, FrameNumber(0), rights, capability::OWN); BATCH];
    for ((request, frame), page) in requests.iter_mut().zip(&*frames).zip(0..) {
        *request = BindRequest::new(start + page * PAGE_SIZE, *frame, rights, capability::OWN);
    }
    // SAFETY: the pages are behind the end of the heap; nothing refers to them.
    unsafe { binding::bind(&requests[..count]) }.inspect_err(|_| {
        // SAFETY: the frames were not bound. They are the program's own and not pinned, so that the
        // kernel takes them back.
        let _ = unsafe { frame::free(frames) };
    })
}

// SAFETY: the buddies hand out disjoint blocks with the size and alignment asked for, from pages
// that stay bound.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _masked = Masked::hold();
        // SAFETY: nobody unbinds what `bind_new` has bound.
        unsafe { self.state.lock().allocate(layout, bind_new) }.map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let _masked = Masked::hold();
        if let Some(memory) = NonNull::new(memory) {
            // SAFETY: the caller promises that the block came from `alloc` with this layout.
            unsafe { self.state.lock().buddies.dealloc(memory, layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// A heap of `pages` pages, at a multiple of their size, and the memory behind it.
    fn heap(pages: usize) -> (State, Vec<u8>) {
        let size = pages * PAGE_SIZE as usize;
        let memory = alloc::vec![0; 2 * size];
        let start = (memory.as_ptr() as u64).next_multiple_of(size as u64);
        let rest = start..start + size as u64;
        (State { buddies: buddy_system_allocator::Heap::empty(), rest }, memory)
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn the_heap_grows_by_chunks_and_then_by_what_it_needs() {
        let (mut state, _memory) = heap(64);
        let mut asked = Vec::new();
        let mut contract = 20;
        let mut allocations = 0;
        loop {
            // SAFETY: the pages are part of the vector.
            let memory = unsafe {
                state.allocate(layout(PAGE_SIZE as usize), |_, pages| {
                    asked.push(pages);
                    let bound = if pages <= contract { pages } else { 0 };
                    contract -= bound;
                    bound
                })
            };
            if memory.is_none() {
                break;
            }
            allocations += 1;
        }
        assert_eq!(allocations, 20, "the contract is used up to its last frame");
        assert_eq!(asked[..3], [16, 16, 1]);
    }

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        let (mut state, _memory) = heap(64);
        for _ in 0..10 {
            let mut blocks: Vec<NonNull<u8>> = Vec::new();
            // SAFETY: as above.
            while let Some(block) = unsafe { state.allocate(layout(5000), |_, pages| pages) } {
                blocks.push(block);
            }
            assert_eq!(blocks.len(), 32);
            blocks.sort();
            for pair in blocks.windows(2) {
                assert!(pair[1].addr().get() - pair[0].addr().get() >= 5000);
            }
            for block in blocks {
                // SAFETY: it came from `allocate` with this layout.
                unsafe { state.buddies.dealloc(block, layout(5000)) };
            }
        }
    }

    #[test]
    fn giant_requests_are_refused_without_growth() {
        let (mut state, _memory) = heap(4);
        for size in [1 << 40, isize::MAX as usize - 8] {
            // SAFETY: nothing is bound.
            let memory = unsafe { state.allocate(layout(size), |_, _| panic!("grown")) };
            assert_eq!(memory, None);
        }
    }
}
