//! The engine's tests: numbers of others, the contract of every model, laws, and whole trainings.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop loudly"
)]

mod backtest;
mod blend;
mod btyd;
mod clustering;
mod features;
mod golden;
mod identity;
mod inactivity;
mod model_contract;
mod properties;
mod support;
mod training;
