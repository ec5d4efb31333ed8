//! The text of `doc/abi.md`.

use crate::calls::{ARGUMENT_REGISTERS, CALLS};
use crate::contract::Kind;
use crate::error::Error;
use crate::layout;
use crate::rights::Rights;
use crate::upcall::Event;
use alloc::format;
use alloc::string::String;

/// The reference of calls, errors, rights, events and addresses, in Markdown.
pub fn document() -> String {
    let mut text = String::from(
        "# The binary interface\n\n\
         Printed from `exokernel/exo-abi` by `cargo xtask abi`; do not edit. A test fails when it \
         is stale.\n\n\
         A call is the `syscall` instruction with its number in `rax` and its arguments in `rdi`, \
         `rsi`, `rdx`, `r10`, `r8`, `r9`. It returns 0 or an error number in `rax` and a value in \
         `rdx`. `rcx` and `r11` are lost; other registers are kept, but for `Yield` and `Sleep`, \
         which keep `rsp` alone. A refused call has changed nothing.\n",
    );
    calls(&mut text);
    errors(&mut text);
    words(&mut text);
    text
}

fn calls(text: &mut String) {
    text.push_str("\n## Calls\n");
    for call in CALLS {
        text.push_str(&format!("\n### {} `{}`\n\n", call.number, call.name));
        for line in call.text.lines() {
            text.push_str(line.trim());
            text.push('\n');
        }
        if !call.arguments.is_empty() {
            text.push_str("\n| register | argument | type |\n|---|---|---|\n");
            for (register, (name, kind)) in ARGUMENT_REGISTERS.iter().zip(call.arguments) {
                text.push_str(&format!("| `{register}` | {name} | `{kind}` |\n"));
            }
        }
        text.push_str(&format!("\nValue: {}.", call.value));
        if !call.errors.is_empty() {
            let names: alloc::vec::Vec<String> =
                call.errors.iter().map(|error| format!("`{error:?}`")).collect();
            text.push_str(&format!(" Errors: {}.", names.join(", ")));
        }
        text.push('\n');
    }
}

fn errors(text: &mut String) {
    text.push_str("\n## Errors\n\n| number | error | meaning |\n|---|---|---|\n");
    for &(error, name, meaning) in Error::ALL {
        text.push_str(&format!("| {} | `{name}` | {} |\n", error as u16, meaning.trim()));
    }
}

fn words(text: &mut String) {
    text.push_str("\n## Rights\n\n| bit | right |\n|---|---|\n");
    for (name, right) in Rights::all().iter_names() {
        text.push_str(&format!("| {} | `{name}` |\n", right.bits().trailing_zeros()));
    }
    text.push_str("\n## Kinds of resource\n\n| number | kind |\n|---|---|\n");
    for kind in Kind::ALL {
        text.push_str(&format!("| {} | {} |\n", kind as u8, kind.label()));
    }
    text.push_str("\n## Events\n\n| bit | cause | event |\n|---|---|---|\n");
    for event in Event::ALL {
        text.push_str(&format!("| {} | {} | `{event:?}` |\n", event as u8, event.cause()));
    }
    text.push_str("\n## Addresses\n\n| address | what is there |\n|---|---|\n");
    for (address, what) in [
        (layout::USER_START, "the first page that can be bound"),
        (layout::CONTROL, "the control page"),
        (layout::CONTRACT, "the contract page"),
        (layout::LOSS_RING, "the loss ring"),
        (layout::LOST_FRAMES, "the bitmap of lost frames"),
        (layout::SOFTWARE_TLB, "the software TLB"),
        (layout::SYSTEM, "the system page and the common tables"),
        (layout::PAGE_TABLE, "the hardware page tables"),
    ] {
        text.push_str(&format!("| `{}` | {what} |\n", format_args!("{address:#x}")));
    }
}
