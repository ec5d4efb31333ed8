//! The global allocator: buddies over the paged area.
//!
//! The area is many times larger than the contract, and costs nothing until it is touched. Large
//! blocks that are freed lose their contents, so that they are not paged.

use crate::memory::space;
use crate::memory::store::PAGE_SIZE;
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use spin::Mutex;

/// From this size on, pages of a block are forgotten when the block is freed, in bytes.
const LARGE: usize = 16 * PAGE_SIZE;

/// A heap that pages itself. Nothing can be allocated before [`start`](crate::memory::start), and
/// nothing in handlers.
#[derive(Debug)]
pub struct Heap {
    buddies: Mutex<buddy_system_allocator::Heap<40>>,
}

impl Heap {
    /// A heap, which finds its area at its first use.
    pub const fn new() -> Self {
        Self { buddies: Mutex::new(buddy_system_allocator::Heap::empty()) }
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

/// The whole pages inside a block, but for the page in which it starts: a free block keeps its
/// link there.
fn inner_pages(start: u64, size: usize) -> Range<u64> {
    let page = PAGE_SIZE as u64;
    let first = (start + 1).next_multiple_of(page);
    first..first.max((start + size as u64) / page * page)
}

// SAFETY: the buddies hand out disjoint blocks, with the size and alignment asked for, of the paged
// area, which nobody else uses. Interrupting handlers don't allocate, so the lock is never waited
// for.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut buddies = self.buddies.lock();
        if buddies.stats_total_bytes() == 0 {
            let area = space::take_area();
            // SAFETY: the area is handed out once; its pages come when they are touched.
            unsafe { buddies.add_to_heap(area.start as usize, area.end as usize) };
        }
        buddies.alloc(layout).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises the same.
        let memory = unsafe { self.alloc(layout) };
        if memory.is_null() {
            return memory;
        }
        let (start, size) = (memory as u64, layout.size());
        let whole = if size < LARGE { start..start } else { inner_pages(start, size) };
        space::discard(whole.clone());
        let head = if whole.is_empty() { size } else { (whole.start - start) as usize };
        let tail = if whole.is_empty() { 0 } else { (start + size as u64 - whole.end) as usize };
        // SAFETY: both parts are inside the block, which is new.
        unsafe {
            memory.write_bytes(0, head);
            memory.add(size - tail).write_bytes(0, tail);
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(memory) else { return };
        if layout.size() >= LARGE {
            space::discard(inner_pages(memory as u64, layout.size()));
        }
        // SAFETY: the caller promises that the block came from `alloc` with this layout.
        unsafe { self.buddies.lock().dealloc(block, layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_with_the_link_is_no_inner_page() {
        assert_eq!(inner_pages(0x1_0000, 3 * PAGE_SIZE), 0x1_1000..0x1_3000);
        assert_eq!(inner_pages(0x1_0010, 3 * PAGE_SIZE), 0x1_1000..0x1_3000);
        assert_eq!(inner_pages(0x1_0fff, 2), 0x1_1000..0x1_1000);
        assert!(inner_pages(0x1_0000, PAGE_SIZE).is_empty());
        assert!(inner_pages(0x1_0010, 100).is_empty());
    }
}
