//! Our guest: the program `bench`, and for some benches a second one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::counter::Plugin;
use super::figure::{Figure, Group};
use super::sample::{Sample, Samples, samples};
use super::trace::{Line, Sources, last_operation};
use super::traffic;
use crate::artifact::{self, Artifacts};
use crate::guest::Guest;
use crate::image::{Image, Plan};
use crate::machine::Configuration;
use crate::record::Record;
use crate::verdict::Verdict;
use crate::wire::Wire;
use crate::workspace::Workspace;

/// The program, and what it is called when it runs a second time.
const PROGRAM: &str = "bench";
const SECOND: &str = "bench-2";
/// How long a guest may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// After which a program that has sent its echo is asleep again: the owner of a handler always is.
const ASLEEP: Duration = Duration::from_micros(100);

/// Our guest, built.
#[derive(Debug)]
pub struct Exokernel<'a> {
    workspace: &'a Workspace,
    artifacts: Artifacts,
    configuration: &'a Configuration,
}

impl<'a> Exokernel<'a> {
    /// Builds kernel and programs.
    ///
    /// # Errors
    /// Cargo fails.
    pub fn build(workspace: &'a Workspace, configuration: &'a Configuration) -> Result<Self> {
        let artifacts = artifact::build(workspace, [workspace.program(PROGRAM)?])?;
        Ok(Self::new(workspace, artifacts, configuration))
    }

    /// The guest of what is built already.
    #[must_use]
    pub fn new(
        workspace: &'a Workspace,
        artifacts: Artifacts,
        configuration: &'a Configuration,
    ) -> Self {
        Self { workspace, artifacts, configuration }
    }

    /// Does these benches, on machines with the counter if there is one. Each has a machine of its
    /// own, so that a figure does not depend on which others are wanted.
    ///
    /// # Errors
    /// A guest does not end well.
    pub fn run(&self, figures: &[&Figure], plugin: Option<&Plugin>) -> Result<Samples> {
        let mut samples = Samples::new();
        // The counter is for one processor.
        let countable = |figure: &&&Figure| plugin.is_none() || figure.processors() == 1;
        for figure in figures.iter().filter(countable) {
            samples.extend(self.boot(figure, plugin)?.0);
        }
        Ok(samples)
    }

    /// The instructions of the last operation of a bench.
    ///
    /// # Errors
    /// The guest does not end well, or the bench does not do the same again and again.
    pub fn trace(&self, figure: &Figure, plugin: &Plugin) -> Result<Vec<Line>> {
        let (samples, folder) = self.boot(figure, Some(plugin))?;
        let name = figure.name;
        let measured = match samples.get(name) {
            Some(Sample::Done(measured)) => measured,
            other => bail!("{name}: {other:?}"),
        };
        let trace = plugin.traced(&folder)?;
        let operation = last_operation(&trace, measured)
            .with_context(|| format!("`{name}` does not do the same again and again"))?;
        let Artifacts { kernel, .. } = &self.artifacts;
        let program = self.artifacts.program(PROGRAM)?;
        Ok(Sources::read(&self.workspace.root, kernel, program)?.lines(operation))
    }

    /// What was measured, and the folder with the record of the run.
    fn boot(&self, figure: &Figure, plugin: Option<&Plugin>) -> Result<(Samples, PathBuf)> {
        let (name, role) = (figure.name, figure.role);
        let programs: &[&str] = if role.is_some() { &[PROGRAM, PROGRAM] } else { &[PROGRAM] };
        let mut plan = Plan::new(self.workspace, programs)?;
        plan.seed = 1;
        plan.set_arguments(PROGRAM, &format!("benches={name}"))?;
        // One for itself, and one for each processor.
        plan.program(PROGRAM)?.slices += figure.processors() & !1;
        if let Some(role) = role {
            let second = plan.program(SECOND)?;
            second.args = format!("role={role}");
            second.service = true;
            // The first has reserved what the manifest says.
            second.ports.clear();
        }
        let image = Image::make(self.workspace, &self.artifacts, &plan)?;
        let record = Record::of_run(&self.workspace.target)?;
        let folder = record.folder().to_owned();
        let configuration = match plugin {
            Some(plugin) => plugin.attach(self.configuration, &folder),
            None => Configuration { cpus: figure.processors(), ..self.configuration.clone() },
        };
        let wire = if figure.group == Group::Network { Some(Wire::new()?) } else { None };
        let configuration = match &wire {
            Some(wire) => Configuration { network: wire.network(Vec::new()), ..configuration },
            None => configuration,
        };
        let guest = Guest::start(&configuration, &image.boot, record, |_| ())?;
        if let Some(wire) = &wire {
            let pause = if name == "echo_asleep" { ASLEEP } else { Duration::ZERO };
            traffic::echoes(wire, pause).with_context(|| format!("see {}", folder.display()))?;
        }
        let outcome = guest.finish(PATIENCE)?;
        let leaked = outcome.leaks.is_none_or(|leaks| !leaks.missing.is_empty());
        ensure!(!leaked, "something was not given back; the record is in {}", folder.display());
        let counted = match plugin {
            Some(plugin) if outcome.transcript.iter().any(|line| line.contains("operations=")) => {
                plugin.counted(&folder)?
            }
            _ => Vec::new(),
        };
        let mut samples = samples(outcome.transcript.iter().map(String::as_str), &counted)?;
        match outcome.verdict {
            Verdict::Code(_) if samples.contains_key(name) => {}
            // One that goes wrong is no reason to measure none.
            verdict => {
                let reason = format!("{verdict}, see {}", folder.display());
                samples.insert(name.to_owned(), Sample::Failed(reason));
            }
        }
        Ok((samples, folder))
    }
}
