//! Who belongs to a segment, a part of the customers at a time.

use super::{LoadedModel, ServingError, View};
use habitus_engine::domain::{AsOf, CustomerId, History};
use rayon::prelude::*;

/// Customers looked at in one part. At some microseconds an answer it takes some tens of
/// milliseconds of one core, which is as long as work goes on for somebody who went away.
const PART: usize = 4096;

/// A customer who belongs to a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub customer: CustomerId,
    /// How surely, in `[0, 1]`; absent where the model has no probabilities.
    pub probability: Option<f64>,
}

/// The members among some customers, and the last of those customers.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub members: Vec<Member>,
    pub last: CustomerId,
}

impl View<'_> {
    /// The customers whom `model` puts into a cluster at `as_of`, among the next ones after an id, in
    /// the order of their ids; `None` after the last customer. The work is spread over the worker
    /// pool, and the caller waits.
    ///
    /// # Errors
    /// [`ServingError::Store`] where what was kept cannot be read.
    pub fn members(
        &self,
        model: &LoadedModel,
        cluster: usize,
        as_of: AsOf,
        after: Option<&CustomerId>,
    ) -> Result<Option<Part>, ServingError> {
        let histories = self.page(after.map(CustomerId::as_str), PART, model.rules())?;
        let Some(last) = histories.last().map(|history| history.customer().clone()) else {
            return Ok(None);
        };
        let member = |history: &History| {
            let prediction = model.scorer.predict(history, as_of);
            let segment = prediction.segment.given().filter(|given| given.cluster == cluster)?;
            let customer = history.customer().clone();
            Some(Member { customer, probability: segment.probability })
        };
        let members = histories.par_iter().filter_map(member).collect();
        Ok(Some(Part { members, last }))
    }
}
