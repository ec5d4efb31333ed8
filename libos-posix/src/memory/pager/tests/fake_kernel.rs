//! A kernel that forgets bindings and takes frames.

use super::*;

struct FakeFrame {
    held: bool,
    generation: u32,
    contents: *mut PageBytes,
}

/// Frames, bindings and an account.
pub(super) struct FakeKernel {
    frames: Vec<FakeFrame>,
    /// The frame, the rights now, and those with which it was bound.
    pub(super) bindings: BTreeMap<PageIndex, (HeldFrame, Access, Access)>,
    /// Calls that change rights.
    pub(super) calls: u64,
    pub(super) used: BTreeSet<PageIndex>,
    pub(super) steps: u64,
    pub(super) blocks: BTreeMap<u32, HeldFrame>,
    pub(super) limit: u64,
    pub(super) unread: u64,
    /// The surrender list.
    pub(super) listed: BTreeMap<u8, HeldFrame>,
}

impl FakeKernel {
    pub(super) fn new(frames: usize) -> Self {
        let frame = || FakeFrame {
            held: false,
            generation: 0,
            contents: Box::leak(Box::new([0xdd; PAGE_SIZE])),
        };
        Self {
            frames: (0..frames).map(|_| frame()).collect(),
            bindings: BTreeMap::new(),
            calls: 0,
            used: BTreeSet::new(),
            steps: 0,
            blocks: BTreeMap::new(),
            limit: frames as u64,
            unread: 0,
            listed: BTreeMap::new(),
        }
    }

    pub(super) fn held(&self) -> u64 {
        self.frames.iter().filter(|frame| frame.held).count() as u64
    }

    pub(super) fn contents(&mut self, frame: HeldFrame) -> &'static mut PageBytes {
        // SAFETY: the memory is never freed, and the pager uses one reference to it at a time.
        unsafe { &mut *self.frames[frame.number.0 as usize].contents }
    }

    /// Ends a frame's life, as the kernel does when it is freed or repossessed.
    pub(super) fn end(&mut self, frame: HeldFrame) {
        assert!(self.holds(frame));
        self.contents(frame).fill(0xdd);
        let entry = &mut self.frames[frame.number.0 as usize];
        entry.held = false;
        entry.generation += 1;
        self.bindings.retain(|_, bound| bound.0 != frame);
    }

    fn checked(&self, frame: HeldFrame) -> Result<(), BindError> {
        if self.holds(frame) { Ok(()) } else { Err(BindError::FrameGone) }
    }
}

impl Usage for FakeKernel {
    fn take_accessed(&mut self, resident: &Resident) -> bool {
        self.used.remove(&resident.page)
    }

    fn run_time(&self) -> u64 {
        self.steps
    }
}

impl Kernel for FakeKernel {
    fn allocate(&mut self) -> Option<HeldFrame> {
        if self.held() >= self.limit {
            return None;
        }
        let index = self.frames.iter().position(|frame| !frame.held)?;
        self.frames[index].held = true;
        let number = FrameNumber(index as u32);
        let frame = HeldFrame { number, generation: self.frames[index].generation };
        self.contents(frame).fill(0);
        Some(frame)
    }

    fn free(&mut self, frames: &[HeldFrame]) {
        assert!(frames.len() <= BATCH);
        for &frame in frames {
            if self.holds(frame) {
                self.end(frame);
            }
        }
    }

    fn holds(&self, frame: HeldFrame) -> bool {
        let entry = &self.frames[frame.number.0 as usize];
        entry.held && entry.generation == frame.generation
    }

    fn bind(&mut self, page: PageIndex, frame: HeldFrame, access: Access) -> Result<(), BindError> {
        self.checked(frame)?;
        self.bindings.insert(page, (frame, access, access));
        self.used.remove(&page);
        Ok(())
    }

    fn unbind(&mut self, page: PageIndex) {
        self.bindings.remove(&page);
    }

    /// As the kernel: within the rights with which all of the pages were bound, or not at all.
    fn protect(&mut self, pages: Range<u32>, access: Access) {
        self.calls += 1;
        let pages = pages.map(PageIndex);
        let changes = |page| self.bindings.get(&page).is_some_and(|bound| bound.2 >= access);
        if pages.clone().all(changes) {
            pages.for_each(|page| self.bindings.get_mut(&page).unwrap().1 = access);
        } else {
            pages.for_each(|page| self.unbind(page));
        }
    }

    fn window(&mut self, frame: HeldFrame) -> Result<&mut PageBytes, BindError> {
        self.checked(frame)?;
        Ok(self.contents(frame))
    }

    fn lend(&mut self, block: u32, frame: HeldFrame) -> Result<&'static mut PageBytes, BindError> {
        self.checked(frame)?;
        assert_eq!(self.blocks.insert(block, frame), None);
        Ok(self.contents(frame))
    }

    fn take_back(&mut self, block: u32) {
        assert!(self.blocks.remove(&block).is_some());
    }

    fn list(&mut self, place: u8, frame: Option<HeldFrame>) {
        match frame {
            Some(frame) => assert_eq!(self.listed.insert(place, frame), None),
            None => drop(self.listed.remove(&place)),
        }
    }

    fn debt(&self) -> u64 {
        self.held().saturating_sub(self.limit)
    }

    fn read_losses(&mut self) -> u64 {
        core::mem::take(&mut self.unread)
    }
}
