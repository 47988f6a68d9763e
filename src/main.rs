//! The `habitus` command.

use clap::Parser;
use std::process::ExitCode;

/// Reading a log and fitting through linfa allocate much; this allocator makes both faster by a
/// third or more than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    habitus::cli::run(habitus::cli::Cli::parse())
}
