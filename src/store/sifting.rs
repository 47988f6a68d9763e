//! What of a batch is surely new, told on all cores before it is committed by one.

use super::batch::Batch;
use super::known::{Known, of_customer};
use super::snapshot::Snapshot;
use rayon::prelude::*;
use std::ops::Range;

/// Of a batch of fewer records no more than one thread makes anything.
const FEW: usize = 512;

/// Customers that are sifted by one thread in a row.
const A_PIECE: usize = 256;

/// What is known of the records of a batch.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// The records' numbers by customer.
    pub order: Vec<usize>,
    /// In that order, hashes of the records' event ids with whose they are.
    hashes: Vec<Option<u64>>,
    /// In that order, at the first record of each customer: whether there was anything of them, where only
    /// lines come that are surely new.
    are_new: Vec<Option<bool>>,
}

impl Sifted {
    /// Sifts a batch that is the next to be committed after this snapshot. Of customers whose
    /// records begin at a place where nobody is to be looked up it tells what memory does.
    pub fn of(
        batch: &Batch,
        order: Vec<usize>,
        known: &Known,
        snapshot: &Snapshot,
        is_looked_up: impl Fn(usize) -> bool + Sync,
    ) -> Sifted {
        let (mut customers, mut place) = (Vec::new(), 0);
        for records in batch.each_customer(&order) {
            customers.push((place, records));
            place += records.len();
        }
        let piece = |customers: &[(usize, &[usize])]| {
            let mut sifted = Sifted::default();
            sifted.take(batch, customers, known, snapshot, &is_looked_up);
            sifted
        };
        let pieces: Vec<Sifted> = match batch.len() {
            ..FEW => vec![piece(&customers)],
            _ => customers.par_chunks(A_PIECE).map(piece).collect(),
        };
        let (mut hashes, mut are_new) = (Vec::new(), Vec::new());
        for piece in pieces {
            hashes.extend(piece.hashes);
            are_new.extend(piece.are_new);
        }
        Sifted { order, hashes, are_new }
    }

    fn take(
        &mut self,
        batch: &Batch,
        customers: &[(usize, &[usize])],
        known: &Known,
        snapshot: &Snapshot,
        is_looked_up: &impl Fn(usize) -> bool,
    ) {
        let mut last = None;
        let mut unsure: Vec<(usize, &[usize])> = Vec::new();
        for &(place, records) in customers {
            let customer = batch.customer(records[0]);
            let hash = known.hash_of(customer);
            let start = self.hashes.len();
            let ids = records.iter().map(|&record| batch.id_hash(record));
            self.hashes.extend(ids.map(|id| Some(of_customer(hash, id?))));
            let are_lines = records.iter().all(|&record| batch.is_line(record));
            last = known.around(customer, last);
            let are_new = last.filter(|known| {
                are_lines && !self.hashes[start..].iter().flatten().any(|&id| known.may_have(id))
            });
            if are_new.is_none() && are_lines && is_looked_up(place) {
                unsure.push((start, records));
            }
            self.are_new.resize(self.hashes.len(), None);
            self.are_new[start] = are_new.map(|known| known.has(hash));
        }
        for (at, records) in unsure {
            // Where nothing can be read, whoever takes the records is told.
            self.are_new[at] = snapshot.lacks(batch, records).unwrap_or_default();
        }
    }

    /// Hashes of event ids at these places of the order.
    pub fn hashes(&self, places: &Range<usize>) -> impl Iterator<Item = Option<u64>> {
        self.hashes[places.clone()].iter().copied()
    }

    /// Whether there was anything of the customer whose records begin at this place of the order, where
    /// only lines come that are surely new.
    pub fn is_new(&self, place: usize) -> Option<bool> {
        self.are_new.get(place).copied().flatten()
    }
}
