//! Lines that came before: what has the same event id is no news.

use super::batch::Outcome;
use super::line::{Lines, each_event_id};
use super::{StoreError, damaged_record};
use habitus_engine::domain::RawEvent;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Of up to so many lines each is compared with all that are there; for more, all ids are gathered.
const FEW: usize = 2;

/// What of a customer new lines are compared with.
pub(super) struct Twins<'c> {
    customer: &'c str,
    /// Hashes of the event ids that are there; made when the first line with an id comes.
    ids: Option<HashSet<u64>>,
    are_few: bool,
}

/// What is shown each chunk of lines of a customer.
pub(super) type See<'s> = dyn FnMut(&[u8]) -> Result<(), StoreError> + 's;

impl<'c> Twins<'c> {
    /// Of a customer to whom so many records come.
    pub fn new(customer: &'c str, n_records: usize) -> Twins<'c> {
        Twins { customer, ids: None, are_few: n_records <= FEW }
    }

    /// What becomes of a line, and whether it is kept. `each_chunk` shows all that are there.
    pub fn seen(
        &mut self,
        raw: &RawEvent<'_>,
        each_chunk: impl Fn(&mut See<'_>) -> Result<(), StoreError>,
    ) -> Result<(Outcome, bool), StoreError> {
        let Some(id) = raw.event_id.filter(|id| !id.is_blank()) else {
            return Ok((Outcome::Accepted, true));
        };
        let mut buffer = itoa::Buffer::new();
        let wanted = id.text_in(&mut buffer);
        if !self.are_few && !self.is_known(hash(&wanted), &each_chunk)? {
            return Ok((Outcome::Accepted, true));
        }
        // Two ids may share a hash, so the ids themselves decide. Only the lines that have this one
        // are read.
        let (mut is_there, mut is_same) = (false, false);
        each_chunk(&mut |chunk| {
            let mut with_it: Vec<usize> = Vec::new();
            let gathered = each_event_id(chunk, |line, known| {
                if known == wanted {
                    with_it.push(line);
                }
            });
            gathered.map_err(|_| damaged_record(self.customer))?;
            let Some(&last) = with_it.last() else { return Ok(()) };
            is_there = true;
            let mut lines = Lines::new(chunk, false);
            for line in 0..=last {
                let known = lines.read().map_err(|_| damaged_record(self.customer))?;
                if with_it.contains(&line) {
                    is_same |= known.is_some_and(|known| says_the_same(&known, raw));
                }
            }
            Ok(())
        })?;
        let outcome = if is_there { Outcome::Duplicate } else { Outcome::Accepted };
        Ok((outcome, !is_same))
    }

    /// Whether an id may be there; from now on it is.
    fn is_known(
        &mut self,
        id: u64,
        each_chunk: &impl Fn(&mut See<'_>) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let ids = match &mut self.ids {
            Some(ids) => ids,
            None => {
                let mut ids = HashSet::new();
                each_chunk(&mut |chunk| {
                    let gathered = each_event_id(chunk, |_, id| {
                        ids.insert(hash(id));
                    });
                    gathered.map_err(|_| damaged_record(self.customer))
                })?;
                self.ids.insert(ids)
            }
        };
        Ok(!ids.insert(id))
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// Whether two lines have the same texts, whatever types their files had.
fn says_the_same(a: &RawEvent<'_>, b: &RawEvent<'_>) -> bool {
    let texts =
        |raw: &RawEvent<'_>| raw.fields().map(|field| field.map(|value| value.text().into_owned()));
    texts(a) == texts(b)
}
