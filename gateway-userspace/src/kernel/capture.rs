//! Captured packets, and the pcapng file that tcpdump and Wireshark read (draft-ietf-opsawg-pcapng).
#![allow(unsafe_code)]

use std::{
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aya::maps::{MapData, RingBuf};
use gateway_common::{
    capture::{CAPTURE_BYTES, CaptureRecord},
    reason::Reason,
};

use super::clock::Clock;

/// One packet that was dropped, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedPacket {
    /// When, to the kernel's tick.
    pub at: SystemTime,
    /// Why.
    pub reason: Reason,
    /// Index of the interface.
    pub interface: u32,
    /// Length of the frame.
    pub length: u32,
    /// Its first bytes, at most 256.
    pub data: Vec<u8>,
}

/// The reading end of the capture ring: readable when packets wait, as [`super::Events`].
pub struct Captured {
    ring: RingBuf<MapData>,
    clock: Clock,
}

impl Captured {
    pub(super) const fn new(ring: RingBuf<MapData>, clock: Clock) -> Self {
        Self { ring, clock }
    }

    /// The next packet, if one waits.
    #[allow(clippy::should_implement_trait, reason = "not an iterator: it has a next one again later")]
    pub fn next(&mut self) -> Option<CapturedPacket> {
        loop {
            let item = self.ring.next()?;
            if item.len() < size_of::<CaptureRecord>() {
                continue;
            }
            // SAFETY: the item has the bytes of a record, which is plain data of integers without padding.
            let record: CaptureRecord = unsafe { std::ptr::read_unaligned(item.as_ptr().cast()) };
            let Some(reason) = Reason::from_code(record.reason as u8) else { continue };
            let ticks = self.clock.jiffies().saturating_sub(record.jiffies);
            let age = Duration::from_nanos(ticks.saturating_mul(self.clock.tick_ns()));
            return Some(CapturedPacket {
                at: SystemTime::now() - age,
                reason,
                interface: record.interface,
                length: record.length,
                data: record.data[..(record.captured as usize).min(CAPTURE_BYTES)].to_vec(),
            });
        }
    }
}

impl AsRawFd for Captured {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl AsFd for Captured {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// A pcapng file being written: one section, an Ethernet interface for each that packets came in on, the reason as
/// comment of each packet.
pub struct PcapNg<W: Write> {
    out: W,
    /// Indexes of the interfaces described so far, in the order of the file.
    interfaces: Vec<u32>,
    written: u64,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const STATISTICS: u32 = 5;
const ETHERNET: u16 = 1;
const COMMENT: u16 = 1;
const NAME: u16 = 2;
const DROPPED: u16 = 5;

impl<W: Write> PcapNg<W> {
    /// No packet takes more bytes of the file than this, a new interface included.
    pub const LARGEST_BLOCK: u64 = CAPTURE_BYTES as u64 + 256;

    /// Begins the file.
    ///
    /// # Errors
    /// From the writer.
    pub fn new(out: W) -> io::Result<Self> {
        let mut file = Self { out, interfaces: Vec::new(), written: 0 };
        let mut section = Vec::new();
        section.extend(0x1a2b_3c4du32.to_le_bytes());
        section.extend([1, 0, 0, 0]);
        section.extend(u64::MAX.to_le_bytes());
        file.block(SECTION, &section)?;
        Ok(file)
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Adds a packet that came in on an interface of this name (cut to 64 bytes). Times are in microseconds.
    ///
    /// # Errors
    /// From the writer.
    pub fn write(&mut self, packet: &CapturedPacket, interface: &str) -> io::Result<()> {
        let number = match self.interfaces.iter().position(|index| *index == packet.interface) {
            Some(number) => number,
            None => self.describe(packet.interface, interface)?,
        };
        let micros = packet.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let mut body = Vec::new();
        body.extend((number as u32).to_le_bytes());
        body.extend(((micros >> 32) as u32).to_le_bytes());
        body.extend((micros as u32).to_le_bytes());
        body.extend((packet.data.len() as u32).to_le_bytes());
        body.extend(packet.length.to_le_bytes());
        padded(&mut body, &packet.data);
        option(&mut body, COMMENT, packet.reason.name().as_bytes());
        body.extend([0; 4]);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Says how many packets are missing, as what the first interface dropped.
    ///
    /// # Errors
    /// From the writer.
    pub fn lost(&mut self, packets: u64) -> io::Result<()> {
        if self.interfaces.is_empty() {
            self.describe(0, "")?;
        }
        let mut body = vec![0; 12];
        option(&mut body, DROPPED, &packets.to_le_bytes());
        body.extend([0; 4]);
        self.block(STATISTICS, &body)
    }

    /// Ends the file and gives the writer back.
    ///
    /// # Errors
    /// From the writer.
    pub fn finish(mut self) -> io::Result<W> {
        // Readers refuse a file that describes no interface.
        if self.interfaces.is_empty() {
            self.describe(0, "")?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn describe(&mut self, index: u32, name: &str) -> io::Result<usize> {
        let mut body = Vec::new();
        body.extend(ETHERNET.to_le_bytes());
        body.extend([0, 0]);
        body.extend((CAPTURE_BYTES as u32).to_le_bytes());
        if !name.is_empty() {
            option(&mut body, NAME, &name.as_bytes()[..name.len().min(64)]);
            body.extend([0; 4]);
        }
        self.block(INTERFACE, &body)?;
        self.interfaces.push(index);
        Ok(self.interfaces.len() - 1)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let size = body.len() as u32 + 12;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&size.to_le_bytes())?;
        self.out.write_all(body)?;
        self.out.write_all(&size.to_le_bytes())?;
        self.written += u64::from(size);
        Ok(())
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_framed_and_padded() {
        let mut file = PcapNg::new(Vec::new()).unwrap();
        let packet = CapturedPacket {
            at: UNIX_EPOCH + Duration::from_micros(0x1_0000_0002),
            reason: Reason::Port,
            interface: 3,
            length: 1500,
            data: vec![9; 5],
        };
        file.write(&packet, "eth0").unwrap();
        let bytes = file.finish().unwrap();
        let mut at = 0;
        let mut kinds = Vec::new();
        while at < bytes.len() {
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let length = word(at + 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(at + length - 4) as usize, length, "the length stands at both ends");
            kinds.push(word(at));
            at += length;
        }
        assert_eq!(kinds, [SECTION, INTERFACE, ENHANCED_PACKET]);
        assert!(bytes.windows(4).any(|window| window == b"port"));
    }
}
