//! `doctor`: what this machine has, what it lacks, and the command that mends it.

use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;
use clap::Args;
use qemu::accelerator::{obstacle, qemu_version};
use qemu::installation::{LIBPCAP_TOOL, MUSL_TOOL, QEMU_TOOL};
use qemu::machine::Accelerator;
use qemu::toolchain::{KERNEL_TARGET, PROGRAM_TARGET, has_target, mend, rustc};

/// Say what is installed, what is missing, which accelerator works, and how to mend it
///
/// The exit status is 0 if everything that `run` and `test` need is there.
#[derive(Args)]
pub(crate) struct Options {}

/// What a look at one thing found.
enum Finding {
    /// It is there.
    Good(String),
    /// It is missing, and only some commands want it: what for, and what brings it.
    Optional(String, String),
    /// It is missing and needed: what is wrong, and what mends it.
    Bad(String, String),
}

pub(crate) fn run(_: &Options) -> Result<ExitCode> {
    let mut good = true;
    let findings = [
        ("Rust", rust()),
        ("kernel target", target(KERNEL_TARGET)),
        ("program target", target(PROGRAM_TARGET)),
        ("linker", linker()),
        ("QEMU", qemu()),
        ("accelerator tcg", translator()?),
        ("accelerator kvm", virtualisation()?),
        ("port 8080", port()),
        ("gdb", gdb()),
        ("musl-gcc", static_programs()),
        ("libpcap", libpcap()),
    ];
    for (name, finding) in findings {
        match finding {
            Finding::Good(text) => println!("  ok       {name}: {text}"),
            Finding::Optional(text, mend) => {
                println!("  optional {name}: {text}");
                mend.lines().for_each(|line| println!("           {line}"));
            }
            Finding::Bad(text, mend) => {
                good = false;
                println!("  MISSING  {name}: {text}");
                mend.lines().for_each(|line| println!("           {line}"));
            }
        }
    }
    println!("{}", if good { "ready: cargo xtask run" } else { "not ready" });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first line that a command prints, if it ends well.
fn first_line(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or("").to_owned())
}

fn rust() -> Finding {
    match first_line(rustc(), &["--version"]) {
        Some(version) => Finding::Good(version),
        None => Finding::Bad("rustc does not start".into(), "https://rustup.rs".into()),
    }
}

fn target(name: &str) -> Finding {
    if has_target(name) {
        return Finding::Good(name.to_owned());
    }
    Finding::Bad(format!("{name} is not installed"), mend(name))
}

fn linker() -> Finding {
    match first_line("cc", &["--version"]) {
        Some(version) => Finding::Good(version),
        None => Finding::Bad(
            "there is no C compiler, which links the host programs".into(),
            "apt-get install gcc libc6-dev / dnf install gcc / pacman -S gcc / xcode-select --install".into(),
        ),
    }
}

fn qemu() -> Finding {
    match qemu_version() {
        Some(version) => Finding::Good(version),
        None => Finding::Bad("qemu-system-x86_64 does not start".into(), QEMU_TOOL.commands()),
    }
}

fn translator() -> Result<Finding> {
    Ok(match obstacle(Accelerator::Tcg)? {
        None => Finding::Good("works; it is the default".into()),
        Some(reason) => Finding::Bad(reason, "QEMU itself does not work; install it anew".into()),
    })
}

fn virtualisation() -> Result<Finding> {
    Ok(match obstacle(Accelerator::Kvm)? {
        None => Finding::Good("works: cargo xtask run --kvm".into()),
        Some(reason) => Finding::Optional(
            format!("no use here: {reason}"),
            "nothing to mend for tcg; on a machine of your own: load kvm_intel or kvm_amd, \
             and join the group kvm"
                .into(),
        ),
    })
}

fn port() -> Finding {
    match TcpListener::bind(("127.0.0.1", 8080)) {
        Ok(_) => Finding::Good("free on 127.0.0.1".into()),
        Err(error) => Finding::Optional(
            format!("in use ({error})"),
            "choose another: cargo xtask run --forward 8081:80".into(),
        ),
    }
}

fn static_programs() -> Finding {
    match first_line("musl-gcc", &["--version"]) {
        Some(version) => Finding::Good(version),
        None => Finding::Optional(
            "missing; only bench --vs linux wants it, and apt for the kernel".into(),
            MUSL_TOOL.commands(),
        ),
    }
}

fn libpcap() -> Finding {
    match filter_tools::libpcap::version() {
        Some(version) => Finding::Good(version),
        None => Finding::Optional(
            "missing; filter wants it for expressions, and test and bench filters".into(),
            LIBPCAP_TOOL.commands(),
        ),
    }
}

fn gdb() -> Finding {
    match first_line("gdb", &["--version"]) {
        Some(version) => Finding::Good(version),
        None => Finding::Optional(
            "missing; only run --gdb wants it".into(),
            "apt-get install gdb / dnf install gdb / pacman -S gdb / brew install gdb".into(),
        ),
    }
}
