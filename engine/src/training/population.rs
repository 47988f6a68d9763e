//! Whom a log knows, and the sample of them that training looks at.

use crate::domain::{AsOf, Fingerprint, History, Seed};
use serde::{Deserialize, Serialize};

/// All customers of a log with an event by the as-of (of labels: all who are known by then).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Of all events up to the as-of, hex.
    pub fingerprint: String,
    pub n_customers: u64,
    /// How many of them training looked at.
    pub n_sampled: u64,
}

/// Draws a seeded sample of a log's customers while their histories pass by, in any order: those
/// whose ids hash lowest. The same customers are drawn however the log is partitioned.
#[derive(Debug)]
pub struct Sampler {
    as_of: AsOf,
    seed: Seed,
    most: usize,
    /// Whether customers count of whom there is no event.
    with_silent: bool,
    n_customers: u64,
    fingerprint: Fingerprint,
    drawn: Vec<(u64, History)>,
}

impl Population {
    /// Of histories that are all looked at, sorted by customer id.
    pub fn of(histories: &[History], as_of: AsOf) -> Population {
        let n_customers =
            histories.iter().filter(|history| !history.is_empty_until(as_of)).count() as u64;
        Population {
            fingerprint: Fingerprint::of(histories, as_of).hex(),
            n_customers,
            n_sampled: n_customers,
        }
    }
}

impl Sampler {
    /// Draws at most `most` customers with an event by `as_of`, or known by then without one where
    /// `with_silent` says so.
    pub fn new(most: usize, with_silent: bool, seed: Seed, as_of: AsOf) -> Sampler {
        Sampler {
            as_of,
            seed: seed.derive("customer sample", 0),
            most,
            with_silent,
            n_customers: 0,
            fingerprint: Fingerprint::default(),
            drawn: Vec::new(),
        }
    }

    /// Sees the customers of whole buckets, whose fingerprint is given.
    pub fn see(&mut self, histories: Vec<History>, fingerprint: Fingerprint) {
        self.fingerprint.join(fingerprint);
        let (as_of, with_silent) = (self.as_of, self.with_silent);
        let known = histories.into_iter().filter(|history| {
            !history.is_empty_until(as_of) || with_silent && history.is_known_at(as_of)
        });
        for history in known {
            self.n_customers += 1;
            self.drawn.push((self.seed.hash(history.customer().hash()), history));
        }
        if self.drawn.len() > self.most + self.most / 4 {
            self.keep_lowest();
        }
    }

    /// The sample, sorted by customer id, and what it was drawn from.
    pub fn finish(mut self) -> (Vec<History>, Population) {
        self.keep_lowest();
        let mut histories: Vec<History> =
            self.drawn.into_iter().map(|(_, history)| history).collect();
        histories.sort_unstable_by(|a, b| a.customer().cmp(b.customer()));
        let population = Population {
            fingerprint: self.fingerprint.hex(),
            n_customers: self.n_customers,
            n_sampled: histories.len() as u64,
        };
        (histories, population)
    }

    fn keep_lowest(&mut self) {
        if self.drawn.len() > self.most {
            let lower = |a: &(u64, History), b: &(u64, History)| {
                (a.0, a.1.customer()).cmp(&(b.0, b.1.customer()))
            };
            self.drawn.select_nth_unstable_by(self.most, lower);
            self.drawn.truncate(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CustomerId, Day, Event, EventKind, Money, Timestamp};

    fn histories(n: u32) -> Vec<History> {
        let event = Event {
            amount: Some(Money(100)),
            ..Event::bare(Timestamp(0), Day(0), EventKind::Purchase)
        };
        let history = |id| History::new(CustomerId::new(&format!("c{id:04}")), vec![event.clone()]);
        (0..n).map(history).collect()
    }

    #[test]
    fn the_sample_does_not_depend_on_how_customers_pass_by() {
        let as_of = AsOf { at: Timestamp(5), day: Day(0) };
        let all = histories(2_000);
        let sampled = |n_parts: u8| {
            let mut sampler = Sampler::new(100, false, Seed(7), as_of);
            for part in 0..n_parts {
                let of_part = |history: &&History| history.customer().bucket() % n_parts == part;
                let part: Vec<History> = all.iter().filter(of_part).cloned().collect();
                let fingerprint = Fingerprint::of(&part, as_of);
                sampler.see(part, fingerprint);
            }
            sampler.finish()
        };
        let (whole, population) = sampled(1);
        assert_eq!(sampled(16), (whole.clone(), population.clone()));
        assert_eq!(population.fingerprint, Population::of(&all, as_of).fingerprint);
        assert_eq!((population.n_customers, population.n_sampled), (2_000, 100));
        assert!(whole.is_sorted_by_key(|history| history.customer().clone()));
    }
}
