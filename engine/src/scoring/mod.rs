//! From a model version and a history to a prediction: the one function that answers.
//!
//! Files and rpc both call [`Scorer::predict`]; nothing else gives a number to a user.

mod scorer;

pub use scorer::{Scorer, ScorerError};
