//! A handler that sends UDP datagrams back to where they came from, and counts them.
//! `cargo xtask ebpf packet-filters/tools/samples/echo.rs --entry handler`
#![no_std]

// SAFETY: these are helpers of the handler profile, with these types.
unsafe extern "C" {
    fn take(from: *const u8, length: u64) -> u64;
    fn reply(length: u64) -> u64;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Exchanges two fields of the answer.
///
/// # Safety
/// Both lie in the answer; the verifier sees to it.
unsafe fn exchange<T>(answer: *mut u8, first: usize, second: usize) {
    // SAFETY: the caller's promise; the fields need no alignment.
    unsafe {
        let (first, second) = (answer.add(first).cast::<T>(), answer.add(second).cast::<T>());
        let (a, b) = (first.read_unaligned(), second.read_unaligned());
        first.write_unaligned(b);
        second.write_unaligned(a);
    }
}

// SAFETY: `packet` is `length` bytes to read, `state` and `answer` are the regions of the profile, all for
// as long as the call. No other symbol of the object has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn handler(
    packet: *const u8,
    length: u64,
    state: *mut u64,
    answer: *mut u8,
    _filter: u64,
) -> u64 {
    // SAFETY: the kernel passes the regions of the profile, and the verifier checks each access.
    unsafe {
        *state += 1;
        if length < 42 || *packet.add(12) != 8 || *packet.add(13) != 0 || *packet.add(23) != 17 {
            return 0;
        }
        take(packet, length);
        for (first, second) in [(0, 6), (2, 8), (4, 10), (34, 36)] {
            exchange::<u16>(answer, first, second);
        }
        exchange::<u32>(answer, 26, 30);
        answer.add(40).cast::<u16>().write(0);
        reply(length)
    }
}
