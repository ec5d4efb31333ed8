//! Rule: only the program's part of the address space can be bound, unbound or protected.
#![no_std]
#![no_main]

use exo_user::abi::layout::{
    CONTRACT, CONTROL, LOST_FRAMES, PAGE_TABLE, SOFTWARE_TLB, SYSTEM, USER_END,
};
use exo_user::abi::request::BindRequest;
use exo_user::{Call, EnvName, Error, Rights, Start, capability};
use guest_probes::ground::{self, DATA};
use guest_probes::rule::refused;

exo_user::program!(main);

/// The null page, the kernel's pages of the lower half, the hole, the upper half.
const FORBIDDEN: [u64; 17] = [
    0,
    USER_END,
    CONTROL,
    CONTRACT,
    LOST_FRAMES,
    SOFTWARE_TLB,
    SYSTEM,
    PAGE_TABLE,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0x1_0000_0000_0000,
    0xffff_7fff_ffff_f000,
    0xffff_8000_0000_0000,
    0xffff_ff80_0010_0000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_8010_0000,
    0xffff_ffff_ffff_f000,
];

fn main(_: &Start<'_>) -> u64 {
    let [frame] = ground::frames();
    let (environment, capability) = (EnvName::NONE, 0);
    for page in FORBIDDEN {
        let request = BindRequest::new(page, frame, DATA, capability::OWN);
        refused(ground::bind_call(&[request]), Error::BadAddress);
        refused(Call::Unbind { environment, capability, page, count: 1 }, Error::BadAddress);
        for rights in [DATA, Rights::empty()] {
            let protect = Call::Protect { environment, capability, page, count: 1, rights };
            refused(protect, Error::BadAddress);
        }
    }
    // Ranges that begin well and end badly.
    for (page, count) in [(USER_END - 4096, 2), (USER_END - 4096, 1 << 16), (4096, u64::MAX)] {
        let error = if count > 1 << 16 { Error::TooLong } else { Error::BadAddress };
        refused(Call::Unbind { environment, capability, page, count }, error);
        let rights = Rights::READ;
        refused(Call::Protect { environment, capability, page, count, rights }, error);
    }
    for count in [1 << 52, 1 << 51, (1 << 52) + 1, u64::MAX / 4096 + 1] {
        let page = ground::GROUND;
        refused(Call::Unbind { environment, capability, page, count }, Error::TooLong);
    }
    0
}
