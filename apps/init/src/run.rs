//! The run: who is still there, who has ended and how, and when it is over.

use crate::loader::{self, Child};
use alloc::vec::Vec;
use exo_user::abi::tables::{EndReason, EnvEntry, EnvState};
use exo_user::abi::upcall::{Event, PAGE_FAULT};
use exo_user::{
    EnvName, capability, console, contract, control, environment, layout, println, tables, time,
};

/// The byte that Ctrl-C sends.
const INTERRUPT: u8 = 3;
/// The code of a program that an exception ended, less the vector.
const BY_EXCEPTION: u64 = 128;
/// The code of a program whose upcall stack was of no use.
const BY_UPCALL_STACK: u64 = 180;
/// The code of a program that overran its slices.
const BY_OVERRUN: u64 = 181;

/// The programs of a run.
#[derive(Debug)]
pub(crate) struct Run {
    children: Vec<Child>,
    /// Those that have ended; their slots stay taken, so that the tables tell of them.
    ended: Vec<EnvName>,
    code: u64,
    quiet: bool,
    linger: bool,
}

impl Run {
    /// A run without programs. A quiet one is silent towards people; one that lingers ends only by
    /// Ctrl-C.
    pub(crate) fn new(quiet: bool, linger: bool) -> Self {
        Self { children: Vec::new(), ended: Vec::new(), code: 0, quiet, linger }
    }

    /// Takes in a program.
    pub(crate) fn add(&mut self, child: Child) {
        self.children.push(child);
    }

    /// The programs that have not ended.
    pub(crate) fn children(&self) -> &[Child] {
        &self.children
    }

    /// The code of the first program that failed, or 0.
    pub(crate) fn code(&self) -> u64 {
        self.code
    }

    /// Starts all programs.
    pub(crate) fn start(&mut self) {
        for child in &self.children {
            let (stack, block) = (layout::STACK.end, layout::START_BLOCK);
            let result =
                environment::start(child.environment, capability::OWN, child.entry, stack, block);
            if let Err(error) = result {
                println!("{} does not start: {error:?}", child.name);
            }
        }
    }

    /// Waits until the run is over, and reports every end.
    pub(crate) fn watch(&mut self) {
        loop {
            // First forget the events, then look: what comes in between ends the next sleep.
            control::take(Event::ChildEnded);
            control::take(Event::Console);
            self.take_note_of_ends();
            self.end_orphans();
            let waiting = self.children.iter().any(|child| !child.service);
            if self.interrupted() || !waiting && !self.linger {
                return;
            }
            environment::sleep(time::NEVER);
        }
    }

    fn take_note_of_ends(&mut self) {
        let mut index = 0;
        while let Some(child) = self.children.get(index) {
            let entry = tables::environment_named(child.environment);
            match entry.filter(|entry| entry.state == EnvState::Ended as u64) {
                None => index += 1,
                Some(entry) => {
                    let child = self.children.remove(index);
                    self.ended.push(child.environment);
                    let code = self.explain(&child, &entry);
                    self.ended(&child.name, code);
                }
            }
        }
    }

    /// Says how a program ended, and returns its code.
    fn explain(&self, child: &Child, entry: &EnvEntry) -> u64 {
        let (name, code) = (&child.name, entry.end_code);
        let (rip, address) = (entry.end_rip, entry.end_address);
        let reason = EndReason::from_number(entry.end_reason);
        match reason {
            Some(EndReason::Exited | EndReason::Destroyed) | None => {
                if !self.quiet {
                    let verb = if code == 0 { "is done" } else { "has failed" };
                    println!("{name} {verb}, code {code}");
                }
                return code;
            }
            Some(EndReason::Exception) if code == PAGE_FAULT => {
                println!("{name} was killed: page fault at {rip:#x}, address {address:#x}");
            }
            Some(EndReason::Exception) => {
                println!("{name} was killed: exception {code} at {rip:#x}");
            }
            Some(EndReason::UpcallStack) => {
                println!("{name} was killed: no stack for upcall {code} at {rip:#x}");
            }
            Some(EndReason::Overrun) => {
                println!("{name} was killed: it did not give up its slices");
                return BY_OVERRUN;
            }
        }
        println!("@backtrace {name} {rip:#x}");
        if reason == Some(EndReason::Exception) { BY_EXCEPTION + code } else { BY_UPCALL_STACK }
    }

    /// Reports an end to the host.
    pub(crate) fn ended(&mut self, name: &str, code: u64) {
        println!("@exit {name} {code}");
        if self.code == 0 {
            self.code = code;
        }
    }

    /// Ends the environments that ended programs have left behind: they are this program's now.
    fn end_orphans(&self) {
        let own = contract::name();
        for (_, entry) in tables::environments().iter() {
            let name = EnvName(entry.name);
            let free = entry.state == EnvState::Free as u64;
            let known = self.ended.contains(&name)
                || self.children.iter().any(|child| child.environment == name);
            if !free && !known && entry.parent == own.0 {
                loader::remove(name);
            }
        }
    }

    /// Whether Ctrl-C has been typed. Only looks where no program reads the console.
    fn interrupted(&self) -> bool {
        if self.children.iter().any(|child| child.reads_console) {
            return false;
        }
        let mut bytes = [0; 64];
        match console::read(&mut bytes, capability::OWN) {
            Ok(count) => bytes[..count].contains(&INTERRUPT),
            Err(_) => false,
        }
    }

    /// Ends what still runs, last first, and frees the slots of all.
    pub(crate) fn stop(&mut self) {
        while let Some(child) = self.children.pop() {
            loader::remove(child.environment);
            if !self.quiet {
                println!("{} is stopped", child.name);
            }
        }
        self.ended.drain(..).for_each(loader::remove);
        self.end_orphans();
    }
}
