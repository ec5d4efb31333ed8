//! edf: periodic tasks that meet their deadlines under one policy and miss them under another, both
//! in a scheduler that is a program.
//!
//! The kernel knows slice positions and directed yield, and nothing of deadlines. This program
//! holds positions; each task is a child that computes and holds none. A task is released once in
//! each period, and has to run for its cost before it is released again. For each of its slices
//! this program chooses a task that has work left, and yields to its worker. At the slice's end the
//! worker gives the processor up, and this program's next position comes round. What a worker has
//! run, the kernel exposes.
//!
//! The trace is run twice: earliest deadline first, which meets every deadline that can be met
//! (C. L. Liu and J. W. Layland, *Scheduling Algorithms for Multiprogramming in a Hard-Real-Time
//! Environment*, JACM 20(1), 1973), and round robin, which is fair and late.
//!
//! A policy is one function: see [`earliest_deadline`], and add yours to [`POLICIES`].
//!
//! Arguments: `trace=PERIOD:COST,…` in slices, at most as many as the contract has environments;
//! `rounds=N` of the longest period. The code is 0 only if the first policy missed no deadline and
//! the second missed some. On a busy host the time of the host stands still for the guest now and
//! then; that must be short beside the slack in the periods.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use exo_user::time::{self, MILLISECOND};
use exo_user::{EnvName, Error, Start, child, environment, println, tables};

exo_user::program!(main);

/// Chooses a task that has work at this time, given who was chosen last.
type Policy = fn(&[Task], u64, usize) -> Option<usize>;

/// What is compared.
const POLICIES: [(&str, Policy); 2] =
    [("earliest deadline first", earliest_deadline), ("round robin", round_robin)];

/// A task. Times are in nanoseconds, and begin with the trace.
struct Task {
    worker: EnvName,
    period: u64,
    cost: u64,
    /// How often it was done, and how often of these, or not at all, in time.
    done: u64,
    missed: u64,
    /// What is left of the release after those that are done.
    left: u64,
}

fn main(start: &Start<'_>) -> u64 {
    let trace = start.argument("trace").unwrap_or("500:250,1000:300,2000:200");
    let tasks: Option<Result<Vec<_>, _>> = (1..).zip(trace.split(',')).map(Task::new).collect();
    let Some(tasks) = tasks else {
        println!("edf: a trace is PERIOD:COST,PERIOD:COST and so on, in slices");
        return 2;
    };
    let missed = tasks.and_then(|mut tasks| {
        let load: u64 = tasks.iter().map(|task| task.cost * 1000 / task.period).sum();
        println!("edf: {trace} in slices of {} us: load {} %", slice() / 1000, load / 10);
        let longest = tasks.iter().map(|task| task.period).max().unwrap_or(0);
        let length = start.number("rounds", 2) * longest;
        let missed = POLICIES.map(|policy| run(policy, &mut tasks, length));
        tasks.iter().for_each(|task| child::remove(task.worker));
        let [first, second] = missed;
        Ok((first?, second?))
    });
    match missed {
        Ok((0, 1..)) => 0,
        Ok(_) => 1,
        Err(error) => {
            println!("edf: the kernel refuses: {error:?}");
            2
        }
    }
}

/// The task whose deadline is next.
fn earliest_deadline(tasks: &[Task], now: u64, _: usize) -> Option<usize> {
    let ready = (0..tasks.len()).filter(|&task| tasks[task].release() <= now);
    ready.min_by_key(|&task| tasks[task].deadline())
}

/// The next task in a circle.
fn round_robin(tasks: &[Task], now: u64, last: usize) -> Option<usize> {
    let circle = (1..=tasks.len()).map(|step| (last + step) % tasks.len());
    circle.into_iter().find(|&task| tasks[task].release() <= now)
}

/// Runs the trace under a policy, and prints what came of it. Returns how many deadlines were missed.
fn run((name, policy): (&str, Policy), tasks: &mut [Task], length: u64) -> Result<u64, Error> {
    let start = time::now();
    tasks.iter_mut().for_each(Task::reset);
    let mut last = 0;
    loop {
        let now = time::now() - start;
        if now >= length {
            break;
        }
        if let Some(chosen) = policy(tasks, now, last) {
            tasks[chosen].run(start)?;
            last = chosen;
        } else {
            let next = tasks.iter().map(Task::release).min().unwrap_or(length);
            environment::sleep(start + next);
        }
    }
    for task in tasks.iter_mut() {
        task.close(length);
        task.print(name, length);
    }
    let missed = tasks.iter().map(|task| task.missed).sum();
    println!("edf: {name}: {missed} deadlines missed");
    Ok(missed)
}

impl Task {
    fn new((number, text): (u8, &str)) -> Option<Result<Self, Error>> {
        let (period, cost) = text.split_once(':')?;
        let (period, cost) = (period.parse::<u64>().ok()?, cost.parse::<u64>().ok()?);
        (period > 0 && cost > 0).then(|| {
            let contract =
                child::Contract { label: "task", number, frames: 1, ..child::Contract::default() };
            let worker = child::create(contract)?;
            child::start(worker, child::compute, 0)?;
            let (period, cost) = (period * slice(), cost * slice());
            Ok(Self { worker, period, cost, done: 0, missed: 0, left: cost })
        })
    }

    fn reset(&mut self) {
        (self.done, self.missed, self.left) = (0, 0, self.cost);
    }

    /// When the oldest release that is not done was, or will be.
    fn release(&self) -> u64 {
        self.done * self.period
    }

    /// When the oldest release that is not done must be.
    fn deadline(&self) -> u64 {
        self.release() + self.period
    }

    /// Lets the worker have the rest of the slice. Costs are whole slices, so what the scheduler
    /// itself took of them is no debt of the task's.
    fn run(&mut self, start: u64) -> Result<(), Error> {
        let before = tables::run_time(self.worker);
        environment::yield_to(self.worker)?;
        self.left = self.left.saturating_sub(tables::run_time(self.worker) - before);
        if self.left < slice() / 2 {
            self.finish(time::now() - start);
        }
        Ok(())
    }

    fn finish(&mut self, now: u64) {
        self.missed += u64::from(now > self.deadline());
        self.done += 1;
        self.left = self.cost;
    }

    /// The trace has ended: what should be done by now, and is not, was missed.
    fn close(&mut self, end: u64) {
        while self.deadline() < end {
            self.finish(end);
        }
    }

    fn print(&self, name: &str, length: u64) {
        let releases = length.div_ceil(self.period);
        let bar = self.missed as usize;
        println!(
            "edf: {name}: {:4} of {:4} ms: {releases:3} releases, {:3} missed {:#<bar$}",
            self.cost / MILLISECOND,
            self.period / MILLISECOND,
            self.missed,
            "",
        );
    }
}

/// Nanoseconds of a slice.
fn slice() -> u64 {
    tables::system().slice
}
