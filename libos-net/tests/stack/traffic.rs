//! TCP and UDP in fair weather.

use std::collections::{BTreeMap, BTreeSet};

use libos_net::cable::End;
use libos_net::stream::ReadError;
use libos_net::{Duration, ListenerId, OpenError, Stack, StreamId};

use crate::world::{BACKLOG, CLIENT, SERVER, World};

/// Answers every connection with its first bytes, and closes first.
pub(crate) struct Echo {
    listener: ListenerId,
    open: BTreeSet<StreamId>,
    pub(crate) served: usize,
}

impl Echo {
    pub(crate) fn new(world: &mut World) -> Self {
        let listener = world.server.listen(80, &BACKLOG).unwrap();
        Self { listener, open: BTreeSet::new(), served: 0 }
    }

    pub(crate) fn serve(&mut self, stack: &mut Stack<End>) {
        while let Some(name) = stack.accept(self.listener) {
            self.open.insert(name);
        }
        self.open.retain(|&name| {
            let mut stream = stack.stream(name).expect("taken until it is closed");
            let mut bytes = [0; 100];
            match stream.read(&mut bytes) {
                Ok(0) => true,
                Ok(length) => {
                    assert_eq!(stream.write(&bytes[..length]), Ok(length));
                    self.served += 1;
                    stream.close();
                    false
                }
                Err(_) => {
                    stream.close();
                    false
                }
            }
        });
    }
}

/// Asks one question after the other, several at once.
pub(crate) struct Asker {
    next: u16,
    last: u16,
    at_once: usize,
    open: BTreeMap<u16, (StreamId, Vec<u8>)>,
    pub(crate) answered: usize,
}

impl Asker {
    pub(crate) fn new(questions: u16, at_once: usize) -> Self {
        Self { next: 1, last: questions, at_once, open: BTreeMap::new(), answered: 0 }
    }

    pub(crate) fn done(&self) -> bool {
        self.next > self.last && self.open.is_empty()
    }

    pub(crate) fn ask(&mut self, stack: &mut Stack<End>) {
        while self.next <= self.last && self.open.len() < self.at_once {
            let name = stack.connect(1000 + self.next, (SERVER, 80), &BACKLOG).unwrap();
            self.open.insert(self.next, (name, Vec::new()));
            self.next += 1;
        }
        self.open.retain(|&question, (name, answer)| {
            let text = format!("question {question}");
            let mut stream = stack.stream(*name).expect("taken until it is closed");
            if stream.is_open() && stream.unsent() == 0 && answer.is_empty() {
                // Written once: the first byte of the answer, or what is unsent, says so.
                answer.push(b'?');
                assert_eq!(stream.write(text.as_bytes()), Ok(text.len()));
                return true;
            }
            let mut bytes = [0; 7];
            match stream.read(&mut bytes) {
                Ok(length) => {
                    answer.extend_from_slice(&bytes[..length]);
                    true
                }
                Err(error) => {
                    assert_eq!(error, ReadError::Finished);
                    assert_eq!(&answer[1..], text.as_bytes());
                    self.answered += 1;
                    stream.close();
                    false
                }
            }
        });
    }
}

#[test]
fn a_thousand_connections_twenty_at_a_time_are_all_answered() {
    let mut world = World::new();
    let mut echo = Echo::new(&mut world);
    let mut asker = Asker::new(1000, 20);
    let start = world.now;
    while !asker.done() {
        world.turn(|stack| echo.serve(stack), |stack| asker.ask(stack));
        assert!(world.now < start + Duration::from_secs(30), "it takes too long");
    }
    assert_eq!((echo.served, asker.answered), (1000, 1000));
}

#[test]
fn an_idle_stack_wants_to_sleep() {
    let mut world = World::new();
    let mut echo = Echo::new(&mut world);
    let mut asker = Asker::new(20, 20);
    while !asker.done() {
        world.turn(|stack| echo.serve(stack), |stack| asker.ask(stack));
    }
    world.wait(Duration::from_secs(20));
    assert_eq!(world.server.deadline(), None);
    assert_eq!(world.client.deadline(), None);
}

