//! The first program: it reads the manifest from the boot archive, starts what the manifest names,
//! watches until the run is over, and looks whether everything has come back.
//!
//! It has the root capability and hands out smaller ones. It is an ordinary program otherwise, and
//! the kernel knows nothing of manifests, archives or ELF files.
#![no_std]
#![no_main]

extern crate alloc;

mod deal;
mod holdings;
mod loader;
mod report;
mod run;

use alloc::vec::Vec;
use deal::deal_slices;
use exo_user::{capability, environment, machine, println};
use holdings::Holdings;
use init::manifest::{MANIFEST_PATH, Manifest, Program};
use loader::{Archive, LoadError};
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
    let mut reserved = Vec::new();
    for (program, number) in manifest.programs.iter().zip(1..) {
        match loader::load(program, number, archive, manifest.seed, &mut reserved) {
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
