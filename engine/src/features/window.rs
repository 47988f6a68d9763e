//! How far back a feature looks.

use crate::domain::Day;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The last so many calendar days up to and with the as-of's, or everything. Written `90d`, `all`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Window {
    #[default]
    All,
    Days(u16),
}

impl Window {
    pub(super) fn is_longer_than(self, other: Window) -> bool {
        match (self, other) {
            (Window::All, Window::Days(_)) => true,
            (Window::Days(long), Window::Days(short)) => long > short,
            (_, Window::All) => false,
        }
    }

    /// The first day that counts.
    pub(super) fn start(self, as_of: Day) -> Day {
        match self {
            Window::All => Day(i32::MIN),
            Window::Days(days) => as_of.plus(1 - i32::from(days)),
        }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Window, String> {
        if text == "all" {
            return Ok(Window::All);
        }
        match text.strip_suffix('d').and_then(|days| days.parse().ok()) {
            Some(days) if days > 0 => Ok(Window::Days(days)),
            _ => Err(format!(
                "`{text}` is no window; write `all` or days such as `90d` (1d to 65535d)"
            )),
        }
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Window, String> {
        text.parse()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::All => f.write_str("all"),
            Window::Days(days) => write!(f, "{days}d"),
        }
    }
}

impl From<Window> for String {
    fn from(window: Window) -> String {
        window.to_string()
    }
}
