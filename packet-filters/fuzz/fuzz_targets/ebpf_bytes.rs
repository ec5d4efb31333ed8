//! Any bytes as a program: they are refused, or the interpreter and the compiled code agree on them.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use packet_filters::ebpf::{Workspace, verify};

#[path = "../../tests/ebpf/machine.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod machine;
#[path = "../../tests/ebpf/specimen.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod specimen;

thread_local! {
    static WORKSPACE: RefCell<Box<Workspace>> = RefCell::new(Box::new(Workspace::new()));
}

fuzz_target!(|data: &[u8]| {
    WORKSPACE.with_borrow_mut(|workspace| {
        if let Ok(mut verified) = verify(data, &specimen::PROFILE, workspace) {
            machine::run_both(&mut verified, &specimen::regions(data), [1, 2, 3, 4, 5], 10_000);
        }
    });
});
