//! stride: shares of the processor in proportion to tickets, by a scheduler that is a program.
//!
//! The kernel knows slice positions and directed yield, and nothing of shares. This program holds
//! positions; its workers compute without end and hold none. For each of its slices it chooses a
//! worker and yields to it. At the slice's end the worker gives the processor up, and this program's
//! next position comes round.
//!
//! The policy is stride scheduling: each client has a pass that grows with what it has run, the
//! more slowly the more tickets it has, and the client with the least pass is next. C. A.
//! Waldspurger and W. E. Weihl, *Stride Scheduling: Deterministic Proportional-Share Resource
//! Management*, MIT/LCS/TM-528, 1995. As in section 3.3 there, a client that ran for less or more
//! than a slice pays for what it ran; the kernel exposes that.
//!
//! For another policy change [`choose`], and [`Client::charge`] if it keeps other accounts.
//!
//! Arguments: `seconds=N`, `tickets=N,N,N`, at most as many as the contract has environments. The
//! code is 0 only if every share is within 1 % of its client's part of the tickets.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use exo_user::time::{self, MILLISECOND, SECOND};
use exo_user::{EnvName, Error, Start, child, environment, println, tables};

exo_user::program!(main);

/// What the pass of a client with a single ticket grows by in a nanosecond.
const STRIDE1: u64 = 1 << 16;
/// How long the bar of a share of one would be.
const BAR: u64 = 60;
/// How many parts of a share are told apart: hundredths of a percent.
const PARTS: u64 = 10_000;

/// A worker, and what it has had.
struct Client {
    worker: EnvName,
    tickets: u64,
    pass: u64,
    turns: u64,
    /// Its run time, as exposed, before the first turn and after the last.
    run_time: (u64, u64),
}

fn main(start: &Start<'_>) -> u64 {
    let tickets = start.argument("tickets").unwrap_or("3,2,1").split(',');
    let Some(tickets) = tickets.map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()
    else {
        println!("stride: tickets are numbers with commas between them");
        return 2;
    };
    let clients: Result<Vec<_>, _> = (1..).zip(tickets).map(Client::new).collect();
    let result = clients.and_then(|mut clients| {
        schedule(&mut clients, time::now() + start.number("seconds", 10) * SECOND)?;
        clients.iter().for_each(|client| child::remove(client.worker));
        Ok(report(&clients))
    });
    match result {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            println!("stride: the kernel refuses: {error:?}");
            2
        }
    }
}

/// Who is next: the client with the least pass.
fn choose(clients: &mut [Client]) -> Option<&mut Client> {
    clients.iter_mut().min_by_key(|client| client.pass)
}

/// Gives slices away until the time has come.
fn schedule(clients: &mut [Client], end: u64) -> Result<(), Error> {
    while time::now() < end {
        let Some(client) = choose(clients) else { break };
        environment::yield_to(client.worker)?;
        client.charge();
    }
    Ok(())
}

impl Client {
    fn new((number, tickets): (u8, u32)) -> Result<Self, Error> {
        let contract =
            child::Contract { label: "worker", number, frames: 1, ..child::Contract::default() };
        let worker = child::create(contract)?;
        child::start(worker, child::compute, 0)?;
        let now = tables::run_time(worker);
        Ok(Self {
            worker,
            tickets: u64::from(tickets.max(1)),
            pass: 0,
            turns: 0,
            run_time: (now, now),
        })
    }

    /// Charges what the client has run since the last time.
    fn charge(&mut self) {
        let now = tables::run_time(self.worker);
        self.pass += (now - self.run_time.1) * STRIDE1 / self.tickets;
        self.run_time.1 = now;
        self.turns += 1;
    }

    fn had(&self) -> u64 {
        self.run_time.1 - self.run_time.0
    }
}

/// Prints the shares. Returns whether all are within 1 % of what they should be.
fn report(clients: &[Client]) -> bool {
    let total: u64 = clients.iter().map(Client::had).sum::<u64>().max(1);
    let tickets: u64 = clients.iter().map(|client| client.tickets).sum();
    println!("stride: tickets  turns   run ms   share  wanted");
    let mut kept = true;
    for client in clients {
        let share = client.had() * PARTS / total;
        let wanted = client.tickets * PARTS / tickets;
        let bar = (share * BAR / PARTS) as usize;
        println!(
            "stride: {:7} {:6} {:8} {:3}.{:02}% {:3}.{:02}% {:#<bar$}",
            client.tickets,
            client.turns,
            client.had() / MILLISECOND,
            share / 100,
            share % 100,
            wanted / 100,
            wanted % 100,
            "",
        );
        kept &= share.abs_diff(wanted) * 100 <= wanted;
    }
    println!("stride: the shares are {}", if kept { "within 1 %" } else { "off by more than 1 %" });
    kept
}
