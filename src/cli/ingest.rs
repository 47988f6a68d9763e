//! `habitus ingest`: the rows of logs go into a store, and none goes there twice.
//!
//! How far a file was taken is kept with its rows in one commit, under the digest of its bytes. A run
//! that was killed goes on where it stopped, and a file that was taken whole is passed over.

use super::Global;
use super::exit::Refusal;
use super::input;
use super::progress::Progress;
use crate::clock;
use crate::config::{Config, Overrides};
use crate::ingest::{self, CustomerReading, IngestError, Source, customer_of};
use crate::report::Table;
use crate::serving::kept_at;
use crate::store::{
    About, Batch, MAX_ID_BYTES, MAX_NAMES, Outcome, SourceProgress, Store, StoreError,
};
use habitus_engine::domain::Rejection;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Rows of one commit. A commit writes the pages of all customers that it touches, so fewer, larger
/// ones write less; a killed run repeats at most so many.
const ROWS_AT_ONCE: usize = 500_000;

/// Characters of such an id that are shown.
const MOST_QUOTED: usize = 40;

/// How many outcomes there are.
const N_OUTCOMES: usize = Outcome::TooManyNames as usize + 1;

/// Rejected rows that are shown.
const MOST_SHOWN: usize = 3;

/// Put logs into a store
#[derive(Debug, clap::Args)]
pub struct Ingest {
    /// Event logs: .csv, .ndjson (also .gz, .zst) or .parquet; patterns are expanded
    #[arg(long, value_name = "GLOB", num_args = 1.., required_unless_present = "customers")]
    events: Vec<String>,
    /// Customers files in the same formats
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    customers: Vec<String>,
    /// The store's directory; it is made where there is none
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Settings: which column holds what, and the rules by which faulty rows are told
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What became of the rows of a run.
#[derive(Debug, Default, Serialize)]
struct Account {
    rows: u64,
    /// Rows that an earlier run had taken.
    resumed: u64,
    accepted: u64,
    duplicates: u64,
    /// Of customers who were erased.
    erased: u64,
    /// Of customers whose records are damaged.
    damaged: u64,
    /// Rows of nobody that a rule leaves out.
    left_out: u64,
    rejected: BTreeMap<String, u64>,
    examples: Vec<String>,
}

impl Ingest {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let overrides = Overrides { store: self.store.clone(), ..Overrides::default() };
        let config = Config::load(self.config.as_deref(), &overrides)?;
        let events =
            if self.events.is_empty() { Vec::new() } else { ingest::sources(&self.events)? };
        let customers = input::customers(&self.customers)?.unwrap_or_default();
        let store = Store::open_or_create(&config.store.path, &config.store.settings)?;
        let before = store.snapshot().sequence();
        let mut account = Account::default();
        for source in &customers {
            take_customers(&store, source, &config, &mut account)?;
        }
        let total = events.iter().filter_map(Source::size).sum();
        let progress = Progress::of(total, "ingesting", true, global.quiet);
        let mut done = 0;
        for source in &events {
            if account.is_refused(config.max_rejected_share) {
                break;
            }
            take_events(&store, source, &config, &mut account, &mut |bytes| {
                progress.at(done + bytes);
            })?;
            done += source.size().unwrap_or(0);
        }
        drop(progress);
        // Whoever opens it next would have to read what waits.
        store.settle()?;
        let after = store.snapshot();
        global.format.print(
            || {
                let (customers, lines) = (after.n_customers(), after.n_lines());
                format!(
                    "{}\n\nthe store holds {lines} events of {customers} customers at sequence {}",
                    account.table(),
                    after.sequence()
                )
            },
            || {
                json!({
                    "account": account,
                    "sequence_before": before,
                    "sequence": after.sequence(),
                    "customers": after.n_customers(),
                    "events": after.n_lines(),
                })
            },
        )?;
        account.check(config.max_rejected_share)
    }
}

/// What the reading thread hands to the writing one.
struct Handed {
    batch: Batch,
    progress: SourceProgress,
}

/// Takes one log, reading on while what was read is written.
fn take_events(
    store: &Store,
    source: &Source,
    config: &Config,
    account: &mut Account,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<()> {
    let digest = source.digest()?;
    let known = store.source(&digest)?;
    let skip = known.as_ref().map_or(0, |known| known.rows);
    account.resumed += skip;
    if known.is_some_and(|known| known.finished) {
        account.rows += skip;
        return Ok(());
    }
    let (hand, handed) = sync_channel(1);
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || write(store, &handed));
        let read = read(source, config, &digest, skip, account, &hand, progress);
        // The writer ends when there is nothing more to come.
        drop(hand);
        let written = writing.join().unwrap_or(Err(StoreError::Closed));
        // Where the writer failed the reader only found nobody to hand to.
        let (outcomes, read) = (written?, read);
        account.accepted += outcomes[Outcome::Accepted as usize];
        account.duplicates += outcomes[Outcome::Duplicate as usize];
        account.erased += outcomes[Outcome::Erased as usize];
        account.damaged += outcomes[Outcome::Damaged as usize];
        Ok(read?)
    })
}

/// How often there was each outcome.
fn write(store: &Store, handed: &Receiver<Handed>) -> Result<[u64; N_OUTCOMES], StoreError> {
    let mut counts = [0; N_OUTCOMES];
    for Handed { batch, progress } in handed {
        for outcome in store.append(&batch, Some(&progress))? {
            counts[outcome as usize] += 1;
        }
    }
    Ok(counts)
}

