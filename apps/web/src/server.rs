//! All clients at once.

use alloc::collections::BTreeMap;

use libos_net::{
    Backlog, Duration, Instant, Link, ListenerId, OpenError, Reserve, Service, Stack, StreamId,
};

use crate::connection::{Connection, Progress};
use crate::site::Site;

/// What is set aside for clients when the server starts.
pub const BACKLOG: Backlog = Backlog { connections: 64, receive: 2048, send: 8192 };

/// How long a client may take for anything while others wait for its place.
const FAIR: Duration = Duration::from_secs(1);

/// A server of one site on one port.
pub struct Server<S> {
    listener: ListenerId,
    connections: BTreeMap<StreamId, Connection>,
    site: S,
}

impl<S: Site> Server<S> {
    /// Opens the port.
    ///
    /// # Errors
    /// The stack's, when the contract does not cover the port.
    pub fn open<L: Link>(stack: &mut Stack<L>, port: u16, site: S) -> Result<Self, OpenError> {
        let listener = stack.listen(port, &BACKLOG)?;
        Ok(Self { listener, connections: BTreeMap::new(), site })
    }

    /// The site.
    pub fn site(&mut self) -> &mut S {
        &mut self.site
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.connections.len()
    }

    /// Takes every client as far as it goes.
    fn step_all<L: Link>(&mut self, stack: &mut Stack<L>, now: Instant) {
        let Self { connections, site, .. } = self;
        connections.retain(|&name, connection| {
            let Some(mut stream) = stack.stream(name) else { return false };
            match connection.step(&mut stream, site, now) {
                Progress::Waiting => return true,
                Progress::Finished => stream.close(),
                Progress::Hopeless => stream.abort(),
            }
            false
        });
    }

    /// Resets a client, of those to which `which` applies: at once one that has had its answer and
    /// asks nothing more, else the one that has taken the longest, once it has had a fair time.
    /// Returns when that will be.
    fn evict<L: Link>(
        &mut self,
        stack: &mut Stack<L>,
        now: Instant,
        which: impl Fn(&Connection) -> bool,
    ) -> Option<Instant> {
        let (busy, since, name) = (self.connections.iter())
            .filter(|(_, connection)| which(connection))
            .map(|(&name, connection)| (!connection.is_satisfied(), connection.since(), name))
            .min()?;
        let fair = since + FAIR;
        if busy && now < fair {
            return Some(fair);
        }
        self.connections.remove(&name);
        if let Some(stream) = stack.stream(name) {
            stream.abort();
        }
        None
    }
}

impl<S: Site, L: Link> Service<L> for Server<S> {
    fn turn(&mut self, stack: &mut Stack<L>, now: Instant) -> Option<Instant> {
        while let Some(name) = stack.accept(self.listener) {
            self.connections.insert(name, Connection::new(now));
        }
        self.step_all(stack, now);
        // Before somebody has to wait.
        let crowded = stack.vacancies(self.listener) == 0;
        let place = if crowded { self.evict(stack, now, |_| true) } else { None };
        let full = self.site.is_full();
        let memory = if full { self.evict(stack, now, Connection::is_answered) } else { None };
        let patience = self.connections.values().map(Connection::deadline).min();
        [place, memory, patience].into_iter().flatten().min()
    }

    fn reserve(&mut self, reserve: &Reserve) {
        self.site.reserve(reserve);
    }
}

#[cfg(test)]
mod tests;
