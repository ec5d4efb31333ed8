//! The environment in which the computation runs, and which saves it.

use crate::computation;
use crate::coroutine::pause;
use crate::log::Log;
use crate::region::Region;
use crate::saver::Saver;
use core::sync::atomic::Ordering;
use libos_posix::exo_user::environment;
use libos_posix::memory::{self, Clock, Hashed};
use libos_posix::println;

/// The exit code when the numbers are not what they must be.
const WRONG: u64 = 1;
/// How many frames can be taken by force at any time.
const READY: usize = 32;
/// The exit code when there is no memory to begin with.
const NO_MEMORY: u64 = 2;
/// In the place of a result: the numbers are not what they must be.
const DAMAGED: u64 = 0;

/// Where the environment starts.
pub(crate) extern "sysv64" fn work(_: u64) -> ! {
    let code = match memory::start::<Hashed<'static>, _>(Clock) {
        Ok(()) => {
            memory::keep_ready(READY);
            run(Log::open()).unwrap_or(NO_MEMORY)
        }
        Err(error) => {
            println!("checkpoint: {error}");
            NO_MEMORY
        }
    };
    environment::exit(code)
}

/// Where the computation starts.
extern "sysv64" fn compute() -> ! {
    // SAFETY: this is the computation.
    let (data, result) = unsafe { Region::inside(Log::open()) };
    *result = Some(computation::run(data, computation::rounds()).unwrap_or(DAMAGED));
    loop {
        pause();
    }
}

/// Goes on from the last checkpoint, or begins. Returns the exit code; `None`: there is no memory.
fn run(log: &'static Log) -> Option<u64> {
    let mut region = Region::new(log)?;
    if log.complete() > 0 {
        region.restore(log);
        log.restored.fetch_add(1, Ordering::Relaxed);
    } else {
        region.prepare(compute)?;
    }
    let mut saver = Saver::new(log).ok()?;
    loop {
        if let Some(result) = region.run() {
            log.result.store(result, Ordering::Relaxed);
            return Some(if result == DAMAGED { WRONG } else { 0 });
        }
        saver.pause(&region).ok()?;
    }
}
