//! Rule: a page is an aligned address with rights that exist, and a batch is all or none.
#![no_std]
#![no_main]

use exo_user::abi::request::BindRequest;
use exo_user::{Call, EnvName, Error, Rights, Start, capability};
use guest_probes::attempt;
use guest_probes::ground::{self, DATA, GROUND, page};
use guest_probes::rule::{self, refused};

exo_user::program!(main);

fn protect(page: u64, count: u64, rights: Rights) -> Call {
    Call::Protect { environment: EnvName::NONE, capability: 0, page, count, rights }
}

fn main(_: &Start<'_>) -> u64 {
    attempt::prepare();
    let frames = ground::frames::<2>();
    let request = |bits: u64| BindRequest {
        page_and_rights: GROUND | bits,
        ..BindRequest::new(0, frames[0], DATA, capability::OWN)
    };
    for bits in [8, 16, 32, 64, 128, 256, 1024, 2048, 0xfff, 2, 4] {
        refused(ground::bind_call(&[request(bits)]), Error::BadArgument);
    }
    let (environment, capability) = (EnvName::NONE, 0);
    for page in [GROUND + 1, GROUND + 8, GROUND + 4095] {
        refused(Call::Unbind { environment, capability, page, count: 1 }, Error::BadAddress);
        refused(protect(page, 1, Rights::READ), Error::BadAddress);
    }
    // Of two requests for one page, the last holds, and the first leaves nothing.
    let [one, two] = frames.map(|frame| BindRequest::new(GROUND, frame, DATA, capability::OWN));
    // SAFETY: nothing on the ground is referred to.
    let result = unsafe { exo_user::binding::bind(&[one, two]) };
    rule::granted("one page twice", result);
    ground::store(GROUND, 7);
    rule::same("the frame behind it", exo_user::tables::frame_behind(GROUND), Some(frames[1]));
    // A range with a hole is not protected at all.
    refused(protect(GROUND, 2, Rights::READ), Error::PageNotBound);
    rule::same("the page can still be written", attempt::write(GROUND), None);
    refused(protect(GROUND, 1 << 16, Rights::READ), Error::PageNotBound);
    // Rights that were never granted cannot be had.
    rule::granted("a page to read", ground::bind(page(3), frames[0], Rights::READ));
    refused(protect(page(3), 1, DATA), Error::NotDominated);
    refused(protect(page(3), 1, Rights::READ | Rights::WIRED), Error::NotDominated);
    for rights in [Rights::WRITE, Rights::EXECUTE, Rights::CONTROL, Rights::MACHINE] {
        refused(protect(page(3), 1, rights), Error::BadArgument);
    }
    0
}
