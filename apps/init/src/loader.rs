//! Makes an environment of a program: its contract, its memory, its capabilities, its ports.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use exo_user::abi::boot;
use exo_user::abi::contract::KINDS;
use exo_user::abi::layout::LABEL;
use exo_user::abi::name::PAGE_SIZE;
use exo_user::abi::request::{BindRequest, EnvironmentRequest};
use exo_user::filter::Overlapped;
use exo_user::{
    Capability, CapabilityName, EnvName, Error, FrameNumber, Kind, Rights, Start, binding,
    capability, environment, filter, frame, layout, tables,
};
use filter_language::{Builder, Overlapping, encode, show};
use init::image::{Image, ImageError};
use init::manifest::{Port, Program, Right};
use packet_filters::Filter;
use tar_no_std::TarArchiveRef;

/// What a program may do with its own name.
const OWN_RIGHTS: Rights = Rights::READ
    .union(Rights::WRITE)
    .union(Rights::EXECUTE)
    .union(Rights::GRANT)
    .union(Rights::CONTROL);
/// How many frames of a contract there are for each frame of software TLB, which has 128 entries:
/// it is then at most half full.
const FRAMES_PER_TLB_FRAME: u64 = 64;
/// Frames for hardware page tables, beyond the least with which the kernel can do: enough for
/// image, stack, heap and a few regions elsewhere to be in them at the same time.
const TABLE_FRAMES: u64 = 16;
/// The most frames of a software TLB.
const TLB_FRAMES_MAX: u64 = 256;
/// The ethernet type of ARP.
const TYPE_ARP: u16 = 0x0806;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
/// How many pages are filled at once.
const BATCH: usize = 64;

/// A program that has been loaded.
#[derive(Debug)]
pub(crate) struct Child {
    /// What it is called.
    pub(crate) name: String,
    /// Its environment.
    pub(crate) environment: EnvName,
    /// Where it starts.
    pub(crate) entry: u64,
    /// The run does not wait for it.
    pub(crate) service: bool,
    /// It may read the console.
    pub(crate) reads_console: bool,
}

/// Why a program was not loaded.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// There is no file of this name in the archive.
    NoFile,
    /// There are no names left for it.
    TooManyPrograms,
    /// The file is no image.
    Image(ImageError),
    /// The contract has fewer frames than the program needs at its start.
    TooFewFrames {
        /// How many it needs.
        needed: u64,
    },
    /// The arguments do not fit in the start block.
    ArgumentsTooLong,
    /// The kernel refuses a step.
    Refused(&'static str, Error),
    /// A port is somebody else's: what was to be reserved, what that overlaps, and that as a filter.
    Overlaps(Box<(Filter, Overlapped, Option<Filter>)>),
}

/// What was reserved for programs, with the ids, the newest last.
pub(crate) type Reserved = Vec<(u32, Filter)>;

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => write!(f, "its file is not in the archive"),
            Self::TooManyPrograms => write!(f, "there are too many programs"),
            Self::Image(error) => write!(f, "{error}"),
            Self::TooFewFrames { needed } => {
                write!(f, "its contract has too few frames, it needs {needed} at its start")
            }
            Self::ArgumentsTooLong => write!(f, "its arguments are too long"),
            Self::Refused(step, error) => write!(f, "the kernel refuses {step}: {error:?}"),
            Self::Overlaps(overlap) => match &**overlap {
                (own, other, Some(filter)) => {
                    write!(f, "a port of its overlaps {other}:\n{}", Overlapping(own, filter))
                }
                (own, other, None) => {
                    write!(f, "a port of its overlaps {other}:\n  {}", show(own))
                }
            },
        }
    }
}

/// Names the step at which the kernel has refused.
fn at(step: &'static str) -> impl Fn(Error) -> LoadError {
    move |error| LoadError::Refused(step, error)
}

/// The boot archive, where the kernel has bound it.
pub(crate) struct Archive<'a> {
    bytes: &'a [u8],
}

