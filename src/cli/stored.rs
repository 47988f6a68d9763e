//! The histories of a store as a log, for whoever learns from them.

use super::Global;
use super::exit::Refusal;
use super::input::LogInput;
use super::progress::Progress;
use crate::clock;
use crate::config::StoreConfig;
use crate::ingest::{CustomerColumns, Gathering, IngestError, Log, Reading};
use crate::registry::StoreOrigin;
use crate::store::{About, Kept, Store, StoreError};
use habitus_engine::domain::{AsOf, Attributes, RawEvent, RawValue, Timestamp};
use std::sync::Arc;

/// Lines after which progress is told.
const TOLD_EVERY: u64 = 4096;

/// A store that is held to be read once.
pub struct Held {
    store: Store,
    origin: StoreOrigin,
}

impl Held {
    /// Opens the store that is there.
    pub fn open(config: &StoreConfig) -> anyhow::Result<Held> {
        let store = Store::open(&config.path, &config.settings).map_err(|error| match error {
            StoreError::InUse { .. } => anyhow::Error::from(error).context(
                "a store is read by one process alone: stop the server until it has been read, or \
                 name a copy",
            ),
            error => error.into(),
        })?;
        let origin = StoreOrigin {
            id: store.id(),
            sequence: store.snapshot().sequence(),
            kept_from: store.kept_from(clock::now()),
        };
        Ok(Held { store, origin })
    }

    /// Which store it is, and how it stands.
    pub fn origin(&self) -> &StoreOrigin {
        &self.origin
    }

    /// Refuses a store that is not what a version was trained from. Where it is, what was left out
    /// then is left out again.
    pub fn check(&mut self, trained_from: &StoreOrigin, model: String) -> Result<(), Refusal> {
        let (origin, found) = (trained_from.clone(), &self.origin);
        if found.id != origin.id {
            let place = self.store.directory().display().to_string();
            return Err(Refusal::OtherStore { model, origin, place, found: found.id.clone() });
        }
        if found.sequence != origin.sequence {
            return Err(Refusal::OtherSequence { model, origin, found: found.sequence });
        }
        self.origin = origin;
        Ok(())
    }

    /// Reads all histories and lets go of the store. Of the attributes those count that `columns`
    /// names, as of a customers file.
    pub fn read(
        self,
        input: &LogInput<'_>,
        columns: &CustomerColumns,
        global: &Global,
    ) -> anyhow::Result<(Log, AsOf)> {
        let asked = input.as_of.map(|text| input.rules.zone.parse_as_of(text)).transpose()?;
        asked.map_or(Ok(()), |asked| self.check_kept(asked))?;
        let reading = Reading {
            columns: input.columns,
            rules: input.rules,
            // Nothing is later than this clock: what lies after the as-of is left out anyway, and
            // the same store gives the same whenever it is asked.
            now: Timestamp(i64::MAX),
            as_of: asked,
            memory: input.memory,
            customers: None,
            keep_in: None,
        };
        let names: Arc<[String]> = columns.attribute_names().into();
        let place = self.store.directory().display().to_string();
        let mut gathering = Gathering::new(&reading, Arc::clone(&names), place);
        let snapshot = self.store.snapshot();
        let progress = Progress::of(snapshot.n_lines(), "reading", false, global.quiet);
        let (mut n_seen, mut n_older) = (0u64, 0u64);
        let is_older = |raw: &RawEvent<'_>| {
            self.origin
                .kept_from
                .is_some_and(|from| input.rules.time(raw).is_ok_and(|time| time.at < from))
        };
        snapshot.each(|customer, kept| -> Result<(), Stopped> {
            match kept {
                Kept::About(about) => gathering.customer(customer, &attributes(about, &names))?,
                Kept::Line(raw) => {
                    n_seen += 1;
                    if n_seen.is_multiple_of(TOLD_EVERY) {
                        progress.at(n_seen);
                    }
                    if is_older(raw) {
                        n_older += 1;
                    } else {
                        let customer = Some(RawValue::Text(customer));
                        gathering.row(&RawEvent { customer, ..*raw })?;
                    }
                }
            }
            Ok(())
        })?;
        drop(progress);
        if let Some(from) = self.origin.kept_from {
            tracing::info!("{n_older} events before {from} are not looked at");
        }
        let log = gathering.finish(snapshot.knows_attributes());
        let as_of = input.check(&log, asked)?;
        self.check_kept(as_of)?;
        Ok((log, as_of))
    }

    /// Refuses an as-of of which the store may have forgotten what was known.
    fn check_kept(&self, as_of: AsOf) -> Result<(), Refusal> {
        match self.origin.kept_from {
            Some(from) if as_of.at < from => Err(Refusal::AsOfTooOld {
                as_of: as_of.at.to_string(),
                kept_from: from.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// What is told of a customer, with a value or none for each name.
fn attributes(about: &About, names: &Arc<[String]>) -> Attributes {
    let value = |name: &String| {
        let told = about.values.iter().find(|(told, _)| told == name);
        told.map(|(_, value)| value.clone())
    };
    let mut attributes = Attributes::new(Arc::clone(names), names.iter().map(value).collect());
    attributes.registered = about.registered;
    attributes.opted_out = about.opted_out == Some(true);
    attributes.label = about.label;
    attributes
}

/// Why a walk through a store stopped.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
}
