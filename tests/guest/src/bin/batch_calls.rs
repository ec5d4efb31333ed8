//! Rule: a batch makes its calls in order, stops at the first that is refused, and says what each
//! got; one that rolls back makes all or none.
#![no_std]
#![no_main]

use exo_user::abi::batch::BatchFlags;
use exo_user::abi::layout::BATCH_MAX;
use exo_user::batch::Batch;
use exo_user::{Call, EnvName, Error, FrameNumber, Start, capability, contract, println};
use guest_probes::rule::{refused, same};
use guest_probes::{ground, rule};

exo_user::program!(main);

const NULL: Call = Call::Null {};

fn run<const N: usize>(batch: &mut Batch<N>) -> Result<usize, Error> {
    // SAFETY: the calls are about frames to which nothing refers.
    unsafe { batch.run() }
}

fn run_all<const N: usize>(batch: &mut Batch<N>) -> Result<(), Error> {
    // SAFETY: as in `run`.
    unsafe { batch.run_all() }
}

fn results<const N: usize>(batch: &Batch<N>) -> [Option<Result<u64, Error>>; N] {
    let mut results = batch.results();
    core::array::from_fn(|_| results.next())
}

fn stops_at_the_first_refused() {
    let (name, held) = (contract::name().0, ground::held());
    let (mut first, mut second) = ([FrameNumber::ANY; 2], [FrameNumber::ANY; 3]);
    let wrong = Call::FrameFree { list: 8, count: 1 };
    let mut batch = Batch::of([
        NULL,
        ground::allocate_call(&mut first),
        wrong,
        ground::allocate_call(&mut second),
    ]);
    same("calls that were made", run(&mut batch), Ok(2));
    let expected = [Some(Ok(name)), Some(Ok(0)), Some(Err(Error::BadAddress)), None];
    same("results", results(&batch), expected);
    same("frames", ground::held(), held + 2);
    let mut batch = Batch::of([ground::free_call(&first), NULL]);
    same("all were made", run(&mut batch), Ok(2));
    same("frames", ground::held(), held);
    same("an empty batch", run(&mut Batch::<4>::new()), Ok(0));
}

fn rolls_back() {
    let held = ground::held();
    let (mut first, mut second) = ([FrameNumber::ANY; 5], [FrameNumber::ANY; 3]);
    let mut third = [FrameNumber(u32::MAX - 1)];
    let calls = [&mut first[..], &mut second, &mut third].map(ground::allocate_call);
    let mut batch = Batch::of(calls);
    same("no such frame", run_all(&mut batch), Err(Error::NoFrame));
    same("frames", ground::held(), held);
    // What can't be undone is not made at all.
    let (list, count) = (first.as_mut_ptr() as u64, first.len() as u64);
    first.fill(FrameNumber::ANY);
    let allocate = Call::FrameAllocate { list, count, capability: capability::OWN };
    let text = b"no line\n";
    let print = Call::ConsoleWrite { address: text.as_ptr() as u64, length: text.len() as u64 };
    same("a line", run_all(&mut Batch::of([allocate, print])), Err(Error::NotInBatch));
    same("frames", ground::held(), held);
    first.fill(FrameNumber::ANY);
    let mut batch = Batch::of([NULL, ground::allocate_call(&mut first)]);
    same("both", run_all(&mut batch), Ok(()));
    same("frames", ground::held(), held + 5);
    ground::free(&first);
}

fn refuses_what_does_not_return() {
    let none = EnvName::NONE;
    for call in [
        Call::Yield { target: none, keeper: EnvName::NONE },
        Call::Sleep { until: 0, keeper: EnvName::NONE },
        Call::EnvironmentDestroy { environment: none, capability: 0, code: 9 },
        Call::Batch { list: 0, count: 0, flags: BatchFlags::empty() },
        Call::MachineExit { capability: 0, code: 0 },
    ] {
        let mut batch = Batch::of([NULL, call, NULL]);
        same("calls that were made", run(&mut batch), Ok(1));
        same("the refusal", results(&batch)[1], Some(Err(Error::NotInBatch)));
    }
    let flags = BatchFlags::empty();
    let page = ground::page(0);
    refused(Call::Batch { list: page, count: 1, flags }, Error::NotBound);
    refused(Call::Batch { list: page, count: BATCH_MAX + 1, flags }, Error::TooLong);
    refused(Call::Batch { list: page + 8, count: 1, flags }, Error::BadAddress);
}

fn main(_: &Start<'_>) -> u64 {
    stops_at_the_first_refused();
    rolls_back();
    refuses_what_does_not_return();
    let mut full = Batch::<{ BATCH_MAX as usize }>::of([NULL; BATCH_MAX as usize]);
    same("a full batch", run(&mut full), Ok(BATCH_MAX as usize));
    rule::holds("every call", full.results().all(|result| result == Ok(contract::name().0)));
    println!("batches hold");
    0
}
