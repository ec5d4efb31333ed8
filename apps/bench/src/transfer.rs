//! Control transfer between this program and a child of its own.

use crate::measurement::Measurement;
use crate::{Bench, pingpongs};
use core::hint::black_box;
use libos_posix::exo_user::abi::calls::TransferMode;
use libos_posix::exo_user::abi::request::BindRequest;
use libos_posix::exo_user::child::{self, Contract, Entry};
use libos_posix::exo_user::gate::{self, Answer, Request, Rested};
use libos_posix::exo_user::pipe::{End, PipeError, Side};
use libos_posix::exo_user::time::NEVER;
use libos_posix::exo_user::{
    EnvName, Error, Rights, binding, capability, contract, environment, frame, layout, rpc,
};

/// The benches of this group.
pub(crate) const BENCHES: &[Bench] = &[
    ("pct_oneway", pct_oneway),
    ("rpc", call),
    ("pipe", pipe),
    ("two_pingpongs", pingpongs::two_pingpongs),
];

/// How often each is done in a batch.
const OPERATIONS: u64 = 20_000;
/// The page that a pipe lies in.
const PAGE: u64 = layout::SHARED.start;

/// A child without slices, which runs on this program's alone.
fn start(entry: Entry, page: Option<u64>) -> Result<EnvName, Error> {
    let contract = Contract { label: "peer", number: 1, ..Contract::default() };
    let child = child::create(contract)?;
    if let Some(page) = page {
        child::share(child, page, Rights::READ | Rights::WRITE | Rights::WIRED)?;
    }
    child::start(child, entry, contract::name().0)?;
    Ok(child)
}

/// There and back: two transfers in one operation. Whoever sleeps leaves its slices to the child.
fn pct_oneway(measurement: &mut Measurement) -> Result<(), Error> {
    let child = start(reflect, None)?;
    while gate::transfer(child, TransferMode::Synchronous, NEVER) != Ok(Rested::Entered) {
        environment::yield_to(child)?;
    }
    measurement.repeat(OPERATIONS, || {
        black_box(gate::transfer(child, TransferMode::Synchronous, NEVER).is_ok());
    });
    measurement.correct(2 * OPERATIONS);
    child::remove(child);
    Ok(())
}

/// Comes back to whoever transfers control to it.
pub(crate) extern "sysv64" fn reflect(parent: u64) -> ! {
    loop {
        if gate::transfer(EnvName(parent), TransferMode::Reply, NEVER).is_err() {
            // It is not at rest for this yet. What comes of this, the next transfer says.
            let _ = gate::give_way(EnvName(parent));
        }
    }
}

fn call(measurement: &mut Measurement) -> Result<(), Error> {
    let child = start(serve, None)?;
    let mut answered = true;
    measurement.repeat(OPERATIONS, || {
        answered &= black_box(rpc::call(child, [1; gate::WORDS], NEVER)).is_ok();
    });
    child::remove(child);
    if answered { Ok(()) } else { Err(Error::NotRunnable) }
}

extern "sysv64" fn serve(_: u64) -> ! {
    loop {
        gate::serve(EnvName::ANYBODY, NEVER, &mut |_: &mut Request| Answer::Now);
    }
}

fn pipe(measurement: &mut Measurement) -> Result<(), Error> {
    let rights = Rights::READ | Rights::WRITE | Rights::WIRED;
    let page = frame::allocate_any(capability::OWN)?;
    // SAFETY: nothing else is there.
    unsafe { binding::bind(&[BindRequest::new(PAGE, page, rights, capability::OWN)])? };
    let child = start(echo, Some(PAGE))?;
    // SAFETY: the page has just been bound for this.
    let mut end = unsafe { End::new(PAGE, Side::First, child) };
    let mut result = Ok(0);
    measurement.repeat(OPERATIONS, || {
        // However many bytes there are: the compiler is not to know.
        let mut byte = [7];
        let bytes = black_box(&mut byte[..]);
        result = result.and(end.write(bytes, NEVER)).and(end.read(bytes, NEVER));
    });
    child::remove(child);
    match result {
        Ok(_) => Ok(()),
        Err(PipeError::Refused(error)) => Err(error),
        Err(_) => Err(Error::WrongState),
    }
}

extern "sysv64" fn echo(parent: u64) -> ! {
    // SAFETY: the parent has bound the page for this.
    let mut end = unsafe { End::new(PAGE, Side::Second, EnvName(parent)) };
    let mut byte = [0];
    let bytes = black_box(&mut byte[..]);
    while end.read(bytes, NEVER) == Ok(1) && end.write(bytes, NEVER) == Ok(1) {}
    environment::exit(1)
}
