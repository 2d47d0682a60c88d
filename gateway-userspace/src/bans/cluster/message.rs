//! What nodes tell each other: JSON, signed with the cluster's key. Pure.

use std::sync::Arc;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use crate::bans::{Decision, DecisionId};

/// Longest message that is read, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// Shortest key, in bytes.
pub const MIN_KEY_BYTES: usize = 32;

/// A message of one node to the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub node: Arc<str>,
    /// What.
    pub word: Word,
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It decided.
    Began(Arc<Decision>),
    /// It takes a decision of its own back.
    Ended(DecisionId),
    /// An operator on it takes back a decision, whoever took it.
    Pardon(DecisionId),
    /// It wrote its snapshot anew: read that.
    Snapshot,
}

/// The key of a cluster, bound to one stream: a message of another stream does not verify.
#[derive(Debug)]
pub struct Key {
    key: hmac::Key,
    stream: Arc<str>,
}

impl Key {
    /// A key; none where `bytes` are fewer than [`MIN_KEY_BYTES`].
    pub fn new(bytes: &[u8], stream: Arc<str>) -> Option<Self> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        (bytes.len() >= MIN_KEY_BYTES).then_some(Self { key, stream })
    }

    fn signed(&self, body: &[u8]) -> Vec<u8> {
        [self.stream.as_bytes(), b"\0", body].concat()
    }

    /// `HEX-OF-HMAC JSON`.
    pub fn seal(&self, message: &Message) -> serde_json::Result<Vec<u8>> {
        use std::io::Write;
        let body = serde_json::to_vec(message)?;
        let tag = hmac::sign(&self.key, &self.signed(&body));
        let mut sealed = Vec::with_capacity(body.len() + 65);
        for byte in tag.as_ref() {
            // Writing to a vector can't fail.
            let _written = write!(sealed, "{byte:02x}");
        }
        sealed.push(b' ');
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// The message, where it is signed with this key and well-formed.
    pub fn open(&self, sealed: &[u8]) -> Option<Message> {
        if sealed.len() > MAX_MESSAGE_BYTES {
            return None;
        }
        let (tag, body) = (sealed.get(..64)?, sealed.get(65..)?);
        let tag: Vec<u8> = tag
            .chunks_exact(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect::<Option<_>>()?;
        hmac::verify(&self.key, &self.signed(body), &tag).ok()?;
        serde_json::from_slice(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_key_signed_for_the_stream_opens() {
        let key = |byte: u8, stream: &str| Key::new(&[byte; 32], stream.into()).expect("key");
        let message = Message { node: "n1".into(), word: Word::Pardon(DecisionId::new(1, 2, 3)) };
        let sealed = key(1, "s").seal(&message).expect("sealed");
        assert_eq!(key(1, "s").open(&sealed), Some(message));
        assert_eq!(key(2, "s").open(&sealed), None, "another key");
        assert_eq!(key(1, "t").open(&sealed), None, "another stream");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // The blank between is no part of the message.
            assert_eq!(key(1, "s").open(&changed).is_some(), at == 64, "byte {at}");
            assert_eq!(key(1, "s").open(&sealed[..at]), None, "{at} bytes");
        }
        assert!(Key::new(&[0; 31], "s".into()).is_none());
    }
}
