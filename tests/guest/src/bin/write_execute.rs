//! Rule: no page can be written and executed.
#![no_std]
#![no_main]

use exo_user::abi::request::BindRequest;
use exo_user::abi::upcall::FaultCode;
use exo_user::{Call, EnvName, Error, Start, capability, layout};
use guest_probes::attempt::{self, page_fault};
use guest_probes::ground::{self, DATA, GROUND, TEXT, page};
use guest_probes::rule::{self, refused};

exo_user::program!(main);

/// `ret`
const RET: u64 = 0xc3;

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let frame = ground::bound(GROUND, DATA);
    let both = BindRequest::new(page(1), frame, DATA | TEXT, capability::OWN);
    refused(ground::bind_call(&[both]), Error::WriteExecute);
    let (environment, capability, count) = (EnvName::NONE, 0, 1);
    let rights = DATA | TEXT;
    for page in [GROUND, layout::STACK.end - 4096, main as *const () as u64 & !4095] {
        let protect = Call::Protect { environment, capability, page, count, rights };
        refused(protect, Error::WriteExecute);
    }
    ground::store(GROUND, RET);
    // SAFETY: there is a `ret`.
    let fault = unsafe { attempt::execute(GROUND) };
    page_fault("to execute data", fault, GROUND, FaultCode::FETCH | FaultCode::PROTECTION);
    rule::granted("the same frame as text", ground::bind(page(1), frame, TEXT));
    // SAFETY: there is a `ret`.
    rule::same("to execute text", unsafe { attempt::execute(page(1)) }, None);
    let fault = attempt::write(page(1));
    page_fault("to write text", fault, page(1), FaultCode::WRITE | FaultCode::PROTECTION);
    // What was executable is not any more when it becomes data.
    rule::granted("text as data", ground::bind(page(1), frame, DATA));
    // SAFETY: there is a `ret`.
    let fault = unsafe { attempt::execute(page(1)) };
    page_fault("text that was", fault, page(1), FaultCode::FETCH | FaultCode::PROTECTION);
    0
}
