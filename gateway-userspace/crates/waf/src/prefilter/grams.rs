//! Some of many literals, looked for by one rare window of each.
//!
//! Which bytes a kind of value has rules most literals out. For the others the two to four bytes that text has least are
//! kept in a bitmap by their hash, a [`Focus`]. A value is then gone through with a few instructions a byte; only where a bit is
//! set is there a literal to compare. On long text this is a few times faster than stepping an automaton. Text made to
//! hit the bitmap everywhere would be slower, so the comparisons have a bound, beyond which the caller goes back to the automaton.

/// Widest window.
const WIDTH_MAX: usize = 4;
/// Narrowest window, and shortest literal.
const WIDTH_MIN: usize = 2;
/// Words of a bitmap: 2^15 bits.
const WORDS: usize = 512;
/// Bits of a hash that choose a bit of it.
const BITMAP_BITS: u32 = 15;
/// Bits of a hash that choose a bucket.
const BUCKET_BITS: u32 = 12;
/// Comparisons allowed besides one for every four bytes of the value.
const SPARE_COMPARISONS: usize = 64;

/// Literals by their windows.
pub(super) struct Grams {
    /// For windows of two, three and four bytes.
    widths: [Width; 3],
    /// The literals one after the other.
    text: Vec<u8>,
}

/// The windows of some of the literals, by width.
pub(super) struct Focus {
    bitmaps: [Box<[u64; WORDS]>; 3],
    /// How many literals they are of.
    pub literals: usize,
}

/// Windows of one width.
struct Width {
    /// Keeps as many bytes of a 32-bit word.
    mask: u32,
    /// For each bucket, where its entries begin.
    starts: Box<[u32]>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    window: u32,
    literal: u32,
    /// Where the literal is in the text.
    from: u32,
    len: u16,
    /// Where the window is in the literal.
    at: u16,
}

impl Grams {
    /// Of literals in lower case, numbered in order; none shorter than two bytes.
    pub(super) fn new<'a>(literals: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut text = Vec::new();
        let mut found: [Vec<Entry>; 3] = Default::default();
        for (number, literal) in literals.enumerate() {
            let width = literal.len().clamp(WIDTH_MIN, WIDTH_MAX);
            let Some((at, window)) =
                literal.windows(width).enumerate().max_by_key(|(_, window)| rarity(window))
            else {
                continue;
            };
            let mut bytes = [0; WIDTH_MAX];
            bytes[..width].copy_from_slice(window);
            found[width - WIDTH_MIN].push(Entry {
                window: u32::from_le_bytes(bytes),
                literal: number as u32,
                from: text.len() as u32,
                len: literal.len() as u16,
                at: at as u16,
            });
            text.extend_from_slice(literal);
        }
        let mut width = WIDTH_MIN;
        let widths = found.map(|entries| {
            width += 1;
            Width::new(width - 1, entries)
        });
        Self { widths, text }
    }

    /// The literals to look for.
    pub(super) fn focus(&self, wanted: impl Fn(u32) -> bool) -> Focus {
        let mut literals = 0;
        let bitmaps = self.widths.each_ref().map(|width| {
            let mut bitmap = Box::new([0; WORDS]);
            for entry in width.entries.iter().filter(|entry| wanted(entry.literal)) {
                let hash = hash(entry.window);
                bitmap[hash >> 6] |= 1 << (hash & 63);
                literals += 1;
            }
            bitmap
        });
        Focus { bitmaps, literals }
    }

    /// Appends to a value what [`find`](Self::find) wants after its end.
    pub(super) fn pad(value: &mut Vec<u8>) {
        value.extend_from_slice(&[0; WIDTH_MAX - 1]);
    }

    /// Says each literal of the focus that occurs in `padded` without its padding, some more than once, and perhaps others. False when
    /// the comparisons got too many: then some may be missing.
    pub(super) fn find(&self, focus: &Focus, padded: &[u8], mut hit: impl FnMut(u32)) -> bool {
        let value = &padded[..padded.len().saturating_sub(WIDTH_MAX - 1)];
        let mut budget = value.len() / 4 + SPARE_COMPARISONS;
        let [two, three, four] = &focus.bitmaps;
        let (mask_two, mask_three) = (0xffff, 0xff_ffff);
        for (at, window) in padded.windows(WIDTH_MAX).enumerate() {
            let Ok(window) = <[u8; WIDTH_MAX]>::try_from(window) else { continue };
            let window = u32::from_le_bytes(window);
            if bit(four, window) | bit(three, window & mask_three) | bit(two, window & mask_two) == 0 {
                continue;
            }
            for (width, bitmap) in self.widths.iter().zip(&focus.bitmaps) {
                if bit(bitmap, window & width.mask) == 1
                    && !width.compare(window, at, value, &self.text, &mut budget, &mut hit)
                {
                    return false;
                }
            }
        }
        true
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let width = |w: &Width| w.starts.len() * 4 + w.entries.len() * size_of::<Entry>();
        self.text.len() + self.widths.iter().map(width).sum::<usize>()
    }
}

