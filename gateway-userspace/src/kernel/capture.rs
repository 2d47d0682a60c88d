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

/// A pcapng file being written: one section, one Ethernet interface, the reason as comment of each packet.
pub struct PcapNg<W: Write> {
    out: W,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const ETHERNET: u16 = 1;
const COMMENT: u16 = 1;

impl<W: Write> PcapNg<W> {
    /// Begins the file.
    ///
    /// # Errors
    /// From the writer.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut section = Vec::new();
        section.extend(0x1a2b_3c4du32.to_le_bytes());
        section.extend([1, 0, 0, 0]);
        section.extend(u64::MAX.to_le_bytes());
        block(&mut out, SECTION, &section)?;
        let mut interface = Vec::new();
        interface.extend(ETHERNET.to_le_bytes());
        interface.extend([0, 0]);
        interface.extend((CAPTURE_BYTES as u32).to_le_bytes());
        block(&mut out, INTERFACE, &interface)?;
        Ok(Self { out })
    }

    /// Adds a packet. Times are in microseconds.
    ///
    /// # Errors
    /// From the writer.
    pub fn write(&mut self, packet: &CapturedPacket) -> io::Result<()> {
        let micros = packet.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let mut body = Vec::new();
        body.extend(0u32.to_le_bytes());
        body.extend(((micros >> 32) as u32).to_le_bytes());
        body.extend((micros as u32).to_le_bytes());
        body.extend((packet.data.len() as u32).to_le_bytes());
        body.extend(packet.length.to_le_bytes());
        padded(&mut body, &packet.data);
        let comment = packet.reason.name().as_bytes();
        body.extend(COMMENT.to_le_bytes());
        body.extend((comment.len() as u16).to_le_bytes());
        padded(&mut body, comment);
        body.extend([0; 4]);
        block(&mut self.out, ENHANCED_PACKET, &body)
    }

    /// Ends the file and gives the writer back.
    ///
    /// # Errors
    /// From the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = (body.len() as u32 + 12).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
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
        file.write(&packet).unwrap();
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
