//! NAME: a program on libos-net. It sends back what clients send: `nc localhost 8080`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::error::Error;
use libos_net::exo_user::{Start, println, program};
use libos_net::service::{now, run, seed};
use libos_net::{Backlog, Instant, ListenerId, Nic, Reserve, Service, Settings, Stack, StreamId};

program!(main);

/// The bytes of a connection's buffers, each way.
const BUFFER: usize = 4096;

fn main(start: &Start) -> u64 {
    let Err(error) = serve(start.arguments());
    println!("cannot serve: {error}");
    1
}

fn serve(arguments: &str) -> Result<Infallible, Box<dyn Error>> {
    let settings = Settings { seed: seed(), ..arguments.parse()? };
    let mut stack = Stack::new(Nic::open(8)?, &settings, now())?;
    let backlog = Backlog { connections: 8, receive: BUFFER, send: BUFFER };
    let mut echo = Echo { listener: stack.listen(80, &backlog)?, clients: Vec::new() };
    println!("listening on port 80");
    run(stack, &mut Reserve::new(0), &mut echo)
}

/// Everybody who is connected.
struct Echo {
    listener: ListenerId,
    clients: Vec<StreamId>,
}

impl Service<Nic> for Echo {
    fn turn(&mut self, stack: &mut Stack<Nic>, _: Instant) -> Option<Instant> {
        while let Some(client) = stack.accept(self.listener) {
            self.clients.push(client);
        }
        self.clients.retain(|&client| {
            let Some(mut stream) = stack.stream(client) else { return false };
            let mut bytes = [0; BUFFER];
            let room = BUFFER - stream.unsent();
            let read = stream.read(&mut bytes[..room]);
            let goes_on = read.is_ok_and(|length| stream.write(&bytes[..length]).is_ok());
            if !goes_on {
                stream.close();
            }
            goes_on
        });
        None
    }
}
