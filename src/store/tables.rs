//! The tables of the database, and the numbers kept beside them.

use super::StoreError;
use redb::{ReadableTable, Table, TableDefinition};

/// Customer id, as bytes that need no check to be compared, to what is known of the customer, with the first lines ([`super::head`]).
pub const HEADS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("heads");

/// Customer id and number to a further chunk of lines.
pub const MORE: TableDefinition<(&[u8], u32), &[u8]> = TableDefinition::new("more");

/// What waits: the sequence at which a commit began and the number of a part of its lines, to the part
/// ([`super::waiting`]).
pub const JOURNAL: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("journal");

/// What waits and had no room in memory: the last customer of a block and the first one to the block, which
/// holds lines in the order of customers ([`super::waiting`]).
pub const RUN: TableDefinition<(&[u8], &[u8]), &[u8]> = TableDefinition::new("run");

/// Where the ranges of customers begin, and as of when each was merged ([`super::waiting`]).
pub const RANGES: TableDefinition<(), &[u8]> = TableDefinition::new("ranges");

/// Names of attributes by number.
pub const NAMES: TableDefinition<u32, &str> = TableDefinition::new("names");

/// Digest of an ingested file to how far it was taken.
pub const SOURCES: TableDefinition<&str, (u64, bool)> = TableDefinition::new("sources");

/// Salted hash of an erased customer's id to when that was, in UTC milliseconds.
pub const TOMBSTONES: TableDefinition<&[u8; 32], i64> = TableDefinition::new("tombstones");

/// Numbers by name.
pub const META: TableDefinition<&str, i64> = TableDefinition::new("meta");

/// The name of the store's id in [`META`], whose bits it is.
const ID: &str = "id";

/// The name of [`NamesSum`] in [`META`].
const NAMES_SUM: &str = "names";

/// What makes hashes of ids useless to those who have only the store's tombstones.
pub const SALT: TableDefinition<(), &[u8; 32]> = TableDefinition::new("salt");

/// The numbers of [`META`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub format: u64,
    /// Tells the store from others; absent of one that no program has opened since there are ids.
    pub id: Option<u64>,
    /// How often the store has changed.
    pub sequence: u64,
    /// Customers of whom anything is there.
    pub customers: u64,
    /// Lines that are there.
    pub lines: u64,
    /// Those of them that wait in the journal to be put into their customers' records.
    pub waiting: u64,
    /// Those that wait in the sorted run.
    pub in_run: u64,
    /// How often something was told of a customer besides events.
    pub abouts: u64,
    /// The newest instant of a line, in UTC milliseconds.
    pub newest: Option<i64>,
    /// Events before it may be gone.
    pub kept_from: Option<i64>,
    /// What vouches for the names of attributes; absent where none was added since there is this.
    pub names: Option<NamesSum>,
}

/// A checksum of the first names of attributes. A program that does not know of it may have added
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamesSum(i64);

impl NamesSum {
    /// Of all these, in the order of their numbers.
    pub fn of(names: &[String]) -> NamesSum {
        let mut hasher = crc32fast::Hasher::new();
        for name in names {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
        }
        NamesSum((names.len() as i64) << 32 | i64::from(hasher.finalize()))
    }

    /// Whether the names are those that it was made of, and perhaps others.
    pub fn vouches_for(self, names: &[String]) -> bool {
        let first = usize::try_from(self.0 >> 32).ok().and_then(|n| names.get(..n));
        first.is_some_and(|first| NamesSum::of(first) == self)
    }
}

impl Meta {
    /// Reads the numbers; `None` where there is no format, and so no store.
    pub fn read(table: &impl ReadableTable<&'static str, i64>) -> Result<Option<Meta>, StoreError> {
        let number = |name: &str| -> Result<Option<i64>, StoreError> {
            Ok(table.get(name).map_err(StoreError::of)?.map(|value| value.value()))
        };
        let count = |name: &str| -> Result<u64, StoreError> {
            let value = number(name)?.unwrap_or(0);
            u64::try_from(value).map_err(|_| StoreError::damaged(format!("`{name}` is negative")))
        };
        if number("format")?.is_none() {
            return Ok(None);
        }
        Ok(Some(Meta {
            format: count("format")?,
            id: number(ID)?.map(|id| id as u64),
            sequence: count("sequence")?,
            customers: count("customers")?,
            lines: count("lines")?,
            waiting: count("waiting")?,
            in_run: count("run")?,
            abouts: count("abouts")?,
            newest: number("newest")?,
            kept_from: number("kept_from")?,
            names: number(NAMES_SUM)?.map(NamesSum),
        }))
    }

    /// Writes the numbers.
    pub fn write(&self, table: &mut Table<'_, &'static str, i64>) -> Result<(), StoreError> {
        let counts = [
            ("format", self.format),
            ("sequence", self.sequence),
            ("customers", self.customers),
            ("lines", self.lines),
            ("waiting", self.waiting),
            ("run", self.in_run),
            ("abouts", self.abouts),
        ];
        for (name, value) in counts {
            table.insert(name, value as i64).map_err(StoreError::of)?;
        }
        let id = self.id.map(|id| id as i64);
        let names = self.names.map(|sum| sum.0);
        for (name, value) in
            [(ID, id), ("newest", self.newest), ("kept_from", self.kept_from), (NAMES_SUM, names)]
        {
            if let Some(value) = value {
                table.insert(name, value).map_err(StoreError::of)?;
            }
        }
        Ok(())
    }
}
