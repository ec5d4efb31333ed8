//! Rule: nobody makes more environments than its contract allows, however fast they come and go.
#![no_std]
#![no_main]

use exo_user::{EnvName, Error, Kind, Start, contract};
use guest_probes::{child, ground, rule};

exo_user::program!(main);

/// The contract's limit.
const LIMIT: usize = 3;

fn main(_: &Start<'_>) -> u64 {
    rule::same("the limit", contract::account(Kind::Environments).limit, LIMIT as u64);
    let before = contract::account(Kind::Frames);
    for _ in 0..8 {
        let children: [EnvName; LIMIT] =
            core::array::from_fn(|_| rule::granted("a child", child::create("child", 0)));
        rule::same("one more", child::create("child", 0), Err(Error::OverLimit));
        for name in children {
            child::remove(name);
        }
        rule::same("frames held", ground::held(), before.held);
        rule::same("the limit", contract::account(Kind::Frames).limit, before.limit);
        rule::same("children", contract::account(Kind::Environments).held, 0);
    }
    // What is not freed has to be by somebody else when the program has ended.
    rule::granted("an orphan", child::create("orphan", 0));
    0
}
