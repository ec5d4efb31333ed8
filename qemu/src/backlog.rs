//! More room for clients that have connected and were not accepted yet.
//!
//! QEMU listens on forwarded ports with a backlog of one, and no option says otherwise. On a busy
//! host it accepts late; whoever connects meanwhile loses a packet, waits for a second or more, and
//! `ab` goes on to count failures of its own. A second `listen` on the same socket enlarges the
//! backlog, and a parent may do that for its child.

#[cfg(target_os = "linux")]
pub use linux::Backlog;
#[cfg(not(target_os = "linux"))]
pub use other::Backlog;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::{OwnedFd, RawFd};
    use std::process::Child;

    use rustix::net::{listen, sockopt::socket_acceptconn};
    use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

    /// How many clients may wait.
    const CLIENTS: i32 = 128;
    /// Where sockets are looked for: QEMU has a few dozen descriptors.
    const DESCRIPTORS: RawFd = 256;

    /// The sockets of a process that was started.
    #[derive(Debug)]
    pub struct Backlog(Option<OwnedFd>);

    impl Backlog {
        /// The sockets of this child, which must not have been waited for.
        #[must_use]
        pub fn of(child: &Child) -> Self {
            Self::of_process(Pid::from_child(child))
        }

        pub(super) fn of_process(process: Pid) -> Self {
            Self(pidfd_open(process, PidfdFlags::empty()).ok())
        }

        /// Enlarges the backlog of every socket that listens, as far as the host lets this process:
        /// without it clients wait longer, and nothing else is wrong.
        pub fn widen(&self) {
            let Some(process) = &self.0 else { return };
            for descriptor in 0..DESCRIPTORS {
                let copy = pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty());
                if let Ok(socket) = copy
                    && socket_acceptconn(&socket) == Ok(true)
                {
                    let _ = listen(&socket, CLIENTS);
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::process::Child;

    /// Elsewhere the sockets of another process are out of reach.
    #[derive(Debug)]
    pub struct Backlog;

    impl Backlog {
        /// As on Linux.
        #[must_use]
        pub fn of(_: &Child) -> Self {
            Self
        }

        /// Does nothing.
        pub fn widen(&self) {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn many_clients_connect_before_the_first_is_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
        let few = (0..8).filter_map(connect).count();
        Backlog::of_process(rustix::process::getpid()).widen();
        let more: Vec<TcpStream> = (0..50).filter_map(connect).collect();
        assert!(few < 8 && more.len() == 50, "{few} before, {} after", more.len());
    }
}
