//! Progress on stderr: bars on a terminal, log lines elsewhere, nothing when quiet.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// How far a command has come.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// Progress of work whose size is known in `unit`s (`bytes` or customers).
    pub fn of(total: u64, what: &'static str, bytes: bool, quiet: bool) -> Progress {
        let bar = bar(quiet).inspect(|bar| {
            bar.set_length(total);
            bar.set_message(what);
            let template = if bytes {
                "{msg:<10} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left"
            } else {
                "{msg:<10} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta} left"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
        });
        if bar.is_none() && !quiet {
            tracing::info!("{what}");
        }
        Progress { bar, quiet }
    }

    /// Progress of work with stages of unknown length.
    pub fn stages(quiet: bool) -> Progress {
        Progress { bar: bar(quiet), quiet }
    }

    /// So much is done.
    pub fn at(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    /// The next stage begins.
    pub fn stage(&self, stage: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(stage.to_owned()),
            None if !self.quiet => tracing::info!("{stage}"),
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(quiet: bool) -> Option<ProgressBar> {
    let bar = (!quiet && std::io::stderr().is_terminal()).then(ProgressBar::new_spinner);
    // Long stages say nothing by themselves; the spinner shows that they are alive.
    bar.inspect(|bar| bar.enable_steady_tick(Duration::from_millis(120)))
}
