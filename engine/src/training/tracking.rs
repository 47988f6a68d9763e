//! What a model of purchases expected of the whole log, beside what happened.

use super::purchases::outlooks;
use super::stage::Stage;
use crate::domain::{AsOf, Day, EventKind, History};
use crate::models::btyd::{PurchaseModel, Purchases, Season};
use crate::version::PurchaseHead;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Of frequencies that are shown one by one; the next entry is of all above.
const MOST_REPEATS: usize = 7;

/// Columns of the grid of P(alive).
const GRID_COLUMNS: u32 = 14;

/// A log in the light of the model that was fitted at c1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PurchaseTracking {
    pub family: String,
    /// c1: the model saw the purchases up to this day.
    pub fitted_at: Day,
    /// Repeat purchase days by week, from the first purchase of all to the as-of.
    pub weeks: Vec<TrackedWeek>,
    /// Customers by their repeat purchase days up to c1; the last entry is of all above.
    pub frequencies: Vec<TrackedCount>,
    /// Purchase days within the window after c1 by repeat purchase days before it; the last entry is
    /// of all above.
    pub conditional: Vec<TrackedMean>,
    pub p_alive: AliveGrid,
}

/// Repeat purchase days of all customers in one week.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrackedWeek {
    /// Its last day; the last week may be shorter.
    pub ends: Day,
    pub actual: f64,
    pub expected: f64,
}

/// How many customers came again so many times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrackedCount {
    pub frequency: u32,
    pub actual: f64,
    pub expected: f64,
}

/// Mean purchase days of the customers who came again so many times before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrackedMean {
    pub frequency: u32,
    pub n_customers: u64,
    pub actual: f64,
    pub expected: f64,
}

/// P(alive) of customers as old as the oldest, but for a hundredth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliveGrid {
    pub age_days: u32,
    /// Rows.
    pub frequencies: Vec<u32>,
    /// Columns.
    pub days_since_last: Vec<u32>,
    /// `(frequencies, days_since_last)`; absent where so many purchases find no room.
    pub p_alive: Vec<Vec<Option<f64>>>,
}

/// Purchases day by day.
pub(super) struct Days {
    /// The day of the first purchase of all.
    first: Day,
    /// Customers by the day of their first purchase, from `first` to the as-of.
    starts: Vec<f64>,
    /// Repeat purchase days.
    repeats: Vec<f64>,
}

impl Days {
    /// Those of all histories up to `as_of`. Who first bought longer before `start`, the start of the
    /// clock, than all of the log is long is left out: a misdated row must not stretch the days over
    /// years without business. `None` without a purchase.
    pub fn of(histories: &[History], start: Day, as_of: AsOf) -> Option<Days> {
        let earliest = start.plus(-as_of.day.since(start).max(0));
        let bought = |history: &History| -> Vec<Day> {
            let events = history.until(as_of);
            let purchases = events.iter().filter(|event| event.kind == EventKind::Purchase);
            let mut days: Vec<Day> = purchases.map(|event| event.day).collect();
            days.dedup();
            days
        };
        let known = || {
            let histories = histories.par_iter().filter(|history| !history.opted_out());
            let lives = histories.map(bought);
            lives.filter(|days| days.first().is_some_and(|&first| first >= earliest))
        };
        let first = known().filter_map(|days| days.first().copied()).min()?;
        let n_days = as_of.day.since(first).max(0) as usize + 1;
        let none = || Days { first, starts: vec![0.0; n_days], repeats: vec![0.0; n_days] };
        // Whole numbers, so that the order in which they are added does not matter.
        let counted = |mut days: Days, life: Vec<Day>| {
            for (index, day) in life.into_iter().enumerate() {
                let place = day.since(first).max(0) as usize;
                let counts = if index == 0 { &mut days.starts } else { &mut days.repeats };
                if let Some(count) = counts.get_mut(place) {
                    *count += 1.0;
                }
            }
            days
        };
        let sum = |mut a: Days, b: Days| {
            a.starts.iter_mut().zip(b.starts).for_each(|(a, b)| *a += b);
            a.repeats.iter_mut().zip(b.repeats).for_each(|(a, b)| *a += b);
            a
        };
        let days = known().fold(none, counted).reduce(none, sum);
        Some(days)
    }

    /// How many days there are.
    pub fn len(&self) -> usize {
        self.repeats.len()
    }

    /// What the model expects of the repeat purchases, day by day, of customers of whom it knows
    /// nothing but their first purchase.
    fn expected(&self, model: &PurchaseModel) -> Vec<f64> {
        let new = Purchases { frequency: 0, recency: 0.0, age: 0.0, ln_gaps: 0.0 };
        let until: Vec<f64> =
            (0..self.len()).map(|age| model.expected_purchases(&new, age as f64)).collect();
        let each: Vec<f64> = until.windows(2).map(|pair| (pair[1] - pair[0]).max(0.0)).collect();
        let of_day = |day: usize| {
            let before = self.starts[..day].iter().rev().zip(&each);
            before.map(|(starts, each)| starts * each).sum()
        };
        (0..self.len()).map(of_day).collect()
    }

    /// The months' factors over the model; `None` under a full year.
    pub fn season(&self, model: &PurchaseModel) -> Option<Season> {
        if self.len() < 366 {
            return None;
        }
        let (mut actual, mut expected) = ([0.0; 12], [0.0; 12]);
        for (index, of_day) in self.expected(model).into_iter().enumerate() {
            let month = self.first.plus(index as i32).month_of_year();
            actual[month] += self.repeats[index];
            expected[month] += of_day;
        }
        let season = Season::of(&actual, &expected);
        season.check().then_some(season)
    }
}

