//! The command line as scripts use it: outputs, exit codes, and nothing half-written.

mod bad_input;
mod cluster;
mod customers;
mod evaluate;
mod from_store;
mod gate;
mod inactivity;
mod ingest;
mod memory;
mod registry;
mod reproducible;
mod score;
mod shaping;
mod simulate;
mod small;
mod verify;
