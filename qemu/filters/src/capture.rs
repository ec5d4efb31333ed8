//! Capture files, pcap or pcapng.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

/// The first bytes of a pcapng file.
const NEXT_GENERATION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The packets of a file, each from the link header on.
///
/// # Errors
/// The file cannot be read, is no capture, or not one of Ethernet.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let show = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(show)?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).with_context(show)?;
    file.rewind().with_context(show)?;
    let file = BufReader::new(file);
    if magic == NEXT_GENERATION { next_generation(file) } else { classic(file) }.with_context(show)
}

fn ethernet(link: DataLink) -> Result<()> {
    ensure!(link == DataLink::ETHERNET, "it was captured on {link:?}, not on Ethernet");
    Ok(())
}

fn classic(file: impl Read) -> Result<Vec<Vec<u8>>> {
    let mut reader = PcapReader::new(file).context("not a capture")?;
    ethernet(reader.header().datalink)?;
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        packets.push(packet.context("a broken packet")?.data.into_owned());
    }
    Ok(packets)
}

fn next_generation(file: impl Read) -> Result<Vec<Vec<u8>>> {
    let mut reader = PcapNgReader::new(file).context("not a capture")?;
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.context("a broken block")? {
            Block::InterfaceDescription(interface) => ethernet(interface.linktype)?,
            Block::EnhancedPacket(packet) => packets.push(packet.data.into_owned()),
            Block::SimplePacket(packet) => packets.push(packet.data.into_owned()),
            _ => {}
        }
    }
    Ok(packets)
}
