//! The engine's tests: numbers of others, the contract of every model, laws, and whole trainings.

mod golden;
mod model_contract;
mod properties;
mod support;
mod training;
