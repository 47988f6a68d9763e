//! The tests of the whole: the command line as scripts use it, the server as clients use it, and
//! the order of the house.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should stop loudly"
)]

mod cli;
mod damage;
mod example;
mod live_equals_batch;
mod rpc;
mod support;
mod tidy;
