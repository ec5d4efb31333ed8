//! The server against clients of every kind, over a cable.

use super::{BACKLOG, Server};
use crate::connection::Piece;
use crate::http::{HEAD_MAX, Status};
use crate::site::{Answer, Site};
use libos_net::cable::{End, cable};
use libos_net::stream::ReadError;
use libos_net::{
    Address, Backlog, Duration, Instant, Ipv4Address, Ipv4Cidr, Service, Settings, Stack, StreamId,
};

const SERVER: Ipv4Address = Ipv4Address::new(10, 0, 0, 1);
const SIZES: Backlog = Backlog { connections: 0, receive: 4096, send: 4096 };

/// A site of one page, which may be long.
struct One {
    page: &'static [u8],
    answers: usize,
    errors: usize,
}

impl Site for One {
    fn answer(&mut self, path: &str, _now: Instant) -> Answer {
        if path != "/" {
            return Answer::NotFound;
        }
        Answer::Page { content_type: "text/plain", body: vec![Piece::Fixed(self.page)] }
    }

    fn answered(&mut self, status: Status) {
        self.answers += 1;
        self.errors += usize::from(status != Status::Ok);
    }

    fn is_full(&mut self) -> bool {
        false
    }
}

struct World {
    stack: Stack<End>,
    server: Server<One>,
    clients: Stack<End>,
    now: Instant,
    port: u16,
}

impl World {
    fn new(page: &'static [u8]) -> Self {
        let (one, other) = cable();
        let now = Instant::from_secs(1);
        let settings = |last| {
            let address = Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, last), 24);
            Settings { address: Address::Static { address, gateway: None }, seed: last.into() }
        };
        let mut stack = Stack::new(one, &settings(1), now).unwrap();
        let clients = Stack::new(other, &settings(2), now).unwrap();
        let site = One { page, answers: 0, errors: 0 };
        let server = Server::open(&mut stack, 80, site).unwrap();
        Self { stack, server, clients, now, port: 1000 }
    }

    fn connect(&mut self) -> StreamId {
        self.port += 1;
        let name = self.clients.connect(self.port, (SERVER, 80), &SIZES).unwrap();
        self.turns(5);
        name
    }

    fn turn(&mut self) {
        self.clients.flush();
        let more = self.stack.receive(self.now);
        self.server.turn(&mut self.stack, self.now);
        self.stack.flush();
        let more = self.clients.receive(self.now) || more;
        if !more {
            self.now += Duration::from_millis(1);
        }
    }

    fn turns(&mut self, turns: usize) {
        (0..turns).for_each(|_| self.turn());
    }

    /// Lets so much time pass, with a turn every 20 ms.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.turn();
            self.now += Duration::from_millis(20);
        }
    }

    fn write(&mut self, name: StreamId, text: &[u8]) {
        let written = self.clients.stream(name).unwrap().write(text);
        assert_eq!(written, Ok(text.len()));
    }

    /// Everything that comes within so many turns, and how it ends, if it does.
    fn read(&mut self, name: StreamId, turns: usize) -> (String, Option<ReadError>) {
        let mut all = Vec::new();
        let mut bytes = [0; 2000];
        for _ in 0..turns {
            self.turn();
            let mut stream = self.clients.stream(name).unwrap();
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(length) => all.extend_from_slice(&bytes[..length]),
                    Err(end) => return (String::from_utf8(all).unwrap(), Some(end)),
                }
            }
        }
        (String::from_utf8(all).unwrap(), None)
    }

    /// Whether a well-behaved client is served.
    fn serves(&mut self) -> bool {
        let name = self.connect();
        // The first knock may have been in vain.
        for _ in 0..2000 {
            if self.clients.stream(name).is_some_and(|stream| stream.is_open()) {
                break;
            }
            self.turn();
        }
        self.write(name, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let (answer, end) = self.read(name, 5000);
        if let Some(stream) = self.clients.stream(name) {
            stream.close();
        }
        answer.starts_with("HTTP/1.1 200 OK\r\n") && end == Some(ReadError::Finished)
    }
}

#[test]
fn a_page_is_served_and_the_connection_kept() {
    let mut world = World::new(b"page");
    let name = world.connect();
    for _ in 0..3 {
        world.write(name, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (answer, end) = world.read(name, 20);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nContent-Length: 4\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\npage"), "{answer}");
        assert_eq!(end, None);
    }
    world.write(name, b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let (answer, end) = world.read(name, 20);
    assert!(
        answer.contains("\r\nContent-Length: 4\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    assert_eq!(end, Some(ReadError::Finished));
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let mut world = World::new(b"page");
    let name = world.connect();
    world.write(
        name,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\nPUT / HTTP/1.0\r\n\r\n",
    );
    let (answer, end) = world.read(name, 20);
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "404", "405"]);
    assert_eq!(end, Some(ReadError::Finished), "the old version closes");
}

#[test]
fn a_long_page_arrives_whole() {
    let page: &'static [u8] = vec![b'x'; 100_000].leak();
    let mut world = World::new(page);
    let name = world.connect();
    world.write(name, b"GET / HTTP/1.0\r\n\r\n");
    let (answer, end) = world.read(name, 5000);
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), page.len());
    assert_eq!(end, Some(ReadError::Finished));
}

