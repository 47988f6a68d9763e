//! What a store must hold to, whatever the disk does: a plain model of it, a disk that fails, and
//! many workloads.
//!
//! The small part is in every run. The large part is for `cargo test --release -p habitus store:: --
//! --ignored`; docs/reliability.md has its table.

mod crash;
mod damage;
mod directory;
mod disk;
mod faults;
mod format;
mod histories;
mod model;
mod recall;
mod run;
mod waiting;
mod workload;
mod writer;

use self::disk::Disk;
use super::file::OnDisk;
use super::guard::Guarded;
use super::{Settings, Store, StoreError, found};
use habitus_engine::domain::{Currency, EventRules, Zone};
use redb::Builder;
use std::path::Path;

/// Where the large part's seeds begin; the small part has its own.
const LARGE: u64 = 1_000_000;

const ROOMY: usize = 8 << 20;
/// So little that pages leave the memory before they are synced, and are read again.
const CRAMPED: usize = 64 << 10;

fn settings(cache_bytes: usize) -> Settings {
    Settings { cache_bytes, history_bytes: 0, retention_days: None }
}

/// The database that a disk holds.
fn database(disk: &Disk, cache_bytes: usize) -> Result<Guarded, StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    Guarded::open(|| builder.create_with_backend(OnDisk::new(disk.clone())).map_err(StoreError::of))
}

/// The store that a disk holds.
fn store(disk: &Disk, cache_bytes: usize) -> Result<Store, StoreError> {
    Store::of(Path::new("disk"), &settings(cache_bytes), database(disk, cache_bytes)?)
}

/// A disk on which an empty store is durable.
fn empty() -> Disk {
    let disk = Disk::default();
    let database = database(&disk, ROOMY).unwrap();
    database.writing(|| found(database.get()?, 7, &[7; 32])).unwrap();
    drop(database);
    Disk::of(disk.image())
}

fn rules() -> EventRules {
    let zone = Zone::named("Europe/London").unwrap();
    EventRules::plain(zone, Currency { code: "GBP".into(), digits: 2 })
}
