//! The loop: drain, handle, flush, sleep.

use exo_user::upcall::Handlers;
use exo_user::{abi::upcall::Event, control, environment, time, upcall};
use smoltcp::time::Instant;

use crate::entropy;
use crate::link::Link;
use crate::reserve::Reserve;
use crate::stack::Stack;

/// Pages of the upcall stack. Only a report of the program's own end ever runs there.
const UPCALL_PAGES: u64 = 4;

/// What a program does with its sockets.
pub trait Service<L: Link> {
    /// Reads and writes whatever sockets are ready, and returns without waiting. The next turn
    /// comes when something has arrived, when the stack has work, or at the time returned.
    fn turn(&mut self, stack: &mut Stack<L>, now: Instant) -> Option<Instant>;

    /// What the reserve holds and has lost, once in every turn. For programs that show it.
    fn reserve(&mut self, _reserve: &Reserve) {}
}

/// The time now, as the stack counts it.
pub fn now() -> Instant {
    Instant::from_micros((time::now() / 1000) as i64)
}

/// A seed for [`Settings`](crate::Settings): from the CPU's generator where it has one.
pub fn seed() -> u64 {
    entropy::number()
}

/// Runs a service for ever.
///
/// Exceptions end the program with a report. Events make no upcalls: the loop looks at them between
/// two turns, which are short.
pub fn run<L: Link>(
    mut stack: Stack<L>,
    reserve: &mut Reserve,
    service: &mut impl Service<L>,
) -> ! {
    // Without a stack for it an exception still ends the program, only without a backtrace.
    let _ = upcall::install_with_stack(UPCALL_PAGES, &Handlers::NONE);
    loop {
        // First the bits, then their causes: what comes in between sets the bit again, and the
        // sleep below returns at once.
        for event in Event::ALL {
            control::take(event);
        }
        let now = now();
        let more = stack.receive(now);
        let wish = service.turn(&mut stack, now);
        let address = stack.address();
        stack.flush();
        // A lease is taken up in the flush, and the service may have waited for nothing else.
        let more = more || stack.address() != address;
        reserve.settle();
        service.reserve(reserve);
        if !more {
            environment::sleep(wake_up(stack.deadline(), wish));
        }
    }
}

/// The earlier of two times, as the kernel counts.
fn wake_up(deadline: Option<Instant>, wish: Option<Instant>) -> u64 {
    let earliest = [deadline, wish].into_iter().flatten().min();
    earliest.map_or(time::NEVER, |instant| (instant.total_micros().max(0) as u64) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_time_counts() {
        let (one, two) = (Instant::from_micros(1), Instant::from_micros(2));
        assert_eq!(wake_up(None, None), time::NEVER);
        assert_eq!(wake_up(Some(two), Some(one)), 1000);
        assert_eq!(wake_up(Some(two), None), 2000);
        assert_eq!(wake_up(Some(Instant::from_micros(-5)), None), 0);
    }
}
