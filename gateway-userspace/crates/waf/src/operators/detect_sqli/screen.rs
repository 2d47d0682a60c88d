//! A sound screen before libinjection: values for which no fingerprint on its list is possible.
//!
//! libinjection cuts a value into tokens, folds them, writes one character for the type of each of the first five, and looks that
//! fingerprint up in a list. So a value can only be found when all characters of some listed fingerprint are types that its tokens can
//! have. The screen computes a superset of those types in one pass, without folding and without caring where strings begin and end: words by
//! the keywords and phrases that they take part in, numbers and signs by themselves. Then the few minimal sets of the list's
//! characters are compared with it. Everything it knows is read from libinjectionrs' own tables when it is first used.

use std::sync::LazyLock;

use libinjectionrs::sqli::sqli_data::SQL_KEYWORDS;

/// The token types of fingerprints, in upper case as on the list; a set of them has one bit each.
const TYPES: &[u8] = b"&(),1:;ABCEFKNOSTUVX";

const fn types(names: &[u8]) -> u32 {
    let mut set = 0;
    let mut index = 0;
    while index < names.len() {
        let mut bit = 0;
        while TYPES[bit] != names[index] {
            bit += 1;
        }
        set |= 1 << bit;
        index += 1;
    }
    set
}

/// The type of a character on the list or of a keyword; none for those that no fingerprint has.
fn type_of(name: u8) -> u32 {
    TYPES.iter().position(|known| *known == name.to_ascii_uppercase()).map_or(0, |bit| 1 << bit)
}

/// What a byte is to the screen: a part of a word, or the types that it can bring about.
#[derive(Clone, Copy)]
enum Class {
    Word,
    Digit,
    Dot,
    Sign(u32),
    /// Too intricate for a screen.
    GiveUp,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Word; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => Class::Digit,
            b'.' => Class::Dot,
            b' ' | b'\t'..=b'\r' | 0xA0 | b'{' | b'}' | b'?' => Class::Sign(0),
            b'[' | b']' => Class::Sign(types(b"N")),
            b'%' | b'*' | b'+' | b'-' | b'/' | b'<' | b'=' | b'>' | b'!' | b'~' | b'^' | b'|' | b'&' => {
                Class::Sign(types(b"O"))
            }
            b':' => Class::Sign(types(b":O")),
            b',' => Class::Sign(types(b",")),
            b';' => Class::Sign(types(b";")),
            b'(' => Class::Sign(types(b"(")),
            b')' => Class::Sign(types(b")")),
            b'@' => Class::Sign(types(b"V")),
            b'#' => Class::Sign(types(b"CO")),
            // Strings, and numbers written as strings: x'41'.
            b'\'' | b'"' => Class::Sign(types(b"S1")),
            0..=8 | 0x0E..=0x1F | 0x7F | b'$' | b'\\' | b'`' => Class::GiveUp,
            _ => Class::Word,
        };
        byte += 1;
    }
    classes
};

/// Longest value that is screened, in bytes. libinjection looks at the first few tokens only, so that for longer ones reading all of
/// the value would cost more than it spares.
const MAX_SCREENED_BYTES: usize = 1024;

/// How often it is asked on the way whether going on can still help, in bytes.
const CHECK_EVERY: usize = 64;

/// Whether libinjection cannot find anything in the value.
pub(super) fn is_harmless(value: &[u8]) -> bool {
    if value.len() > MAX_SCREENED_BYTES {
        return false;
    }
    let tables = &*TABLES;
    let mut next_check = CHECK_EVERY;
    let mut found = 0;
    let mut start = 0;
    let mut hash = HASH_START;
    for (at, &byte) in value.iter().enumerate() {
        match CLASSES[usize::from(byte)] {
            Class::Word | Class::Digit => {
                hash = mix(hash, byte);
                continue;
            }
            Class::Dot => {}
            Class::Sign(types) => found |= types | pair(value, at),
            Class::GiveUp => return false,
        }
        match tables.word(&value[start..at], hash) {
            Some(types) => found |= types,
            None => return false,
        }
        start = at + 1;
        hash = HASH_START;
        if at >= next_check {
            if tables.has_fingerprint_in(found) {
                return false;
            }
            next_check = at + CHECK_EVERY;
        }
    }
    match tables.word(&value[start..], hash) {
        Some(types) => found |= types,
        None => return false,
    }
    !tables.has_fingerprint_in(found)
}

/// What two signs are together: comments, and the logic operators.
fn pair(value: &[u8], at: usize) -> u32 {
    const COMMENT: u32 = types(b"CX");
    const LOGIC: u32 = types(b"&");
    match (value[at], value.get(at + 1)) {
        (b'-', Some(b'-')) | (b'/', Some(b'*')) => COMMENT,
        (b'&', Some(b'&')) | (b'|', Some(b'|')) => LOGIC,
        _ => 0,
    }
}

/// The types that folding makes of others: `;IF` is a statement, functions without parentheses are words, words after COLLATE are types.
fn with_folding(found: u32) -> u32 {
    let mut all = found;
    if found & types(b"F") != 0 {
        all |= types(b"TN");
    }
    if found & types(b"A") != 0 {
        all |= types(b"T");
    }
    all
}

const HASH_START: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a, without regard to ASCII case.
fn mix(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte.to_ascii_uppercase())).wrapping_mul(0x0000_0100_0000_01B3)
}

fn hash_of(word: &[u8]) -> u64 {
    word.iter().fold(HASH_START, |hash, byte| mix(hash, *byte))
}

