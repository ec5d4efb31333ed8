//! Readers beside a writer: they never wait, and what they find was there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use filter_language::{Builder, Connection};
use packet_filters::{Filter, code_for};

use crate::execution::Executable;
use crate::specimen::{ipv4, set_in};

fn connection(port: u16) -> Filter {
    let connection = Connection {
        remote_ip: [10, 0, 2, 2],
        remote_port: port,
        local_ip: [10, 0, 2, 15],
        local_port: 80,
    };
    Builder::tcp_connection(connection).build().expect("a filter")
}

/// In a small table, filters come and go in the slots beside those that stay, and take over each
/// other's. Who stays is always found, by its id; who comes and goes is never taken for another.
#[test]
fn filters_that_stay_are_found_while_others_come_and_go() {
    const STAY: u16 = 12;
    const PLACES: u16 = 24;
    const CHANGES: u32 = 50_000;
    // Ten buckets, two of which are homes: most slots are used again and again.
    let mut set = set_in(59, usize::from(PLACES), 2);
    for port in 0..PLACES {
        assert_eq!(set.insert(&connection(port)), Ok(port.into()));
    }
    let mut code = vec![0; code_for(2)];
    set.compile(&mut code).expect("large enough");
    let executable = Executable::new(&code, &set);
    let packets: Vec<Vec<u8>> = (0..1000).map(|port| ipv4(6, 5, port, 80)).collect();
    let (over, seen) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (port, packet) in (0..).zip(&packets) {
                    let found = executable.run_prefix(packet, packet.len());
                    if port < u32::from(STAY) {
                        assert_eq!(found, Some(port));
                    } else if let Some(id) = found {
                        assert_eq!(id % 12, port % 12, "the id of another filter");
                        seen.store(true, Ordering::Relaxed);
                    }
                }
            }
        });
        // The id that was removed last is the next that is given.
        for change in 0..CHANGES {
            let port = 12 + (change.wrapping_mul(2_654_435_761) >> 12) % 980;
            let id = 12 + port % 12;
            let before = set.remove(id).expect("installed");
            let next = connection(port as u16);
            assert!(set.insert(&next) == Ok(id) || set.insert(&before) == Ok(id));
            assert!(!set.is_stale());
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(seen.load(Ordering::Relaxed), "nobody saw a filter that came");
}
