//! The processor: its tables, traps, timer and features.

/// Entry code, and what its text names: `fields`, by where they are in their types, and whatever else
/// `global_asm` takes.
macro_rules! entry_code {
    (
        $text:literal,
        fields { $($type:ident { $($field_name:ident = $field:ident),* $(,)? })* }
        $($operands:tt)*
    ) => {
        core::arch::global_asm!(
            $text,
            $($($field_name = const core::mem::offset_of!($type, $field),)*)*
            $($operands)*
        );
    };
}

pub(crate) mod apic;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod gdt;
pub(crate) mod idt;
pub(crate) mod layout;
pub(crate) mod paging;
pub(crate) mod segments;
pub(crate) mod switch;
pub(crate) mod trap;
pub(crate) mod vectors;
