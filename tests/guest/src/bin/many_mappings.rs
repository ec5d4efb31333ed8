//! Rule: a frame that is bound at ten thousand pages is out of reach of them all once it is free.
#![no_std]
#![no_main]

use exo_user::{Error, Start, capability, frame, println, time};
use guest_probes::attempt;
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule::{granted, holds, same};

exo_user::program!(main);

/// How many pages the frame is bound at.
const PAGES: u64 = 10_000;
const FOUL: u64 = 0xf001_f001_f001_f001;

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let [many] = ground::frames();
    let mut bound = 0;
    for index in 0..PAGES {
        match ground::bind(page(index), many, DATA) {
            Ok(()) => bound += 1,
            Err(error) => {
                let spent = [Error::TlbFull, Error::DonationSpent].contains(&error);
                holds(format_args!("page {index} gives {error:?}"), spent);
            }
        }
    }
    holds("most are bound", bound > PAGES / 2);
    // The hardware's tables have most of them too now; the caches may have forgotten some.
    let reached = (0..PAGES).filter(|&index| attempt::write(page(index)).is_none()).count();
    let began = time::now();
    ground::free(&[many]);
    let took = time::now() - began;
    let mut again = [many];
    granted("the same frame", frame::allocate(&mut again, capability::OWN));
    let [secret] = again;
    granted("to see it", ground::bind(page(PAGES), secret, DATA));
    ground::store(page(PAGES), FOUL);
    for index in 0..PAGES {
        holds(format_args!("page {index} is gone"), attempt::read(page(index)).is_some());
    }
    same("its own word", ground::load(page(PAGES)), FOUL);
    ground::free(&[secret]);
    println!("{bound} bound, {reached} reached, broken in {} us", took / 1000);
    0
}
