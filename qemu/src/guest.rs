//! A running machine: its console, its reports, its end.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use exo_abi::boot::VERDICT_MAX;
use serde::Serialize;

use crate::backlog::Backlog;
use crate::backtrace::{Executables, symbolise};
use crate::console::{Event, KERNEL_LABEL, Leaks, Line, Tables};
use crate::machine::{Configuration, QEMU};
use crate::record::Record;
use crate::verdict::Verdict;

/// The byte that asks `init` to stop everything: Ctrl-C.
const INTERRUPT: u8 = 3;
/// A line without an end is cut here, so that a flood does not become one line.
const LONGEST_LINE: usize = 1 << 20;
/// How many lines of the transcript an error quotes.
const QUOTED_LINES: usize = 25;

/// What is booted.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The kernel.
    pub kernel: PathBuf,
    /// The boot module, if there is one.
    pub module: Option<PathBuf>,
    /// Files with line tables, by label.
    pub executables: Executables,
    /// The workspace: paths in backtraces are shown from here.
    pub root: PathBuf,
}

/// A machine that was started. Dropping it ends it.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    input: Arc<Mutex<Option<ChildStdin>>>,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    record: Record,
    started: Instant,
}

/// How a machine ended and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The kernel's verdict.
    pub verdict: Verdict,
    /// Every line, with backtraces symbolised.
    pub transcript: Vec<String>,
    /// The exposed tables at the end.
    pub tables: Option<serde_json::Value>,
    /// The report on resources that were not given back.
    pub leaks: Option<Leaks>,
    /// Programs that ended, with their codes, in order.
    pub exits: Vec<(String, u64)>,
    /// From QEMU's start to the first line of a program.
    pub boot: Option<Duration>,
    /// From QEMU's start to its end.
    pub duration: Duration,
    /// The folder with the record.
    pub folder: PathBuf,
}

impl Outcome {
    /// The exit status of the run: the code of the first program that failed, or 0. The machine's
    /// verdict has no room for large codes; `init` reports them beside it.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        self.whole_verdict().exit_status()
    }

    /// The verdict with the whole code, for people.
    #[must_use]
    pub fn whole_verdict(&self) -> Verdict {
        let leaked = self.leaks.as_ref().is_some_and(|leaks| !leaks.missing.is_empty());
        whole_code(self.verdict, leaked, &self.exits)
    }
}

/// The verdict with the code that `init` reported where the machine's own is clamped.
fn whole_code(verdict: Verdict, leaked: bool, exits: &[(String, u64)]) -> Verdict {
    let clamped = verdict == Verdict::Code(VERDICT_MAX as u8);
    match exits.iter().map(|(_, code)| *code).find(|code| *code != 0) {
        Some(code) if clamped && !leaked => Verdict::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        _ => verdict,
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
    interrupted: bool,
    boot: Option<Duration>,
    tables: Option<String>,
    leaks: Option<Leaks>,
    exits: Vec<(String, u64)>,
}

#[derive(Serialize)]
struct Statistics<'a> {
    verdict: String,
    exit_status: u8,
    boot_milliseconds: Option<u128>,
    duration_milliseconds: u128,
    lines: usize,
    exits: &'a [(String, u64)],
    missing_resources: Option<&'a std::collections::BTreeMap<String, i64>>,
}

