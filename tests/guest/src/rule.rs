//! What a rule promises, and the end of a program for which it was broken.

use core::fmt::{Debug, Display};
use exo_user::{Call, Error, Registers, call, environment, println};

/// The exit code of a program that has seen a rule broken.
pub const BROKEN: u64 = 1;

/// Ends the program unless `held`.
pub fn holds(what: impl Display, held: bool) {
    if !held {
        println!("broken: {what}");
        environment::exit(BROKEN);
    }
}

/// Ends the program unless both are the same.
pub fn same<T: PartialEq + Debug>(what: impl Display, found: T, expected: T) {
    if found != expected {
        println!("broken: {what}: {found:x?} and not {expected:x?}");
        environment::exit(BROKEN);
    }
}

/// Ends the program unless the kernel refuses the call with this error.
pub fn refused(call: Call, expected: Error) {
    refused_with(call, &[expected]);
}

/// Ends the program unless the kernel refuses the call with one of these errors.
pub fn refused_with(call: Call, expected: &[Error]) {
    // SAFETY: a refused call has changed nothing. If it was not refused, the program ends here.
    let result = unsafe { call::call(call) };
    if !expected.iter().any(|&error| result == Err(error)) {
        println!("broken: {call:x?} gave {result:x?} and not {expected:?}");
        environment::exit(BROKEN);
    }
}

/// As [`refused`], for registers that are no call.
pub fn refused_raw(registers: Registers, expected: Error) {
    // SAFETY: as in `refused_with`.
    let result = unsafe { call::raw(registers) };
    if result != Err(expected) {
        println!("broken: {registers:x?} gave {result:x?} and not {expected:?}");
        environment::exit(BROKEN);
    }
}

/// The value of what has to be granted; ends the program if it was refused.
pub fn granted<T>(what: impl Display, result: Result<T, Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            println!("broken: {what} was refused: {error:?}");
            environment::exit(BROKEN)
        }
    }
}
