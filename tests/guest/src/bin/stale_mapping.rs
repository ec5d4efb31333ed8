//! Rule: what was unbound, protected or bound anew is so at once, for every access.
#![no_std]
#![no_main]

use exo_user::abi::upcall::{FaultCode, PAGE_FAULT};
use exo_user::{Call, EnvName, Rights, Start, binding};
use guest_probes::attempt::{self, page_fault, raised};
use guest_probes::ground::{self, DATA, page};
use guest_probes::rule::{granted, same};

exo_user::program!(main);

/// More than the kernel flushes one by one.
const PAGES: u64 = 40;

fn protect(count: u64, rights: Rights) {
    let (environment, capability) = (EnvName::NONE, 0);
    let call = Call::Protect { environment, capability, page: page(0), count, rights };
    // SAFETY: nothing refers to the ground.
    granted("to protect", unsafe { exo_user::call::call(call) });
}

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let frames = ground::frames::<{ PAGES as usize }>();
    for count in [1, 2, 31, PAGES] {
        for (index, &frame) in (0..count).zip(&frames) {
            granted("a page", ground::bind(page(index), frame, DATA));
            ground::store(page(index), index + 1);
        }
        protect(count, Rights::READ);
        for index in 0..count {
            let code = FaultCode::WRITE | FaultCode::PROTECTION;
            page_fault("to write", attempt::write(page(index)), page(index), code);
            same("to read", ground::load(page(index)), index + 1);
        }
        protect(count, Rights::empty());
        for index in 0..count {
            page_fault("to read", attempt::read(page(index)), page(index), FaultCode::PROTECTION);
        }
        protect(count, DATA);
        for index in 0..count {
            same("to write again", attempt::write(page(index)), None);
        }
        for (index, &frame) in (0..count).zip(frames[..count as usize].iter().rev()) {
            granted("another frame", ground::bind(page(index), frame, DATA));
            same("what is there", ground::load(page(index)), count - index);
        }
        // SAFETY: nothing refers to the ground.
        same("pages unbound", unsafe { binding::unbind(page(0), count) }, Ok(count));
        for index in 0..count {
            raised("an unbound page", attempt::read(page(index)), PAGE_FAULT);
        }
    }
    0
}
