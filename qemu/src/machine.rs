//! Which machine QEMU makes: its board, processors, memory and network, as a command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use exo_abi::boot::VERDICT_PORT;
use serde::Serialize;

/// The program that is the machine.
pub const QEMU: &str = "qemu-system-x86_64";

/// The board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Board {
    /// Few devices, virtio over memory-mapped registers; boots in a few hundredths of a second.
    #[default]
    Microvm,
    /// A PC with PCI Express; virtio over PCI.
    Q35,
}

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// QEMU's translator: works everywhere.
    #[default]
    Tcg,
    /// The host's processor.
    Kvm,
}

/// What the guest's time follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The host's time.
    #[default]
    Host,
    /// The guest's instructions, and the host's time while it is idle: a busy host then does not
    /// make the guest miss its deadlines. Only for [`Accelerator::Tcg`].
    Instructions,
    /// The guest's instructions alone, one nanosecond each, with the same random numbers and the
    /// same date in every run: two runs of one guest are then the same, instruction by instruction,
    /// if it has one processor. Several take turns. Only for [`Accelerator::Tcg`].
    Exact,
}

/// What counts the guest's instructions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// The plugin of QEMU.
    pub plugin: PathBuf,
    /// Where it writes what it has counted.
    pub output: PathBuf,
    /// Where it writes the instructions themselves, if they are wanted.
    pub trace: Option<PathBuf>,
}

/// Nanoseconds for each instruction as a power of two, near what the translator reaches.
const INSTRUCTION_SHIFT: &str = "shift=2,sleep=on";
/// Time, random numbers and date of [`Clock::Exact`].
const EXACT: [&str; 6] =
    ["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2020-01-01,clock=vm"];

/// The registers and the interrupt of the first virtio device of microvm with ACPI, as Linux
/// writes them.
const FIRST_WINDOW: &str = "virtio_mmio.device=512@0xfeb00000:16";

/// A host port that leads into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// UDP instead of TCP.
    pub udp: bool,
    /// Port on the host, bound to 127.0.0.1.
    pub host: u16,
    /// Port in the guest.
    pub guest: u16,
}

/// What the network card is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// There is no card.
    None,
    /// QEMU's own network 10.0.2.0/24 with DHCP, and these doors into it.
    User(Vec<Forward>),
    /// A tap interface of the host, by name.
    Tap(String),
    /// QEMU's own network as in [`Network::User`], and on the same hub a cable whose other end a
    /// test holds: raw frames as datagrams between two Unix sockets.
    Wire {
        /// The socket that QEMU makes.
        machine: PathBuf,
        /// The socket of the test.
        host: PathBuf,
        /// Doors into QEMU's network.
        forwards: Vec<Forward>,
    },
}

/// A machine.
#[derive(Clone, Debug, Serialize)]
pub struct Configuration {
    /// The board.
    pub board: Board,
    /// Number of processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// The network.
    pub network: Network,
    /// Whether firmware describes the machine by ACPI: without it, the kernel finds one processor.
    pub acpi: bool,
    /// What runs the instructions.
    pub accelerator: Accelerator,
    /// What its time follows.
    pub clock: Clock,
    /// What counts its instructions.
    pub counter: Option<Counter>,
    /// Wait for a debugger on TCP port 1234 before the first instruction.
    pub debugger: bool,
    /// The kernel's command line.
    pub options: String,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            board: Board::Microvm,
            cpus: 1,
            memory: 256,
            network: Network::None,
            acpi: true,
            accelerator: Accelerator::Tcg,
            clock: Clock::Host,
            counter: None,
            debugger: false,
            options: String::new(),
        }
    }
}

