//! The command line as scripts use it: outputs, exit codes, and nothing half-written.

mod bad_input;
mod registry;
mod reproducible;
mod score;
mod verify;
