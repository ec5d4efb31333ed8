//! The hoard: pages full of a pattern, and the frames behind them.

use crate::fault::{self, Gone};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::request::BindRequest;
use exo_user::loss::Reader;
use exo_user::{Error, FrameNumber, Rights, binding, capability, frame, layout};

const WORDS: usize = PAGE_SIZE as usize / 8;
/// How many lost frames are named in one line.
const NAMED: usize = 6;

/// Pages from [`layout::FREE`] on, each with the frame behind it, if there is one.
#[derive(Debug)]
pub(crate) struct Hoard {
    frames: Vec<Option<FrameNumber>>,
}

/// What was lost since the last comparison.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Pages that are gone.
    pub(crate) lost: u64,
    /// Frames that the record names.
    pub(crate) told: u64,
    first: [u32; NAMED],
    hash: u64,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (self.told as usize).min(NAMED);
        write!(f, "{} frames gone, {} told: {:?}", self.lost, self.told, &self.first[..shown])?;
        write!(f, "{} hash {:#x}", if self.told as usize > NAMED { "…" } else { "" }, self.hash)
    }
}

/// What is told and what is there do not agree.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mismatch {
    /// A page is gone, and the record does not name its frame.
    NotTold(FrameNumber),
    /// The record names a frame, and its page is still there.
    StillThere(FrameNumber),
    /// The record names a frame that was not this program's.
    NeverHeld(FrameNumber),
    /// A page does not hold what was put there.
    Changed(FrameNumber),
    /// The kernel refuses something that it must grant.
    Refused(Error),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTold(frame) => write!(f, "frame {} is lost and not told", frame.0),
            Self::StillThere(frame) => write!(f, "frame {} is told and not lost", frame.0),
            Self::NeverHeld(frame) => write!(f, "frame {} is told and never was here", frame.0),
            Self::Changed(frame) => write!(f, "frame {} has changed", frame.0),
            Self::Refused(error) => write!(f, "the kernel refuses: {error:?}"),
        }
    }
}

/// The word of the pattern: SplitMix64 over its place.
fn pattern(page: usize, word: usize) -> u64 {
    let mut value = ((page * WORDS + word) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

fn address(page: usize) -> u64 {
    layout::FREE.start + page as u64 * PAGE_SIZE
}

fn bind(page: usize, frame: FrameNumber) -> Result<(), Error> {
    let rights = Rights::READ | Rights::WRITE;
    let request = BindRequest::new(address(page), frame, rights, capability::OWN);
    // SAFETY: nothing refers to the page: `fault` copies to it and from it.
    unsafe { binding::bind(&[request]) }
}

impl Hoard {
    /// A hoard of `count` pages without frames.
    pub(crate) fn new(count: usize) -> Self {
        Self { frames: vec![None; count] }
    }

    /// Takes a frame for every page that has none and fills it, as far as the contract goes.
    /// Returns how many frames there are then.
    pub(crate) fn fill(&mut self) -> usize {
        for page in 0..self.frames.len() {
            if self.frames[page].is_some() {
                continue;
            }
            let Ok(frame) = frame::allocate_any(capability::OWN) else { break };
            // From now on the frame can be taken and told, whether or not it is full yet.
            self.frames[page] = Some(frame);
            let mut words = [0; WORDS];
            for (word, value) in words.iter_mut().enumerate() {
                *value = pattern(page, word);
            }
            let filled = bind(page, frame).is_ok() && fault::write(address(page), &words).is_ok();
            // SAFETY: nothing refers to the page. A frame that was taken cannot be freed: it stays
            // here until the record tells of it.
            if !filled && unsafe { frame::free(&[frame]) }.is_ok() {
                self.frames[page] = None;
            }
        }
        self.held()
    }

    /// How many frames there are.
    pub(crate) fn held(&self) -> usize {
        self.frames.iter().flatten().count()
    }

    /// Reads a page into `words`; binds it anew if the software TLB has dropped it.
    fn read(&self, page: usize, words: &mut [u64; WORDS]) -> Result<(), Gone> {
        let result = fault::read(address(page), words);
        match (result, self.frames[page]) {
            (Err(Gone::Unbound), Some(frame)) => {
                bind(page, frame).map_err(|_| Gone::Lost)?;
                fault::read(address(page), words)
            }
            _ => result,
        }
    }

    /// Compares the record of losses with the pages.
    ///
    /// The pages are read first and the record afterwards, so that every page which was found lost
    /// must be told. Frames that were told but not yet found lost went in between: their pages are
    /// read again.
    pub(crate) fn compare(&mut self, record: &mut Reader) -> Result<Round, Mismatch> {
        let mut words = [0; WORDS];
        let mut gone = vec![false; self.frames.len()];
        for ((page, frame), gone) in self.frames.iter().enumerate().zip(&mut gone) {
            if let Some(frame) = *frame {
                *gone = self.read(page, &mut words).is_err();
                if !*gone && !intact(page, &words) {
                    return Err(Mismatch::Changed(frame));
                }
            }
        }
        let mut told = Vec::new();
        record.frames(|frame| told.push(frame)).map_err(Mismatch::Refused)?;
        told.sort();
        told.dedup();
        let mut round = Round::default();
        for frame in told {
            self.strike(frame, &mut gone, &mut round)?;
        }
        match gone.iter().position(|&gone| gone).and_then(|page| self.frames[page]) {
            Some(frame) => Err(Mismatch::NotTold(frame)),
            None => Ok(round),
        }
    }

    /// Strikes the pages that were lost with a frame. There can be more than one: a frame that was
    /// taken may have been free again when another page was filled, and so be held once more.
    fn strike(
        &mut self,
        frame: FrameNumber,
        gone: &mut [bool],
        round: &mut Round,
    ) -> Result<(), Mismatch> {
        let mut words = [0; WORDS];
        let (mut held, before) = (false, round.lost);
        for (page, gone) in gone.iter_mut().enumerate() {
            if self.frames[page] == Some(frame) {
                held = true;
                if *gone || self.read(page, &mut words).is_err() {
                    *gone = false;
                    self.frames[page] = None;
                    round.note(frame);
                }
            }
        }
        match (held, round.lost > before) {
            (_, true) => Ok(()),
            (true, false) => Err(Mismatch::StillThere(frame)),
            (false, false) => Err(Mismatch::NeverHeld(frame)),
        }
    }

    /// The sum over all words of all pages that are left, each checked.
    pub(crate) fn checksum(&self) -> Result<u64, Mismatch> {
        let mut words = [0; WORDS];
        let mut sum = 0_u64;
        for page in 0..self.frames.len() {
            let Some(frame) = self.frames[page] else { continue };
            if self.read(page, &mut words).is_ok() {
                if !intact(page, &words) {
                    return Err(Mismatch::Changed(frame));
                }
                sum = words.iter().fold(sum, |sum, &word| sum.wrapping_add(word));
            }
        }
        Ok(sum)
    }
}

fn intact(page: usize, words: &[u64; WORDS]) -> bool {
    words.iter().enumerate().all(|(word, &value)| value == pattern(page, word))
}

impl Round {
    /// Counts a page whose loss was told and found, and adds its frame to the hash (FNV-1a).
    fn note(&mut self, frame: FrameNumber) {
        if let Some(place) = self.first.get_mut(self.told as usize) {
            *place = frame.0;
        }
        let hash = if self.told == 0 { 0xcbf2_9ce4_8422_2325 } else { self.hash };
        self.hash = (hash ^ u64::from(frame.0)).wrapping_mul(0x100_0000_01b3);
        self.told += 1;
        self.lost += 1;
    }
}
