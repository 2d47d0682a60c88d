//! Account and certificates on disk: a folder of mode 0700, files of mode 0600, replaced whole.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The account's file.
const ACCOUNT: &str = "account.json";

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The content is not what it should be.
    #[error("{}: {reason}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The folder of one authority.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the folder, making it where it is missing.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| StoreError::Io { file: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where the chain and the key of the certificate `name` are, whether or not they exist yet.
    pub fn paths(&self, name: &str) -> (PathBuf, PathBuf) {
        // A wildcard's name starts with an asterisk, which makes an awkward file name.
        let stem = name.replace('*', "_");
        (self.folder.join(format!("{stem}.crt")), self.folder.join(format!("{stem}.key")))
    }

    /// The certificate `name` (the leaf), if there is one.
    pub(super) fn certificate(&self, name: &str) -> Option<CertificateDer<'static>> {
        let (chain, key) = self.paths(name);
        key.exists().then(|| CertificateDer::from_pem_file(chain).ok()).flatten()
    }

    pub(super) fn put_certificate(&self, name: &str, chain: &str, key: &str) -> Result<(), StoreError> {
        let (chain_file, key_file) = self.paths(name);
        Self::write(&key_file, key.as_bytes())?;
        Self::write(&chain_file, chain.as_bytes())
    }

    /// The account at the authority with this directory: one at another is of no use there.
    pub(super) fn account(&self, directory: &str) -> Result<Option<AccountCredentials>, StoreError> {
        /// Where an account was made.
        #[derive(serde::Deserialize)]
        struct Made {
            directory: Option<String>,
        }
        let file = self.folder.join(ACCOUNT);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { file, source }),
        };
        let unusable = |e: serde_json::Error| StoreError::Unusable {
            file: file.clone(),
            reason: format!("the ACME account can't be read: {e}; move the file away for a new account"),
        };
        let made: Made = serde_json::from_slice(&bytes).map_err(unusable)?;
        if made.directory.is_some_and(|made| made != directory) {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(unusable)
    }

    /// Sets the account aside: the next order makes a new one.
    pub(super) fn forget_account(&self) -> Result<(), StoreError> {
        let file = self.folder.join(ACCOUNT);
        match fs::rename(&file, file.with_extension("old")) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { file, source }),
            _ => Ok(()),
        }
    }

    pub(super) fn put_account(&self, credentials: &AccountCredentials) -> Result<(), StoreError> {
        self.forget_account()?;
        let file = self.folder.join(ACCOUNT);
        let bytes = serde_json::to_vec(credentials)
            .map_err(|e| StoreError::Unusable { file: file.clone(), reason: e.to_string() })?;
        Self::write(&file, &bytes)
    }

    /// Writes beside, syncs, renames: a reader sees the old file or the new one.
    fn write(file: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { file: file.to_owned(), source };
        let fresh = file.with_extension("new");
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(io)?;
        out.write_all(bytes).and_then(|()| out.sync_all()).map_err(io)?;
        fs::rename(&fresh, file).map_err(io)
    }
}
