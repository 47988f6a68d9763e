//! How many customers of each segment the intervals held.

use super::stage::Stage;
use crate::domain::SegmentId;
use crate::segments::Bands;
use crate::version::SegmentHead;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The share of fewer customers would say nothing.
pub const LEAST_CUSTOMERS: usize = 30;

/// The coverage of the served intervals at c3, by the segments of the new version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IntervalCoverage {
    /// The share of customers that the intervals are meant to hold.
    pub level: f64,
    pub all: Held,
    /// In the order of the version's catalogue.
    pub segments: Vec<SegmentCoverage>,
}

/// The same of one segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentCoverage {
    pub segment: SegmentId,
    pub name: String,
    pub held: Held,
}

/// Of how many customers the outcome lay within the interval, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub n_customers: usize,
    /// Share by spend, in `[0, 1]`; absent under 30 customers.
    pub spend: Option<f64>,
    /// Share by days with a purchase; also absent where the model of value has no interval of them.
    pub purchases: Option<f64>,
}

/// Customers who were measured at c3, row by row, and whether the intervals of the served model held
/// what they did.
pub struct Measured {
    pub stage: Stage,
    pub level: f64,
    pub spend: Vec<bool>,
    pub purchases: Option<Vec<bool>>,
}

impl Measured {
    /// Puts everybody into the segment that the version gives them by what was known at c3.
    pub fn by_segment(&self, head: &SegmentHead, bands: &Bands) -> IntervalCoverage {
        let stage = &self.stage;
        let segment =
            |row: usize| head.assign(bands, stage.raw.row(row), &stage.lifetimes[row]).cluster;
        let assigned: Vec<usize> = (0..stage.n_customers()).into_par_iter().map(segment).collect();
        let of = |(index, segment): (usize, &crate::segments::Segment)| SegmentCoverage {
            segment: segment.id.clone(),
            name: segment.name.clone(),
            held: self.held(|row| assigned[row] == index),
        };
        IntervalCoverage {
            level: self.level,
            all: self.held(|_| true),
            segments: head.catalogue.iter().enumerate().map(of).collect(),
        }
    }

    fn held(&self, is_in: impl Fn(usize) -> bool) -> Held {
        let rows: Vec<usize> = (0..self.spend.len()).filter(|&row| is_in(row)).collect();
        let share = |held: &[bool]| {
            let n = rows.iter().filter(|&&row| held[row]).count();
            (rows.len() >= LEAST_CUSTOMERS).then(|| n as f64 / rows.len() as f64)
        };
        Held {
            n_customers: rows.len(),
            spend: share(&self.spend),
            purchases: self.purchases.as_deref().and_then(share),
        }
    }
}