/// Slots of the table of words, a power of two well above their number.
const SLOTS: usize = 4096;

struct Tables {
    /// Words by the hash of their letters; two of one hash share their types, which only makes the screen weaker. No types: free.
    words: Vec<(u64, u32)>,
    /// The minimal sets of types of listed fingerprints.
    fingerprints: Vec<u32>,
    /// Types of which no listed fingerprint is made, asked about first; empty should the list have one.
    plain: u32,
}

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::new);

impl Tables {
    fn new() -> Self {
        let mut tables = Self { words: vec![(0, 0); SLOTS], fingerprints: Vec::new(), plain: 0 };
        let mut listed = Vec::new();
        for keyword in SQL_KEYWORDS {
            if keyword.token_type == b'F' {
                // The first character tells the version of the list.
                listed.push(keyword.word.bytes().skip(1).fold(0, |set, name| set | type_of(name)));
            } else {
                for word in keyword.word.split([' ', '.']) {
                    tables.add(word.as_bytes(), type_of(keyword.token_type));
                }
            }
        }
        // What folding makes of single words.
        for word in ["USER_ID", "USER_NAME", "DATABASE", "PASSWORD", "USER", "CURRENT_USER", "CURRENT_DATE"] {
            tables.add(word.as_bytes(), types(b"F"));
        }
        for word in ["CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP", "LIKE"] {
            tables.add(word.as_bytes(), types(b"F"));
        }
        tables.add(b"IN", types(b"ON"));
        listed.sort_unstable_by_key(|set| set.count_ones());
        for set in listed {
            if !tables.fingerprints.iter().any(|smaller| smaller & !set == 0) {
                tables.fingerprints.push(set);
            }
        }
        let plain = types(b"N1O,:");
        if tables.fingerprints.iter().all(|fingerprint| fingerprint & !plain != 0) {
            tables.plain = plain;
        }
        tables
    }

    fn add(&mut self, word: &[u8], types: u32) {
        let hash = hash_of(word);
        let mut slot = hash as usize % SLOTS;
        while self.words[slot].1 != 0 && self.words[slot].0 != hash {
            slot = (slot + 1) % SLOTS;
        }
        self.words[slot].0 = hash;
        self.words[slot].1 |= types;
    }

    /// Whether tokens of these types can make up a listed fingerprint.
    fn has_fingerprint_in(&self, found: u32) -> bool {
        // Plain words, numbers and signs: most values that come by, and none of the list.
        if found & !self.plain == 0 {
            return false;
        }
        let found = with_folding(found);
        self.fingerprints.iter().any(|fingerprint| fingerprint & !found == 0)
    }

    fn types_of_hash(&self, hash: u64) -> u32 {
        let mut slot = hash as usize % SLOTS;
        while self.words[slot].1 != 0 {
            if self.words[slot].0 == hash {
                return self.words[slot].1;
            }
            slot = (slot + 1) % SLOTS;
        }
        0
    }

    /// The types that the tokens of a word can have; none when it is too intricate. A word ends at a dot, too, for a keyword before
    /// a dot is a token of its own.
    fn word(&self, word: &[u8], hash: u64) -> Option<u32> {
        const NUMBER: u32 = types(b"1N");
        const WORD: u32 = types(b"N");
        match word {
            [] => Some(0),
            [b'0'..=b'9', ..] => {
                let digits = digits(word);
                let rest = if digits == word.len() { 0 } else { self.after_number(word, digits)? };
                Some(NUMBER | rest)
            }
            // The exponent of a number that ended at the dot before.
            [b'e' | b'E', b'0'..=b'9', ..] => {
                Some(NUMBER | self.types_of_hash(hash) | self.after_number(word, 0)?)
            }
            _ => Some(WORD | self.types_of_hash(hash)),
        }
    }

    /// What can follow the number that a word begins with: `1or` is two tokens. `digits` is how many digits it begins with.
    fn after_number(&self, word: &[u8], digits: usize) -> Option<u32> {
        let mut found = self.rest(word, digits)? | self.suffix(word, digits);
        match word.get(digits) {
            Some(b'e' | b'E') => {
                found |= self.suffix(word, digits);
                let end = digits + 1 + self::digits(&word[digits + 1..]);
                found |= self.rest(word, end)? | self.suffix(word, end);
            }
            Some(b'x' | b'X') => {
                let hex = word[digits + 1..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                found |= self.rest(word, digits + 1 + hex)?;
            }
            Some(b'b' | b'B') => {
                let bits = word[digits + 1..].iter().take_while(|byte| matches!(byte, b'0' | b'1')).count();
                found |= self.rest(word, digits + 1 + bits)?;
            }
            _ => {}
        }
        Some(found)
    }

    /// The types of the word that begins at `at`; none when it begins with a digit.
    fn rest(&self, word: &[u8], at: usize) -> Option<u32> {
        match word.get(at..) {
            None | Some([]) => Some(0),
            Some([b'0'..=b'9', ..]) => None,
            Some(rest) => Some(self.types_of_hash(hash_of(rest))),
        }
    }

    /// The types of the word after the letter at `at`, which may belong to the number: `1fUNION`.
    fn suffix(&self, word: &[u8], at: usize) -> u32 {
        match word.get(at..) {
            Some([b'd' | b'D' | b'f' | b'F' | b'e' | b'E', rest @ ..]) => self.types_of_hash(hash_of(rest)),
            _ => 0,
        }
    }
}

/// How many digits a text begins with.
fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}
