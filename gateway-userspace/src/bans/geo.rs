//! Countries and autonomous systems of addresses, from databases in MaxMind's format that are read
//! again when they change. A file that can't be read keeps the former one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

use crate::config::bans::Geo as Config;

/// Largest database that is read, in bytes: it is held in memory.
pub const MAX_DATABASE_BYTES: u64 = 512 << 20;
/// How often files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_mins(1);

type Reader = maxminddb::Reader<Vec<u8>>;

/// What is known of an address's place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// The autonomous system's number.
    pub asn: Option<u32>,
    /// The autonomous system's organisation.
    pub organisation: Option<String>,
}

/// A database can't be used.
#[derive(Debug, thiserror::Error)]
#[error("`bans.geo` {path}: {reason}")]
pub struct GeoError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

#[derive(Deserialize)]
struct CountryRow {
    country: Option<Iso>,
    registered_country: Option<Iso>,
}

#[derive(Deserialize)]
struct Iso {
    iso_code: Option<String>,
}

#[derive(Deserialize)]
struct AsnRow {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<String>,
}

/// One file and what was read of it.
#[derive(Debug, Default)]
struct Database {
    path: Option<PathBuf>,
    reader: ArcSwapOption<Reader>,
    stamp: Mutex<Option<(SystemTime, u64)>>,
}

impl Database {
    fn new(path: Option<PathBuf>) -> Self {
        Self { path, ..Self::default() }
    }

    /// Reads the file when it changed; whether it did.
    fn refresh(&self) -> Result<bool, GeoError> {
        let Some(path) = &self.path else { return Ok(false) };
        let failed = |reason: String| GeoError { path: path.clone(), reason };
        let meta = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?;
        let stamp = meta.modified().ok().map(|modified| (modified, meta.len()));
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == stamp && stamp.is_some() {
            return Ok(false);
        }
        if meta.len() > MAX_DATABASE_BYTES {
            return Err(failed(format!("larger than {MAX_DATABASE_BYTES} bytes")));
        }
        let reader = read(path).map_err(failed)?;
        self.reader.store(Some(Arc::new(reader)));
        *known = stamp;
        Ok(true)
    }

    fn row<R: serde::de::DeserializeOwned>(&self, addr: IpAddr) -> Option<R> {
        let reader = self.reader.load();
        reader.as_ref()?.lookup(addr.to_canonical()).ok()?.decode().ok()?
    }
}

fn read(path: &Path) -> Result<Reader, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    Reader::from_source(bytes).map_err(|e| e.to_string())
}

/// The databases. Look-ups take no lock.
#[derive(Debug)]
pub struct Geo {
    country: Database,
    asn: Database,
}

impl Geo {
    /// Reads the databases of a configuration.
    ///
    /// # Errors
    /// One is named and can't be read.
    pub fn open(config: &Config) -> Result<Arc<Self>, GeoError> {
        let geo =
            Self { country: Database::new(config.country.clone()), asn: Database::new(config.asn.clone()) };
        geo.refresh()?;
        Ok(Arc::new(geo))
    }

    /// Reads what changed; whether something did.
    ///
    /// # Errors
    /// A file can't be read; what was read before stays.
    pub fn refresh(&self) -> Result<bool, GeoError> {
        let (country, asn) = (self.country.refresh(), self.asn.refresh());
        Ok(country? | asn?)
    }

    /// Follows the files: spawns a task on the current runtime that runs until it is aborted.
    pub fn follow(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        let geo = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let look = geo.clone();
                match tokio::task::spawn_blocking(move || look.refresh()).await {
                    Ok(Ok(true)) => tracing::info!("databases of places are read anew"),
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "the former database stays in use"),
                    Err(_) => return,
                }
            }
        })
    }

    /// The autonomous system of an address.
    pub fn asn(&self, addr: IpAddr) -> Option<u32> {
        self.asn.row::<AsnRow>(addr)?.autonomous_system_number
    }

    /// The country of an address, as two letters.
    pub fn country(&self, addr: IpAddr) -> Option<String> {
        let row: CountryRow = self.country.row(addr)?;
        row.country.and_then(|c| c.iso_code).or_else(|| row.registered_country.and_then(|c| c.iso_code))
    }

    /// The same, as bytes in upper case.
    pub fn country_code(&self, addr: IpAddr) -> Option<[u8; 2]> {
        super::scope::country(&self.country(addr)?)
    }

    /// Everything known of an address's place.
    pub fn place(&self, addr: IpAddr) -> Place {
        let asn: Option<AsnRow> = self.asn.row(addr);
        Place {
            country: self.country(addr),
            asn: asn.as_ref().and_then(|row| row.autonomous_system_number),
            organisation: asn.and_then(|row| row.autonomous_system_organization),
        }
    }
}

#[cfg(test)]
mod tests;
