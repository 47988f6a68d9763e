//! What goes to stdout.

use std::io::{self, Write};

/// Tables for people, or one JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
}

impl Format {
    /// Prints one result in this format; only the one asked for is made.
    pub fn print(
        self,
        table: impl FnOnce() -> String,
        json: impl FnOnce() -> serde_json::Value,
    ) -> anyhow::Result<()> {
        let text = match self {
            Format::Table => table(),
            Format::Json => serde_json::to_string_pretty(&json())?,
        };
        line(text.trim_end())
    }
}

/// Prints a line. A reader that went away, as `head` does, ends the program without a complaint.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Says something to the person at the terminal, beside the result.
pub fn note(global: &super::Global, text: &str) {
    if !global.quiet {
        stderr(text);
    }
}

/// Writes a line to stderr. Where that cannot be written, as on a full disk, the line is lost and
/// the work goes on.
pub fn stderr(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
