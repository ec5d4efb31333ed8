//! libpcap, found while the program runs, so that the tools can be built where it is not installed.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};

use anyhow::{Context, Result, bail};
use libloading::Library;

use crate::classic::{Instruction, Program};

/// What it is called where it is installed.
const NAMES: [&str; 4] = ["libpcap.so.1", "libpcap.so.0.8", "libpcap.so", "/usr/lib/libpcap.dylib"];
/// The link type of Ethernet.
const ETHERNET: c_int = 1;
const SNAPSHOT: c_int = 65_535;
/// No address is a broadcast.
const UNKNOWN_NETMASK: c_uint = u32::MAX;

#[repr(C)]
struct RawProgram {
    length: c_uint,
    instructions: *mut Instruction,
}

/// What libpcap wants to know of a packet.
#[repr(C)]
struct Header {
    seconds: c_long,
    microseconds: c_long,
    captured: u32,
    length: u32,
}

// The functions, and what each wants of its caller; their types are those of `pcap/pcap.h`.

// SAFETY: any link type and any length. What it returns, if that is not null, is for `Close`.
type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut c_void;
// SAFETY: a handle that is open, a place for a program, and a string. What is there after 0 is for `Free`.
type Compile =
    unsafe extern "C" fn(*mut c_void, *mut RawProgram, *const c_char, c_int, c_uint) -> c_int;
// SAFETY: a handle that is open. The string is the handle's, until the next call or its end.
type ErrorText = unsafe extern "C" fn(*mut c_void) -> *const c_char;
// SAFETY: a program that `Compile` has made, once.
type Free = unsafe extern "C" fn(*mut RawProgram);
// SAFETY: a handle that is open, once.
type Close = unsafe extern "C" fn(*mut c_void);
// SAFETY: a program that is not freed, and as many bytes as the header says were captured.
type Filter = unsafe extern "C" fn(*const RawProgram, *const Header, *const u8) -> c_int;
// SAFETY: nothing. The string is a constant of the library's.
type Version = unsafe extern "C" fn() -> *const c_char;

/// The library, loaded for good.
#[derive(Clone, Copy)]
pub struct Libpcap {
    library: &'static Library,
}

/// What the library says it is, if it is there.
#[must_use]
pub fn version() -> Option<String> {
    let libpcap = Libpcap::load().ok()?;
    // SAFETY: the function has this type, and returns a constant string.
    let text =
        unsafe { CStr::from_ptr(libpcap.library.get::<Version>(b"pcap_lib_version\0").ok()?()) };
    Some(text.to_string_lossy().into_owned())
}

impl Libpcap {
    /// Loads it.
    ///
    /// # Errors
    /// It is not installed.
    pub fn load() -> Result<Self> {
        for name in NAMES {
            // SAFETY: what the library does when it is loaded is what it does in every program.
            if let Ok(library) = unsafe { Library::new(name) } {
                return Ok(Self { library: Box::leak(Box::new(library)) });
            }
        }
        bail!("libpcap is not installed; expressions need it: apt-get install libpcap0.8")
    }

    /// Compiles an expression of tcpdump for Ethernet.
    ///
    /// # Errors
    /// What libpcap says is wrong with it.
    pub fn compile(&self, expression: &str) -> Result<Program> {
        let text = CString::new(expression).context("an expression has no zero bytes")?;
        // SAFETY: the types are those of pcap(3PCAP), for all of them; the handle is closed and the
        // program freed once, after their last use.
        unsafe {
            let open = self.library.get::<OpenDead>(b"pcap_open_dead\0")?;
            let compile = self.library.get::<Compile>(b"pcap_compile\0")?;
            let error = self.library.get::<ErrorText>(b"pcap_geterr\0")?;
            let free = self.library.get::<Free>(b"pcap_freecode\0")?;
            let close = self.library.get::<Close>(b"pcap_close\0")?;
            let handle = open(ETHERNET, SNAPSHOT);
            if handle.is_null() {
                bail!("libpcap has no memory");
            }
            let mut raw = RawProgram { length: 0, instructions: std::ptr::null_mut() };
            if compile(handle, &mut raw, text.as_ptr(), 1, UNKNOWN_NETMASK) != 0 {
                let message = CStr::from_ptr(error(handle)).to_string_lossy().into_owned();
                close(handle);
                bail!("libpcap: {message}");
            }
            let list = std::slice::from_raw_parts(raw.instructions, raw.length as usize).to_vec();
            free(&mut raw);
            close(handle);
            Program::new(list)
        }
    }

    /// Its interpreter for a program.
    ///
    /// # Errors
    /// The library does not have it.
    pub fn interpreter(&self, program: &Program) -> Result<Interpreter> {
        // SAFETY: the function has this type.
        let filter = unsafe { *self.library.get::<Filter>(b"pcap_offline_filter\0")? };
        Ok(Interpreter { filter, instructions: program.instructions().to_vec() })
    }
}

/// libpcap's interpreter with a program.
pub struct Interpreter {
    filter: Filter,
    instructions: Vec<Instruction>,
}

impl Interpreter {
    /// Whether the program accepts a packet.
    #[must_use]
    pub fn accepts(&self, packet: &[u8]) -> bool {
        let length = packet.len() as u32;
        let header = Header { seconds: 0, microseconds: 0, captured: length, length };
        let program = RawProgram {
            length: self.instructions.len() as u32,
            instructions: self.instructions.as_ptr().cast_mut(),
        };
        // SAFETY: program and packet are as long as it is said, and only read.
        unsafe { (self.filter)(&program, &header, packet.as_ptr()) != 0 }
    }
}