impl Configuration {
    /// The command that boots `kernel`, with `module` if there is one. The console is the
    /// command's standard input and output.
    #[must_use]
    pub fn command(&self, kernel: &Path, module: Option<&Path>) -> Command {
        let mut command = Command::new(QEMU);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.arg("-machine").arg(match self.board {
            // One I/O interrupt controller is all that the kernel looks for.
            Board::Microvm if self.acpi => "microvm,acpi=on,ioapic2=off",
            Board::Microvm => "microvm,acpi=off",
            Board::Q35 if self.acpi => "q35",
            Board::Q35 => "q35,acpi=off",
        });
        command.arg("-accel").arg(match (self.accelerator, self.clock) {
            // Instructions can be counted on one thread only.
            (Accelerator::Tcg, Clock::Host) => "tcg,thread=multi",
            (Accelerator::Tcg, _) => "tcg,thread=single",
            (Accelerator::Kvm, _) => "kvm",
        });
        command.args(["-cpu", "max", "-smp", &self.cpus.to_string()]);
        command.arg("-m").arg(format!("{}M", self.memory));
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        command.arg("-device");
        command.arg(format!("isa-debug-exit,iobase={VERDICT_PORT:#x},iosize=0x4"));
        let backends = self.backends();
        for backend in &backends {
            command.arg("-netdev").arg(backend);
        }
        if !backends.is_empty() {
            command.arg("-device").arg(match self.board {
                Board::Microvm => "virtio-net-device,netdev=net,bus=virtio-mmio-bus.0",
                // No option ROM: nobody boots from this card, and the file may be missing.
                Board::Q35 => "virtio-net-pci,netdev=net,disable-legacy=on,romfile=",
            });
        }
        match self.clock {
            Clock::Host => {}
            Clock::Instructions => drop(command.args(["-icount", INSTRUCTION_SHIFT])),
            Clock::Exact => drop(command.args(EXACT)),
        }
        if let Some(Counter { plugin, output, trace }) = &self.counter {
            let mut argument = format!("file={},out={}", plugin.display(), output.display());
            if let Some(trace) = trace {
                argument.push_str(&format!(",trace={}", trace.display()));
            }
            command.arg("-plugin").arg(argument);
        }
        if self.debugger {
            command.args(["-gdb", "tcp:127.0.0.1:1234", "-S"]);
        }
        command.arg("-kernel").arg(kernel);
        if let Some(module) = module {
            command.arg("-initrd").arg(module);
        }
        let options = self.kernel_options();
        if !options.is_empty() {
            command.arg("-append").arg(options);
        }
        command
    }

    /// The kernel's command line. Where there is ACPI, QEMU describes the virtio devices of microvm
    /// in bytecode, which is nothing for a kernel; where there is none, it names them here itself.
    fn kernel_options(&self) -> String {
        let mut options = self.options.clone();
        if self.board == Board::Microvm && self.acpi && self.network != Network::None {
            if !options.is_empty() {
                options.push(' ');
            }
            options.push_str(FIRST_WINDOW);
        }
        options
    }

    /// The back ends of the network; the one that the card is connected to is called `net`.
    fn backends(&self) -> Vec<String> {
        match &self.network {
            Network::None => Vec::new(),
            Network::User(forwards) => vec![user("net", forwards)],
            Network::Tap(interface) => {
                vec![format!("tap,id=net,ifname={interface},script=no,downscript=no")]
            }
            Network::Wire { machine, host, forwards } => vec![
                user("user", forwards),
                format!(
                    "dgram,id=wire,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                    machine.display(),
                    host.display()
                ),
                "hubport,id=hub-user,hubid=0,netdev=user".to_owned(),
                "hubport,id=hub-wire,hubid=0,netdev=wire".to_owned(),
                "hubport,id=net,hubid=0".to_owned(),
            ],
        }
    }
}

fn user(id: &str, forwards: &[Forward]) -> String {
    let mut text = format!("user,id={id}");
    for forward in forwards {
        let protocol = if forward.udp { "udp" } else { "tcp" };
        let (host, guest) = (forward.host, forward.guest);
        text.push_str(&format!(",hostfwd={protocol}:127.0.0.1:{host}-:{guest}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(configuration: &Configuration) -> String {
        let command = configuration.command(Path::new("kernel"), Some(Path::new("module")));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn each_board_has_its_own_network_card() {
        let network = Network::User(vec![
            Forward { udp: false, host: 8080, guest: 80 },
            Forward { udp: true, host: 5353, guest: 53 },
        ]);
        let mut configuration = Configuration { network, ..Configuration::default() };
        let text = arguments(&configuration);
        assert!(text.contains("hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp:127.0.0.1:5353-:53"));
        assert!(text.contains("virtio-net-device") && !text.contains("virtio-net-pci"));
        configuration.board = Board::Q35;
        let text = arguments(&configuration);
        assert!(text.contains("virtio-net-pci") && !text.contains("virtio-net-device"));
    }

    #[test]
    fn nothing_listens_unless_asked() {
        let text = arguments(&Configuration::default());
        assert!(!text.contains("-netdev") && !text.contains("-gdb") && !text.contains("-append"));
        assert!(text.contains("-accel tcg"));
    }
}
