//! Rule: a remote call carries every word both ways and changes no register that a function keeps,
//! however often, whoever calls at the same time, and whatever the server leaves in the registers.
#![no_std]
#![no_main]

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use exo_user::gate::{self, Answer, Request, WORDS};
use exo_user::{EnvName, Start, environment, println, rpc, time};
use guest_probes::random::Random;
use guest_probes::{peer, rule};

exo_user::program!(main);

/// Calls of the program and of its second client.
const CALLS: u64 = 100_000;
const OTHER_CALLS: u64 = 20_000;
/// What a server does to the words.
const KEY: u64 = 0x9e37_79b9_7f4a_7c15;

/// The server, for the second client.
static SERVER: AtomicU64 = AtomicU64::new(0);

fn answer(words: [u64; WORDS], caller: EnvName) -> [u64; WORDS] {
    core::array::from_fn(|index| words[WORDS - 1 - index].wrapping_mul(KEY) ^ caller.0)
}

extern "sysv64" fn serve(_: u64) -> ! {
    let mut handler = |request: &mut Request| {
        request.message.words = answer(request.message.words, request.caller());
        Answer::Now
    };
    loop {
        gate::serve(EnvName::ANYBODY, time::NEVER, &mut handler);
    }
}

/// Makes one call with known values in the registers that a function keeps and in `xmm15`; returns
/// the bits in which any of them has changed.
// SAFETY: it keeps the registers that a function has to keep, and the stack a multiple of 16 at the call.
#[unsafe(naked)]
unsafe extern "sysv64" fn with_known_registers(function: extern "sysv64" fn()) -> u64 {
    naked_asm!(
        "push rbx; push rbp; push r12; push r13; push r14; push r15; sub rsp, 8",
        "mov rbx, 0x1111; mov rbp, 0x2222; mov r12, 0x3333",
        "mov r13, 0x4444; mov r14, 0x5555; mov r15, 0x6666; movq xmm15, r15",
        "call rdi",
        "movq rax, xmm15; xor rax, 0x6666",
        "xor rbx, 0x1111; or rax, rbx; xor rbp, 0x2222; or rax, rbp",
        "xor r12, 0x3333; or rax, r12; xor r13, 0x4444; or rax, r13",
        "xor r14, 0x5555; or rax, r14; xor r15, 0x6666; or rax, r15",
        "add rsp, 8; pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; ret",
    )
}

extern "sysv64" fn one_call() {
    check_call(EnvName(SERVER.load(Relaxed)), core::array::from_fn(|index| index as u64));
}

fn check_call(server: EnvName, words: [u64; WORDS]) {
    let found = rpc::call(server, words, time::NEVER);
    rule::same("the answer", found, Ok(answer(words, exo_user::contract::name())));
}

fn check_lean(server: EnvName, words: [u64; 6]) {
    let [a, b, c, d, e, f] = words;
    let [w0, w1, w2, _, w4, w5, w6] = answer([a, b, c, 0, d, e, f], exo_user::contract::name());
    let found = rpc::call_lean(server, words, time::NEVER);
    rule::same("the lean answer", found, Ok([w0, w1, w2, w4, w5, w6]));
}

fn hammer(calls: u64, seed: u64) {
    let (server, mut random) = (EnvName(SERVER.load(Relaxed)), Random::new(seed));
    for turn in 0..calls {
        let words: [u64; WORDS] = core::array::from_fn(|_| random.next());
        if turn % 4 == 3 {
            check_lean(server, core::array::from_fn(|index| words[index]));
        } else {
            check_call(server, words);
        }
    }
}

extern "sysv64" fn second_client(_: u64) -> ! {
    hammer(OTHER_CALLS, 2);
    environment::exit(0)
}

fn main(_: &Start<'_>) -> u64 {
    peer::keep_one_slice();
    let server = peer::create("server", 1, 0);
    // The second client's copy of the data has the name too.
    SERVER.store(server.0, Relaxed);
    let client = peer::create("client", 2, 1);
    peer::start(server, serve);
    peer::start(client, second_client);
    for _ in 0..100 {
        // SAFETY: the function is one, and keeps what it has to.
        rule::same("registers", unsafe { with_known_registers(one_call) }, 0);
    }
    hammer(CALLS, 1);
    peer::join(client);
    exo_user::child::remove(server);
    println!("{CALLS} calls");
    0
}
