//! From sources to programs, with the compilers of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, io};

use packet_filters::ebpf::Profile;

use crate::assembler::assemble;
use crate::object::{self, ObjectError};

/// Why no program came out of a source.
#[derive(Debug)]
pub enum SourceError {
    /// A file can't be read or written.
    File(PathBuf, io::Error),
    /// A compiler can't be started.
    NoCompiler(&'static str, io::Error),
    /// A compiler has failed, and has said why.
    Compiler(&'static str),
    /// The assembler's text is wrong.
    Assembler(String),
    /// No program is in the object.
    Object(ObjectError),
    /// The file's name ends in none of `.c`, `.rs`, `.o` and `.asm`.
    UnknownKind(PathBuf),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NoCompiler(name, error) => write!(f, "cannot start {name}: {error}"),
            Self::Compiler(name) => write!(f, "{name} has failed"),
            Self::Assembler(error) => f.write_str(error),
            Self::Object(error) => error.fmt(f),
            Self::UnknownKind(path) => {
                write!(f, "{}: what is it? .c, .rs, .o or .asm is understood", path.display())
            }
        }
    }
}

impl std::error::Error for SourceError {}

/// The program in a file: C (through clang), Rust (through rustc, whose parts for eBPF are unstable,
/// and clang's assembler), an ELF object, or assembler text. `folder` is for what comes between;
/// Rust's core library is compiled into it once.
pub fn program(
    path: &Path,
    entry: Option<&str>,
    profile: &Profile<'_>,
    folder: &Path,
) -> Result<Vec<u8>, SourceError> {
    fs::create_dir_all(folder).map_err(|error| SourceError::File(folder.to_owned(), error))?;
    let between = folder.join("program.o");
    let object = match path.extension().and_then(|extension| extension.to_str()) {
        Some("o") => path,
        Some("c") => {
            clang(path, &between, "c")?;
            &between
        }
        Some("rs") => {
            clang(&rust(path, folder)?, &between, "assembler")?;
            &between
        }
        Some("asm") => {
            let text = fs::read_to_string(path);
            let text = text.map_err(|error| SourceError::File(path.to_owned(), error))?;
            return assemble(&text).map_err(SourceError::Assembler);
        }
        _ => return Err(SourceError::UnknownKind(path.to_owned())),
    };
    let data = fs::read(object).map_err(|error| SourceError::File(object.to_owned(), error))?;
    object::program(&data, entry, profile).map_err(SourceError::Object)
}

fn clang(from: &Path, to: &Path, language: &str) -> Result<(), SourceError> {
    let mut command = Command::new("clang");
    command.args(["--target=bpfel", "-mcpu=v3", "-O2", "-c", "-x", language]);
    run("clang", command.arg(from).arg("-o").arg(to))
}

/// Compiles a file to assembler text. The object that rustc would make is none: it holds the
/// compiler's own code.
fn rust(path: &Path, folder: &Path) -> Result<PathBuf, SourceError> {
    let manifest = folder.join("Cargo.toml");
    let path = path.canonicalize().map_err(|error| SourceError::File(path.to_owned(), error))?;
    let text = format!(
        "[package]\nname = \"program\"\nedition = \"2024\"\n[lib]\npath = {path:?}\n\
         [profile.release]\npanic = \"abort\"\ncodegen-units = 1\n[workspace]\n",
    );
    fs::write(&manifest, text).map_err(|error| SourceError::File(manifest.clone(), error))?;
    let mut command = Command::new("cargo");
    command.env("RUSTC_BOOTSTRAP", "1").args(["rustc", "--quiet", "--release", "--lib"]);
    command.args(["--target", "bpfel-unknown-none", "-Zbuild-std=core", "--manifest-path"]);
    command.arg(&manifest).arg("--target-dir").arg(folder.join("target"));
    let output = folder.join("program.s");
    let emit = format!("--emit=asm={}", output.display());
    run("cargo", command.args(["--", "-Ctarget-cpu=v3", &emit]))?;
    Ok(output)
}

fn run(name: &'static str, command: &mut Command) -> Result<(), SourceError> {
    let status = command.status().map_err(|error| SourceError::NoCompiler(name, error))?;
    if status.success() { Ok(()) } else { Err(SourceError::Compiler(name)) }
}
