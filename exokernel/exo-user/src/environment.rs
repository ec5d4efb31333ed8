//! Environments: making them, starting them, ending them, giving way to them.

use crate::call::{call, give_up};
use exo_abi::request::EnvironmentRequest;
use exo_abi::{Call, EnvName, Error};

/// Creates an environment from a request and the frames that are donated to the kernel for it.
/// The request's own `donation` and `donation_count` are not looked at.
///
/// # Errors
/// `TooLong`, `BadArgument`, `NoCapability`, `NotDominated`, `NoFrame`, `NotOwner`, `FramePinned`,
/// `TooFewFrames`, `OverLimit`, `BelowFloor`, `NoFreeEnvironments`.
///
/// # Safety
/// As [`frame::donate`](crate::frame::donate): the kernel breaks every binding to the frames.
pub unsafe fn create(
    request: &EnvironmentRequest,
    donation: &[exo_abi::FrameNumber],
) -> Result<EnvName, Error> {
    let request = EnvironmentRequest {
        donation: donation.as_ptr() as u64,
        donation_count: donation.len() as u64,
        ..*request
    };
    let request = &raw const request as u64;
    // SAFETY: the request and its list are read only; for the frames the caller answers.
    unsafe { call(Call::EnvironmentCreate { request }) }.map(EnvName)
}

/// Starts a created environment.
///
/// # Errors
/// `NoEnvironment`, `StaleEnvironment`, `WrongState`, `NoCapability`, `NotDominated`, `BadAddress`.
pub fn start(
    environment: EnvName,
    capability: u32,
    entry: u64,
    stack: u64,
    argument: u64,
) -> Result<(), Error> {
    if environment.is_none() {
        return Err(Error::NoEnvironment);
    }
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::EnvironmentStart { environment, capability, entry, stack, argument }) }
        .map(|_| ())
}

/// Ends another environment with a code, or frees the slot of one that has ended.
///
/// # Errors
/// `NoEnvironment`, `StaleEnvironment`, `NoCapability`, `NotDominated`.
pub fn destroy(environment: EnvName, capability: u32, code: u64) -> Result<(), Error> {
    if environment.is_none() {
        return Err(Error::NoEnvironment);
    }
    // SAFETY: it touches no memory of the caller's.
    unsafe { call(Call::EnvironmentDestroy { environment, capability, code }) }.map(|_| ())
}

/// Ends the program with a code.
pub fn exit(code: u64) -> ! {
    loop {
        let environment = EnvName::NONE;
        // SAFETY: nothing of the program is left to go wrong.
        let _ = unsafe { call(Call::EnvironmentDestroy { environment, capability: 0, code }) };
    }
}

/// Gives the rest of the slice to `target`, or with [`EnvName::NONE`] to whoever holds the next.
///
/// # Errors
/// `NoEnvironment`, `StaleEnvironment`, `WrongState`, `NotRunnable`.
pub fn yield_to(target: EnvName) -> Result<(), Error> {
    // SAFETY: it touches no memory of the caller's.
    unsafe { give_up(Call::Yield { target, keeper: EnvName::NONE }) }.map(|_| ())
}

/// Sleeps until an event is pending or the time (nanoseconds since boot) has come. Returns at once
/// if either holds: an event that nobody takes ([`control::take`](crate::control::take)) keeps its
/// owner awake.
pub fn sleep(until: u64) {
    // SAFETY: it touches no memory of the caller's. The kernel refuses no sleep.
    let _ = unsafe { give_up(Call::Sleep { until, keeper: EnvName::NONE }) };
}

/// Asks the kernel who is asking. It does nothing else, but is an entry: events that were held
/// back are delivered.
pub fn name() -> EnvName {
    // SAFETY: it touches no memory. The kernel refuses no null call.
    EnvName(unsafe { call(Call::Null {}) }.unwrap_or(0))
}