fn read(
    source: &Source,
    config: &Config,
    digest: &str,
    skip: u64,
    account: &mut Account,
    hand: &SyncSender<Handed>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), IngestError> {
    let (rules, now) = (&config.training.rules, clock::now());
    let mut batch = Batch::default();
    let mut rows = 0;
    let mut is_cut_off = false;
    let hand_over = |batch: &mut Batch, rows: u64, finished: bool| {
        let progress = SourceProgress { digest: digest.to_owned(), rows, finished };
        hand.send(Handed { batch: std::mem::take(batch), progress }).is_ok()
    };
    ingest::each_row(
        source,
        &config.columns,
        &mut |row| {
            rows = row.number;
            account.rows += 1;
            // The writer is gone; its error is told.
            if rows <= skip || is_cut_off {
                return Ok(());
            }
            let mut buffer = itoa::Buffer::new();
            let reason = match row.raw {
                Err(rejection) => rejection.to_string(),
                Ok(raw) => match (customer_of(raw, &mut buffer), kept_at(rules, raw, now)) {
                    (None, _) if rules.read(raw, now) == Err(Rejection::Ignored) => {
                        account.left_out += 1;
                        return Ok(());
                    }
                    (None, _) => Rejection::MissingCustomer.to_string(),
                    (Some(customer), _) if customer.len() > MAX_ID_BYTES => too_long(),
                    (Some(_), Err(rejection)) => rejection.to_string(),
                    (Some(customer), Ok(at)) => {
                        batch.line(&customer, raw, at);
                        if batch.len() == ROWS_AT_ONCE {
                            is_cut_off = !hand_over(&mut batch, rows, false);
                        }
                        return Ok(());
                    }
                },
            };
            account.reject(reason, || (row.example)().to_string());
            Ok::<(), IngestError>(())
        },
        progress,
    )?;
    // A file of which too much was rejected is not done with: other settings may read it.
    if !account.is_refused(config.max_rejected_share) {
        hand_over(&mut batch, rows, true);
    }
    Ok(())
}

/// Takes a customers file; taken again it changes nothing.
fn take_customers(
    store: &Store,
    source: &Source,
    config: &Config,
    account: &mut Account,
) -> anyhow::Result<()> {
    let reading = CustomerReading {
        columns: &config.customers,
        rules: &config.training.rules,
        now: clock::now(),
    };
    let mut batch = Batch::default();
    let mut counts = [0u64; N_OUTCOMES];
    let mut flush = |batch: &mut Batch| -> anyhow::Result<()> {
        for outcome in store.append(batch, None)? {
            counts[outcome as usize] += 1;
        }
        batch.clear();
        Ok(())
    };
    let report = ingest::each_customer(
        source,
        &reading,
        &mut |customer, attributes| -> anyhow::Result<()> {
            if customer.len() > MAX_ID_BYTES {
                account.reject(too_long(), || customer.chars().take(MOST_QUOTED).collect());
                return Ok(());
            }
            batch.about(customer, About::from(&attributes));
            if batch.len() == ROWS_AT_ONCE { flush(&mut batch) } else { Ok(()) }
        },
        &mut |_| {},
    )?;
    flush(&mut batch)?;
    account.rows += report.counts.rows;
    account.accepted += counts[Outcome::Accepted as usize];
    account.duplicates += counts[Outcome::Duplicate as usize];
    account.erased += counts[Outcome::Erased as usize];
    account.damaged += counts[Outcome::Damaged as usize];
    let n_refused = counts[Outcome::TooManyNames as usize];
    if n_refused > 0 {
        let reason = format!(
            "an attribute has a new name, and the store has no room for more than {MAX_NAMES}"
        );
        *account.rejected.entry(reason).or_default() += n_refused;
    }
    for (rejection, n) in &report.counts.rejected {
        *account.rejected.entry(rejection.to_string()).or_default() += n;
    }
    Ok(())
}

fn too_long() -> String {
    format!("the customer id is longer than {MAX_ID_BYTES} bytes")
}

impl Account {
    fn reject(&mut self, reason: String, example: impl FnOnce() -> String) {
        let count = self.rejected.entry(reason.clone()).or_default();
        *count += 1;
        if *count <= MOST_SHOWN as u64 {
            self.examples.push(format!("{reason}: {}", example()));
        }
    }

    fn n_rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    fn table(&self) -> String {
        let mut table = Table::new(&["rows", "number"]);
        let mut row = |name: &str, n: u64| table.row(vec![name.to_owned(), n.to_string()]);
        row("in all", self.rows);
        for (name, n) in [
            ("taken by an earlier run", self.resumed),
            ("accepted", self.accepted),
            ("there already", self.duplicates),
            ("of erased customers", self.erased),
            ("of customers whose records are damaged", self.damaged),
            ("of nobody, left out by a rule", self.left_out),
        ] {
            if n > 0 {
                row(name, n);
            }
        }
        for (reason, &n) in &self.rejected {
            row(&format!("rejected: {reason}"), n);
        }
        let mut text = table.to_string();
        for example in &self.examples {
            text.push_str("\n  ");
            text.push_str(example);
        }
        text
    }

    fn rejected_share(&self) -> f64 {
        let looked_at = self.rows.saturating_sub(self.resumed).max(1);
        self.n_rejected() as f64 / looked_at as f64
    }

    fn is_refused(&self, most: f64) -> bool {
        self.rejected_share() > most
    }

    /// Too much that was rejected ends the run with the exit code of bad data.
    fn check(&self, most: f64) -> anyhow::Result<()> {
        let share = self.rejected_share();
        if share > most {
            let rows = self.table();
            return Err(Refusal::TooManyRejected {
                share: 100.0 * share,
                most: 100.0 * most,
                rows,
            }
            .into());
        }
        Ok(())
    }
}
