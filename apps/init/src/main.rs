//! The first program: it reads the manifest from the boot archive, starts what the manifest names,
//! watches until the run is over, and looks whether everything has come back.
//!
//! It has the root capability and hands out smaller ones. It is an ordinary program otherwise, and
//! the kernel knows nothing of manifests, archives or ELF files.
#![no_std]
#![no_main]

extern crate alloc;

mod holdings;
mod loader;
mod report;
mod run;

use alloc::vec::Vec;
use exo_user::{Error, capability, environment, machine, println, slice, tables};
use holdings::Holdings;
use init::manifest::{MANIFEST_PATH, Manifest, Program};
use loader::{Archive, Child, LoadError};
use run::Run;

exo_user::program!(first = main);

/// The code of a machine whose manifest cannot be read.
const NO_MANIFEST: u64 = 57;
/// The code of a machine in which something was not given back.
const LEAK: u64 = 60;
/// The code of a program that could not be loaded.
const NOT_LOADED: u64 = 126;

fn main(archive_length: u64) -> u64 {
    println!("@up");
    let before = Holdings::now();
    let archive = Archive::own(archive_length);
    let manifest = archive.file(MANIFEST_PATH).and_then(|bytes| Manifest::decode(bytes).ok());
    let code = match &manifest {
        Some(manifest) => run_all(manifest, &archive),
        None => {
            println!("the boot archive has no manifest that can be read");
            NO_MANIFEST
        }
    };
    let missing = before.missing(&Holdings::now());
    println!("@leak {missing}");
    let code = if missing.is_empty() { code } else { LEAK };
    let refused = machine::exit(capability::OWN, code);
    println!("the machine does not end: {refused:?}");
    environment::exit(code)
}

/// Starts all programs, waits for the end of the run, and returns its code.
fn run_all(manifest: &Manifest, archive: &Archive<'_>) -> u64 {
    let mut run = Run::new(manifest.quiet, manifest.linger);
    for (program, number) in manifest.programs.iter().zip(1..) {
        match loader::load(program, number, archive, manifest.seed) {
            Ok(child) => run.add(child),
            Err(error) => refuse(&mut run, program, &error),
        }
    }
    deal_slices(&run, &manifest.programs);
    run.start();
    run.watch();
    report::print_tables();
    run.stop();
    run.code()
}

fn refuse(run: &mut Run, program: &Program, error: &LoadError) {
    println!("{} is not started: {error}", program.name);
    run.ended(&program.name, NOT_LOADED);
}

/// Deals the free slice positions of the first CPU, one to each program in turn until each has what
/// its contract says: the positions of a program then lie apart, and nobody waits long.
fn deal_slices(run: &Run, programs: &[Program]) {
    let positions = tables::system().positions as u32;
    let mut free = (0..positions).filter(|&position| {
        tables::slices().get(position as usize).is_some_and(|slice| slice.holder == 0)
    });
    let mut wanting: Vec<(&Child, u32)> = run
        .children()
        .iter()
        .filter_map(|child| {
            let program = programs.iter().find(|program| program.name == child.name)?;
            Some((child, program.slices))
        })
        .collect();
    while !wanting.is_empty() {
        wanting.retain_mut(|(child, left)| {
            let taken = free.next().filter(|_| *left > 0).map_or(Err(Error::NoSlice), |position| {
                slice::take(0, position, child.environment, capability::OWN)
            });
            *left = left.saturating_sub(1);
            match taken {
                Ok(()) => *left > 0,
                Err(error) => {
                    println!("{} gets fewer slices than it should: {error:?}", child.name);
                    false
                }
            }
        });
    }
}
