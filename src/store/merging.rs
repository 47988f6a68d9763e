//! What waits of a range of customers on its way into their records, or into the sorted run.

use super::StoreError;
use super::appending::{Appending, damaged_batch, only};
use super::batch::{Batch, Outcome, Seen};
use super::damaged_record;
use super::id::Id;
use super::line::Lines;
use super::records::Open;
use super::twins::Twins;
use super::waiting::run::{Entry, Taken, Written};
use super::waiting::{Due, Incoming, Line, Ranges};
use habitus_engine::domain::hash;

/// Neighbours go into the records together, so many of them: some dozen pages.
const NEIGHBOURS: usize = 32;

/// They do so when about so many lines wait for each of them: with fewer, too much of what is read and
/// written is not theirs.
const DENSE: u64 = 8;

/// The lines that are in the run already are written once more with each that come, so that all of them
/// go into the records, however few they are, when they take so many times as many bytes.
const MOST_AGAIN: usize = 16;

/// Whoever has lines of more bytes goes into the records alone.
const MANY_BYTES: usize = 1 << 10;

/// All there is of one customer of a range beside their records.
struct Somebody<'l> {
    customer: Id<'l>,
    sorted: Option<&'l Entry<'l>>,
    waiting: &'l [Line<'l>],
    /// What comes, where it goes into the records at once.
    coming: &'l [usize],
}

/// All that waits of one customer.
struct Waits<'l> {
    /// The first the first; damaged ones are empty.
    lines: &'l [&'l [u8]],
    first_sequence: Option<u64>,
    has_record: bool,
}

impl Appending<'_> {
    /// Puts what waits of a range where it belongs. `coming` goes into the records with it, in the order
    /// of customers, where all does. Tells where the range may be cut then.
    pub(super) fn range(
        &mut self,
        ranges: &Ranges,
        at: usize,
        due: &Due,
        coming: Option<&[usize]>,
    ) -> Result<Vec<String>, StoreError> {
        let Some(table) = ranges.table(at) else { return Ok(Vec::new()) };
        let (first, end) = ranges.bounds(at);
        let taken = match self.meta.in_run {
            0 => Taken::default(),
            _ => Taken::of(&self.records.run, (first, end))?,
        };
        let entries: Vec<Entry<'_>> = taken.entries().collect();
        let from = entries.partition_point(|entry| entry.customer < first);
        let until = entries.partition_point(|entry| end.is_none_or(|end| entry.customer < end));
        let sorted = &entries[from..until];
        let waiting = table.in_order();
        let everybody = everybody(self.batch, sorted, &waiting, coming.unwrap_or_default());
        let n_bytes: usize = sorted.iter().map(Entry::n_bytes).sum();
        let come: usize = waiting.iter().map(|line| line.line.len()).sum();
        let is_merged = coming.is_some() || n_bytes > MOST_AGAIN * come;

        let mut written = Written::default();
        entries[..from].iter().for_each(|entry| written.keep(entry));
        let mut cutting = Cutting { step: due.step.max(1), bytes: 0, places: Vec::new() };
        let mut lines: Vec<&[u8]> = Vec::new();
        for neighbours in everybody.chunks(NEIGHBOURS) {
            let has_room = self.n_merged < self.most_merged;
            let is_merged = is_merged || has_room && are_dense(neighbours);
            for somebody in neighbours {
                let Somebody { customer: Id { text: customer, .. }, sorted, waiting, coming } =
                    somebody;
                lines.clear();
                lines.extend(sorted.iter().flat_map(|entry| entry.lines()));
                lines.extend(waiting.iter().map(|line| line.line));
                self.meta.waiting -= waiting.len() as u64;
                let waits = Waits {
                    lines: &lines,
                    first_sequence: waiting.first().map(|line| line.sequence),
                    has_record: somebody.has_record(),
                };
                let is_lost = taken.has_lost(customer);
                if !is_merged && waits.has_record && !is_lost && waits.n_bytes() < MANY_BYTES {
                    written.push(customer, lines.len() as u64, lines.iter().copied());
                    continue;
                }
                let come = coming.iter().map(|&record| Incoming::bytes_in(self.batch, record));
                let wait = lines.iter().map(|line| Incoming::bytes_of(customer.as_bytes(), line));
                cutting.see(customer, wait.chain(come).take(Cutting::LINES).sum());
                self.n_merged += 1;
                self.merge(at, customer, &waits, is_lost, coming)?;
            }
        }
        entries[until..].iter().for_each(|entry| written.keep(entry));
        let n_before: u64 = entries.iter().map(|entry| entry.n_lines).sum();
        self.meta.in_run = self.meta.in_run - n_before + written.n_lines;
        taken.replace(written, &mut self.records.run)?;
        Ok(if coming.is_some() { cutting.cuts() } else { Vec::new() })
    }

    /// Puts what waits of a customer into their records, and what comes. Where what is kept of the
    /// customer is damaged or lost, what comes is refused and what waits goes on waiting; others have
    /// their own.
    fn merge(
        &mut self,
        at: usize,
        customer: &str,
        waits: &Waits<'_>,
        is_lost: bool,
        records: &[usize],
    ) -> Result<(), StoreError> {
        let before = self.meta;
        let merged = match is_lost {
            true => Err(damaged_record(customer)),
            false => self.merge_all(customer, waits, records),
        };
        match merged {
            Err(StoreError::DamagedRecord { .. }) => {
                self.refuse(before, records);
                let again = |line: &&[u8]| {
                    self.added.push_again(at, customer, line, waits.has_record);
                };
                waits.lines.iter().for_each(again);
                Ok(())
            }
            other => other,
        }
    }

    fn merge_all(
        &mut self,
        customer: &str,
        waits: &Waits<'_>,
        records: &[usize],
    ) -> Result<(), StoreError> {
        let open = self.records.take(customer)?;
        if open.is_none() && waits.has_record {
            return Err(damaged_record(customer));
        }
        let is_new = open.is_none() && waits.lines.is_empty();
        if is_new && self.records.is_erased(customer)? {
            records.iter().for_each(|&record| self.outcomes[record] = Outcome::Erased);
            return Ok(());
        }
        let first_sequence = waits.first_sequence.unwrap_or(self.first_sequence);
        let mut open = open.unwrap_or_else(|| Open::new(first_sequence));
        for line in waits.lines {
            let mut lines = Lines::new(line, false);
            open.add(&only(&mut lines).ok_or_else(|| damaged_record(customer))?);
        }
        let mut twins = Twins::new(customer, records.len());
        for &record in records {
            match self.batch.record(record) {
                Seen::About(later) => {
                    let outcome = self.names.tell(customer, &mut open.about, later)?;
                    self.outcomes[record] = outcome;
                    open.head_changed |= outcome == Outcome::Accepted;
                    self.meta.told(outcome);
                }
                Seen::Line(bytes, at) => {
                    // As text where it was text: other rules may read it in another way.
                    let mut lines = Lines::new(bytes, false);
                    let raw = only(&mut lines).ok_or_else(damaged_batch)?;
                    let (outcome, is_kept) =
                        twins.seen(&raw, |see| self.records.each_chunk(customer, &open, see))?;
                    self.outcomes[record] = outcome;
                    if is_kept {
                        open.add(&raw);
                        self.meta.kept(at);
                    }
                }
            }
        }
        // Somebody new of whom nothing was taken stays unknown.
        if open.is_nobody() {
            return Ok(());
        }
        if is_new {
            self.came(records);
        }
        self.records.put(customer, &open)
    }
}

