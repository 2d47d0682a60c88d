//! Writing the table of everything that is not a single IPv4 host: IPv6 hosts, and prefixes of both families as
//! pieces of whole bytes. The order of writes is that of [`super::host_table`].

use std::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, Release},
};

use gateway_common::{
    address::Wide,
    bans::{Places, Tag, WIDE_WAYS, piece_length, wide_places},
    hash::HashKey,
    marks::V6_BITS,
};

use super::{host_table::Full, mapped::WideCell};

/// How many moves may chain to make room for one entry.
const MAX_MOVES: u32 = 6;

/// The table and its counters of dropped packets.
#[derive(Clone, Copy)]
pub struct WideTable<'a> {
    /// Buckets; a power of two.
    pub buckets: &'a [WideCell],
    /// Counters, beside them; the fourth is unused.
    pub hits: &'a [[AtomicU32; 4]],
    /// Key of the hash.
    pub key: HashKey,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    bucket: u32,
    way: usize,
}

/// A piece: first address and [`gateway_common::bans::length_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// First address.
    pub address: Wide,
    /// Code of its length and of the ban's.
    pub code: u8,
}

/// An entry read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WideEntry {
    /// Which piece.
    pub piece: Piece,
    /// Expiry and reason.
    pub tag: Tag,
    /// Packets dropped.
    pub hits: u32,
}

impl Piece {
    /// Length in whole bytes, as the hash takes it.
    pub fn bytes(&self) -> u32 {
        piece_length(self.code) / 8
    }
}

