//! From a history and an as-of to numbers: the one feature engine.
//!
//! A [`FeatureSpec`] says what is wanted, a [`Plan`] computes it in one pass over a history, and an
//! [`Encoder`] makes the values fit for models. Batch, online and training all call
//! [`Plan::evaluate`]; no feature is computed anywhere else.

mod accumulator;
mod encoder;
mod lifetime;
mod pack;
mod plan;
mod spec;

pub use encoder::{ColumnEncoder, Encoder, EncoderError, Step};
pub use lifetime::lifetime;
pub use pack::purchases;
pub use plan::{FeatureTable, Plan};
pub use spec::{Aggregate, Feature, FeatureSpec, Measure, SpecError, Transform, Window};
