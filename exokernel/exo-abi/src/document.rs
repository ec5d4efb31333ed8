//! The text of `doc/abi.md`.

use crate::calls::{ARGUMENT_REGISTERS, CALLS};
use crate::contract::Kind;
use crate::error::Error;
use crate::layout;
use crate::rights::Rights;
use crate::upcall::Event;
use core::fmt;

/// The reference of calls, errors, rights, events and addresses, in Markdown.
pub fn document() -> impl fmt::Display {
    Document
}

struct Document;

impl fmt::Display for Document {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str(
            "# The binary interface\n\n\
             Printed from `exokernel/exo-abi` by `cargo xtask abi`; do not edit. A test fails when \
             it is stale.\n\n\
             A call is the `syscall` instruction with its number in `rax` and its arguments in \
             `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`. It returns 0 or an error number in `rax` and a \
             value in `rdx`. `rcx` and `r11` are lost; other registers are kept, but for `Yield`, \
             `Sleep` and `Transfer`, which keep `rsp` alone. A refused call has changed nothing.\n\n\
             Who gives the CPU up by one of these three is at rest, and says with the same call who \
             may enter it meanwhile by a `Transfer` of its own, the keeper: one environment, -1 for \
             anybody, or 0 for nobody. Who is entered goes on behind its `syscall`, once, with \
             -1 in `rax` (`ENTERED`), and what the other passes in the registers.\n",
        )?;
        calls(text)?;
        errors(text)?;
        words(text)
    }
}

fn calls(text: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.write_str("\n## Calls\n")?;
    for call in CALLS {
        write!(text, "\n### {} `{}`\n\n", call.number, call.name)?;
        for line in call.text.lines() {
            writeln!(text, "{}", line.trim())?;
        }
        if !call.arguments.is_empty() {
            text.write_str("\n| register | argument | type |\n|---|---|---|\n")?;
            for (register, (name, kind)) in ARGUMENT_REGISTERS.iter().zip(call.arguments) {
                writeln!(text, "| `{register}` | {name} | `{kind}` |")?;
            }
        }
        write!(text, "\nValue: {}.", call.value)?;
        if !call.errors.is_empty() {
            for (index, error) in call.errors.iter().enumerate() {
                let before = if index == 0 { " Errors: " } else { ", " };
                write!(text, "{before}`{error:?}`")?;
            }
            write!(text, ".")?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn errors(text: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.write_str("\n## Errors\n\n| number | error | meaning |\n|---|---|---|\n")?;
    for &(error, name, meaning) in Error::ALL {
        writeln!(text, "| {} | `{name}` | {} |", error as u16, meaning.trim())?;
    }
    Ok(())
}

fn words(text: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.write_str("\n## Rights\n\n| bit | right |\n|---|---|\n")?;
    for (name, right) in Rights::all().iter_names() {
        writeln!(text, "| {} | `{name}` |", right.bits().trailing_zeros())?;
    }
    text.write_str("\n## Kinds of resource\n\n| number | kind |\n|---|---|\n")?;
    for kind in Kind::ALL {
        writeln!(text, "| {} | {} |", kind as u8, kind.label())?;
    }
    text.write_str("\n## Events\n\n| bit | cause | event |\n|---|---|---|\n")?;
    for event in Event::ALL {
        writeln!(text, "| {} | {} | `{event:?}` |", event as u8, event.cause())?;
    }
    text.write_str("\n## Addresses\n\n| address | what is there |\n|---|---|\n")?;
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
        writeln!(text, "| `{address:#x}` | {what} |")?;
    }
    Ok(())
}