impl Archive<'static> {
    /// The archive of `length` bytes that the kernel gave this program.
    pub(crate) fn own(length: u64) -> Self {
        // SAFETY: the kernel has bound the archive there, read only and wired, and said how long it
        // is. Nobody writes to it.
        let bytes =
            unsafe { core::slice::from_raw_parts(boot::ARCHIVE as *const u8, length as usize) };
        Self { bytes }
    }
}

impl<'a> Archive<'a> {
    /// The contents of the file at a path.
    pub(crate) fn file(&self, path: &str) -> Option<&'a [u8]> {
        TarArchiveRef::new(self.bytes)
            .ok()?
            .entries()
            .find(|entry| entry.filename().as_str() == Ok(path))
            .map(|entry| entry.data())
    }

    /// The first frame; the others follow it.
    fn first_frame(&self) -> Option<FrameNumber> {
        // The page has to be in the hardware table when its entry is read there.
        core::hint::black_box(self.bytes.first()?);
        tables::frame_behind(boot::ARCHIVE)
    }
}

/// Loads a program, ready to be started. Its name in capabilities ends with `number`.
pub(crate) fn load(
    program: &Program,
    number: u8,
    archive: &Archive<'_>,
    seed: u64,
    reserved: &mut Reserved,
) -> Result<Child, LoadError> {
    if number == boot::ARCHIVE_GUARD {
        return Err(LoadError::TooManyPrograms);
    }
    let file = archive.file(&program.path).ok_or(LoadError::NoFile)?;
    let frames = u64::from(program.frames);
    let image = Image::parse(file, &layout::IMAGE, frames).map_err(LoadError::Image)?;
    let mut start = Start::new(&program.args);
    start.archive_frame = archive.first_frame().unwrap_or_default();
    start.archive_length = archive.bytes.len() as u64;
    start.image = (image.range().start, image.range().end);
    start.seed = seed;
    start.part = number;
    let mut block = vec![0; PAGE_SIZE as usize];
    start.write(&mut block).map_err(|_| LoadError::ArgumentsTooLong)?;
    let pages = pages(&image, &block);
    let donation = Donation::of(program);
    let needed = donation.frames + pages.len() as u64;
    if needed > frames {
        return Err(LoadError::TooFewFrames { needed });
    }
    let environment = create(program, number, &donation).map_err(at("to create it"))?;
    furnish(program, number, environment, &pages, reserved).inspect_err(|_| remove(environment))?;
    Ok(Child {
        name: program.name.clone(),
        environment,
        entry: image.entry,
        service: program.service,
        reads_console: program.rights.contains(&Right::Console),
    })
}

/// Ends an environment and frees its slot.
pub(crate) fn remove(environment: EnvName) {
    for _ in 0..2 {
        // The root capability may do this; if the environment is gone already, so much the better.
        let _ = environment::destroy(environment, capability::OWN, 0);
    }
}

/// What a new environment gives to the kernel for its own tables.
struct Donation {
    frames: u64,
    tlb_frames: u64,
}

impl Donation {
    fn of(program: &Program) -> Self {
        let tlb_frames =
            u64::from(program.frames).div_ceil(FRAMES_PER_TLB_FRAME).clamp(1, TLB_FRAMES_MAX);
        let minimum = tables::system().donation_minimum + tlb_frames + TABLE_FRAMES;
        Self { frames: minimum.max(program.kernel_frames.into()), tlb_frames }
    }
}

