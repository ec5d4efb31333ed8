//! `run`: build, boot, show the console, end with the guest's verdict.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use qemu::accelerator::obstacle;
use qemu::artifact;
use qemu::guest::{Guest, Keyboard, Outcome};
use qemu::image::{Image, Plan};
use qemu::installation::require_qemu;
use qemu::machine::{Accelerator, Board, Clock, Configuration, Forward, Network};
use qemu::manifest::{Manifest, Port};
use qemu::record::Record;
use qemu::workspace::Workspace;
use serde::Serialize;

/// The door that is open unless others are asked for.
const HTTP: Forward = Forward { udp: false, host: 8080, guest: 80 };
/// How long the guest may take to stop after Ctrl-C.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// What a shell reports for a program that Ctrl-C ended.
const STOPPED: u8 = 130;

/// Build what is stale, boot it, show the console; Ctrl-C ends it
///
/// The exit status is that of the program, or of the first that failed. It is 60 when something
/// was not given back, 62 when the kernel panicked, 70 when the tool or QEMU failed, and 130 when
/// the guest did not stop after Ctrl-C.
/// What the run did is kept in target/runs/latest.
#[derive(Args)]
pub(crate) struct Options {
    /// Programs to start, from apps/ or tests/guest/ [default: those that Cargo.toml names]
    #[arg(long = "app", value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    apps: Vec<String>,
    /// Arguments for a program in place of those in its Cargo.toml
    #[arg(long, value_name = "NAME=TEXT", value_parser = pair)]
    args: Vec<(String, String)>,
    /// Processors
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory, such as 64M or 1G
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = mebibytes)]
    mem: u32,
    /// The board
    #[arg(long, value_enum, default_value_t)]
    machine: Board,
    /// The network: user (QEMU's own), tap or tap=INTERFACE, none
    #[arg(long, default_value = "user")]
    net: Net,
    /// A host port that leads to a guest port; udp:HOST:GUEST for UDP [default: 8080:80 if a
    /// program has port 80]
    #[arg(long, value_name = "HOST:GUEST", value_parser = forward)]
    forward: Vec<Forward>,
    /// Wait for gdb on port 1234 before the first instruction
    #[arg(long)]
    gdb: bool,
    /// Use the host's processor; refused where a probe shows that it does not work
    #[arg(long)]
    kvm: bool,
    /// Seed of everything random in the run [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
    /// End when the last program that is not a service has ended, instead of at Ctrl-C
    #[arg(long)]
    once: bool,
}

#[derive(Clone, Debug)]
enum Net {
    User,
    Tap(String),
    None,
}

/// What `config.json` holds.
#[derive(Serialize)]
struct Setup<'a> {
    machine: &'a Configuration,
    manifest: &'a Manifest,
    command: String,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let plan = plan(&workspace, options)?;
    require_qemu()?;
    let configuration = configuration(options, &plan)?;
    let artifacts = artifact::build(&workspace, plan.sources())?;
    let image = Image::make(&workspace, &artifacts, &plan)?;
    let record = Record::of_run(&workspace.target)?;
    let command = configuration.command(&image.boot.kernel, image.boot.module.as_deref());
    let manifest = &image.manifest;
    let command = format!("{command:?}");
    record.write_json("config.json", &Setup { machine: &configuration, manifest, command })?;

    announce(&configuration, &image.boot.kernel);
    let guest = Guest::start(&configuration, &image.boot, record, show)?;
    let keyboard = guest.keyboard();
    let interrupt = keyboard.clone();
    ctrlc::set_handler(move || interrupt.interrupt()).context("cannot catch Ctrl-C")?;
    thread::spawn(move || type_on(&keyboard));
    if guest.wait_end_or_interrupt() {
        eprintln!("xtask: stopping");
        return Ok(match guest.finish(STOP_DEADLINE) {
            Ok(outcome) => report(&workspace, &outcome),
            Err(error) => {
                eprintln!("xtask: {error:#}");
                ExitCode::from(STOPPED)
            }
        });
    }
    Ok(report(&workspace, &guest.finish(STOP_DEADLINE)?))
}

fn plan<'a>(workspace: &'a Workspace, options: &Options) -> Result<Plan<'a>> {
    let names = if options.apps.is_empty() { &workspace.start } else { &options.apps };
    if names.is_empty() {
        bail!("no program to start: name one with --app");
    }
    let mut plan = Plan::new(workspace, names)?;
    for (name, text) in &options.args {
        plan.set_arguments(name, text)?;
    }
    if let Some(seed) = options.seed {
        plan.seed = seed;
    }
    plan.linger = !options.once && plan.has_service();
    Ok(plan)
}

fn configuration(options: &Options, plan: &Plan) -> Result<Configuration> {
    let accelerator = if options.kvm { Accelerator::Kvm } else { Accelerator::Tcg };
    if options.kvm
        && let Some(reason) = obstacle(accelerator)?
    {
        bail!(
            "KVM is no use here: {reason}\nrun without --kvm: QEMU's translator works everywhere"
        );
    }
    let network = match &options.net {
        Net::None => Network::None,
        Net::Tap(interface) => {
            require_tap(interface)?;
            Network::Tap(interface.clone())
        }
        Net::User if options.forward.is_empty() => {
            Network::User(if serves(plan, HTTP.guest) { vec![HTTP] } else { Vec::new() })
        }
        Net::User => Network::User(options.forward.clone()),
    };
    if !matches!(options.net, Net::User) && !options.forward.is_empty() {
        bail!("--forward needs --net user");
    }
    if let Network::User(forwards) = &network {
        forwards.iter().try_for_each(require_free)?;
    }
    Ok(Configuration {
        board: options.machine,
        cpus: options.cpus,
        memory: options.mem,
        network,
        acpi: true,
        accelerator,
        clock: Clock::Host,
        counter: None,
        debugger: options.gdb,
        options: String::new(),
    })
}

