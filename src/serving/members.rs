//! Who belongs to a segment, a part of the customers at a time.

use super::{LoadedModel, Serving};
use habitus_engine::domain::{AsOf, CustomerId, History};
use rayon::prelude::*;

/// Customers looked at in one part. At some microseconds an answer it takes some tens of
/// milliseconds of one core, which is as long as work goes on for somebody who went away.
const PART: usize = 4096;

/// A customer who belongs to a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member<'a> {
    pub customer: &'a CustomerId,
    /// How surely, in `[0, 1]`; absent where the model has no probabilities.
    pub probability: Option<f64>,
}

impl Serving {
    /// The customers whom `model` puts into a cluster at `as_of`, among those of one part, in the
    /// order of their ids. Parts are numbered from 0 in that order too, and there is none after the
    /// last customer. The work is spread over the worker pool, and the caller waits.
    pub fn members<'a>(
        &'a self,
        model: &LoadedModel,
        cluster: usize,
        as_of: AsOf,
        part: usize,
    ) -> Option<Vec<Member<'a>>> {
        let histories = self.histories.chunks(PART).nth(part)?;
        let member = |history: &'a History| {
            let prediction = model.scorer.predict(history, as_of);
            let segment = prediction.segment.given().filter(|given| given.cluster == cluster)?;
            Some(Member { customer: history.customer(), probability: segment.probability })
        };
        Some(histories.par_iter().filter_map(member).collect())
    }
}
