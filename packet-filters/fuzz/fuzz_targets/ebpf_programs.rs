//! Programs made of the bytes, mostly such as are accepted: the interpreter and the compiled code
//! agree on them, and no access that was shown to be in bounds is out of them.
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
    let (code, memory) = data.split_at(data.len() - data.len() / 4);
    let program = specimen::program(code);
    WORKSPACE.with_borrow_mut(|workspace| {
        if let Ok(mut verified) = verify(&program, &specimen::PROFILE, workspace) {
            let budget = u64::from(*code.first().unwrap_or(&0)) * 40;
            machine::run_both(&mut verified, &specimen::regions(memory), [1, 2, 3, 4, 5], budget);
        }
    });
});
