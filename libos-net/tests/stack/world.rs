//! Two hosts, a cable, and a clock that the test moves.

use libos_net::cable::{End, Fate, cable_in};
use libos_net::{Address, Backlog, Duration, Instant, Ipv4Address, Ipv4Cidr, Settings, Stack};

pub(crate) const SERVER: Ipv4Address = Ipv4Address::new(10, 0, 0, 1);
pub(crate) const CLIENT: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
pub(crate) const BACKLOG: Backlog = Backlog { connections: 20, receive: 2048, send: 4096 };

/// Two stacks and the time.
pub(crate) struct World {
    pub(crate) server: Stack<End>,
    pub(crate) client: Stack<End>,
    pub(crate) now: Instant,
}

pub(crate) fn settings(address: Ipv4Address) -> Settings {
    let address = Address::Static { address: Ipv4Cidr::new(address, 24), gateway: None };
    Settings { address, seed: 4 }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::in_weather(|_| Fate::Deliver)
    }

    pub(crate) fn in_weather(weather: impl FnMut(&[u8]) -> Fate + 'static) -> Self {
        let (one, other) = cable_in(weather);
        let now = Instant::from_secs(1);
        let server = Stack::new(one, &settings(SERVER), now).unwrap();
        let client = Stack::new(other, &settings(CLIENT), now).unwrap();
        Self { server, client, now }
    }

    /// One turn of both sides, with what their programs do in it. Then the time moves to whatever
    /// comes first: a millisecond, or the deadline of a side if both are idle.
    pub(crate) fn turn(
        &mut self,
        serve: impl FnOnce(&mut Stack<End>),
        ask: impl FnOnce(&mut Stack<End>),
    ) {
        let more = self.client.receive(self.now);
        ask(&mut self.client);
        self.client.flush();
        let busy = self.server.receive(self.now) || more;
        serve(&mut self.server);
        self.server.flush();
        if !busy {
            let due = [self.server.deadline(), self.client.deadline()];
            let due = due.into_iter().flatten().min().unwrap_or(self.now);
            let soon = self.now + Duration::from_millis(1);
            self.now = soon.max(due.min(self.now + Duration::from_millis(50)));
        }
    }

    /// Turns in which the programs do nothing, for as long as this.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.turn(|_| (), |_| ());
        }
    }
}
