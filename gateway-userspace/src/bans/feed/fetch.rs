//! Getting a list: from a file when it changed, from the web when its ETag did.

use std::time::SystemTime;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::config::bans::{Feed, Source};
use crate::fetch::{Client, HttpError};

/// Largest file with a checksum or a signature, in bytes.
const MAX_CHECKSUM_BYTES: u64 = 4096;

/// What is remembered of the list that is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
    file: Option<(SystemTime, u64)>,
}

/// What a look brought.
pub(super) enum Fetched {
    Unchanged,
    New(Bytes, Known),
}

/// A list can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the file is larger than {0} bytes, its `max_bytes`")]
    TooLarge(u64),
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("the SHA-256 is {found}, but {expected} is expected: the list is not taken")]
    Checksum { expected: String, found: String },
    #[error("the signature does not fit: {0}. The list is not taken")]
    Signature(String),
}

pub(super) async fn fetch(feed: &Feed, known: &Known, client: &Client) -> Result<Fetched, FetchError> {
    let (bytes, known) = match &feed.source {
        Source::File(path) => {
            let meta = tokio::fs::metadata(path).await?;
            let stamp = Some((meta.modified()?, meta.len()));
            if known.file == stamp {
                return Ok(Fetched::Unchanged);
            }
            if meta.len() > feed.max_bytes {
                return Err(FetchError::TooLarge(feed.max_bytes));
            }
            (tokio::fs::read(path).await?.into(), Known { file: stamp, ..Known::default() })
        }
        Source::Url(url) => {
            let mut headers = HeaderMap::new();
            for (name, value) in [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.modified)] {
                if let Some(value) = value {
                    headers.insert(name, value.clone());
                }
            }
            let answer = client.get(url, &headers, feed.max_bytes).await?;
            match answer.status {
                StatusCode::NOT_MODIFIED => return Ok(Fetched::Unchanged),
                StatusCode::OK => {}
                other => return Err(FetchError::Status(other)),
            }
            let header = |name| answer.headers.get(name).cloned();
            (answer.body, Known { etag: header(ETAG), modified: header(LAST_MODIFIED), file: None })
        }
    };
    if let Some(url) = &feed.sha256_url {
        let answer = client.get(url, &HeaderMap::new(), MAX_CHECKSUM_BYTES).await?;
        if answer.status != StatusCode::OK {
            return Err(FetchError::Status(answer.status));
        }
        let published = String::from_utf8_lossy(&answer.body);
        check(&bytes, published.split_whitespace().next().unwrap_or(""))?;
    }
    if let Some(expected) = &feed.sha256 {
        check(&bytes, expected)?;
    }
    if let Some(signed) = &feed.signed {
        let signature = read_signature(&signed.signature, client).await?;
        verify(&bytes, &signed.key, &signature)?;
    }
    Ok(Fetched::New(bytes, known))
}

async fn read_signature(source: &Source, client: &Client) -> Result<String, FetchError> {
    let bytes: Bytes = match source {
        Source::File(path) => {
            use tokio::io::AsyncReadExt;
            let mut text = Vec::new();
            tokio::fs::File::open(path).await?.take(MAX_CHECKSUM_BYTES).read_to_end(&mut text).await?;
            text.into()
        }
        Source::Url(url) => {
            let answer = client.get(url, &HeaderMap::new(), MAX_CHECKSUM_BYTES).await?;
            if answer.status != StatusCode::OK {
                return Err(FetchError::Status(answer.status));
            }
            answer.body
        }
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn verify(list: &[u8], key: &str, signature: &str) -> Result<(), FetchError> {
    let refused = |e: minisign_verify::Error| FetchError::Signature(e.to_string());
    let key = minisign_verify::PublicKey::from_base64(key).map_err(refused)?;
    let signature = minisign_verify::Signature::decode(signature).map_err(refused)?;
    key.verify(list, &signature, false).map_err(refused)
}

fn check(list: &[u8], expected: &str) -> Result<(), FetchError> {
    use std::fmt::Write;
    let mut found = String::with_capacity(64);
    for byte in digest::digest(&digest::SHA256, list).as_ref() {
        // Writing to a string can't fail.
        let _written = write!(found, "{byte:02x}");
    }
    let expected = expected.to_ascii_lowercase();
    if expected == found { Ok(()) } else { Err(FetchError::Checksum { expected, found }) }
}
