//! Two stacks on a cable: what programs may rely on, in fair weather and foul.

mod garbage;
mod lease;
mod storm;
mod traffic;
mod world;
