//! The redb database: tables, schema, damage, pruning, compaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{Encoded, Loaded, Op, StoreError};
use crate::bans::ledger::{Ended, MAX_ENDED};

/// The schema that this version reads and writes.
pub const SCHEMA: u64 = 1;
/// Most ended decisions on disk; the oldest are pruned.
pub const MAX_ENDED_ROWS: u64 = 500_000;
/// Most rows that one prune deletes.
const MAX_PRUNED: usize = 50_000;
/// A file larger than this is compacted when less than a quarter of it is in use, in bytes.
const COMPACT_FROM: u64 = 16 << 20;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Decision id -> JSON.
const HELD: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("held");
/// (time of the end, id) -> JSON.
const ENDED: TableDefinition<'_, (u64, [u8; 16]), &[u8]> = TableDefinition::new("ended");
const ALLOW: TableDefinition<'_, &str, ()> = TableDefinition::new("allow");

/// The open database.
#[derive(Debug)]
pub(super) struct Database {
    db: redb::Database,
    path: PathBuf,
}

/// Opens a database and reads it whole; a damaged file is set aside.
pub(super) fn open(path: &Path, now_ms: u64) -> Result<(Database, Loaded), StoreError> {
    // The database checks itself by assertions as well: a panic on a damaged file is damage.
    let opened = catch_unwind(AssertUnwindSafe(|| open_and_load(path)));
    let why = match opened {
        Ok(Ok(opened)) => return Ok(opened),
        Ok(Err(error)) if is_damage(&error) => error.to_string(),
        Ok(Err(error)) => return Err(error),
        Err(_) => "its pages contradict each other".to_owned(),
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{now_ms}"));
    let aside = PathBuf::from(aside);
    std::fs::rename(path, &aside).map_err(|error| StoreError::Io { path: path.to_owned(), error })?;
    tracing::error!(
        file = %path.display(), kept_as = %aside.display(), %why,
        "the database of decisions is damaged: it is set aside and a new one begun"
    );
    let (database, mut loaded) = open_and_load(path)?;
    loaded.set_aside = Some(aside);
    Ok((database, loaded))
}

fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Database(error) => match &**error {
            redb::Error::Corrupted(_) | redb::Error::TableTypeMismatch { .. } => true,
            redb::Error::Io(error) => {
                matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
            }
            _ => false,
        },
        _ => false,
    }
}

fn open_and_load(path: &Path) -> Result<(Database, Loaded), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::Io { path: path.to_owned(), error })?;
    let db = match redb::Builder::new().set_cache_size(32 << 20).create_file(file) {
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(StoreError::InUse(path.to_owned())),
        other => other?,
    };
    let mut database = Database { db, path: path.to_owned() };
    database.check_schema()?;
    let loaded = database.load()?;
    database.compact_if_sparse()?;
    Ok((database, loaded))
}

impl Database {
    fn check_schema(&self) -> Result<(), StoreError> {
        let txn = self.db.begin_write()?;
        {
            let mut meta = txn.open_table(META)?;
            let found = meta.get("schema")?.map(|v| v.value());
            match found {
                None => drop(meta.insert("schema", SCHEMA)?),
                Some(SCHEMA) => {}
                Some(found) => {
                    return Err(StoreError::Newer { path: self.path.clone(), found, known: SCHEMA });
                }
            }
            txn.open_table(HELD)?;
            txn.open_table(ENDED)?;
            txn.open_table(ALLOW)?;
        }
        Ok(txn.commit()?)
    }

    /// Everything that a start needs.
    pub(super) fn load(&self) -> Result<Loaded, StoreError> {
        let txn = self.db.begin_read()?;
        let mut loaded = Loaded::default();
        for row in txn.open_table(HELD)?.iter()? {
            match serde_json::from_slice(row?.1.value()) {
                Ok(decision) => loaded.held.push(Arc::new(decision)),
                Err(_) => loaded.unreadable += 1,
            }
        }
        for row in txn.open_table(ENDED)?.iter()?.rev().take(MAX_ENDED) {
            match serde_json::from_slice(row?.1.value()) {
                Ok(ended) => loaded.ended.push(Arc::new(ended)),
                Err(_) => loaded.unreadable += 1,
            }
        }
        loaded.ended.reverse();
        for row in txn.open_table(ALLOW)?.iter()? {
            match row?.0.value().parse() {
                Ok(network) => loaded.allow.push(network),
                Err(_) => loaded.unreadable += 1,
            }
        }
        Ok(loaded)
    }