impl Width {
    fn new(width: usize, mut entries: Vec<Entry>) -> Self {
        let mask = u32::MAX >> (8 * (WIDTH_MAX - width));
        entries.sort_by_key(|entry| (bucket(entry.window), entry.window));
        let mut starts = vec![0; (1 << BUCKET_BITS) + 1].into_boxed_slice();
        for entry in &entries {
            starts[bucket(entry.window) + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        Self { mask, starts, entries }
    }

    /// False when the budget is spent.
    #[inline(never)]
    fn compare(
        &self,
        window: u32,
        at: usize,
        value: &[u8],
        text: &[u8],
        budget: &mut usize,
        hit: &mut impl FnMut(u32),
    ) -> bool {
        let window = window & self.mask;
        let bucket = bucket(window);
        let (from, to) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        for entry in &self.entries[from..to] {
            let Some(left) = budget.checked_sub(1) else { return false };
            *budget = left;
            if entry.window != window {
                continue;
            }
            let literal = &text[entry.from as usize..][..usize::from(entry.len)];
            if let Some(start) = at.checked_sub(usize::from(entry.at))
                && value.get(start..start + literal.len()) == Some(literal)
            {
                hit(entry.literal);
            }
        }
        true
    }
}

#[inline]
fn bit(bitmap: &[u64; WORDS], window: u32) -> u64 {
    let hash = hash(window);
    bitmap[hash >> 6] >> (hash & 63) & 1
}

#[inline]
fn hash(window: u32) -> usize {
    (window.wrapping_mul(0x9e37_79b1) >> (32 - BITMAP_BITS)) as usize
}

fn bucket(window: u32) -> usize {
    (window.wrapping_mul(0x9e37_79b1) >> (32 - BUCKET_BITS)) as usize
}

/// How seldom text has these bytes one after the other, roughly.
fn rarity(window: &[u8]) -> u32 {
    const BY_FREQUENCY: &[u8] = b" etaoinshrdlucmfwypgbvk";
    let of = |byte: &u8| match BY_FREQUENCY.iter().position(|known| known == byte) {
        Some(rank) => rank as u32,
        None if byte.is_ascii_alphanumeric() => 26,
        None => 32,
    };
    window.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(literals: &[&str], value: &str) -> Option<Vec<u32>> {
        let grams = Grams::new(literals.iter().map(|literal| literal.as_bytes()));
        let mut padded = value.as_bytes().to_vec();
        Grams::pad(&mut padded);
        let mut found = Vec::new();
        let complete = grams.find(&grams.focus(|_| true), &padded, |literal| found.push(literal));
        found.sort_unstable();
        found.dedup();
        complete.then_some(found)
    }

    #[test]
    fn every_literal_is_found_wherever_it_stands() {
        let literals = ["or", "=1", "and", "<a ", "union", "select", "information_sc", "zz", "on", "\0\0"];
        for (number, literal) in literals.iter().enumerate() {
            for value in [
                (*literal).to_owned(),
                format!("x{literal}"),
                format!("{literal}y"),
                format!("q q{literal}{literal} {literal}."),
            ] {
                let found = found(&literals, &value).expect("few comparisons");
                assert!(found.contains(&(number as u32)), "{literal:?} in {value:?}: {found:?}");
                for (other, text) in literals.iter().enumerate() {
                    assert_eq!(
                        found.contains(&(other as u32)),
                        value.contains(text),
                        "{text:?} in {value:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn padding_is_no_part_of_the_value() {
        assert_eq!(found(&["a\0", "b\0\0", "c\0\0\0"], "a"), Some(vec![]));
        assert_eq!(found(&["b\0\0"], "b"), Some(vec![]));
        assert_eq!(found(&["c\0\0\0", "\0\0"], "c\0"), Some(vec![]));
        assert_eq!(found(&["ab"], ""), Some(vec![]));
    }

    #[test]
    fn text_made_of_hits_ends_the_search() {
        let value = "zq".repeat(5000);
        assert_eq!(found(&["zqzqe", "zqzqt", "zqzqa", "zqzqo", "zqzqi", "zqzqn"], &value), None);
    }
}