#[test]
fn the_filter_of_a_connection_ends_with_it() {
    let mut world = World::new();
    let mut echo = Echo::new(&mut world);
    let before = world.client.link().filters();
    let mut asker = Asker::new(50, 10);
    while !asker.done() {
        world.turn(|stack| echo.serve(stack), |stack| asker.ask(stack));
        assert!(world.client.link().filters() <= before + 50);
    }
    world.wait(Duration::from_secs(20));
    assert_eq!(world.client.link().filters(), before);
}

#[test]
fn a_caller_for_whom_there_is_no_connection_is_turned_away() {
    let mut world = World::new();
    let name = world.client.connect(1000, (SERVER, 80), &BACKLOG).unwrap();
    let nobody = libos_net::Backlog { connections: 0, ..BACKLOG };
    let listener = world.server.listen(80, &nobody).unwrap();
    world.wait(Duration::from_millis(100));
    assert_eq!(world.server.vacancies(listener), 0);
    let stream = world.client.stream(name).unwrap();
    assert!(!stream.is_open());
}

#[test]
fn large_answers_arrive_whole_and_in_order() {
    let mut world = World::new();
    let listener = world.server.listen(80, &BACKLOG).unwrap();
    let name = world.client.connect(1000, (SERVER, 80), &BACKLOG).unwrap();
    let data: Vec<u8> = (0..200_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let (mut sent, mut received, mut server_side) = (0, Vec::new(), None);
    for _ in 0..10_000 {
        world.turn(
            |stack| {
                server_side = server_side.or_else(|| stack.accept(listener));
                let Some(name) = server_side else { return };
                let Some(mut stream) = stack.stream(name) else { return };
                sent += stream.write(&data[sent..]).unwrap();
                if sent == data.len() {
                    stream.close();
                }
            },
            |stack| {
                let Some(mut stream) = stack.stream(name) else { return };
                let mut bytes = [0; 3000];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    received.extend_from_slice(&bytes[..length]);
                }
            },
        );
    }
    assert!(received == data, "{} of {} bytes", received.len(), data.len());
}

#[test]
fn datagrams_find_their_port() {
    let mut world = World::new();
    let server = world.server.bind(7, 4, 4096).unwrap();
    let client = world.client.bind(5000, 4, 4096).unwrap();
    let mut socket = world.client.datagram(client).unwrap();
    socket.send(b"hello", SERVER, 7).unwrap();
    socket.send(b"nobody", SERVER, 8).unwrap();
    assert!(socket.send(b"", SERVER, 0).is_err());
    let mut answer = None;
    for _ in 0..20 {
        world.turn(
            |stack| {
                let mut socket = stack.datagram(server).unwrap();
                let mut bytes = [0; 3];
                while let Some((length, address, port)) = socket.receive(&mut bytes) {
                    assert_eq!((address, port), (CLIENT, 5000));
                    socket.send(&bytes[..length], address, port).unwrap();
                }
            },
            |stack| {
                let mut bytes = [0; 100];
                let mut socket = stack.datagram(client).unwrap();
                if let Some((length, address, port)) = socket.receive(&mut bytes) {
                    assert_eq!((address, port), (SERVER, 7));
                    assert_eq!(answer.replace(bytes[..length].to_vec()), None);
                }
            },
        );
    }
    assert_eq!(answer.as_deref(), Some(&b"hel"[..]), "cut off at the end of the buffer");
    world.server.unbind(server);
    assert!(world.server.datagram(server).is_none());
}

#[test]
fn names_end_with_their_connection() {
    let mut world = World::new();
    let mut echo = Echo::new(&mut world);
    let name = world.client.connect(1000, (SERVER, 80), &BACKLOG).unwrap();
    assert_eq!(
        world.client.connect(1000, (SERVER, 80), &BACKLOG),
        Err(OpenError::Exists),
        "both ends the same"
    );
    world.wait(Duration::from_millis(10));
    world.client.stream(name).unwrap().abort();
    assert!(world.client.stream(name).is_none());
    let mut asker = Asker::new(1, 1);
    while !asker.done() {
        world.turn(|stack| echo.serve(stack), |stack| asker.ask(stack));
    }
    assert!(world.client.stream(name).is_none(), "the place is somebody else's by now");
}
