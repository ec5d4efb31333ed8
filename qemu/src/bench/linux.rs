//! The Linux guest: Debian's kernel for virtual machines, and one static program (`qemu/linux`) as
//! everything else.
//!
//! The kernel is fetched with apt and kept under `target/linux`. The guest has the board, the
//! processor, the memory and the clock of ours, and no mitigations, which we have none of either.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cpio::newc::{Builder, ModeFileType};
use exo_abi::boot::{VERDICT_BASE, VERDICT_PORT};
use tar::Archive;

use super::counter::Plugin;
use super::figure::Figure;
use super::sample::{Samples, samples};
use crate::backtrace::Executables;
use crate::guest::{Boot, Guest};
use crate::installation::{MUSL_TOOL, may_install, require, update_lists};
use crate::machine::{Clock, Configuration};
use crate::record::Record;
use crate::verdict::Verdict;
use crate::workspace::Workspace;

/// The package that always depends on the newest kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// How the file of a kernel starts, in the package and here.
const KERNEL_FILE: &str = "vmlinuz-";
/// The compiler of the program.
const COMPILER: &str = "musl-gcc";
/// The kernel's command line. Its own messages would be between ours; a panic ends the machine.
/// Without the addresses and the mitigations, two boots are alike, and ours has neither.
const OPTIONS: &str =
    "console=ttyS0 loglevel=1 panic=-1 mitigations=off nokaslr norandmaps tsc=reliable";
/// How long a guest may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the time stamp counter is watched.
const WATCH: Duration = Duration::from_millis(50);

/// The Linux guest, ready to boot.
#[derive(Debug)]
pub struct Linux<'a> {
    workspace: &'a Workspace,
    configuration: &'a Configuration,
    kernel: PathBuf,
    memory_image: PathBuf,
}

impl<'a> Linux<'a> {
    /// Fetches the kernel, unless it is there already, and builds the program.
    ///
    /// # Errors
    /// There is no apt, no compiler or no network; the message says what to do.
    pub fn prepare(workspace: &'a Workspace, configuration: &'a Configuration) -> Result<Self> {
        let folder = workspace.target.join("linux");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let kernel = match find_kernel(&folder)? {
            Some(kernel) => kernel,
            None => fetch_kernel(&folder)?,
        };
        let program = compile(&workspace.root.join("qemu/linux"), &folder)?;
        let memory_image = folder.join("initramfs");
        pack(&program, &memory_image)?;
        Ok(Self { workspace, configuration, kernel, memory_image })
    }

    /// The kernel's version.
    #[must_use]
    pub fn version(&self) -> String {
        let name = self.kernel.file_name().unwrap_or_default().to_string_lossy();
        format!("Linux {}", name.trim_start_matches(KERNEL_FILE))
    }

    /// Does the peers of these figures, with the counter if there is one.
    ///
    /// # Errors
    /// The guest does not end well.
    pub fn run(&self, figures: &[&Figure], plugin: Option<&Plugin>) -> Result<Samples> {
        let mut names: Vec<&str> =
            figures.iter().filter_map(|figure| Some(figure.linux?.bench)).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(Samples::new());
        }
        let record = Record::of_run(&self.workspace.target)?;
        let folder = record.folder().to_owned();
        let mut configuration = match plugin {
            Some(plugin) => plugin.attach(self.configuration, &folder),
            None => self.configuration.clone(),
        };
        configuration.options = options(configuration.clock, &names);
        let boot = Boot {
            kernel: self.kernel.clone(),
            module: Some(self.memory_image.clone()),
            executables: Executables::new(),
            root: self.workspace.root.clone(),
        };
        let outcome = Guest::start(&configuration, &boot, record, |_| ())?.finish(PATIENCE)?;
        let lines = outcome.transcript.iter().map(String::as_str);
        if outcome.verdict != Verdict::Code(0) {
            let end = outcome.transcript.len().saturating_sub(10);
            let lines = outcome.transcript[end..].join("\n");
            bail!("Linux: {}\n{lines}\nall of it: {}", outcome.verdict, folder.display());
        }
        let counted = match plugin {
            Some(plugin) => plugin.counted(&folder)?,
            None => Vec::new(),
        };
        samples(lines, &counted)
    }
}

/// The command line for these benches. This board has nothing by which Linux could find out how
/// fast the time stamp counter is, so it is told; it would not use it otherwise.
fn options(clock: Clock, names: &[&str]) -> String {
    let frequency = match clock {
        Clock::Exact => Some(1_000_000),
        _ => kilohertz(),
    };
    let frequency = frequency.map_or_else(String::new, |khz| format!(" tsc_early_khz={khz}"));
    format!("{OPTIONS}{frequency} -- benches={}", names.join(","))
}

/// The frequency of the host's time stamp counter, which is also the guest's.
#[cfg(target_arch = "x86_64")]
fn kilohertz() -> Option<u64> {
    use std::arch::x86_64::_rdtsc;
    // SAFETY: every x86-64 processor has the counter.
    let ticks = || unsafe { _rdtsc() };
    let (start, first) = (std::time::Instant::now(), ticks());
    while start.elapsed() < WATCH {
        std::hint::spin_loop();
    }
    let (passed, last) = (start.elapsed(), ticks());
    u64::try_from(u128::from(last - first) * 1_000_000 / passed.as_nanos()).ok()
}