    /// Makes changes in one synced transaction. Making them twice is making them once.
    pub(super) fn commit(&mut self, batches: &[Encoded]) -> Result<(), StoreError> {
        let txn = self.db.begin_write()?;
        {
            let mut held = txn.open_table(HELD)?;
            let mut ended = txn.open_table(ENDED)?;
            let mut allow = txn.open_table(ALLOW)?;
            for (op, json) in batches.iter().flat_map(Encoded::iter) {
                match op {
                    Op::Began(decision) => drop(held.insert(decision.id.to_bytes(), json)?),
                    Op::Ended(end) => {
                        held.remove(end.decision.id.to_bytes())?;
                        ended.insert((end.at_ms, end.decision.id.to_bytes()), json)?;
                    }
                    Op::Allow(network) => drop(allow.insert(&*network.to_string(), ())?),
                    Op::Disallow(network) => drop(allow.remove(&*network.to_string())?),
                    Op::Erase(rows) => {
                        for (at_ms, id) in rows {
                            ended.remove((*at_ms, id.to_bytes()))?;
                        }
                    }
                }
            }
        }
        Ok(txn.commit()?)
    }

    /// Takes the addresses out of decisions that ended before `before_ms`, a bounded number at once.
    pub(super) fn anonymise(&mut self, before_ms: u64) -> Result<(), StoreError> {
        let txn = self.db.begin_write()?;
        {
            let (mut meta, mut ended) = (txn.open_table(META)?, txn.open_table(ENDED)?);
            let done = meta.get("anonymised")?.map_or(0, |v| v.value());
            let (mut changed, mut reached) = (Vec::new(), before_ms.max(done));
            for row in ended.range((done, [0; 16])..(before_ms.max(done), [0; 16]))? {
                let (key, value) = row?;
                if changed.len() == MAX_PRUNED {
                    reached = key.value().0;
                    break;
                }
                let Ok(row) = serde_json::from_slice::<Ended>(value.value()) else { continue };
                if let Some(decision) = row.decision.anonymous() {
                    let row = Ended { decision: Arc::new(decision), ..row };
                    changed.push((key.value(), serde_json::to_vec(&row).map_err(io_error)?));
                }
            }
            for (key, json) in &changed {
                ended.insert(*key, &json[..])?;
            }
            meta.insert("anonymised", reached)?;
        }
        Ok(txn.commit()?)
    }

    /// Deletes ended decisions older than `oldest_ms` or past [`MAX_ENDED_ROWS`], a bounded number at once.
    pub(super) fn prune(&mut self, oldest_ms: u64) -> Result<(), StoreError> {
        let txn = self.db.begin_write()?;
        {
            let mut ended = txn.open_table(ENDED)?;
            let extra = ended.len()?.saturating_sub(MAX_ENDED_ROWS) as usize;
            let mut old = Vec::new();
            for (at, row) in ended.iter()?.take(MAX_PRUNED).enumerate() {
                let key = row?.0.value();
                if key.0 >= oldest_ms && at >= extra {
                    break;
                }
                old.push(key);
            }
            for key in old {
                ended.remove(key)?;
            }
        }
        txn.commit()?;
        self.compact_if_sparse()
    }

    fn compact_if_sparse(&mut self) -> Result<(), StoreError> {
        let size = std::fs::metadata(&self.path).map_or(0, |m| m.len());
        if size < COMPACT_FROM {
            return Ok(());
        }
        let txn = self.db.begin_write()?;
        let used = txn.stats()?.stored_bytes();
        txn.abort()?;
        if used < size / 4 {
            self.db.compact()?;
        }
        Ok(())
    }
}

fn io_error(error: serde_json::Error) -> redb::StorageError {
    redb::StorageError::Io(error.into())
}
