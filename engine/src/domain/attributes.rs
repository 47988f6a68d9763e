//! What is known of a customer besides events.

use super::{Text, Timestamp};
use std::sync::Arc;

/// What a customers file says of one customer. Attributes have no dates: they are taken as they are,
/// whatever the as-of.
#[derive(Debug, Clone, PartialEq)]
pub struct Attributes {
    /// A customer who registered after an as-of is unknown at it.
    pub registered: Option<Timestamp>,
    /// Opted out of being scored and learned from.
    pub opted_out: bool,
    pub label: Option<Label>,
    /// Shared by all customers of a file.
    names: Arc<[String]>,
    /// One per name.
    values: Box<[Option<AttributeValue>]>,
}

/// One attribute of one customer.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// Finite.
    Number(f64),
    Category(Text),
}

/// Whether a contract ended, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    pub churned: bool,
    /// When it ended.
    pub at: Option<Timestamp>,
}

impl Attributes {
    /// Attributes by name: `values` has one per name.
    pub fn new(names: Arc<[String]>, values: Vec<Option<AttributeValue>>) -> Attributes {
        debug_assert_eq!(names.len(), values.len(), "each name has a value or none");
        Attributes {
            registered: None,
            opted_out: false,
            label: None,
            names,
            values: values.into_boxed_slice(),
        }
    }

    /// The names, shared by all customers of a file.
    pub fn names(&self) -> &Arc<[String]> {
        &self.names
    }

    /// All values, one per name.
    pub fn values(&self) -> &[Option<AttributeValue>] {
        &self.values
    }

    /// The attribute of this name.
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        let index = self.names.iter().position(|known| known == name)?;
        self.values.get(index)?.as_ref()
    }

    /// A number by its name; absent where it is unknown or no number.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            AttributeValue::Number(number) => Some(*number),
            AttributeValue::Category(_) => None,
        }
    }

    /// A category by its name; absent where it is unknown or a number.
    pub fn category(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            AttributeValue::Category(text) => text.get(),
            AttributeValue::Number(_) => None,
        }
    }
}
