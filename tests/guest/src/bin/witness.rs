//! The honest program beside the hostile ones: it keeps a pattern in its memory and looks at it
//! until the others have ended.
#![no_std]
#![no_main]

use exo_user::abi::tables::EnvState;
use exo_user::{EnvName, Kind, Start, contract, environment, println, tables};
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule::{granted, same};

exo_user::program!(main);

const PAGES: u64 = 32;
/// How many words of a page are written.
const WORDS: u64 = 512;

/// What stands in a word in a round.
fn pattern(page: u64, word: u64, round: u64) -> u64 {
    (page << 48 ^ word << 32 ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Whether a program other than this one, the first and a service still runs.
fn others_run(start: &Start<'_>) -> bool {
    let service = start.argument("service").unwrap_or("");
    tables::environments().iter().any(|(slot, entry)| {
        let ended = [EnvState::Free as u64, EnvState::Ended as u64].contains(&entry.state);
        let own = entry.name == contract::name().0;
        slot != 0 && !ended && !own && tables::label(&entry) != service
    })
}

fn main(start: &Start<'_>) -> u64 {
    let frames = ground::frames::<{ PAGES as usize }>();
    for (index, &frame) in (0..).zip(&frames) {
        granted("a page", ground::bind(page(index), frame, DATA));
        (0..WORDS).for_each(|word| ground::store(page(index) + 8 * word, pattern(index, word, 0)));
    }
    let limit = contract::account(Kind::Frames).limit;
    let mut round = 0;
    while others_run(start) {
        let index = round % PAGES;
        let before = round / PAGES;
        for word in 0..WORDS {
            let address = page(index) + 8 * word;
            same("a word", ground::load(address), pattern(index, word, before));
            ground::store(address, pattern(index, word, before + 1));
        }
        round += 1;
        granted("to give way", environment::yield_to(EnvName::NONE));
    }
    let account = contract::account(Kind::Frames);
    same("losses", (account.repossessed, account.asks, account.debt), (0, 0, 0));
    same("no less than promised", account.limit.max(limit), account.limit);
    println!("unharmed after {round} rounds");
    0
}
