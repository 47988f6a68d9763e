//! The command line: one file per subcommand.

mod cluster;
mod demo;
mod erase;
mod evaluate;
mod example;
mod exit;
mod features;
mod ingest;
mod input;
mod models;
mod output;
mod progress;
mod score;
mod serve;
mod simulate;
mod sorted;
mod store;
mod stored;
mod train;
mod verify;

use crate::config;
use clap::{Parser, Subcommand};
use output::Format;
use std::process::ExitCode;

/// Knows customers by their habits: segments, lifetime value and churn from behaviour logs.
#[derive(Debug, Parser)]
#[command(name = "habitus", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// What every subcommand understands.
#[derive(Debug, clap::Args)]
struct Global {
    /// What stdout carries: tables for people, or one JSON document
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Threads for computing; all cores where left out
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// No progress and no information, warnings only
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train on the bundled CDNOW sample, print what was learned, serve it and ask it once
    Demo(demo::Demo),
    /// Learn a model version from a log
    Train(train::Train),
    /// Hold every model against what happened after cut-offs of a log
    Evaluate(evaluate::Evaluate),
    /// Score every customer of a log into a file
    Score(score::Score),
    /// Write the feature matrix, before transforms, to a file
    Features(features::Features),
    /// Learn clusters of any matrix of numbers in Parquet, without a model version
    Cluster(cluster::Cluster),
    /// Answer over gRPC
    Serve(serve::Serve),
    /// Train a version again from its manifest and compare every part
    Verify(verify::Verify),
    /// Put logs into a store
    Ingest(ingest::Ingest),
    /// Remove customers from a store for good
    Erase(erase::Erase),
    /// Look after a store of histories
    Store(store::Stores),
    /// Look after the registry of model versions
    Models(models::Models),
    /// Write a log of simulated customers to a file
    Simulate(simulate::Simulate),
}

/// Runs a parsed command and turns its end into an exit code: 0 done, 2 bad usage or
/// configuration, 3 bad data, 4 refused by the gate, 1 anything else.
pub fn run(cli: Cli) -> ExitCode {
    crate::telemetry::init(config::log_filter().as_deref(), cli.global.quiet);
    match dispatch(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::stderr(&format!("error: {error:#}"));
            exit::code(&error)
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<()> {
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = cli.global.threads {
        pool = pool.num_threads(usize::from(threads));
    }
    pool.build_global()?;
    let global = &cli.global;
    match &cli.command {
        Command::Demo(command) => command.run(global),
        Command::Train(command) => command.run(global),
        Command::Evaluate(command) => command.run(global),
        Command::Score(command) => command.run(global),
        Command::Features(command) => command.run(global),
        Command::Cluster(command) => command.run(global),
        Command::Serve(command) => command.run(global),
        Command::Verify(command) => command.run(global),
        Command::Ingest(command) => command.run(global),
        Command::Erase(command) => command.run(global),
        Command::Store(command) => command.run(global),
        Command::Models(command) => command.run(global),
        Command::Simulate(command) => command.run(global),
    }
}
