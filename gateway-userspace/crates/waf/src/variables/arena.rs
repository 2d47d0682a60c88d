//! A transaction's memory: every value is a range of one of four buffers.

/// A range of bytes of a transaction. The top two bits of `start` say which buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

/// The buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Buffer {
    /// Request line, headers, parsed arguments, TX values: lives as long as the transaction.
    Data,
    /// Transformed values: may be emptied between rules.
    Scratch,
    /// The request's body.
    RequestBody,
    /// The response's body.
    ResponseBody,
}

const OFFSET_BITS: u32 = 30;
const OFFSET_MASK: u32 = (1 << OFFSET_BITS) - 1;

/// Most bytes of one buffer; what does not fit is cut off.
pub(crate) const BUFFER_MAX_BYTES: usize = 1 << OFFSET_BITS;
/// Once scratch holds this much it is emptied before the next rule.
pub(crate) const SCRATCH_KEEP_BYTES: usize = 4 << 20;
/// Memory that a finished transaction keeps of each buffer for the next.
const KEEP_BYTES: usize = 1 << 20;

impl Span {
    /// No bytes.
    pub(crate) const EMPTY: Self = Self { start: 0, len: 0 };

    pub(crate) fn new(buffer: Buffer, start: usize, len: usize) -> Self {
        debug_assert!(start + len <= BUFFER_MAX_BYTES);
        Self { start: ((buffer as u32) << OFFSET_BITS) | start as u32, len: len as u32 }
    }

    pub(crate) fn len(self) -> usize {
        self.len as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(crate) fn is_scratch(self) -> bool {
        self.start >> OFFSET_BITS == Buffer::Scratch as u32
    }

    /// A part of it, in its own offsets; cut to what there is.
    pub(crate) fn part(self, from: usize, to: usize) -> Self {
        let from = from.min(self.len());
        let to = to.clamp(from, self.len());
        Self { start: self.start + from as u32, len: (to - from) as u32 }
    }

    /// A number for it that is unique while its bytes live.
    pub(crate) fn key(self) -> u64 {
        (self.start as u64) << 32 | self.len as u64
    }
}

/// The four buffers.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    buffers: [Vec<u8>; 4],
}

impl Arena {
    pub(crate) fn clear(&mut self) {
        for buffer in &mut self.buffers {
            buffer.clear();
            buffer.shrink_to(KEEP_BYTES);
        }
    }

    #[inline]
    pub(crate) fn get(&self, span: Span) -> &[u8] {
        let start = (span.start & OFFSET_MASK) as usize;
        self.buffers[(span.start >> OFFSET_BITS) as usize].get(start..start + span.len()).unwrap_or_default()
    }

    pub(crate) fn len(&self, buffer: Buffer) -> usize {
        self.buffers[buffer as usize].len()
    }

    pub(crate) fn whole(&self, buffer: Buffer) -> Span {
        Span::new(buffer, 0, self.len(buffer))
    }

    /// Appends to a buffer, up to its bound.
    #[inline]
    pub(crate) fn push(&mut self, buffer: Buffer, bytes: &[u8]) -> Span {
        let target = &mut self.buffers[buffer as usize];
        let start = target.len();
        let bytes = &bytes[..bytes.len().min(BUFFER_MAX_BYTES - start)];
        target.extend_from_slice(bytes);
        Span::new(buffer, start, bytes.len())
    }

    /// Appends to the data buffer.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Span {
        self.push(Buffer::Data, bytes)
    }

    /// Appends several pieces as one value to the data buffer.
    pub(crate) fn data_of(&mut self, pieces: &[&[u8]]) -> Span {
        let mut len = 0;
        let start = self.len(Buffer::Data);
        for piece in pieces {
            len += self.data(piece).len();
        }
        Span::new(Buffer::Data, start, len)
    }

    /// A number as text in the data buffer.
    pub(crate) fn number(&mut self, number: i64) -> Span {
        let mut digits = [0; 20];
        let from = write_number(number, &mut digits);
        self.data(&digits[from..])
    }

    /// The same bytes where they live as long as the transaction.
    pub(crate) fn keep(&mut self, span: Span) -> Span {
        if !span.is_scratch() {
            return span;
        }
        let start = (span.start & OFFSET_MASK) as usize;
        let [data, scratch, ..] = &mut self.buffers;
        let at = data.len();
        let bytes = scratch.get(start..start + span.len()).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(BUFFER_MAX_BYTES - at)];
        data.extend_from_slice(bytes);
        Span::new(Buffer::Data, at, bytes.len())
    }

    pub(crate) fn empty_scratch(&mut self) {
        self.buffers[Buffer::Scratch as usize].clear();
    }

    /// Takes a buffer out, to read it while values are added elsewhere; spans of it are empty until it is back.
    pub(crate) fn take(&mut self, buffer: Buffer) -> Vec<u8> {
        std::mem::take(&mut self.buffers[buffer as usize])
    }

    pub(crate) fn give_back(&mut self, buffer: Buffer, bytes: Vec<u8>) {
        self.buffers[buffer as usize] = bytes;
    }
}

/// Writes a number to the end of `digits` and says where it begins.
pub(crate) fn write_number(number: i64, digits: &mut [u8; 20]) -> usize {
    let mut rest = number.unsigned_abs();
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (number, text) in [
            (0, "0"),
            (7, "7"),
            (-12, "-12"),
            (i64::MAX, "9223372036854775807"),
            (i64::MIN, "-9223372036854775808"),
        ] {
            let mut arena = Arena::default();
            let span = arena.number(number);
            assert_eq!(arena.get(span), text.as_bytes());
        }
    }

    #[test]
    fn spans() {
        let mut arena = Arena::default();
        let a = arena.data(b"hello");
        let b = arena.push(Buffer::Scratch, b"world");
        assert_eq!((arena.get(a), arena.get(b)), (&b"hello"[..], &b"world"[..]));
        assert_eq!(arena.get(b.part(1, 3)), b"or");
        assert_eq!(arena.get(b.part(4, 30)), b"d");
        let kept = arena.keep(b);
        arena.empty_scratch();
        assert_eq!(arena.get(kept), b"world");
        assert_eq!(arena.get(b), b"");
    }
}
