//! Session tickets under keys from a file, shared by the nodes of a cluster and kept over restarts.
//!
//! A ticket is: 16 bytes that name its key, a 12-byte nonce, and the state under AES-256-GCM (with the name and
//! the audience as associated data: a session of a listener that asks for no certificate resumes at no other). The file's first key encrypts; all of them decrypt, so that a rotation puts a new key
//! first and drops the last.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

/// Most keys of a file.
pub const MAX_KEYS: usize = 16;
/// Seconds that a ticket lives: rotate the file at least that often, and keep a key as long.
pub const LIFETIME_SECONDS: u32 = 12 * 3600;
const NAME_LEN: usize = 16;

/// Why a file of ticket keys can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}. It holds 1 to {MAX_KEYS} lines of 64 hexadecimal digits each (`openssl rand -hex 32`), the newest first.", file.display())]
pub struct TicketKeysError {
    file: PathBuf,
    reason: String,
}

/// Encrypts and decrypts tickets.
pub struct TicketKeys {
    keys: Vec<Key>,
    audience: [u8; 32],
}

struct Key {
    name: [u8; NAME_LEN],
    key: LessSafeKey,
}

impl TicketKeys {
    /// Reads the keys of a file, for tickets among those who ask clients for the same (`audience`).
    ///
    /// # Errors
    /// When the file can't be read, or holds anything else than keys.
    pub fn load(file: &Path, audience: [u8; 32]) -> Result<Self, TicketKeysError> {
        let fail = |reason: String| TicketKeysError { file: file.to_owned(), reason };
        let text = std::fs::read_to_string(file).map_err(|e| fail(e.to_string()))?;
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let keys: Option<Vec<Key>> = lines.map(|line| unhex(line).and_then(|k| Key::new(&k))).collect();
        let keys = keys.ok_or_else(|| fail("a line is not a key".to_owned()))?;
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(fail(format!("it has {} keys", keys.len())));
        }
        Ok(Self { keys, audience })
    }

    fn associated(&self, name: &[u8; NAME_LEN]) -> Aad<[u8; NAME_LEN + 32]> {
        let mut data = [0; NAME_LEN + 32];
        data[..NAME_LEN].copy_from_slice(name);
        data[NAME_LEN..].copy_from_slice(&self.audience);
        Aad::from(data)
    }
}

impl Key {
    fn new(key: &[u8; 32]) -> Option<Self> {
        let hash = digest::digest(&digest::SHA256, key);
        let name = hash.as_ref().get(..NAME_LEN)?.try_into().ok()?;
        let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
        Some(Self { name, key: LessSafeKey::new(key) })
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let Key { name, key } = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), self.associated(name), &mut sealed)
            .ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = cipher.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let Key { name, key } = self.keys.iter().find(|k| k.name == *name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let len = key.open_in_place(nonce, self.associated(name), &mut sealed).ok()?.len();
        sealed.truncate(len);
        Some(sealed)
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return None;
    }
    let mut key = [0; 32];
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketKeys({})", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(lines: &[&str]) -> Result<TicketKeys, TicketKeysError> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("gateway-tickets-{}-{n}", std::process::id()));
        std::fs::write(&file, lines.join("\n")).expect("written");
        let keys = TicketKeys::load(&file, [7; 32]);
        let _ = std::fs::remove_file(&file);
        keys
    }

    #[test]
    fn a_rotation_keeps_old_tickets() {
        let (old, new) = ("ab".repeat(32), "cd".repeat(32));
        let before = keys(&[&old]).expect("keys");
        let between = keys(&["# newest first", &new, &old]).expect("keys");
        let after = keys(&[&new]).expect("keys");
        let ticket = before.encrypt(b"state").expect("ticket");
        assert_eq!(before.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        assert_eq!(between.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        assert_eq!(after.decrypt(&ticket), None);
        let fresh = between.encrypt(b"state").expect("ticket");
        assert_eq!(after.decrypt(&fresh).as_deref(), Some(&b"state"[..]));
        let elsewhere = TicketKeys { audience: [8; 32], ..keys(&[&old]).expect("keys") };
        assert_eq!(elsewhere.decrypt(&ticket), None, "a ticket is good only where the same is asked for");
        for n in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[n] ^= 1;
            assert_eq!(before.decrypt(&changed), None, "byte {n}");
            assert_eq!(before.decrypt(&ticket[..n]), None, "cut at {n}");
        }
    }

    #[test]
    fn bad_files_are_refused() {
        let key = "ab".repeat(32);
        for (lines, expected) in [
            (&[][..], "it has 0 keys"),
            (&["abc"], "a line is not a key"),
            (&["zz".repeat(32).as_str()], "a line is not a key"),
            (&[key.as_str(); MAX_KEYS + 1], "it has 17 keys"),
        ] {
            let error = keys(lines).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
