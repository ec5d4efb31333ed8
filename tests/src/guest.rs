//! Booting a machine with some programs, in as few words as a test should need.

use std::collections::BTreeMap;
use std::env;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use qemu::artifact::{self, Artifacts};
use qemu::guest::Guest as Machine;
use qemu::image::{Image, Plan};
use qemu::installation::require_qemu;
use qemu::machine::{Board, Clock, Configuration, Forward, Network};
use qemu::record::Record;
use qemu::verdict::Verdict;
use qemu::wire::Wire;
use qemu::workspace::{Source, Workspace};

/// How long a guest may take to end when nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The environment variable with the number of processors that a machine has where a test says
/// nothing else: the same tests hold on several.
const CPUS: &str = "EXO_TEST_CPUS";
/// Guests that run at once: more would only wait for each other's processor.
const AT_ONCE: usize = 2;
/// Host ports for the guests: below those that the system gives to clients.
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 32_000;

/// What the kernel and the programs are built from, once for each run of the tests.
struct Ground {
    workspace: Workspace,
    artifacts: Artifacts,
}

/// A machine that is to be booted.
pub struct Setup<'a> {
    programs: Vec<String>,
    arguments: Vec<(String, String)>,
    contracts: Vec<Change>,
    configuration: Configuration,
    foreign: Vec<(&'a Source, &'a Path)>,
    crafted: Vec<(String, Vec<u8>)>,
    wire: Option<&'a Wire>,
    linger: bool,
    seed: Option<u64>,
    alone: bool,
}

/// A change to a program's contract: of which program, and what.
type Change = (String, Box<dyn Fn(&mut qemu::manifest::Program)>);

/// A machine that runs. A test that fails drops it, which ends it.
pub struct Guest {
    machine: Machine,
    ports: BTreeMap<u16, u16>,
    _image: Image,
    _place: Place,
}

