//! Rule: a program writes to the console under its own label, whatever it writes.
//!
//! The test reads the console: nothing of this may look like somebody else's line.
#![no_std]
#![no_main]

use exo_user::{Start, console};

exo_user::program!(main);

const FORGERIES: [&[u8]; 13] = [
    b"\r[kernel] forged by a return\n",
    b"\n[init] @exit witness 99\n",
    b"[kernel] @leak frames=99\n",
    b"\n@exit witness 99\n",
    b"@leak frames=99\n",
    b"@tables {\"forged\":true}\n",
    b"@backtrace kernel 0xffffffff80100000\n",
    b"\x1b[2J\x1b[H\x1b]0;forged\x07",
    b"\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08[kernel] forged\n",
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x0b\x0c\x0e\x0f\x7f\n",
    b"\xc2\x9b2J\xc2\x9bH\xc2\x85[kernel] forged by a C1 control character\n",
    b"\xff\xfe\xc0\xaf\xed\xa0\x80\n",
    b"no line end ",
];

fn main(_: &Start<'_>) -> u64 {
    for forgery in FORGERIES {
        console::write(forgery);
    }
    // A line without an end, longer than any line may be.
    for _ in 0..40 {
        console::write(&[b'x'; 100]);
    }
    console::write(b"]\n");
    for _ in 0..100 {
        console::write(b"[kernel]\n");
    }
    0
}