impl WideTable<'_> {
    /// The places of a piece.
    pub fn places(&self, piece: &Piece) -> Places {
        let mask = self.buckets.len() as u32 - 1;
        wide_places(&self.key, piece.address.high, piece.address.low, piece.bytes(), mask, V6_BITS - 1)
    }

    fn cell(&self, place: Place) -> &WideCell {
        &self.buckets[place.bucket as usize]
    }

    fn hits(&self, place: Place) -> &AtomicU32 {
        &self.hits[place.bucket as usize][place.way]
    }

    fn tag(&self, place: Place) -> Tag {
        Tag(self.cell(place).tags[place.way].load(Relaxed))
    }

    fn piece(&self, place: Place) -> Piece {
        let cell = self.cell(place);
        Piece {
            address: Wide {
                high: cell.high[place.way].load(Relaxed),
                low: cell.low[place.way].load(Relaxed),
            },
            code: (cell.lengths.load(Relaxed) >> (place.way * 8)) as u8,
        }
    }

    fn write(&self, place: Place, piece: &Piece, tag: Tag) {
        let cell = self.cell(place);
        cell.tags[place.way].store(0, Release);
        cell.high[place.way].store(piece.address.high, Release);
        cell.low[place.way].store(piece.address.low, Release);
        let shift = place.way * 8;
        let lengths = cell.lengths.load(Relaxed) & !(0xff << shift) | u32::from(piece.code) << shift;
        cell.lengths.store(lengths, Release);
        cell.tags[place.way].store(tag.0, Release);
    }

    /// The tag of every entry.
    pub fn tags(&self) -> impl Iterator<Item = (Place, Tag)> + '_ {
        self.buckets.iter().enumerate().flat_map(|(bucket, cell)| {
            let place = move |way| Place { bucket: bucket as u32, way };
            let tags = cell.tags.iter().map(|tag| Tag(tag.load(Relaxed))).enumerate();
            tags.filter(|(_, tag)| *tag != Tag::EMPTY).map(move |(way, tag)| (place(way), tag))
        })
    }

    /// Empties a place.
    pub fn clear(&self, place: Place) {
        self.cell(place).tags[place.way].store(0, Release);
        self.hits(place).store(0, Relaxed);
    }

    fn ways(bucket: u32) -> impl Iterator<Item = Place> {
        (0..WIDE_WAYS).map(move |way| Place { bucket, way })
    }

    /// Where the entry of a piece is, expired or not.
    pub fn find(&self, piece: &Piece) -> Option<Place> {
        let places = self.places(piece);
        Self::ways(places.first)
            .chain(Self::ways(places.second))
            .find(|place| self.tag(*place) != Tag::EMPTY && self.piece(*place) == *piece)
    }

    /// The entry at a place.
    pub fn entry(&self, place: Place) -> WideEntry {
        WideEntry { piece: self.piece(place), tag: self.tag(place), hits: self.hits(place).load(Relaxed) }
    }

    fn free_way(&self, bucket: u32, now: u32) -> Option<Place> {
        Self::ways(bucket).find(|place| !self.tag(*place).holds(now))
    }

    /// Adds an entry for a piece that is certainly not in the table, if its first bucket has room.
    pub fn insert_fresh(&self, piece: &Piece, places: Places, tag: Tag, now: u32) -> bool {
        let Some(place) = self.free_way(places.first, now) else { return false };
        if self.tag(place) != Tag::EMPTY {
            self.hits(place).store(0, Relaxed);
        }
        self.write(place, piece, tag);
        true
    }

    /// Adds or replaces an entry. Places of entries expired at `now` count as free. True when it is new.
    pub fn insert(&self, piece: &Piece, tag: Tag, now: u32) -> Result<bool, Full> {
        if let Some(place) = self.find(piece) {
            self.cell(place).tags[place.way].store(tag.0, Release);
            return Ok(false);
        }
        let places = self.places(piece);
        let place = self
            .free_way(places.first, now)
            .or_else(|| self.free_way(places.second, now))
            .or_else(|| self.make_room(places.first, now, MAX_MOVES))
            .or_else(|| self.make_room(places.second, now, MAX_MOVES))
            .ok_or(Full)?;
        // An empty place has no hits: whoever emptied it saw to that.
        if self.tag(place) != Tag::EMPTY {
            self.hits(place).store(0, Relaxed);
        }
        self.write(place, piece, tag);
        Ok(true)
    }

    /// Adds an entry of another table, its hits with it.
    pub fn restore(&self, entry: &WideEntry, now: u32) -> Result<(), Full> {
        self.insert(&entry.piece, entry.tag, now)?;
        if let Some(place) = self.find(&entry.piece) {
            self.hits(place).store(entry.hits, Relaxed);
        }
        Ok(())
    }

    fn make_room(&self, bucket: u32, now: u32, moves: u32) -> Option<Place> {
        if moves == 0 {
            return None;
        }
        let movable = |place: &Place| {
            let places = self.places(&self.piece(*place));
            (places.first == bucket && places.second != bucket).then_some(places.second)
        };
        let with_room =
            Self::ways(bucket).find_map(|place| Some((place, self.free_way(movable(&place)?, now)?)));
        let (from, to) = with_room.or_else(|| {
            Self::ways(bucket)
                .find_map(|place| Some((place, self.make_room(movable(&place)?, now, moves - 1)?)))
        })?;
        self.hits(to).store(self.hits(from).load(Relaxed), Relaxed);
        self.write(to, &self.piece(from), self.tag(from));
        self.clear(from);
        Some(from)
    }

    /// Removes a piece. True when a ban was standing at `now`.
    pub fn remove(&self, piece: &Piece, now: u32) -> bool {
        match self.find(piece) {
            Some(place) => {
                let held = self.tag(place).holds(now);
                self.clear(place);
                held
            }
            None => false,
        }
    }

    /// Every entry of a range of buckets, empty places left out.
    pub fn entries(&self, buckets: std::ops::Range<usize>) -> impl Iterator<Item = (Place, WideEntry)> + '_ {
        buckets
            .flat_map(|bucket| Self::ways(bucket as u32))
            .filter(|place| self.tag(*place) != Tag::EMPTY)
            .map(|place| (place, self.entry(place)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use gateway_common::{
        bans::{WideBucket, length_code},
        time::NEVER,
    };

    use super::*;

    const KEY: HashKey = HashKey { words: [33, 44] };

    fn with_table(buckets: usize, body: impl Fn(WideTable<'_>)) {
        let cells: Vec<WideCell> = (0..buckets)
            .map(|_| WideCell {
                high: [const { AtomicU64::new(0) }; WIDE_WAYS],
                low: [const { AtomicU64::new(0) }; WIDE_WAYS],
                tags: [const { AtomicU32::new(0) }; WIDE_WAYS],
                lengths: AtomicU32::new(0),
            })
            .collect();
        let hits: Vec<[AtomicU32; 4]> = (0..buckets).map(|_| [const { AtomicU32::new(0) }; 4]).collect();
        body(WideTable { buckets: &cells, hits: &hits, key: KEY });
    }

    fn host(low: u64) -> Piece {
        Piece { address: Wide { high: 0x2001_0db8 << 32, low }, code: length_code(128, 128) }
    }

    fn kernel_finds(table: &WideTable<'_>, piece: &Piece, now: u32) -> bool {
        let places = table.places(piece);
        [places.first, places.second].iter().any(|bucket| {
            let cell = &table.buckets[*bucket as usize];
            let bucket = WideBucket {
                high: std::array::from_fn(|way| cell.high[way].load(Relaxed)),
                low: std::array::from_fn(|way| cell.low[way].load(Relaxed)),
                tags: std::array::from_fn(|way| cell.tags[way].load(Relaxed)),
                lengths: cell.lengths.load(Relaxed),
            };
            bucket.find(piece.address.high, piece.address.low, piece.bytes(), now).is_some()
        })
    }

    #[test]
    fn fills_to_four_fifths_and_finds_everything() {
        with_table(1024, |table| {
            let count = 1024 * WIDE_WAYS as u64 * 8 / 10;
            for low in 0..count {
                assert_eq!(table.insert(&host(low), Tag::new(NEVER, 1), 0), Ok(true), "{low}");
            }
            for low in 0..count {
                assert!(kernel_finds(&table, &host(low), 5), "{low}");
            }
            assert!(!kernel_finds(&table, &host(count), 5));
            assert_eq!(table.entries(0..1024).count() as u64, count);
        });
    }

    #[test]
    fn pieces_of_different_bans_stand_side_by_side() {
        with_table(4, |table| {
            let address = Wide::mapped(0x0a00_0000);
            let of_24 = Piece { address, code: length_code(120, 120) };
            let of_23 = Piece { address, code: length_code(120, 119) };
            assert_eq!(table.insert(&of_24, Tag::new(10, 1), 0), Ok(true));
            assert_eq!(table.insert(&of_23, Tag::new(20, 2), 0), Ok(true));
            assert!(kernel_finds(&table, &of_24, 15), "the longer of the two holds");
            assert!(table.remove(&of_23, 0));
            assert!(kernel_finds(&table, &of_24, 5));
            assert!(!kernel_finds(&table, &of_24, 15));
        });
    }
}
