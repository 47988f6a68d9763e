//! Answers about histories that a caller supplies.

use super::LoadedModel;
use habitus_engine::domain::{
    AsOf, Attributes, CustomerId, Event, Prediction, RawEvent, RawValue, Rejection, Timestamp,
};

/// What was said of a customer whose rows were supplied.
#[derive(Debug, Clone, PartialEq)]
pub struct Supplied {
    pub prediction: Prediction,
    /// Rows that the version's rules could not read.
    pub unread: u32,
    /// Why the first of them could not be.
    pub first_unread: Option<Rejection>,
}

impl LoadedModel {
    /// Answers about a customer from rows in any order, which become a history by the same step as
    /// the rows of a log.
    pub fn answer_for(
        &self,
        customer: &str,
        rows: &[Result<RawEvent<'_>, Rejection>],
        attributes: Option<Attributes>,
        as_of: AsOf,
        now: Timestamp,
    ) -> Supplied {
        let (mut unread, mut first_unread) = (0, None);
        let mut events: Vec<Event> = Vec::with_capacity(rows.len());
        for row in rows {
            let read = row.and_then(|row| {
                let raw = RawEvent { customer: Some(RawValue::Text(customer)), ..row };
                self.rules().read(&raw, now)
            });
            match read {
                Ok(accepted) => events.push(accepted.event),
                // What a rule leaves out was read.
                Err(rejection) if !rejection.is_fault() => {}
                Err(rejection) => {
                    unread += 1;
                    first_unread = first_unread.or(Some(rejection));
                }
            }
        }
        let shaped = self.rules().shape(CustomerId::new(customer), events);
        let history = shaped.history.with_attributes(attributes);
        Supplied { prediction: self.scorer.predict(&history, as_of), unread, first_unread }
    }
}