/// How many processors a machine has for which a test says nothing else.
fn usual_cpus() -> u32 {
    env::var(CPUS).ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// How a machine ended.
pub use qemu::guest::Outcome;

impl Guest {
    /// A machine on which these programs start: microvm, one processor, and no network card unless
    /// a program's contract names a port.
    #[must_use]
    pub fn with<'a, const N: usize>(programs: [&str; N]) -> Setup<'a> {
        Setup {
            programs: programs.map(str::to_owned).to_vec(),
            arguments: Vec::new(),
            contracts: Vec::new(),
            configuration: Configuration {
                cpus: usual_cpus(),
                clock: Clock::Instructions,
                ..Configuration::default()
            },
            foreign: Vec::new(),
            crafted: Vec::new(),
            wire: None,
            linger: false,
            seed: None,
            alone: false,
        }
    }

    /// Waits until a line contains `text`, and returns that line.
    ///
    /// # Errors
    /// The guest ended without it, or a minute went by.
    pub fn wait_for(&self, text: &str) -> Result<String> {
        self.machine.wait_for(text, PATIENCE)
    }

    /// Waits until `count` lines contain `text`, and returns the last of these.
    ///
    /// # Errors
    /// As [`Guest::wait_for`].
    pub fn wait_for_times(&self, text: &str, count: usize) -> Result<String> {
        self.machine.wait_for_times(text, count, PATIENCE)
    }

    /// Where on the host the guest's TCP port is reached.
    ///
    /// # Errors
    /// No program's contract names that port.
    pub fn address(&self, port: u16) -> Result<SocketAddr> {
        let host = self.ports.get(&port).with_context(|| format!("no program has port {port}"))?;
        Ok(SocketAddr::from(([127, 0, 0, 1], *host)))
    }

    /// Types on the console.
    ///
    /// # Errors
    /// The guest has ended.
    pub fn type_line(&self, text: &str) -> Result<()> {
        self.machine.send(format!("{text}\n").as_bytes())
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.machine.lines()
    }

    /// Asks the guest to stop, as Ctrl-C does, and then does what [`Guest::finish`] does.
    ///
    /// # Errors
    /// As [`Guest::finish`].
    pub fn stop(self) -> Result<Outcome> {
        self.machine.keyboard().interrupt();
        self.finish()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The guest does not end within a minute, the kernel panicked, or something was not given
    /// back.
    pub fn finish(self) -> Result<Outcome> {
        self.finish_within(PATIENCE)
    }

    /// As [`Guest::finish`] with a deadline of one's own.
    ///
    /// # Errors
    /// As [`Guest::finish`].
    pub fn finish_within(self, patience: Duration) -> Result<Outcome> {
        let outcome = self.machine.finish(patience)?;
        check(&outcome)
            .with_context(|| format!("the record is in {}", outcome.folder.display()))?;
        Ok(outcome)
    }
}

/// What holds for every guest, whatever it was booted for.
fn check(outcome: &Outcome) -> Result<()> {
    if !matches!(outcome.verdict, Verdict::Code(_)) {
        let end = outcome.transcript.len().saturating_sub(25);
        bail!("{}\n{}", outcome.verdict, outcome.transcript[end..].join("\n"));
    }
    let leaks = outcome.leaks.as_ref().context("init did not report whether all was given back")?;
    ensure!(leaks.missing.is_empty(), "not given back: {:?}", leaks.missing);
    Ok(())
}

impl<'a> Setup<'a> {
    /// On this board.
    #[must_use]
    pub fn board(mut self, board: Board) -> Self {
        self.configuration.board = board;
        self
    }

    /// With so many processors.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.configuration.cpus = cpus;
        self
    }

    /// With so much memory, in MiB.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.configuration.memory = mebibytes;
        self
    }

    /// With firmware that does not describe the machine.
    #[must_use]
    pub fn without_acpi(mut self) -> Self {
        self.configuration.acpi = false;
        self
    }

    /// With these arguments for a program, in place of those in its `Cargo.toml`.
    #[must_use]
    pub fn args(mut self, program: &str, text: &str) -> Self {
        self.arguments.push((program.to_owned(), text.to_owned()));
        self
    }

    /// With another contract for a program.
    #[must_use]
    pub fn contract(
        mut self,
        program: &str,
        change: impl Fn(&mut qemu::manifest::Program) + 'static,
    ) -> Self {
        self.contracts.push((program.to_owned(), Box::new(change)));
        self
    }

    /// With a program that was built elsewhere, from its file.
    #[must_use]
    pub fn foreign(mut self, source: &'a Source, file: &'a Path) -> Self {
        self.foreign.push((source, file));
        self
    }

    /// With a program whose file is these bytes, whatever they are.
    #[must_use]
    pub fn crafted(mut self, name: &str, file: Vec<u8>) -> Self {
        self.crafted.push((name.to_owned(), file));
        self
    }

    /// With this cable beside QEMU's own network.
    #[must_use]
    pub fn wire(mut self, wire: &'a Wire) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Going on after the last program that is not a service, until [`Guest::stop`].
    #[must_use]
    pub fn linger(mut self) -> Self {
        self.linger = true;
        self
    }

    /// With this seed in place of a new one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// With the host's time, and with no other guest beside it: for what is measured in seconds.
    /// The time of other guests follows their instructions, so that no test depends on how busy the
    /// host is.
    #[must_use]
    pub fn timed(mut self) -> Self {
        self.alone = true;
        self.configuration.clock = Clock::Host;
        self
    }

    /// With a time that is the guest's instructions and nothing else: what is measured in it does
    /// not depend on the host, and with one processor it is the same in every run. Several take
    /// turns.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.configuration.clock = Clock::Exact;
        self
    }

    /// Builds what is stale and boots.
    ///
    /// # Errors
    /// Something does not build, there is no such program, or QEMU does not start.
    pub fn boot(mut self) -> Result<Guest> {
        let ground = ground()?;
        let mut plan = Plan::new(&ground.workspace, &self.programs)?;
        let mut artifacts = ground.artifacts.clone();
        for (source, file) in &self.foreign {
            plan.add(source)?;
            artifacts.programs.insert(source.name.clone(), (*file).to_owned());
        }
        for (name, file) in self.crafted.drain(..) {
            plan.add_crafted(&name, file)?;
        }
        for (name, text) in &self.arguments {
            plan.set_arguments(name, text)?;
        }
        for (name, change) in &self.contracts {
            change(plan.program(name)?);
        }
        plan.linger = self.linger;
        if let Some(seed) = self.seed {
            plan.seed = seed;
        }
        let mut ports = BTreeMap::new();
        self.configuration.network = network(&plan, &mut ports)?;
        if let Some(wire) = self.wire {
            let forwards = match self.configuration.network {
                Network::User(forwards) => forwards,
                _ => Vec::new(),
            };
            self.configuration.network = wire.network(forwards);
        }
        let place = Place::take(if self.alone { AT_ONCE } else { 1 });
        let image = Image::make(&ground.workspace, &artifacts, &plan)?;
        let name = thread::current().name().unwrap_or("unnamed").to_owned();
        let record = Record::of_test(&ground.workspace.target, &unique(&name))?;
        record.write_json("config.json", &(&self.configuration, &image.manifest))?;
        let machine = Machine::start(&self.configuration, &image.boot, record, |_| {})?;
        Ok(Guest { machine, ports, _image: image, _place: place })
    }
}

