//! Rule: a remote call ends. The server may die in the middle, never answer, answer too late, not be
//! there; the caller may be told of something else meanwhile; somebody may try a gate that is not
//! open for him.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use exo_user::abi::calls::TransferMode;
use exo_user::abi::upcall::Event;
use exo_user::child;
use exo_user::gate::{self, Answer, Failure, Request};
use exo_user::upcall::{self, Handlers, Interrupted};
use exo_user::{EnvName, Error, Start, contract, control, environment, lrpc, println, rpc, time};
use guest_probes::peer;
use guest_probes::rule::{granted, holds, same};

exo_user::program!(main);

/// What the server is asked for, in the first word.
const DOUBLE: u64 = 0;
const DIE: u64 = 1;
/// Sleeps for as many nanoseconds as the second word says, and answers then.
const SLOW: u64 = 2;
const SILENT: u64 = 3;
/// Tries to enter the environment in the second word, and says what that got.
const ENTER: u64 = 4;
/// Says how many requests there were.
const COUNT: u64 = 5;

static CHILD_ENDS: AtomicU64 = AtomicU64::new(0);

extern "sysv64" fn serve(parent: u64) -> ! {
    let mut requests = 0;
    let mut handler = |request: &mut Request| {
        requests += 1;
        let [number, value, ..] = request.message.words;
        request.message.words[1] = match number {
            DOUBLE => 2 * value,
            DIE => environment::exit(7),
            SLOW => {
                let until = time::now() + value;
                while time::now() < until {
                    environment::sleep(until);
                }
                value
            }
            SILENT => return Answer::None,
            ENTER => match gate::transfer(EnvName(value), TransferMode::Asynchronous, 0) {
                Err(Failure::Refused(error)) => error as u64,
                _ => 0,
            },
            _ => requests,
        };
        Answer::Now
    };
    loop {
        gate::serve(EnvName(parent), time::NEVER, &mut handler);
    }
}

/// A service for nobody but itself.
extern "sysv64" fn serve_nobody(_: u64) -> ! {
    loop {
        gate::serve(contract::name(), time::NEVER, &mut |_: &mut Request| Answer::Now);
    }
}

extern "sysv64" fn end_soon(_: u64) -> ! {
    environment::sleep(time::now() + time::MILLISECOND);
    environment::exit(0)
}

fn call(server: EnvName, number: u64, value: u64, until: u64) -> Result<u64, Failure> {
    rpc::call(server, [number, value, 0, 0, 0, 0, 0], until).map(|words| words[1])
}

fn soon() -> u64 {
    time::now() + 5 * time::MILLISECOND
}

/// A server that has started and waits.
fn server(number: u8) -> EnvName {
    let server = peer::create("server", number, 0);
    peer::start(server, serve);
    same("an answer", call(server, DOUBLE, 21, time::NEVER), Ok(42));
    server
}

fn deadlines() {
    let server = server(1);
    let until = soon();
    same("silence", call(server, SILENT, 0, until), Err(Failure::Deadline));
    holds("it has waited", time::now() >= until);
    // The answer to this comes when nobody wants it; the next call must not take it for its own.
    let long = 20 * time::MILLISECOND;
    same("slowness", call(server, SLOW, long, soon()), Err(Failure::Deadline));
    same("the next", call(server, DOUBLE, 4, time::NEVER), Ok(8));
    same("patience", call(server, SLOW, time::MILLISECOND, time::NEVER), Ok(time::MILLISECOND));
    same("one by one", call(server, COUNT, 0, time::NEVER), Ok(6));
    let deaf = peer::create("deaf", 2, 0);
    same("not started", call(deaf, DOUBLE, 1, soon()), Err(Failure::Deadline));
    peer::start(deaf, serve_nobody);
    same("not for us", call(deaf, DOUBLE, 1, soon()), Err(Failure::Deadline));
    let refused = Ok(Error::GateClosed as u64);
    same("a gate of others", call(server, ENTER, deaf.0, time::NEVER), refused);
    same("itself", call(contract::name(), 0, 0, time::NEVER).map_err(Failure::is_busy), Err(true));
    child::remove(deaf);
    same("removed", call(deaf, DOUBLE, 1, time::NEVER), Err(Failure::Ended));
    let nobody = Failure::Refused(Error::NoEnvironment);
    same("nobody", call(EnvName::new(9999, 1), DOUBLE, 1, time::NEVER), Err(nobody));
    child::remove(server);
    control::take(Event::ChildEnded);
}

