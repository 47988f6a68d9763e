//! The `habitus` command.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    habitus::cli::run(habitus::cli::Cli::parse())
}