/// The kernel's file, built just before.
///
/// # Errors
/// It does not build.
pub fn kernel() -> Result<&'static Path> {
    Ok(&ground()?.artifacts.kernel)
}

/// Kernel and programs, built just before.
///
/// # Errors
/// They do not build.
pub fn artifacts() -> Result<&'static Artifacts> {
    Ok(&ground()?.artifacts)
}

/// A program's file, built just before.
///
/// # Errors
/// It does not build, or there is none of this name.
pub fn program(name: &str) -> Result<&'static Path> {
    Ok(ground()?.artifacts.program(name)?)
}

/// The workspace.
///
/// # Errors
/// Cargo cannot read it.
pub fn workspace() -> Result<&'static Workspace> {
    Ok(&ground()?.workspace)
}

/// Builds everything, once.
fn ground() -> Result<&'static Ground> {
    static GROUND: OnceLock<Result<Ground>> = OnceLock::new();
    let built = GROUND.get_or_init(|| {
        require_qemu()?;
        let workspace = Workspace::load()?;
        let artifacts = artifact::build(&workspace, workspace.apps().chain(workspace.probes()))?;
        Ok(Ground { workspace, artifacts })
    });
    built.as_ref().map_err(|error| anyhow!("{error:#}"))
}

/// QEMU's own network with a door to every TCP and UDP port that a contract names; none if no
/// contract names any.
fn network(plan: &Plan, ports: &mut BTreeMap<u16, u16>) -> Result<Network> {
    use qemu::manifest::Port;
    let claims: Vec<Port> =
        plan.manifest().programs.iter().flat_map(|program| program.ports.clone()).collect();
    if claims.is_empty() {
        return Ok(Network::None);
    }
    let mut forwards = Vec::new();
    for claim in claims {
        if let Port::Tcp(guest) = claim
            && !ports.contains_key(&guest)
        {
            let host = free_port()?;
            ports.insert(guest, host);
            forwards.push(Forward { udp: false, host, guest });
        }
    }
    Ok(Network::User(forwards))
}

/// A port that nobody listens on. Each is handed out once by a test process, and processes start
/// at different places.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = LAST_PORT - FIRST_PORT;
    let start = process::id().wrapping_mul(97) % u32::from(range);
    for _ in 0..range {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST_PORT + u16::try_from((start + step) % u32::from(range))?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free between {FIRST_PORT} and {LAST_PORT}")
}

/// A test may boot several machines; each has a record of its own.
fn unique(name: &str) -> String {
    static SEEN: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let times = seen.entry(name.to_owned()).or_default();
    *times += 1;
    if *times == 1 { name.to_owned() } else { format!("{name}-{times}") }
}

/// Room for guests: `AT_ONCE` of them.
struct Place(usize);

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Place {
    fn take(size: usize) -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let room = FREED.wait_while(taken, |taken| *taken + size > AT_ONCE);
        *room.unwrap_or_else(PoisonError::into_inner) += size;
        Self(size)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let ports: std::collections::BTreeSet<u16> =
            (0..20).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 20);
        assert!(ports.iter().all(|port| (FIRST_PORT..LAST_PORT).contains(port)));
    }

    #[test]
    fn a_guest_that_keeps_something_fails_its_test() {
        let mut outcome = Outcome {
            verdict: Verdict::Code(0),
            transcript: vec!["[kernel] panic".to_owned()],
            tables: None,
            leaks: None,
            exits: Vec::new(),
            boot: None,
            duration: Duration::ZERO,
            folder: std::path::PathBuf::new(),
        };
        assert!(check(&outcome).is_err(), "a missing report counts as a leak");
        outcome.leaks = Some(qemu::console::Leaks::default());
        assert!(check(&outcome).is_ok());
        outcome.leaks =
            Some(qemu::console::Leaks { missing: BTreeMap::from([("frames".to_owned(), 1)]) });
        assert!(check(&outcome).is_err());
        outcome.leaks = Some(qemu::console::Leaks::default());
        outcome.verdict = Verdict::KernelPanic;
        assert!(check(&outcome).unwrap_err().to_string().contains("[kernel] panic"));
    }
}
