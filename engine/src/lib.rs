//! The part of habitus that computes. No files, no sockets, no clock.
//!
//! Data flows forward through the rooms, and imports point back:
//!
//! | room | what it knows |
//! | --- | --- |
//! | [`domain`] | customers, money, time, events, histories, answers |
//! | [`matrix`] | rows of numbers with named columns, and where they are read from |
//! | `kernels` | the arithmetic that takes most of the time, for each instruction set |
//! | [`simulation`] | customers drawn from a known process |
//! | [`features`] | from a history and an as-of to a row |
//! | [`models`] | from rows or lifetimes to fitted models |
//! | [`segments`] | what users see of clusters |
//! | [`version`] | everything that a model version needs to answer |
//! | [`training`] | from histories to a version and its evaluation |
//! | [`scoring`] | from a version and a history to a prediction |

pub mod domain;
pub mod features;
mod kernels;
pub mod matrix;
pub mod models;
pub mod scoring;
pub mod segments;
pub mod simulation;
pub mod training;
pub mod version;
