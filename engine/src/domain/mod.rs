//! What the rest of habitus talks about: customers, money, time, events, histories and answers.
//!
//! Nothing here computes a feature or a model. Values are exact: money and quantities are integers,
//! time is UTC milliseconds next to the calendar day of the configured zone.

mod activity;
mod attributes;
mod decimal;
mod digest;
mod draws;
mod event;
mod fingerprint;
mod history;
mod id;
mod kinds;
mod lifetime;
mod money;
mod prediction;
mod raw;
mod rules;
mod seed;
mod shape;
mod text;
mod time;

pub use activity::{Inactivity, Kinds};
pub use attributes::{AttributeValue, Attributes, Label};
pub use decimal::DecimalError;
pub use digest::sha256;
pub use draws::Draws;
pub use event::{Details, Event, EventKind, Line, LineView, QUANTITY_DIGITS};
pub use fingerprint::{Fingerprint, fingerprint};
pub use history::{CustomerId, History, bucket, hash};
pub use id::IdHash;
pub use kinds::{KindRule, RuleField, RuleTest, RuledKind};
pub use lifetime::Lifetime;
pub use money::{Currency, Money};
pub use prediction::{
    Abstention, Answer, ChurnAnswer, Prediction, Reason, Rfm, SegmentAnswer, SegmentId, ValueAnswer,
};
pub use raw::{RawEvent, RawValue};
pub use rules::{Accepted, AmountIs, EventRules, Rejection, Repair, RuleConflict};
pub use seed::Seed;
pub use shape::{Duplicates, Shaped};
pub use text::Text;
pub use time::{AsOf, Day, ParsedTime, TimeError, Timestamp, Zone};
