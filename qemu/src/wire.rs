//! The other end of the guest's network cable: a test sends and receives raw Ethernet frames.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::machine::{Forward, Network};

/// Longest frame that is received whole.
const LONGEST_FRAME: usize = 65_536;
/// How long a machine may take nothing from the cable.
const PATIENCE: Duration = Duration::from_secs(20);

/// One end of a cable; the machine made from [`Wire::network`] holds the other.
#[derive(Debug)]
pub struct Wire {
    socket: UnixDatagram,
    machine: PathBuf,
    host: PathBuf,
    // The sockets lie in a folder of their own: the path of a Unix socket must be short.
    _folder: TempDir,
}

impl Wire {
    /// Lays a cable.
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("no folder for temporary files")?;
        let (machine, host) = (folder.path().join("machine"), folder.path().join("host"));
        let socket = UnixDatagram::bind(&host).context("cannot make a Unix socket")?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, machine, host, _folder: folder })
    }

    /// The network to put into the machine's configuration, with doors into QEMU's own network.
    #[must_use]
    pub fn network(&self, forwards: Vec<Forward>) -> Network {
        Network::Wire { machine: self.machine.clone(), host: self.host.clone(), forwards }
    }

    /// Sends one frame, of any content and any length but 0, which QEMU takes for the end of the
    /// cable. Waits while the guest's queue is full.
    ///
    /// # Errors
    /// The frame is empty, or the machine is not running, or takes nothing for a long time.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        ensure!(!frame.is_empty(), "an empty frame would end the cable");
        self.socket
            .send_to(frame, &self.machine)
            .context("the machine takes nothing from the cable")?;
        Ok(())
    }

    /// The next frame from the guest, or none within `patience`.
    ///
    /// # Errors
    /// The socket fails for another reason than time.
    pub fn recv(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let mut frame = vec![0; LONGEST_FRAME];
        match self.socket.recv(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error).context("cannot receive from the machine"),
        }
    }

    /// The next frame for which `wanted` holds; others are dropped. None when `patience` is over.
    ///
    /// # Errors
    /// As [`Wire::recv`].
    pub fn recv_until(
        &self,
        patience: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.recv(left)? {
                Some(frame) if wanted(&frame) => return Ok(Some(frame)),
                Some(_) if !left.is_zero() => {}
                _ => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_whole_and_in_order() {
        let wire = Wire::new().unwrap();
        let machine = UnixDatagram::bind(&wire.machine).unwrap();
        wire.send(b"ping").unwrap();
        let mut frame = [0; 8];
        assert_eq!(machine.recv(&mut frame).unwrap(), 4);
        for text in [b"first", b"other"] {
            machine.send_to(text, &wire.host).unwrap();
        }
        let second = wire.recv_until(Duration::from_secs(5), |frame| frame == b"other").unwrap();
        assert_eq!(second.as_deref(), Some(&b"other"[..]));
        assert_eq!(wire.recv(Duration::from_millis(1)).unwrap(), None);
    }

    #[test]
    fn a_cable_without_a_machine_is_an_error() {
        assert!(Wire::new().unwrap().send(b"ping").is_err());
        assert!(Wire::new().unwrap().send(b"").is_err());
    }
}