#[test]
fn nonsense_is_answered_once_and_ends() {
    let mut world = World::new(b"page");
    let name = world.connect();
    world.write(name, b"\x16\x03\x01 nonsense\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (answer, end) = world.read(name, 20);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1").count() == 1);
    assert_eq!(end, Some(ReadError::Finished));
    assert!(world.serves());
}

#[test]
fn a_giant_head_is_refused() {
    let mut world = World::new(b"page");
    let name = world.connect();
    world.write(name, b"GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let mut answer = String::new();
    for _ in 0..HEAD_MAX / 1000 + 1 {
        if let Some(mut stream) = world.clients.stream(name) {
            let _ = stream.write(&[b'x'; 1000]);
        }
        answer += &world.read(name, 10).0;
    }
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(world.serves());
}

#[test]
fn a_slow_question_is_given_up() {
    let mut world = World::new(b"page");
    let name = world.connect();
    let mut seen = String::new();
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\n" {
        if let Some(mut stream) = world.clients.stream(name)
            && stream.write(&[*byte]).is_err()
        {
            break;
        }
        world.wait(Duration::from_secs(1));
        seen += &world.read(name, 1).0;
    }
    assert!(seen.starts_with("HTTP/1.1 408 "), "{seen}");
    assert_eq!(world.server.clients(), 0);
}

#[test]
fn the_silent_are_closed_and_the_deaf_reset() {
    let page: &'static [u8] = vec![b'x'; 100_000].leak();
    let mut world = World::new(page);
    let silent = world.connect();
    let deaf = world.connect();
    world.write(deaf, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.wait(Duration::from_secs(16));
    assert_eq!(world.server.clients(), 1);
    assert_eq!(world.read(silent, 5).1, Some(ReadError::Finished));
    world.wait(Duration::from_secs(16));
    assert_eq!(world.server.clients(), 0);
    assert_eq!(
        world.clients.stream(deaf).unwrap().write(b"x"),
        Err(libos_net::stream::WriteError::Broken)
    );
}

#[test]
fn a_crowd_of_the_silent_keeps_nobody_out() {
    let mut world = World::new(b"page");
    let crowd: Vec<_> = (0..BACKLOG.connections + 10).map(|_| world.connect()).collect();
    assert!(world.server.clients() <= BACKLOG.connections);
    let before = world.now;
    assert!(world.serves(), "the oldest of the silent makes room");
    assert!(world.now < before + Duration::from_secs(3));
    assert!(crowd.len() > BACKLOG.connections);
}

#[test]
fn a_crowd_of_the_satisfied_makes_room_at_once() {
    let mut world = World::new(b"page");
    for _ in 0..2 * BACKLOG.connections {
        let name = world.connect();
        world.write(name, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(world.read(name, 10).0.ends_with("page"));
    }
    assert!(world.now < Instant::from_secs(3));
}

#[test]
fn a_crowd_of_the_slow_keeps_nobody_out_for_long() {
    let page: &'static [u8] = vec![b'x'; 100_000].leak();
    let mut world = World::new(page);
    for turn in 0..BACKLOG.connections {
        let name = world.connect();
        let text: &[u8] = if turn % 2 == 0 { b"GET /" } else { b"GET / HTTP/1.0\r\n\r\n" };
        world.write(name, text);
        world.turns(3);
    }
    assert_eq!(world.server.clients(), BACKLOG.connections);
    world.wait(Duration::from_secs(2));
    assert!(world.serves());
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let mut world = World::new(b"page");
    for _ in 0..50 {
        let names: Vec<_> = (0..20).map(|_| world.connect()).collect();
        for &name in &names {
            world.write(name, b"GET / HTTP/1.0\r\n\r\n");
        }
        for name in names {
            let (answer, end) = world.read(name, 50);
            assert!(answer.ends_with("\r\n\r\npage"), "{answer}");
            assert_eq!(end, Some(ReadError::Finished));
            world.clients.stream(name).unwrap().close();
        }
    }
    assert_eq!((world.server.site().answers, world.server.site().errors), (1000, 0));
}
