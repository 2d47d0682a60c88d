use super::*;

fn key(n: u64) -> Key {
    // Splitmix64, twice: as even as a keyed hash.
    let mix = |n: u64| {
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    };
    let [low, high] = [1, 2].map(|part| mix(n.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(part))));
    Key::new(u128::from(high) << 64 | u128::from(low))
}

/// What makes a key a limit's own.
fn salt_of(limit: u64) -> u128 {
    let Key { place, tag } = key(1 << 50 | limit);
    u128::from(tag) << 64 | u128::from(place)
}

fn add(table: &Table<u32>, n: u64, heat: u8, expires_s: u32) -> u32 {
    table.update(key(n), 100, |v| {
        *v += 1;
        (*v, Mark { heat, expires_s })
    })
}

#[test]
fn a_flood_evicts_itself() {
    let table = Table::<u32>::with_memory(1 << 20);
    let capacity = table.occupancy().capacity;
    for hot in 0..200 {
        add(&table, hot, 200, 1_000);
    }
    for cold in 0..capacity * 20 {
        add(&table, 1_000_000 + cold, 1, 2_000);
    }
    for hot in 0..200 {
        assert_eq!(add(&table, hot, 200, 1_000), 2, "{hot} was forgotten");
    }
    let full = table.occupancy();
    assert!(full.bytes <= 1 << 20, "{full:?}");
    assert!(full.entries <= capacity && full.evicted > capacity * 18, "{full:?}");
}

#[test]
fn what_is_past_its_time_goes_first_and_memory_comes_back() {
    let table = Table::<u32>::with_memory(1 << 20);
    let capacity = table.occupancy().capacity;
    for old in 0..capacity {
        add(&table, old, 255, 100);
    }
    for new in 0..capacity / 4 {
        add(&table, 1 << 40 | new, 0, 300);
    }
    assert_eq!(table.occupancy().evicted, 0, "live keys were pushed out by nobody");
    assert_eq!(add(&table, 1 << 40, 0, 300), 2);
    let mut at = 0;
    for _ in 0..1_000 {
        at = table.sweep(400, at, table.buckets() / 100 + 1);
    }
    assert_eq!((table.occupancy().entries, add(&table, 1 << 40, 0, 300)), (0, 1));
    assert!(table.remove(key(1 << 40)) && !table.remove(key(1 << 40)) && table.get(key(1 << 40)).is_none());
}

#[test]
fn it_grows_with_its_keys_and_loses_none() {
    for (memory, salts) in [(1 << 20, 1), (8 << 20, 1), (8 << 20, 3), (24 << 20, 64)] {
        let table = Table::<u32>::with_memory(memory);
        let empty = table.occupancy();
        // Far from full: no bucket has to push anybody out.
        let clients = empty.capacity / 8 / salts;
        for turn in 1..=2 {
            for n in 0..clients {
                let mut row = table.row(key(n));
                for salt in 0..salts {
                    let seen = row.update(key(n).salted(salt_of(salt)), 100, |v| {
                        *v += 1;
                        (*v, Mark { heat: 9, expires_s: 1_000 })
                    });
                    assert_eq!(seen, turn, "{memory} {salts}: {n} {salt}");
                }
            }
        }
        let now = table.occupancy();
        assert_eq!((now.entries, now.evicted), (clients * salts, 0), "{memory} {salts}");
        assert!(empty.bytes * 4 < now.bytes || memory == 1 << 20, "{empty:?}, then {now:?}");
        assert!(now.bytes <= memory, "{now:?}");
    }
}

#[test]
fn a_large_table_has_small_parts() {
    for (memory, most) in [(1 << 20, 64), (128 << 20, 64), (1 << 30, 512)] {
        let table = Table::<[u64; 10]>::with_memory(memory);
        assert!(table.size.room <= MAX_ROOM && table.shards.len() <= most, "{:?}", table.size);
        assert!(table.size.most_buckets * WAYS * 10 >= table.size.room * 13, "{:?}", table.size);
    }
}

#[test]
fn keys_of_a_row_are_found_together() {
    let table = Table::<u32>::with_memory(1 << 20);
    let keys_of = |n: u64| [1, 2, 3].map(|limit| key(n).salted(salt_of(limit)));
    let mark = Mark { heat: 9, expires_s: 1_000 };
    for n in 0..500 {
        let (mut row, keys) = (table.row(key(n)), keys_of(n));
        for key in keys {
            assert!(row.places(&keys).is_none(), "{n}: one is not there");
            row.update(key, 100, |v| {
                *v = 1;
                ((), mark)
            });
        }
        let places = row.places(&keys).expect("all are there");
        for (add, place) in (10..).step_by(10).zip(places) {
            row.update_at(place, |v| {
                *v += add;
                ((), mark)
            });
        }
    }
    for n in 0..500 {
        assert_eq!(keys_of(n).map(|key| table.get(key)), [Some(11), Some(21), Some(31)], "{n}");
    }
}
