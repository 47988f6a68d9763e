//! From a history and an as-of to numbers: the one feature engine.
//!
//! A [`FeatureSpec`] says what is wanted, a [`Plan`] computes it in one pass over a history, and an
//! [`Encoder`] makes the values fit for models. Batch, online and training all call
//! [`Plan::evaluate`]; no feature is computed anywhere else.

mod accumulator;
mod aggregate;
mod calendar;
mod categories;
mod check;
mod encoder;
mod lifetime;
mod pack;
mod plan;
mod reader;
mod selection;
mod slot;
mod spec;
mod texts;
mod tracker;
mod window;

pub use aggregate::{Aggregate, Measure};
pub use categories::Categories;
pub use check::SpecError;
pub use encoder::{ColumnEncoder, Encoder, EncoderError, Step};
pub use lifetime::{lifetime, lifetime_or_none};
pub use pack::{inputs_of_activity, purchases};
pub use plan::{FeatureTable, Plan};
pub use spec::{Feature, FeatureSpec, Filter, Transform};
pub use window::Window;