impl Waits<'_> {
    fn n_bytes(&self) -> usize {
        self.lines.iter().map(|line| line.len()).sum()
    }
}

impl Somebody<'_> {
    /// Whether there is a record, as far as those know who wait.
    fn has_record(&self) -> bool {
        self.sorted.is_some() || self.waiting.last().is_some_and(|line| line.has_record)
    }

    fn n_lines(&self) -> u64 {
        self.sorted.map_or(0, |entry| entry.n_lines) + self.waiting.len() as u64
    }
}

/// All customers of a range of whom something waits or comes, in their order.
fn everybody<'l>(
    batch: &'l Batch,
    sorted: &'l [Entry<'l>],
    waiting: &'l [Line<'l>],
    coming: &'l [usize],
) -> Vec<Somebody<'l>> {
    let mut all = Vec::with_capacity(sorted.len().max(waiting.len()));
    let with_id = |entry: &'l Entry<'l>| (Id::of(entry.customer), entry);
    let mut sorted = sorted.iter().map(with_id).peekable();
    let mut waiting = waiting.chunk_by(|a, b| a.customer == b.customer).peekable();
    let with_id = |records: &'l [usize]| (Id::of(batch.customer(records[0])), records);
    let mut coming = batch.each_customer(coming).map(with_id).peekable();
    loop {
        let next = [
            sorted.peek().map(|(id, _)| *id),
            waiting.peek().map(|lines| lines[0].customer),
            coming.peek().map(|(id, _)| *id),
        ];
        let Some(customer) = next.into_iter().flatten().min() else { return all };
        all.push(Somebody {
            customer,
            sorted: sorted.next_if(|(id, _)| *id == customer).map(|(_, entry)| entry),
            waiting: waiting.next_if(|lines| lines[0].customer == customer).unwrap_or_default(),
            coming: coming
                .next_if(|(id, _)| *id == customer)
                .map(|(_, records)| records)
                .unwrap_or_default(),
        });
    }
}

/// Whether what waits of neighbours is worth their records now. They differ in how much that is, lest all
/// of them come at the same time.
fn are_dense(neighbours: &[Somebody<'_>]) -> bool {
    let old = neighbours.iter().filter(|somebody| somebody.has_record());
    let (n_old, n_lines) = old.fold((0, 0), |(n, lines), one| (n + 1, lines + one.n_lines()));
    let n_new = neighbours.len() as u64 - n_old;
    let sixteenths = 11 + neighbours.first().map_or(0, |first| hash(first.customer.text) % 11);
    // Where many are new their pages are written anyway.
    n_new >= n_old.div_ceil(2) || 16 * n_lines >= DENSE * sixteenths * n_old
}

/// Where a range that is merged may be cut.
struct Cutting {
    /// About what is merged before it is cut.
    step: u64,
    /// What was merged, where a customer has few lines, as in streams.
    bytes: u64,
    /// Customers with what was merged before them, some for each step.
    places: Vec<(u64, String)>,
}

impl Cutting {
    const PLACES_A_STEP: u64 = 8;

    /// So many of a customer's lines count.
    const LINES: usize = 4;

    fn see(&mut self, customer: &str, bytes: u64) {
        let last = self.places.last().map_or(0, |(bytes, _)| *bytes);
        if self.bytes - last > self.step / Cutting::PLACES_A_STEP {
            self.places.push((self.bytes, customer.to_owned()));
        }
        self.bytes += bytes;
    }

    /// Where further ranges begin, so that all come to about as much, and to less than a step: the next
    /// lines of as many customers can wait then.
    fn cuts(self) -> Vec<String> {
        let n = self.bytes / self.step + 1;
        let mut places = self.places.into_iter();
        let cuts = (1..n).filter_map(|part| {
            let end = self.bytes / n * part;
            places.find(|(bytes, _)| *bytes >= end).map(|(_, customer)| customer)
        });
        cuts.collect()
    }
}