fn create(program: &Program, number: u8, donation: &Donation) -> Result<EnvName, Error> {
    let name = name_of(number)?;
    let mut limits = [0; KINDS];
    let mut floors = [0; KINDS];
    limits[Kind::Frames as usize] = program.frames.into();
    floors[Kind::Frames as usize] = program.floor.into();
    limits[Kind::Slices as usize] = program.slices.into();
    // What it may receive is reserved by filters that count as its own.
    limits[Kind::Filters as usize] = u64::from(program.filters) + program.ports.len() as u64;
    limits[Kind::Rings as usize] = program.rings.into();
    limits[Kind::Environments as usize] = program.environments.into();
    let mut label = [0; LABEL];
    for (place, byte) in label.iter_mut().zip(program.name.bytes()) {
        *place = byte;
    }
    let request = EnvironmentRequest {
        tlb_frames: donation.tlb_frames,
        capability: capability::OWN.into(),
        guard: Capability { name, rights: OWN_RIGHTS }.to_words(),
        limits,
        floors,
        notice: u64::from(program.notice) * 1000,
        label,
        ..EnvironmentRequest::default()
    };
    let mut frames = vec![FrameNumber::ANY; donation.frames as usize];
    frame::allocate(&mut frames, capability::OWN)?;
    // SAFETY: the frames are new and nothing is bound to them; also below.
    unsafe { environment::create(&request, &frames) }.inspect_err(|_| {
        // SAFETY: as above. Frames that are the caller's own are taken back.
        let _ = unsafe { frame::free(&frames) };
    })
}

/// The name of the program with this number.
fn name_of(number: u8) -> Result<CapabilityName, Error> {
    capability::programs().child(number).ok_or(Error::BadArgument)
}

/// Gives an environment its memory, capabilities and ports.
fn furnish(
    program: &Program,
    number: u8,
    environment: EnvName,
    pages: &[Page<'_>],
    reserved: &mut Reserved,
) -> Result<(), LoadError> {
    for batch in pages.chunks(BATCH) {
        fill(environment, batch).map_err(at("it memory"))?;
    }
    grant(program, number, environment).map_err(at("it capabilities"))?;
    for (place, port) in (0..).zip(&program.ports) {
        open(environment, place, *port, reserved)?;
    }
    Ok(())
}

/// Reserves the packets to a port for an environment, and lets it send those from there: with the
/// machine's link address, which no template leaves open.
fn open(
    environment: EnvName,
    place: u64,
    port: Port,
    reserved: &mut Reserved,
) -> Result<(), LoadError> {
    let [a, b, c, d, e, f, _, _] = tables::system().link_address.to_le_bytes();
    let mac = [a, b, c, d, e, f];
    let sent =
        |protocol, port| Builder::ipv4(protocol).unfragmented().source_port(port).source_mac(mac);
    let (received, sent) = match port {
        Port::Tcp(port) => (Builder::tcp_port(port), sent(PROTOCOL_TCP, port)),
        Port::Udp(port) => (Builder::udp_port(port), sent(PROTOCOL_UDP, port)),
        Port::Arp => (Builder::ethertype(TYPE_ARP), Builder::arp_sender(mac)),
        Port::Icmp => (Builder::icmp(), Builder::icmp().source_mac(mac)),
    };
    let step = "it a port";
    let build = |builder: Builder| builder.build().map_err(|_| at(step)(Error::BadFilter));
    let (received, sent) = (build(received)?, build(sent)?);
    let id = filter::reserve(environment, capability::OWN, encode(&received).as_ref());
    let id = id.map_err(|error| match error {
        Error::FilterOverlaps => overlaps(received, reserved),
        error => at(step)(error),
    })?;
    reserved.push((id, received));
    filter::permit(environment, capability::OWN, place, encode(&sent).as_ref()).map_err(at(step))
}

/// What the reservation overlaps that has just been refused.
fn overlaps(refused: Filter, reserved: &Reserved) -> LoadError {
    let other = filter::overlapped();
    let filter = reserved.iter().rev().find(|(id, _)| *id == other.id).map(|(_, filter)| *filter);
    LoadError::Overlaps(Box::new((refused, other, filter)))
}

/// Puts the capabilities where [`exo_user::capability`] says that they are.
fn grant(program: &Program, number: u8, to: EnvName) -> Result<(), Error> {
    let own = name_of(number)?;
    let put = |slot: u32, name: CapabilityName, rights: Rights| {
        capability::grant(to, capability::OWN, slot, capability::OWN, Capability { name, rights })
    };
    for right in &program.rights {
        match right {
            // Not the root: nobody takes frames from this program.
            Right::Revoke => put(capability::REVOKE, capability::programs(), Rights::REVOKE)?,
            Right::Network => put(capability::NETWORK, own, Rights::NETWORK)?,
            Right::Filters => put(capability::FILTERS, CapabilityName::ROOT, Rights::NETWORK)?,
            Right::Console => put(capability::CONSOLE, own, Rights::CONSOLE)?,
        }
    }
    let archive = CapabilityName::ROOT.child(boot::ARCHIVE_GUARD).ok_or(Error::BadArgument)?;
    put(capability::ARCHIVE, archive, Rights::READ)
}

/// A page of a program: its address, its rights, and what is in it from an offset on.
struct Page<'a> {
    address: u64,
    rights: Rights,
    offset: usize,
    bytes: &'a [u8],
}

