//! What the rest of habitus talks about: customers, money, time, events, histories and answers.
//!
//! Nothing here computes a feature or a model. Values are exact: money and quantities are integers,
//! time is UTC milliseconds next to the calendar day of the configured zone.

mod decimal;
mod digest;
mod event;
mod history;
mod lifetime;
mod money;
mod prediction;
mod rules;
mod seed;
mod time;

pub use decimal::DecimalError;
pub use digest::sha256;
pub use event::{Details, Event, EventKind, QUANTITY_DIGITS};
pub use history::{CustomerId, History, HistoryBuilder, fingerprint};
pub use lifetime::Lifetime;
pub use money::{Currency, Money};
pub use prediction::{
    Abstention, Answer, ChurnAnswer, Prediction, Reason, SegmentAnswer, SegmentId, ValueAnswer,
};
pub use rules::{Accepted, EventRules, RawEvent, Rejection, Repair, RuleConflict};
pub use seed::Seed;
pub use time::{AsOf, Day, ParsedTime, TimeError, Timestamp, Zone};
