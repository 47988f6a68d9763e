//! The arithmetic that takes most of the time, lane by lane: many rows against many centers, and an
//! integral over many nodes that answers need.
//!
//! This is the one room with `unsafe` code, for instruction sets that a program must ask for at run
//! time. Kernels are written once over the lanes of [`lanes`] and compiled for each set; a few steps
//! that only move or compare (transposing, picking, noting) have a form of their own for AVX-512.
//! Tests hold all against the plain twin, to the bit.

#![allow(unsafe_code, reason = "instruction sets found at run time; see the module's text")]

pub mod batch;
mod block;
pub mod components;
pub mod distances;
mod exp;
pub mod integral;
mod lanes;
pub mod leads;
mod level;
pub mod moments;
pub mod nearest;
pub mod potential;
pub mod stretches;
pub mod sums;

pub use level::Level;
