//! A web server that shows the kernel's tables: `/` for people, `/state.json` for programs.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::error::Error;

use libos_net::exo_user::{Kind, Start, contract, println, program};
use libos_net::{Address, Instant, Ipv4Address, Nic, Reserve, Service, Settings, Stack, service};
use web::server::Server;
use web::site::{ANSWERS_MAX, Tables};
use web::state::{self, Served};

program!(main);

/// The port that the server listens on.
const PORT: u16 = 80;
/// Frames for packets in the receive ring, two packets each.
const RING_FRAMES: u64 = 64;
/// The most spare frames. What the contract leaves when everything else has been set aside goes
/// there, and is given back when somebody asks.
const RESERVE_MAX: usize = 4096;
/// The heap's room for answers: those on their way, and one more while it is made.
const WORKSPACE: usize = 2 * ANSWERS_MAX;
/// A line on the console for the first answer, and then for each of this many.
const LOG_EVERY: u64 = 100;

fn main(start: &Start<'_>) -> u64 {
    let Err(reason) = serve(start.arguments());
    println!("cannot serve: {reason}");
    1
}

fn serve(arguments: &str) -> Result<Infallible, Box<dyn Error>> {
    let settings = Settings { seed: service::seed(), ..arguments.parse()? };
    let mut stack = Stack::new(Nic::open(RING_FRAMES)?, &settings, service::now())?;
    let server = Server::open(&mut stack, PORT, Tables::new(state::read, log))?;
    let mut announced = Announced { server, address: None };
    if settings.address == Address::Dhcp {
        println!("asking for an address");
    }
    // The heap keeps what it has once been given, so that it never has to ask again: later, the
    // reserve will have taken everything, and revocations will come.
    drop(Vec::<u8>::with_capacity(WORKSPACE));
    let mut reserve = Reserve::new(RESERVE_MAX);
    let account = contract::account(Kind::Frames);
    if account.held > account.floor {
        println!("{} frames are wired, but the floor is {}", account.held, account.floor);
    }
    service::run(stack, &mut reserve, &mut announced)
}

/// The server, which says where it can be reached once it knows.
struct Announced {
    server: Server<Tables>,
    address: Option<Ipv4Address>,
}

impl Service<Nic> for Announced {
    fn turn(&mut self, stack: &mut Stack<Nic>, now: Instant) -> Option<Instant> {
        if stack.address() != self.address {
            self.address = stack.address();
            match self.address {
                Some(address) => println!("serving http://{address}:{PORT}/"),
                None => println!("the address is gone"),
            }
        }
        self.server.turn(stack, now)
    }

    fn reserve(&mut self, reserve: &Reserve) {
        Service::<Nic>::reserve(&mut self.server, reserve);
    }
}

fn log(served: &Served) {
    let answers = served.answers;
    if answers == 1 || answers.is_multiple_of(LOG_EVERY) {
        let (refusals, reserve) = (served.refusals, served.reserve);
        println!("{answers} answers, {refusals} of them errors; {reserve} frames to spare");
    }
}