/// Whether a program's contract has this TCP port.
fn serves(plan: &Plan, port: u16) -> bool {
    let programs = plan.manifest().programs;
    programs.iter().any(|program| program.ports.contains(&Port::Tcp(port)))
}

/// QEMU's own message about a port in use is hard to read, and comes late.
fn require_free(forward: &Forward) -> Result<()> {
    if forward.udp {
        return Ok(());
    }
    let port = forward.host;
    TcpListener::bind(("127.0.0.1", port)).map(drop).map_err(|error| {
        let other = port.checked_add(1).unwrap_or(8081);
        anyhow!(
            "host port {port} cannot be used ({error}); \
             choose another: cargo xtask run --forward {other}:{}",
            forward.guest
        )
    })
}

fn require_tap(interface: &str) -> Result<()> {
    if Path::new("/sys/class/net").join(interface).exists() {
        return Ok(());
    }
    bail!(
        "there is no interface `{interface}`. To make one that you may use:\n  \
         sudo ip tuntap add dev {interface} mode tap user $USER\n  \
         sudo ip addr add 10.0.2.2/24 dev {interface}\n  \
         sudo ip link set {interface} up"
    )
}

fn announce(configuration: &Configuration, kernel: &Path) {
    if let Network::User(forwards) = &configuration.network {
        for forward in forwards {
            let protocol = if forward.udp { "udp" } else { "tcp" };
            eprintln!(
                "xtask: localhost:{} leads to {protocol} port {} of the guest; Ctrl-C ends the run",
                forward.host, forward.guest
            );
        }
    }
    if configuration.debugger {
        eprintln!("xtask: waiting for: gdb {} -ex 'target remote :1234'", kernel.display());
    }
}

fn show(line: &str) {
    // Who closed the pipe does not want the console; the run goes on.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Hands what is typed to the guest until there is no more.
fn type_on(keyboard: &Keyboard) {
    let mut bytes = [0; 256];
    while let Ok(length @ 1..) = std::io::stdin().read(&mut bytes) {
        if keyboard.send(&bytes[..length]).is_err() {
            return;
        }
    }
}

fn report(workspace: &Workspace, outcome: &Outcome) -> ExitCode {
    if let Some(leaks) = outcome.leaks.as_ref().filter(|leaks| !leaks.missing.is_empty()) {
        eprintln!("xtask: not given back: {:?}", leaks.missing);
    }
    let boot = outcome.boot.map_or_else(String::new, |time| {
        format!(", first line of a program after {} ms", time.as_millis())
    });
    let folder = outcome.folder.strip_prefix(&workspace.root).unwrap_or(&outcome.folder);
    eprintln!(
        "xtask: {} after {:.1} s{boot}; record in {}",
        outcome.whole_verdict(),
        outcome.duration.as_secs_f64(),
        folder.display()
    );
    ExitCode::from(outcome.exit_status())
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "user" => Ok(Self::User),
            None if text == "none" => Ok(Self::None),
            None if text == "tap" => Ok(Self::Tap("exo0".to_owned())),
            Some(("tap", interface)) if !interface.is_empty() => {
                Ok(Self::Tap(interface.to_owned()))
            }
            _ => Err("one of user, tap, tap=INTERFACE, none".to_owned()),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=TEXT, such as web=port=81")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn mebibytes(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let size = digits.parse::<u32>().ok().and_then(|size| size.checked_mul(factor));
    match size {
        Some(size @ 16..=1_048_576) => Ok(size),
        _ => Err("a size between 16M and 1024G, such as 256M or 1G".to_owned()),
    }
}

fn forward(text: &str) -> Result<Forward, String> {
    let (udp, ports) = match text.strip_prefix("udp:") {
        Some(ports) => (true, ports),
        None => (false, text.strip_prefix("tcp:").unwrap_or(text)),
    };
    let parse = |port: &str| port.parse::<u16>().ok().filter(|port| *port != 0);
    let pair = ports.split_once(':').and_then(|(host, guest)| Some((parse(host)?, parse(guest)?)));
    let (host, guest) = pair.ok_or("HOST:GUEST, two port numbers, such as 8080:80")?;
    Ok(Forward { udp, host, guest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(mebibytes("64M"), Ok(64));
        assert_eq!(mebibytes("512"), Ok(512));
        assert_eq!(mebibytes("2G"), Ok(2048));
        for text in ["", "M", "8M", "-1", "64K", "99999999G"] {
            assert!(mebibytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn forwards() {
        assert_eq!(forward("8080:80"), Ok(Forward { udp: false, host: 8080, guest: 80 }));
        assert_eq!(forward("udp:53:5353"), Ok(Forward { udp: true, host: 53, guest: 5353 }));
        for text in ["", "80", "80:", "0:80", "1:70000", "a:b", "sctp:1:2"] {
            assert!(forward(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        assert!(matches!("tap=t1".parse(), Ok(Net::Tap(name)) if name == "t1"));
        assert!(matches!("none".parse(), Ok(Net::None)));
        assert!("bridge".parse::<Net>().is_err());
        assert!("tap=".parse::<Net>().is_err());
    }
}