/// Other hosts have none.
#[cfg(not(target_arch = "x86_64"))]
fn kilohertz() -> Option<u64> {
    None
}

fn find_kernel(folder: &Path) -> Result<Option<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut kernels: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(KERNEL_FILE))
        })
        .collect();
    kernels.sort();
    Ok(kernels.pop())
}

/// Fetches the newest kernel of the distribution; nothing is installed.
fn fetch_kernel(folder: &Path) -> Result<PathBuf> {
    if output("apt-cache", &["--version"]).is_none() {
        bail!(
            "the Linux guest needs a kernel of Debian, and there is no apt on this machine\n\
             put a vmlinuz-VERSION of the package {META_PACKAGE} in {}",
            folder.display()
        );
    }
    let package = match newest_package() {
        Some(package) => package,
        None if may_install() => {
            update_lists()?;
            newest_package().context("apt knows no package linux-image-cloud-amd64")?
        }
        None => bail!("apt does not know {META_PACKAGE}; as root: apt-get update"),
    };
    let place = tempfile::tempdir_in(folder).context("cannot make a folder for the package")?;
    let mut command = Command::new("apt-get");
    // apt's own user may not write to this folder.
    command.args(["-qq", "-o", "APT::Sandbox::User=root", "download", &package]);
    let status = command.current_dir(&place).status().context("cannot start apt-get")?;
    ensure!(
        status.success(),
        "apt-get download {package} failed: is there a network? \
         If apt's lists are old, as root: apt-get update"
    );
    let entry = fs::read_dir(&place)?.next().context("apt-get has fetched nothing")??;
    extract_kernel(&entry.path(), folder)
}

fn newest_package() -> Option<String> {
    let text = output("apt-cache", &["depends", META_PACKAGE])?;
    let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))?;
    Some(format!("linux-image-{name}"))
}

/// Takes the kernel out of its package.
fn extract_kernel(package: &Path, folder: &Path) -> Result<PathBuf> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start dpkg-deb")?;
    let stream = child.stdout.take().context("dpkg-deb without an output")?;
    let mut archive = Archive::new(stream);
    let mut kernel = None;
    // To the end, or dpkg-deb complains that nobody listens.
    for entry in archive.entries().context("the package cannot be read")? {
        let mut entry = entry.context("the package cannot be read")?;
        let path = entry.path()?.into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(KERNEL_FILE) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).context("the kernel cannot be read")?;
            let path = folder.join(&name);
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
            kernel = Some(path);
        }
    }
    ensure!(child.wait().context("cannot wait for dpkg-deb")?.success(), "dpkg-deb failed");
    kernel.with_context(|| format!("there is no kernel in {}", package.display()))
}

/// Compiles the program.
fn compile(sources: &Path, folder: &Path) -> Result<PathBuf> {
    require(&MUSL_TOOL, || output(COMPILER, &["--version"]))?;
    let program = folder.join("bench");
    let mut command = Command::new(COMPILER);
    command.args(["-static", "-O2", "-Wall", "-o"]).arg(&program);
    command.arg(format!("-DVERDICT_PORT={VERDICT_PORT}"));
    command.arg(format!("-DVERDICT_BASE={VERDICT_BASE}"));
    for name in ["bench.c", "processor.c", "memory.c"] {
        command.arg(sources.join(name));
    }
    let status = command.status().with_context(|| format!("cannot start {COMPILER}"))?;
    ensure!(status.success(), "{COMPILER} failed; it says why above");
    Ok(program)
}

/// Makes the image of the first file system: the program, as the first one that runs.
fn pack(program: &Path, image: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let entry = Builder::new("init").mode(0o755).set_mode_file_type(ModeFileType::Regular);
    let file = File::create(image).with_context(|| format!("cannot write {}", image.display()))?;
    cpio::write_cpio([(entry, Cursor::new(bytes))].into_iter(), file)
        .with_context(|| format!("cannot write {}", image.display()))?;
    Ok(())
}

/// What a program prints, if it ends well.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_first_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let (program, image) = (folder.path().join("bench"), folder.path().join("image"));
        fs::write(&program, b"text").unwrap();
        pack(&program, &image).unwrap();
        let reader = cpio::newc::Reader::new(File::open(&image).unwrap()).unwrap();
        assert_eq!((reader.entry().name(), reader.entry().mode()), ("init", 0o100_755));
    }

    #[test]
    fn benches_are_arguments_of_the_program_and_not_of_the_kernel() {
        let text = options(Clock::Exact, &["getppid", "pipe"]);
        let (kernel, program) = text.split_once(" -- ").unwrap();
        assert_eq!(program, "benches=getppid,pipe");
        assert!(kernel.contains("mitigations=off") && kernel.ends_with("tsc_early_khz=1000000"));
    }

    #[test]
    fn the_newest_kernel_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_kernel(folder.path()).unwrap(), None);
        for name in ["vmlinuz-6.1.0-47", "vmlinuz-6.1.0-56", "bench"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find_kernel(folder.path()).unwrap().unwrap();
        assert!(found.ends_with("vmlinuz-6.1.0-56"));
    }
}
