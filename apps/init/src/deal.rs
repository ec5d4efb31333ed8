//! Slices of processor time: who gets which positions.

use crate::loader::Child;
use crate::run::Run;
use alloc::vec::Vec;
use exo_user::{Error, capability, println, slice, tables};
use init::manifest::Program;

/// What a program still has to get.
struct Share<'a> {
    child: &'a Child,
    left: u32,
    /// The first of its processors, and how many it has.
    first: u32,
    cpus: u32,
    /// How many positions it has got.
    dealt: u32,
}

/// The positions that nobody holds, of each processor in turn.
struct Free {
    positions: u32,
    /// The first position of each processor that has not been looked at.
    next: Vec<u32>,
}

impl Free {
    fn take(&mut self, cpu: u32) -> Option<u32> {
        let next = self.next.get_mut(cpu as usize)?;
        while *next < self.positions {
            let position = *next;
            *next += 1;
            let entry = tables::slices().get((cpu * self.positions + position) as usize)?;
            if entry.holder == 0 {
                return Some(position);
            }
        }
        None
    }
}

/// Deals the free slice positions, one to each program in turn until each has what its contract
/// says: the positions of a program then lie apart, and nobody waits long. Each program has a
/// processor, or as many as its contract says; they go round, so that the programs spread.
pub(crate) fn deal_slices(run: &Run, programs: &[Program]) {
    let system = tables::system();
    let (cpus, positions) = (system.cpus.max(1) as u32, system.positions as u32);
    let mut free = Free { positions, next: (0..cpus).map(|_| 0).collect() };
    let mut turn = 0;
    let mut shares: Vec<Share<'_>> = run
        .children()
        .iter()
        .filter_map(|child| {
            let program = programs.iter().find(|program| program.name == child.name)?;
            let own = program.cpus.clamp(1, cpus);
            let first = turn;
            turn = (turn + own) % cpus;
            Some(Share { child, left: program.slices, first, cpus: own, dealt: 0 })
        })
        .collect();
    while !shares.is_empty() {
        shares.retain_mut(|share| {
            let cpu = (share.first + share.dealt % share.cpus) % cpus;
            let position = free.take(cpu).filter(|_| share.left > 0);
            let taken = position.map_or(Err(Error::NoSlice), |position| {
                slice::take(cpu, position, share.child.environment, capability::OWN)
            });
            share.left = share.left.saturating_sub(1);
            share.dealt += 1;
            match taken {
                Ok(()) => share.left > 0,
                Err(error) => {
                    println!("{} gets fewer slices than it should: {error:?}", share.child.name);
                    false
                }
            }
        });
    }
}
