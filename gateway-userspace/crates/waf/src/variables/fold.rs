//! A table of names without regard to ASCII case, by a keyed hash.

/// No name.
pub(crate) const NO_NAME: u32 = u32::MAX;

/// Names to numbers, in the order they came. The names themselves live with the caller, who compares.
#[derive(Clone, Debug, Default)]
pub(crate) struct FoldIndex {
    /// Hash and number + 1; a power of two long, at most half full.
    buckets: Vec<(u32, u32)>,
    len: u32,
}

impl FoldIndex {
    pub(crate) fn clear(&mut self) {
        if self.len > 0 {
            self.buckets.fill((0, 0));
            self.len = 0;
        }
    }

    /// The number of the name with this hash that `is_it` says is the one.
    #[inline]
    pub(crate) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mask = self.buckets.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            match self.buckets[at] {
                (_, 0) => return None,
                (h, number) if h == hash && is_it(number - 1) => return Some(number - 1),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Adds a name that [`find`](Self::find) did not give; its number is the count of those before.
    pub(crate) fn add(&mut self, hash: u32) -> u32 {
        if (self.len as usize + 1) * 2 > self.buckets.len() {
            let bigger = (self.buckets.len() * 2).max(64);
            let old = std::mem::replace(&mut self.buckets, vec![(0, 0); bigger]);
            for (hash, number) in old.into_iter().filter(|(_, n)| *n != 0) {
                self.put(hash, number);
            }
        }
        self.len += 1;
        self.put(hash, self.len);
        self.len - 1
    }

    fn put(&mut self, hash: u32, number: u32) {
        let mask = self.buckets.len() - 1;
        let mut at = hash as usize & mask;
        while self.buckets[at].1 != 0 {
            at = (at + 1) & mask;
        }
        self.buckets[at] = (hash, number);
    }
}

/// Names fixed at load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    index: FoldIndex,
    list: Vec<Box<[u8]>>,
    seed: u64,
}

impl Names {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.list.iter().enumerate().map(|(n, name)| (n as u32, &**name))
    }

    pub(crate) fn get(&self, number: u32) -> Option<&[u8]> {
        self.list.get(number as usize).map(|n| &**n)
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<u32> {
        self.find_hashed(fold_hash(self.seed, name), name)
    }

    pub(crate) fn find_hashed(&self, hash: u32, name: &[u8]) -> Option<u32> {
        self.index.find(hash, |n| self.list[n as usize].eq_ignore_ascii_case(name))
    }

    /// The number of a name, given now if it has none.
    pub(crate) fn intern(&mut self, name: &[u8]) -> u32 {
        if let Some(number) = self.find(name) {
            return number;
        }
        self.list.push(name.into());
        self.index.add(fold_hash(self.seed, name))
    }
}

/// The same for names that differ in ASCII case only.
#[inline]
pub(crate) fn fold_hash(seed: u64, name: &[u8]) -> u32 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    const CASE: u64 = 0x2020_2020_2020_2020;
    let mut hash = seed ^ (name.len() as u64).wrapping_mul(K);
    let (blocks, rest) = name.as_chunks::<8>();
    for block in blocks {
        hash = mix(hash ^ (u64::from_le_bytes(*block) | CASE), K ^ seed.rotate_left(32));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = mix(hash ^ (u64::from_le_bytes(last) | CASE), K ^ seed.rotate_left(32));
    }
    (hash ^ (hash >> 32)) as u32
}

/// A keyed hash of bytes as they are.
#[inline]
pub(crate) fn value_hash(seed: u64, value: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = seed ^ (value.len() as u64).wrapping_mul(K);
    let (blocks, rest) = value.as_chunks::<8>();
    for block in blocks {
        hash = mix(hash ^ u64::from_le_bytes(*block), K ^ seed.rotate_left(32));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash ^ u64::from_le_bytes(last), K ^ seed.rotate_left(32))
}

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter() {
        let mut names = Names::new(42);
        assert_eq!(names.find(b"a"), None);
        for n in 0..1000 {
            assert_eq!(names.intern(format!("Header-{n}").as_bytes()), n);
        }
        assert_eq!(names.intern(b"HEADER-77"), 77);
        assert_eq!(names.find(b"header-999"), Some(999));
        assert_eq!(names.find(b"header-1000"), None);
        assert_eq!(names.get(5), Some(&b"Header-5"[..]));
    }
}