impl Guest {
    /// Starts the machine. `show` gets every line that is meant for people.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn start(
        configuration: &Configuration,
        boot: &Boot,
        record: Record,
        show: impl FnMut(&str) + Send + 'static,
    ) -> Result<Self> {
        let mut command = configuration.command(&boot.kernel, boot.module.as_deref());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(record.create("qemu-errors.txt")?);
        // Ctrl-C on the terminal is for this tool, which ends the guest in order.
        command.process_group(0);
        end_with_parent(&mut command);
        let transcript = record.create("transcript.txt")?;
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {QEMU}"))?;
        let output = child.stdout.take().context("QEMU without an output")?;
        let input = Arc::new(Mutex::new(child.stdin.take()));
        let shared = Arc::new(Shared::default());
        let reader = Reader {
            backlog: Some(Backlog::of(&child)),
            shared: Arc::clone(&shared),
            transcript,
            boot: boot.clone(),
            record: record.clone(),
            started,
            parts: Tables::default(),
            show: Box::new(show),
        };
        let reader = thread::spawn(move || reader.run(output));
        Ok(Self { child, input, shared, reader: Some(reader), record, started })
    }

    /// Waits until a line contains `text`, and returns that line. Lines that came before the call
    /// count.
    ///
    /// # Errors
    /// The guest ended without such a line, or `patience` is over; the message quotes the end of
    /// the transcript.
    pub fn wait_for(&self, text: &str, patience: Duration) -> Result<String> {
        self.wait_for_times(text, 1, patience)
    }

    /// Waits until `count` lines contain `text`, and returns the last of these.
    ///
    /// # Errors
    /// As [`Guest::wait_for`].
    pub fn wait_for_times(&self, text: &str, count: usize, patience: Duration) -> Result<String> {
        let found = |state: &State| {
            let mut lines = state.lines.iter().filter(|line| line.contains(text));
            lines.nth(count.saturating_sub(1)).cloned()
        };
        let state = self.shared.wait(patience, |state| state.ended || found(state).is_some());
        let reason = if state.ended { "the guest ended" } else { "the deadline passed" };
        found(&state).ok_or_else(|| {
            anyhow!("{reason} and `{text}` was not seen {count} times\n{}", self.quote(&state))
        })
    }

    /// Waits until the guest ends or [`Keyboard::interrupt`] is called, and returns whether it is
    /// the latter. This is the one wait without a deadline: a person sits in front of it.
    #[must_use]
    pub fn wait_end_or_interrupt(&self) -> bool {
        let state = self.shared.wait(Duration::MAX, |state| state.ended || state.interrupted);
        !state.ended
    }

    /// Writes to the guest's console.
    ///
    /// # Errors
    /// The guest has ended.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        write_to(&self.input, bytes)
    }

    /// A handle that can write to the console and interrupt the guest from another thread.
    #[must_use]
    pub fn keyboard(&self) -> Keyboard {
        Keyboard { input: Arc::clone(&self.input), shared: Arc::clone(&self.shared) }
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.shared.lock().lines.clone()
    }

    /// The time from QEMU's start to the first line of a program, if there was one.
    #[must_use]
    pub fn boot(&self) -> Option<Duration> {
        self.shared.lock().boot
    }

    /// Waits for the end and gathers what the run left.
    ///
    /// # Errors
    /// The guest did not end within `patience` (it is then killed), QEMU failed, or the record
    /// cannot be written.
    pub fn finish(mut self, patience: Duration) -> Result<Outcome> {
        let ended = self.shared.wait(patience, |state| state.ended).ended;
        if !ended {
            self.child.kill().context("cannot end QEMU")?;
        }
        let status = self.child.wait().context("cannot wait for QEMU")?;
        let duration = self.started.elapsed();
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| anyhow!("the thread that reads the console panicked"))?;
        }
        let verdict = Verdict::from_status(status);
        let state = self.shared.lock();
        self.write_statistics(&state, verdict, duration)?;
        if !ended {
            bail!("the guest did not end within {patience:?}\n{}", self.quote(&state));
        }
        if matches!(verdict, Verdict::Qemu(_) | Verdict::Signal(_)) {
            let errors = fs::read_to_string(self.record.folder().join("qemu-errors.txt"));
            bail!("{verdict}: {}\n{}", errors.unwrap_or_default().trim(), self.quote(&state));
        }
        let tables = match &state.tables {
            Some(text) => Some(
                serde_json::from_str(text)
                    .context("the tables that the guest sent are not JSON")?,
            ),
            None => None,
        };
        Ok(Outcome {
            verdict,
            transcript: state.lines.clone(),
            tables,
            leaks: state.leaks.clone(),
            exits: state.exits.clone(),
            boot: state.boot,
            duration,
            folder: self.record.folder().to_owned(),
        })
    }

    fn write_statistics(&self, state: &State, verdict: Verdict, duration: Duration) -> Result<()> {
        if let Some(text) = &state.tables {
            self.record.create("tables.json")?.write_all(text.as_bytes())?;
        }
        let leaked = state.leaks.as_ref().is_some_and(|leaks| !leaks.missing.is_empty());
        let verdict = whole_code(verdict, leaked, &state.exits);
        self.record.write_json(
            "statistics.json",
            &Statistics {
                verdict: verdict.to_string(),
                exit_status: verdict.exit_status(),
                boot_milliseconds: state.boot.map(|time| time.as_millis()),
                duration_milliseconds: duration.as_millis(),
                lines: state.lines.len(),
                exits: &state.exits,
                missing_resources: state.leaks.as_ref().map(|leaks| &leaks.missing),
            },
        )
    }

    /// The end of the transcript and where the rest is.
    fn quote(&self, state: &State) -> String {
        let skipped = state.lines.len().saturating_sub(QUOTED_LINES);
        let folder = self.record.folder().display();
        format!(
            "the console ends with:\n{}\nall of it: {folder}",
            state.lines[skipped..].join("\n")
        )
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when QEMU has ended already, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The guest's keyboard, for a thread of its own.
#[derive(Clone, Debug)]
pub struct Keyboard {
    input: Arc<Mutex<Option<ChildStdin>>>,
    shared: Arc<Shared>,
}

impl Keyboard {
    /// Writes to the guest's console.
    ///
    /// # Errors
    /// The guest has ended.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        write_to(&self.input, bytes)
    }

    /// Asks `init` to stop everything, and wakes whoever waits for that.
    pub fn interrupt(&self) {
        // A guest that has ended needs no asking.
        let _ = self.send(&[INTERRUPT]);
        self.shared.lock().interrupted = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` holds or `patience` is over.
    fn wait(
        &self,
        patience: Duration,
        mut done: impl FnMut(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |state| !done(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The thread that reads the console.
struct Reader {
    /// Until the first line, with which QEMU surely listens.
    backlog: Option<Backlog>,
    shared: Arc<Shared>,
    transcript: File,
    boot: Boot,
    record: Record,
    started: Instant,
    parts: Tables,
    show: Box<dyn FnMut(&str) + Send>,
}

impl Reader {
    fn run(mut self, mut output: ChildStdout) {
        let mut line = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut chunk) {
            // The transcript is a by-product: a full disk must not end the run.
            let _ = self.transcript.write_all(&chunk[..length]);
            for &byte in &chunk[..length] {
                if byte == b'\n' || line.len() == LONGEST_LINE {
                    self.line(String::from_utf8_lossy(&line).trim_end_matches('\r'));
                    line.clear();
                } else {
                    line.push(byte);
                }
            }
        }
        if !line.is_empty() {
            self.line(&String::from_utf8_lossy(&line));
        }
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }

    fn line(&mut self, text: &str) {
        if let Some(backlog) = self.backlog.take() {
            backlog.widen();
        }
        let line = Line::parse(text);
        let program = line.label.is_some_and(|label| label != KERNEL_LABEL);
        let elapsed = self.started.elapsed();
        let event = line.event();
        let trace = match &event {
            Some(Event::Backtrace(name, addresses)) => self.backtrace(name, addresses),
            _ => Vec::new(),
        };
        if !line.is_report() {
            (self.show)(text);
        }
        trace.iter().for_each(|line| (self.show)(line));
        let mut state = self.shared.lock();
        if program && state.boot.is_none() {
            state.boot = Some(elapsed);
        }
        match event {
            Some(Event::Exit(name, code)) => state.exits.push((name, code)),
            Some(Event::Leak(leaks)) => state.leaks = Some(leaks),
            Some(Event::Tables(text)) => state.tables = Some(text),
            Some(Event::TablesPart { index, count, text }) => {
                if let Some(text) = self.parts.part(index, count, &text) {
                    state.tables = Some(text);
                }
            }
            Some(Event::Up | Event::Backtrace(..)) | None => {}
        }
        state.lines.push(text.to_owned());
        state.lines.extend(trace);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Symbolises, and keeps a copy in the record.
    fn backtrace(&self, name: &str, addresses: &[u64]) -> Vec<String> {
        let executable = self.boot.executables.get(name);
        let frames = symbolise(executable.map(PathBuf::as_path), &self.boot.root, addresses);
        let lines =
            frames.iter().enumerate().map(|(depth, frame)| format!("[{name}] {depth:4}: {frame}"));
        let lines: Vec<String> = lines.collect();
        let path = self.record.folder().join("backtraces.txt");
        // As with the transcript, a full disk must not end the run.
        if let Ok(mut file) = File::options().create(true).append(true).open(path) {
            let _ = writeln!(file, "{}\n", lines.join("\n"));
        }
        lines
    }
}

fn write_to(input: &Mutex<Option<ChildStdin>>, bytes: &[u8]) -> Result<()> {
    let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
    let input = input.as_mut().context("the guest's console has no input")?;
    input.write_all(bytes).and_then(|()| input.flush()).context("the guest has ended")
}

/// A machine must not outlive a tool that was killed: on Linux the kernel sees to it.
fn end_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        let in_child = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: the closure makes one system call and touches no memory of this process, so it
        // is sound between fork and exec.
        unsafe { command.pre_exec(in_child) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

#[cfg(test)]
mod tests;
