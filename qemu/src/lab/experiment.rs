//! Carrying a scenario out: one machine for each seed.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::artifact;
use crate::guest::{Guest, Outcome};
use crate::image::{Image, Plan};
use crate::lab::scenario::{HOLDER, Program, Scenario, Storm};
use crate::lab::timeline::{Timeline, What};
use crate::machine::{Clock, Configuration, Network};
use crate::manifest::Port;
use crate::record::Record;
use crate::workspace::Workspace;

/// The program that asks, and the one that writes down who holds what.
const STORM: &str = "storm";
const RECORDER: &str = "recorder";
/// Frames that a holder needs for itself: image, stack, tables, and what its own lists need.
const OWN_FRAMES: u32 = 118;
/// The first of the ports that filters are for: each holder has one.
const FIRST_PORT: u16 = 4000;
/// How much longer than the storms a run may take on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Of everything random in it.
    pub seed: u64,
    /// Whether every resource was free again at its end.
    pub conserved: bool,
    /// Losses of frames that programs did not find in their records.
    pub untold: u64,
    /// How the machine ended, in words.
    pub verdict: String,
    /// Programs that ended of themselves, with their codes.
    pub exits: Vec<(String, u64)>,
    /// What happened.
    pub timeline: Timeline,
}

impl Run {
    /// Whether the kernel kept its promises: everything was given back, each debt was paid, each loss
    /// was told, and no program found anything wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let unpaid = self.timeline.events.iter().any(|event| event.what == What::Unpaid);
        let well = self.exits.iter().all(|(_, code)| *code == 0);
        self.conserved && well && !unpaid && self.untold == 0
    }
}

/// Carries a scenario out with each of its seeds.
///
/// # Errors
/// Something does not build, QEMU does not start, or a machine does not end in time.
pub fn carry_out(workspace: &Workspace, scenario: &Scenario) -> Result<Vec<Run>> {
    scenario.seeds.iter().map(|&seed| run(workspace, scenario, seed)).collect()
}

fn run(workspace: &Workspace, scenario: &Scenario, seed: u64) -> Result<Run> {
    let plan = plan(workspace, scenario, seed)?;
    let artifacts = artifact::build(workspace, plan.sources())?;
    let image = Image::make(workspace, &artifacts, &plan)?;
    let with_card = image.manifest.programs.iter().any(|program| !program.ports.is_empty());
    let configuration = Configuration {
        cpus: scenario.cpus,
        memory: scenario.memory,
        network: if with_card { Network::User(Vec::new()) } else { Network::None },
        // A busy host makes nobody miss a deadline.
        clock: Clock::Instructions,
        ..Configuration::default()
    };
    let record = Record::of_run(&workspace.target)?;
    let guest = Guest::start(&configuration, &image.boot, record, |_| ())?;
    let outcome = guest.finish(Duration::from_millis(scenario.length()) + PATIENCE)?;
    judge(scenario, seed, &outcome)
}

fn judge(scenario: &Scenario, seed: u64, outcome: &Outcome) -> Result<Run> {
    let leaks = outcome.leaks.as_ref().with_context(|| {
        format!("the machine did not end in order: {}", outcome.folder.display())
    })?;
    let timeline = Timeline::read(scenario, &outcome.transcript);
    Ok(Run {
        seed,
        conserved: leaks.missing.is_empty(),
        untold: timeline.untold(scenario),
        verdict: outcome.whole_verdict().to_string(),
        exits: outcome.exits.clone(),
        timeline,
    })
}

fn plan<'a>(workspace: &'a Workspace, scenario: &Scenario, seed: u64) -> Result<Plan<'a>> {
    let nobody: [&str; 0] = [];
    let mut plan = Plan::new(workspace, &nobody)?;
    plan.seed = seed;
    for (program, port) in scenario.programs.iter().zip(FIRST_PORT..) {
        add_program(workspace, &mut plan, program, port)?;
    }
    plan.add_as(workspace.program(RECORDER)?, RECORDER)?;
    for asker in scenario.askers() {
        plan.add_as(workspace.program(STORM)?, asker)?;
        let own = scenario.storms.iter().filter(|storm| storm.by == asker);
        let storms: Vec<String> = own.map(Storm::argument).collect();
        plan.set_arguments(asker, &format!("storms={}", storms.join(";")))?;
    }
    Ok(plan)
}

fn add_program<'a>(
    workspace: &'a Workspace,
    plan: &mut Plan<'a>,
    program: &Program,
    port: u16,
) -> Result<()> {
    let app = program.app.as_deref().unwrap_or(HOLDER);
    plan.add_as(workspace.program(app)?, &program.name)?;
    if let Some(args) = &program.args {
        plan.set_arguments(&program.name, args)?;
    }
    let Program { frames, floor, slices, filters, rings, delay, asks, .. } = *program;
    let contract = plan.program(&program.name)?;
    // Who asks decides when the run is over.
    contract.service = true;
    let Some(policy) = program.policy else { return Ok(()) };
    contract.args = format!(
        "policy={} frames={frames} slices={slices} filters={filters} rings={rings} delay={delay} \
         asks={asks} port={port}",
        policy.name()
    );
    contract.frames = OWN_FRAMES + frames + 2 * rings;
    contract.floor = OWN_FRAMES + floor;
    contract.kernel_frames = 32 + frames / 32;
    contract.frames += frames / 32;
    contract.slices = slices;
    contract.filters = filters;
    contract.rings = rings;
    contract.notice = program.notice * 1000;
    if filters > 0 {
        contract.ports = vec![Port::Udp(port)];
    }
    Ok(())
}