impl PurchaseTracking {
    /// Asks the head that was fitted at c1, of which `stage` is, about the whole log.
    pub(super) fn of(
        head: &PurchaseHead,
        days: &Days,
        stage: &Stage,
        window_days: u32,
    ) -> PurchaseTracking {
        PurchaseTracking {
            family: head.family(),
            fitted_at: stage.cutoff,
            weeks: weeks(&head.model, days),
            frequencies: frequencies(&head.model, stage),
            conditional: conditional(head, stage, window_days),
            p_alive: alive_grid(&head.model, stage),
        }
    }
}

fn weeks(model: &PurchaseModel, days: &Days) -> Vec<TrackedWeek> {
    let expected = days.expected(model);
    let weeks = days.repeats.chunks(7).zip(expected.chunks(7)).enumerate();
    weeks
        .map(|(index, (actual, expected))| TrackedWeek {
            ends: days.first.plus((7 * index + actual.len()) as i32 - 1),
            actual: actual.iter().sum(),
            expected: expected.iter().sum(),
        })
        .collect()
}

/// The customers of a stage who bought: their frequency, their age, and what they did next.
fn buyers(stage: &Stage) -> impl Iterator<Item = (usize, Purchases)> {
    let lifetimes = stage.lifetimes.iter().enumerate();
    lifetimes
        .filter(|(_, lifetime)| lifetime.purchase_days > 0)
        .map(|(row, lifetime)| (row, Purchases::from(lifetime)))
}

fn frequencies(model: &PurchaseModel, stage: &Stage) -> Vec<TrackedCount> {
    let (mut actual, mut expected) = ([0.0; MOST_REPEATS + 1], [0.0; MOST_REPEATS + 1]);
    let mut ages: Vec<u32> = Vec::new();
    for (row, customer) in buyers(stage) {
        actual[(customer.frequency as usize).min(MOST_REPEATS)] += 1.0;
        ages.push(stage.lifetimes[row].age_days);
    }
    ages.sort_unstable();
    for same in ages.chunk_by(|a, b| a == b) {
        let new = Purchases { frequency: 0, recency: 0.0, age: 0.0, ln_gaps: 0.0 };
        let mut p = [0.0; MOST_REPEATS + 1];
        model.p_counts(&new, f64::from(same[0]), &mut p[..MOST_REPEATS]);
        p[MOST_REPEATS] = (1.0 - p.iter().sum::<f64>()).max(0.0);
        for (sum, p) in expected.iter_mut().zip(p) {
            *sum += same.len() as f64 * p;
        }
    }
    let counts = actual.into_iter().zip(expected).enumerate();
    counts
        .map(|(frequency, (actual, expected))| TrackedCount {
            frequency: frequency as u32,
            actual,
            expected,
        })
        .collect()
}

fn conditional(head: &PurchaseHead, stage: &Stage, window_days: u32) -> Vec<TrackedMean> {
    let outlooks = outlooks(head, stage, window_days);
    let mut sums = [(0u64, 0.0, 0.0); MOST_REPEATS + 1];
    for (row, customer) in buyers(stage) {
        let (n, actual, expected) = &mut sums[(customer.frequency as usize).min(MOST_REPEATS)];
        *n += 1;
        *actual += f64::from(stage.purchases[row]);
        *expected += outlooks[row].expected_purchases;
    }
    let told = sums.into_iter().enumerate().filter(|(_, (n, ..))| *n > 0);
    told.map(|(frequency, (n_customers, actual, expected))| TrackedMean {
        frequency: frequency as u32,
        n_customers,
        actual: actual / n_customers as f64,
        expected: expected / n_customers as f64,
    })
    .collect()
}

fn alive_grid(model: &PurchaseModel, stage: &Stage) -> AliveGrid {
    // Of the oldest but a hundredth, of whom some may be misdated.
    let mut ages: Vec<u32> = stage.lifetimes.iter().map(|lifetime| lifetime.age_days).collect();
    ages.sort_unstable();
    let age_days = ages.get(ages.len() * 99 / 100).copied().unwrap_or(0);
    let frequencies: Vec<u32> = vec![0, 1, 2, 3, 5, 8, 12, 20];
    // From the oldest silence down, so that it is there for those who never came again.
    let step = age_days.div_ceil(GRID_COLUMNS).max(1) as usize;
    let mut days_since_last: Vec<u32> = (0..=age_days).rev().step_by(step).collect();
    days_since_last.reverse();
    let cell = |frequency: u32, silent: u32| {
        // Purchase days after the first need a day each; without any, the first was the last.
        let recency = age_days - silent;
        let fits = if frequency == 0 { recency == 0 } else { frequency <= recency };
        fits.then(|| {
            let gap = f64::from(recency) / f64::from(frequency.max(1));
            let ln_gaps = if frequency == 0 { 0.0 } else { f64::from(frequency) * libm::log(gap) };
            let (recency, age) = (f64::from(recency), f64::from(age_days));
            model.p_alive(&Purchases { frequency, recency, age, ln_gaps })
        })
    };
    let row = |&frequency: &u32| days_since_last.iter().map(|&s| cell(frequency, s)).collect();
    let p_alive = frequencies.iter().map(row).collect();
    AliveGrid { age_days, frequencies, days_since_last, p_alive }
}
