//! Changes as they are written: encoded once, for the journal and for the database.

use std::io;
use std::ops::Range;

use super::Op;

/// Changes with their lines: `CRC32 JSON`, each ended by a line feed.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    lines: Vec<u8>,
    /// Each change, and where in the lines the JSON of its decision stands.
    ops: Vec<(Op, Range<usize>)>,
}

impl Encoded {
    /// Encodes changes.
    pub(super) fn new(ops: Vec<Op>) -> io::Result<Self> {
        let mut encoded =
            Self { lines: Vec::with_capacity(ops.len() * 384), ops: Vec::with_capacity(ops.len()) };
        for op in ops {
            encoded.push(op)?;
        }
        Ok(encoded)
    }

    fn push(&mut self, op: Op) -> io::Result<()> {
        let lines = &mut self.lines;
        let start = lines.len();
        lines.extend_from_slice(b"00000000 ");
        let json = start + 9;
        serde_json::to_writer(&mut *lines, &op)?;
        let crc = crc32fast::hash(&lines[json..]);
        for (place, digit) in lines[start..].iter_mut().zip((0..8).rev()) {
            *place = b"0123456789abcdef"[(crc >> (digit * 4) & 0xf) as usize];
        }
        // An enum's JSON is an object of one field, its variant's name: `{"began":VALUE}`.
        let name = lines[json..].iter().position(|b| *b == b':').map_or(0, |colon| colon + 1);
        let value = json + name..lines.len() - 1;
        lines.push(b'\n');
        self.ops.push((op, value));
        Ok(())
    }

    /// The lines for the journal.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// How many changes.
    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Each change with the JSON of its decision, as the database has it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Op, &[u8])> {
        self.ops.iter().map(|(op, value)| (op, &self.lines[value.clone()]))
    }
}
