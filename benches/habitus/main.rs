//! How fast habitus is: `cargo bench --bench habitus`, or one group with `-- features`.
//!
//! Machines differ and are noisy; compare two states of the code in one sitting, by medians.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop loudly")]

mod features;
mod models;
mod rpc;
mod scoring;
mod shop;

fn main() {
    divan::main();
}
