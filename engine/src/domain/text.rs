//! Short texts that most events carry or lack.

use ecow::EcoString;
use serde::{Deserialize, Serialize};

/// A text, or none: an empty one is none. Up to fifteen bytes it needs no memory of its own, which
/// matters where every event has one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(EcoString);

impl Text {
    /// None.
    pub const NONE: Text = Text(EcoString::new());

    /// The text, unless it is none.
    pub fn get(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }

    /// Whether it is none.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.into())
    }
}
