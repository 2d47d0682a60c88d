//! Writing the table of banned IPv4 hosts. One writer; the kernel reads at the same time.
//!
//! An entry moves only from its first bucket to its second, new place written before the old is cleared, and readers
//! look into the first bucket first: so no reader ever misses a ban that stands.

use std::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, Release},
};

use gateway_common::{
    bans::{HOST_WAYS, Places, Tag, entry_address, entry_tag, host_entry, host_places},
    hash::HashKey,
};

use super::mapped::HostCell;

/// How many moves may chain to make room for one entry.
const MAX_MOVES: u32 = 4;

/// The table and its counters of dropped packets.
#[derive(Clone, Copy)]
pub struct HostTable<'a> {
    /// Buckets; a power of two.
    pub buckets: &'a [HostCell],
    /// Counters, beside them.
    pub hits: &'a [[AtomicU32; HOST_WAYS]],
    /// Key of the hash.
    pub key: HashKey,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    bucket: u32,
    way: usize,
}

/// An entry read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Address.
    pub address: u32,
    /// Expiry and reason.
    pub tag: Tag,
    /// Packets dropped.
    pub hits: u32,
}

/// No room within the moves allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl HostTable<'_> {
    /// The places of an address.
    pub fn places(&self, address: u32) -> Places {
        host_places(&self.key, address, self.buckets.len() as u32 - 1)
    }

    fn read(&self, place: Place) -> u64 {
        self.buckets[place.bucket as usize].entries[place.way].load(Relaxed)
    }

    fn write(&self, place: Place, entry: u64) {
        self.buckets[place.bucket as usize].entries[place.way].store(entry, Release);
    }

    fn hits(&self, place: Place) -> &AtomicU32 {
        &self.hits[place.bucket as usize][place.way]
    }

    fn way(&self, bucket: u32, wanted: impl Fn(u64) -> bool) -> Option<Place> {
        (0..HOST_WAYS).map(|way| Place { bucket, way }).find(|place| wanted(self.read(*place)))
    }

    /// Where the entry of an address is, expired or not.
    pub fn find(&self, address: u32) -> Option<Place> {
        let places = self.places(address);
        let same = |entry| entry != 0 && entry_address(entry) == address;
        self.way(places.first, same).or_else(|| self.way(places.second, same))
    }

    /// The entry at a place.
    pub fn entry(&self, place: Place) -> HostEntry {
        let entry = self.read(place);
        HostEntry {
            address: entry_address(entry),
            tag: entry_tag(entry),
            hits: self.hits(place).load(Relaxed),
        }
    }

    /// Adds an entry for an address that is certainly not in the table, if its first bucket has room.
    pub fn insert_fresh(&self, address: u32, places: Places, tag: Tag, now: u32) -> bool {
        let free = self.way(places.first, |entry| !entry_tag(entry).holds(now));
        let Some(place) = free else { return false };
        if self.read(place) != 0 {
            self.hits(place).store(0, Relaxed);
        }
        self.write(place, host_entry(address, tag));
        true
    }

    /// Adds or replaces an entry. Places of entries expired at `now` count as free. True when it is new.
    pub fn insert(&self, address: u32, tag: Tag, now: u32) -> Result<bool, Full> {
        let places = self.places(address);
        let mut free = None;
        for bucket in [places.first, places.second] {
            for way in 0..HOST_WAYS {
                let place = Place { bucket, way };
                let entry = self.read(place);
                if entry != 0 && entry_address(entry) == address {
                    self.write(place, host_entry(address, tag));
                    return Ok(false);
                }
                if free.is_none() && !entry_tag(entry).holds(now) {
                    free = Some(place);
                }
            }
        }
        let place = match free {
            Some(place) => place,
            None => self
                .make_room(places.first, now, MAX_MOVES)
                .or_else(|| self.make_room(places.second, now, MAX_MOVES))
                .ok_or(Full)?,
        };
        // An empty place has no hits: whoever emptied it saw to that.
        if self.read(place) != 0 {
            self.hits(place).store(0, Relaxed);
        }
        self.write(place, host_entry(address, tag));
        Ok(true)
    }

    /// Adds an entry of another table, its hits with it.
    pub fn restore(&self, entry: &HostEntry, now: u32) -> Result<(), Full> {
        self.insert(entry.address, entry.tag, now)?;
        if let Some(place) = self.find(entry.address) {
            self.hits(place).store(entry.hits, Relaxed);
        }
        Ok(())
    }

    /// Frees a way of a full bucket by moving an entry whose first bucket this is to its second, making room there
    /// first if need be.
    fn make_room(&self, bucket: u32, now: u32, moves: u32) -> Option<Place> {
        if moves == 0 {
            return None;
        }
        let movable = |place: &Place| {
            let places = self.places(entry_address(self.read(*place)));
            (places.first == bucket && places.second != bucket).then_some(places.second)
        };
        let ways = || (0..HOST_WAYS).map(|way| Place { bucket, way });
        let with_room = ways().find_map(|place| {
            let free = self.way(movable(&place)?, |entry| !entry_tag(entry).holds(now))?;
            Some((place, free))
        });
        let (from, to) = with_room.or_else(|| {
            ways().find_map(|place| Some((place, self.make_room(movable(&place)?, now, moves - 1)?)))
        })?;
        self.hits(to).store(self.hits(from).load(Relaxed), Relaxed);
        self.write(to, self.read(from));
        self.clear(from);
        Some(from)
    }

    /// Removes an address. True when a ban was standing at `now`.
    pub fn remove(&self, address: u32, now: u32) -> bool {
        match self.find(address) {
            Some(place) => {
                let held = entry_tag(self.read(place)).holds(now);
                self.clear(place);
                held
            }
            None => false,
        }
    }

    /// Every entry of a range of buckets, empty places left out.
    pub fn entries(&self, buckets: std::ops::Range<usize>) -> impl Iterator<Item = (Place, HostEntry)> + '_ {
        buckets
            .flat_map(|bucket| (0..HOST_WAYS).map(move |way| Place { bucket: bucket as u32, way }))
            .filter(|place| self.read(*place) != 0)
            .map(|place| (place, self.entry(place)))
    }

    /// The tag of every entry.
    pub fn tags(&self) -> impl Iterator<Item = (Place, Tag)> + '_ {
        self.words().map(|(place, word)| (place, entry_tag(word)))
    }

    /// The address of every entry.
    pub fn addresses(&self) -> impl Iterator<Item = u32> + '_ {
        self.words().map(|(_, word)| entry_address(word))
    }

    /// Every entry as it lies there; its counter is another cache line.
    fn words(&self) -> impl Iterator<Item = (Place, u64)> + '_ {
        self.buckets.iter().enumerate().flat_map(|(bucket, cell)| {
            let place = move |way| Place { bucket: bucket as u32, way };
            let words = cell.entries.iter().map(|word| word.load(Relaxed)).enumerate();
            words.filter(|(_, word)| *word != 0).map(move |(way, word)| (place(way), word))
        })
    }

    /// Empties a place.
    pub fn clear(&self, place: Place) {
        self.write(place, 0);
        self.hits(place).store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use gateway_common::{bans::HostBucket, time::NEVER};

    use super::*;

    const KEY: HashKey = HashKey { words: [11, 22] };

    fn with_table(buckets: usize, body: impl Fn(HostTable<'_>)) {
        let cells: Vec<HostCell> =
            (0..buckets).map(|_| HostCell { entries: [const { AtomicU64::new(0) }; HOST_WAYS] }).collect();
        let hits: Vec<[AtomicU32; HOST_WAYS]> =
            (0..buckets).map(|_| [const { AtomicU32::new(0) }; HOST_WAYS]).collect();
        body(HostTable { buckets: &cells, hits: &hits, key: KEY });
    }

    /// What the kernel would find.
    fn kernel_finds(table: &HostTable<'_>, address: u32, now: u32) -> bool {
        let places = table.places(address);
        [places.first, places.second].iter().any(|bucket| {
            let entries = std::array::from_fn(|way| table.read(Place { bucket: *bucket, way }));
            HostBucket { entries }.find(address, now).is_some()
        })
    }

    #[test]
    fn fills_to_nine_tenths_and_finds_everything() {
        with_table(1024, |table| {
            let count = 1024 * HOST_WAYS as u32 * 9 / 10;
            for address in 0..count {
                assert_eq!(table.insert(address, Tag::new(NEVER, 1), 0), Ok(true), "{address}");
            }
            for address in 0..count {
                assert!(kernel_finds(&table, address, 5), "{address}");
            }
            assert!(!kernel_finds(&table, count, 5));
            assert_eq!(table.entries(0..1024).count(), count as usize);
        });
    }

    #[test]
    fn a_full_table_says_so_and_keeps_what_it_has() {
        with_table(2, |table| {
            let inserted: Vec<u32> =
                (0..40).filter(|a| table.insert(*a, Tag::new(NEVER, 1), 0).is_ok()).collect();
            assert!(inserted.len() <= 16 && inserted.len() >= 12, "{}", inserted.len());
            assert!(inserted.iter().all(|address| kernel_finds(&table, *address, 0)));
        });
    }

    #[test]
    fn replaces_removes_and_reuses_expired_places() {
        with_table(1, |table| {
            for address in 0..8 {
                assert_eq!(table.insert(address, Tag::new(10, 1), 0), Ok(true));
            }
            assert_eq!(table.insert(3, Tag::new(20, 2), 0), Ok(false));
            assert_eq!(table.insert(99, Tag::new(20, 2), 0), Err(Full));
            assert_eq!(table.insert(99, Tag::new(20, 2), 10), Ok(true));
            assert!(kernel_finds(&table, 3, 19) && kernel_finds(&table, 99, 19));
            assert!(table.remove(3, 10));
            assert!(!table.remove(3, 10));
            assert!(!table.remove(5, 10), "expired before");
        });
    }
}