/// All pages that a program starts with. None of them is ever taken while it has others.
fn pages<'a>(image: &'a Image<'a>, start_block: &'a [u8]) -> Vec<Page<'a>> {
    let mut pages = Vec::new();
    for segment in image.segments() {
        let mut rights = Rights::READ | Rights::WIRED;
        rights.set(Rights::WRITE, segment.writable);
        rights.set(Rights::EXECUTE, segment.executable);
        for address in segment.pages().step_by(PAGE_SIZE as usize) {
            let (offset, bytes) = segment.part(address);
            pages.push(Page { address, rights, offset, bytes });
        }
    }
    let rights = Rights::READ | Rights::WIRED;
    pages.push(Page { address: layout::START_BLOCK, rights, offset: 0, bytes: start_block });
    for address in layout::STACK.step_by(PAGE_SIZE as usize) {
        pages.push(Page { address, rights: rights | Rights::WRITE, offset: 0, bytes: &[] });
    }
    pages
}

/// Takes frames, fills them through the window, binds them for the child and makes them its own.
fn fill(child: EnvName, pages: &[Page<'_>]) -> Result<(), Error> {
    let mut frames = [FrameNumber::ANY; BATCH];
    let frames = &mut frames[..pages.len()];
    frame::allocate(frames, capability::OWN)?;
    let result = fill_frames(child, pages, frames);
    if result.is_err() {
        // SAFETY: nothing refers to the window.
        let _ = unsafe { frame::free(frames) };
    }
    result
}

fn fill_frames(child: EnvName, pages: &[Page<'_>], frames: &[FrameNumber]) -> Result<(), Error> {
    let window = layout::WINDOW.start;
    let mut requests: Vec<BindRequest> = frames
        .iter()
        .zip((window..).step_by(PAGE_SIZE as usize))
        .map(|(&frame, page)| {
            let rights = Rights::READ | Rights::WRITE | Rights::WIRED;
            BindRequest::new(page, frame, rights, capability::OWN)
        })
        .collect();
    // SAFETY: the window is for this alone; nothing refers to it.
    unsafe { binding::bind(&requests)? };
    for (page, place) in pages.iter().zip((window..).step_by(PAGE_SIZE as usize)) {
        let place = (place as usize + page.offset) as *mut u8;
        // SAFETY: the page of the window is bound, and the bytes fit in it from the offset on:
        // `Segment::part` cuts them so.
        unsafe { place.copy_from_nonoverlapping(page.bytes.as_ptr(), page.bytes.len()) };
    }
    // SAFETY: as above.
    unsafe { binding::unbind(window, pages.len() as u64)? };
    for ((request, page), &frame) in requests.iter_mut().zip(pages).zip(frames) {
        *request = BindRequest::new(page.address, frame, page.rights, capability::OWN);
    }
    binding::bind_for(child, capability::OWN, &requests)?;
    frame::transfer(frames, child, capability::OWN)
}
