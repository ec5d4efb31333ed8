//! The counter of instructions: a plugin of QEMU, built when it is wanted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::sample::{Instructions, regions};
use super::trace::{self, Executed};
use crate::artifact;
use crate::machine::{Clock, Configuration, Counter};
use crate::workspace::Workspace;

/// The package of the plugin.
const PACKAGE: &str = "instruction-counter";
/// What it writes, in the folder of the run.
const OUTPUT: &str = "instructions.jsonl";
/// What it writes if the instructions themselves are wanted.
const TRACE: &str = "trace.txt";

/// The plugin, ready to be loaded.
#[derive(Clone, Debug)]
pub struct Plugin {
    file: PathBuf,
    traces: bool,
}

impl Plugin {
    /// Builds it.
    ///
    /// # Errors
    /// Cargo fails.
    pub fn build(workspace: &Workspace) -> Result<Self> {
        Ok(Self { file: artifact::build_library(workspace, PACKAGE)?, traces: false })
    }

    /// The same, writing down the last instructions of each run as well.
    #[must_use]
    pub fn tracing(self) -> Self {
        Self { traces: true, ..self }
    }

    /// The same machine, in which instructions are counted. The record of the run is in `folder`.
    #[must_use]
    pub fn attach(&self, configuration: &Configuration, folder: &Path) -> Configuration {
        let trace = self.traces.then(|| folder.join(TRACE));
        let counter = Counter { plugin: self.file.clone(), output: folder.join(OUTPUT), trace };
        Configuration {
            clock: Clock::Exact,
            counter: Some(counter),
            cpus: 1,
            ..configuration.clone()
        }
    }

    /// What was counted in a run.
    ///
    /// # Errors
    /// The counter wrote nothing, or nothing that makes sense.
    pub fn counted(&self, folder: &Path) -> Result<Vec<Instructions>> {
        let path = folder.join(OUTPUT);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("the counter has not written {}", path.display()))?;
        let regions = regions(&text)?;
        if regions.is_empty() {
            bail!("the guest set no marks: nothing was counted");
        }
        Ok(regions)
    }

    /// The last instructions of a run.
    ///
    /// # Errors
    /// As [`Plugin::counted`].
    pub fn traced(&self, folder: &Path) -> Result<Vec<Executed>> {
        let path = folder.join(TRACE);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("the counter has not written {}", path.display()))?;
        trace::executed(&text)
    }
}