fn deaths() {
    for number in 0..20 {
        let server = server(number);
        same("death in the middle", call(server, DIE, 0, time::NEVER), Err(Failure::Ended));
        same("afterwards", call(server, DOUBLE, 0, time::NEVER), Err(Failure::Ended));
        child::remove(server);
        control::take(Event::ChildEnded);
    }
}

fn note(_: &mut Interrupted) {
    CHILD_ENDS.fetch_add(1, Relaxed);
}

/// Events come in the middle of a call and are handled; the call goes on.
fn events() {
    static HANDLERS: Handlers = Handlers {
        child_ended: Some(note),
        slice_end: Some(upcall::give_slice_up),
        ..Handlers::NONE
    };
    control::take(Event::ChildEnded);
    granted("handlers", upcall::install_with_stack(2, &HANDLERS));
    let server = server(1);
    for turn in 1..=5 {
        let other = peer::create("other", 2, 1);
        peer::start(other, end_soon);
        // It ends while this waits for an answer, sooner or later.
        let mut calls = 0;
        while CHILD_ENDS.load(Relaxed) < turn && calls < 100 {
            let long = 2 * time::MILLISECOND;
            same("a call with an event", call(server, SLOW, long, time::NEVER), Ok(long));
            calls += 1;
        }
        same("events", CHILD_ENDS.load(Relaxed), turn);
        child::remove(other);
    }
    child::remove(server);
}

fn lrpc_calls() {
    peer::bind_shared();
    let server = peer::create("server", 3, 0);
    peer::share(server);
    peer::start(server, serve_sums);
    // SAFETY: the page was bound for this.
    let stack = unsafe { lrpc::ArgumentStack::at(peer::SHARED) };
    let mut binding = lrpc::Binding::new(server, stack);
    for count in 1..400_u64 {
        stack.set(0, count);
        (1..=count).for_each(|index| stack.set(index as usize, index * index));
        same("a sum", binding.call(0, time::NEVER), Ok((1..=count).map(|n| n * n).sum()));
        same("the largest", binding.call(1, time::NEVER), Ok(0));
        same("a result", stack.get(0), count * count);
    }
    same("no procedure", binding.call(2, time::NEVER), Err(lrpc::LrpcError::Unknown));
    same("no procedure", binding.call(u64::MAX, time::NEVER), Err(lrpc::LrpcError::Unknown));
    child::remove(server);
}

extern "sysv64" fn serve_sums(parent: u64) -> ! {
    fn sum(stack: &lrpc::ArgumentStack) -> u64 {
        let count = stack.get(0).min(lrpc::STACK_WORDS as u64) as usize;
        (1..=count).map(|index| stack.get(index)).sum()
    }
    fn largest(stack: &lrpc::ArgumentStack) -> u64 {
        let count = stack.get(0).min(lrpc::STACK_WORDS as u64) as usize;
        stack.set(0, (1..=count).map(|index| stack.get(index)).max().unwrap_or(0));
        0
    }
    let client = EnvName(parent);
    // SAFETY: the parent has bound the page for this.
    let stack = unsafe { lrpc::ArgumentStack::at(peer::SHARED) };
    let interface = lrpc::Interface { client, stack, procedures: &[sum, largest] };
    loop {
        gate::serve(client, time::NEVER, &mut |request: &mut Request| interface.dispatch(request));
    }
}

fn main(_: &Start<'_>) -> u64 {
    peer::keep_one_slice();
    deadlines();
    deaths();
    lrpc_calls();
    events();
    println!("every call has ended");
    0
}
