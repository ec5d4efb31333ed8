//! Which accelerator works. The node `/dev/kvm` proves nothing: on some machines it opens, creates
//! a machine, and then interprets the guest's kernel at a hundredth of the speed. So KVM counts as
//! working only when the processor says that it can, and a probe ended in time.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::backtrace::Executables;
use crate::guest::{Boot, Guest};
use crate::machine::{Accelerator, Configuration, QEMU};
use crate::record::Record;
use crate::stub::Stub;
use crate::verdict::Verdict;

/// How long a probe may take; a processor needs a tenth of a second.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// The code that the probe ends with.
const PROBE_CODE: u8 = 7;

/// The first line of `qemu-system-x86_64 --version`; none when QEMU is missing.
#[must_use]
pub fn qemu_version() -> Option<String> {
    let output = Command::new(QEMU).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or("").to_owned())
}

/// Whether the processor says that it has hardware virtualisation.
#[must_use]
pub fn processor_virtualises() -> bool {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// Why an accelerator cannot be used, or none when it can.
///
/// # Errors
/// The probe's file cannot be written.
pub fn obstacle(accelerator: Accelerator) -> Result<Option<String>> {
    if accelerator == Accelerator::Kvm {
        if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
            return Ok(Some(format!("/dev/kvm does not open: {error}")));
        }
        if !processor_virtualises() {
            return Ok(Some("the processor shows neither vmx nor svm".to_owned()));
        }
    }
    probe(accelerator)
}

/// Boots a stub that counts, under a deadline.
fn probe(accelerator: Accelerator) -> Result<Option<String>> {
    let folder = tempfile::tempdir().context("no folder for temporary files")?;
    let kernel = folder.path().join("probe");
    let stub = Stub { count: 20_000_000, code: Some(PROBE_CODE), ..Stub::default() };
    fs::write(&kernel, stub.elf()).context("cannot write the probe")?;
    let boot = Boot {
        kernel,
        module: None,
        executables: Executables::new(),
        root: folder.path().to_owned(),
    };
    let configuration = Configuration { accelerator, memory: 64, ..Configuration::default() };
    let record = Record::of_test(folder.path(), "probe")?;
    let outcome = Guest::start(&configuration, &boot, record, |_| {})
        .and_then(|guest| guest.finish(PROBE_DEADLINE));
    Ok(match outcome {
        Ok(outcome) if outcome.verdict == Verdict::Code(PROBE_CODE) => None,
        Ok(outcome) => Some(format!("a probe boot failed: {}", outcome.verdict)),
        Err(error) => Some(format!("a probe boot failed: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_translator_works_wherever_qemu_is() {
        if qemu_version().is_some() {
            assert_eq!(obstacle(Accelerator::Tcg).unwrap(), None);
        }
    }
}
