//! `cargo xtask`: everything that is done with the system from the host.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use qemu::verdict::TOOL_FAILURE;

mod verb {
    pub(crate) mod abi;
    pub(crate) mod bench;
    pub(crate) mod check;
    pub(crate) mod doctor;
    pub(crate) mod ebpf;
    pub(crate) mod filter;
    pub(crate) mod image;
    pub(crate) mod lab;
    pub(crate) mod new;
    pub(crate) mod run;
    pub(crate) mod test;
    pub(crate) mod trace;
}
use verb::{abi, bench, check, doctor, ebpf, filter, image, lab, new, run, test, trace};

/// Build, boot and test the exokernel.
///
/// The first two commands: `cargo xtask run` boots the example programs and serves
/// http://localhost:8080/; `cargo xtask test` runs every test. When something is missing on this
/// machine, `cargo xtask doctor` says what, and which command mends it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Options),
    Test(test::Options),
    Bench(bench::Options),
    Trace(trace::Options),
    Filter(filter::Options),
    Lab(lab::Options),
    Check(check::Options),
    Doctor(doctor::Options),
    New(new::Options),
    Image(image::Options),
    Abi(abi::Options),
    Ebpf(ebpf::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Run(options) => run::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Trace(options) => trace::run(&options),
        Verb::Filter(options) => filter::run(&options),
        Verb::Lab(options) => lab::run(&options),
        Verb::Check(options) => check::run(&options),
        Verb::Doctor(options) => doctor::run(&options),
        Verb::New(options) => new::run(&options),
        Verb::Image(options) => image::run(&options),
        Verb::Abi(options) => abi::run(&options),
        Verb::Ebpf(options) => ebpf::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(TOOL_FAILURE)
    })
}
