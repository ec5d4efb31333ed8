//! What `cargo xtask new` makes builds and runs as it is, and says where it dies.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qemu::artifact::build_programs;
use qemu::template::Template;
use qemu::workspace::{Source, Workspace};
use system_tests::Guest;
use system_tests::guest::{PATIENCE, workspace};

/// Makes a workspace beside the real one, with the same settings and no member yet, so that a
/// half-made program never disturbs anybody who works in the real one.
fn empty_workspace(real: &Workspace) -> Result<PathBuf> {
    let root = real.target.join("template-workspace");
    let apps = root.join("apps");
    if apps.exists() {
        fs::remove_dir_all(&apps)?;
    }
    fs::create_dir_all(&apps)?;
    fs::create_dir_all(root.join(".cargo"))?;
    for file in [".cargo/config.toml", ".cargo/linker", "Cargo.lock", "rust-toolchain.toml"] {
        fs::copy(real.root.join(file), root.join(file)).with_context(|| file.to_owned())?;
    }
    let text = fs::read_to_string(real.root.join("Cargo.toml"))?;
    let (_, settings) = text.split_once("[workspace.package]").context("no [workspace.package]")?;
    let settings = settings.replace("path = \"", &format!("path = \"{}/", real.root.display()));
    let members = "[workspace]\nresolver = \"3\"\nmembers = [\"apps/*\"]\n\n[workspace.package]";
    fs::write(root.join("Cargo.toml"), format!("{members}{settings}"))?;
    Ok(root)
}

/// The program says something and ends well.
fn says_hello(source: &Source, file: &Path) -> Result<()> {
    let outcome = Guest::with([]).foreign(source, file).boot()?.finish()?;
    assert_eq!(outcome.exits, [(source.name.clone(), 0)]);
    let hello = format!("[{}] hello, world", source.name);
    assert!(outcome.transcript.iter().any(|line| line.starts_with(&hello)), "{hello}");
    Ok(())
}

/// The program sends back what it is sent.
fn echoes(source: &Source, file: &Path) -> Result<()> {
    let guest = Guest::with([]).foreign(source, file).linger().boot()?;
    guest.wait_for("listening")?;
    let mut stream = TcpStream::connect(guest.address(80)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"there and back")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert_eq!(answer, "there and back");
    guest.stop()?;
    Ok(())
}

/// A program that dies in a function called `fall`, in this way.
fn dying(way: &str) -> String {
    format!(
        "#![no_std]\n#![no_main]\n//! Dies.\nexo_user::program!(main);\n\
         #[inline(never)]\nfn fall(depth: usize) -> u64 {{\n    {way}\n}}\n\
         fn main(start: &exo_user::Start) -> u64 {{\n    fall(start.arguments().len())\n}}\n"
    )
}

/// The line of `dying` in which the program dies.
const DYING_LINE: &str = "src/main.rs:7";

/// The program ends with this code, and the console says in which function and line.
fn says_where(source: &Source, file: &Path, code: u64) -> Result<()> {
    let outcome = Guest::with([]).foreign(source, file).boot()?.finish()?;
    assert_eq!(outcome.exits, [(source.name.clone(), code)]);
    let trace = format!("[{}] ", source.name);
    let named = |line: &&String| line.starts_with(&trace) && line.contains("fall at ");
    let line = outcome.transcript.iter().find(named).context("no backtrace with `fall`")?;
    assert!(line.ends_with(DYING_LINE), "{line}");
    Ok(())
}

#[test]
fn new_programs_build_and_run_and_die_as_said() -> Result<()> {
    let root = empty_workspace(workspace()?)?;
    let templates =
        [(Template::Own, "new-own"), (Template::Net, "new-net"), (Template::Posix, "new-posix")];
    for (template, name) in templates {
        template.write(&root, name)?;
    }
    let deaths = [
        ("new-panic", "assert!(depth > 1000); depth as u64", 101),
        ("new-fault", "unsafe { (depth as *const u64).read_volatile() }", 128 + 14),
    ];
    for (name, way, _) in deaths {
        Template::Own.write(&root, name)?;
        fs::write(root.join("apps").join(name).join("src/main.rs"), dying(way))?;
    }
    let made = Workspace::load_from(&root)?;
    let files = build_programs(&made, made.apps())?;
    let file = |name: &str| files.get(name).with_context(|| format!("{name} is not built"));
    for (template, name) in templates {
        let source = made.program(name)?;
        match template {
            Template::Own | Template::Posix => says_hello(source, file(name)?),
            Template::Net => echoes(source, file(name)?),
        }
        .with_context(|| name.to_owned())?;
    }
    for (name, _, code) in deaths {
        says_where(made.program(name)?, file(name)?, code).with_context(|| name.to_owned())?;
    }
    Ok(())
}
