//! What is told of a customer besides events, and how it is kept.

use crate::ingest::bytes::{put_number, put_text, take_number, take_text};
use habitus_engine::domain::{AttributeValue, Attributes, Label, Timestamp};
use std::sync::Arc;

/// What is told of a customer besides events. What is absent stays as it was told before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    pub registered: Option<Timestamp>,
    pub opted_out: Option<bool>,
    pub label: Option<Label>,
    /// Attributes by name.
    pub values: Vec<(String, AttributeValue)>,
}

const REGISTERED: u8 = 1;
const SAID_OUT: u8 = 2;
const OPTED_OUT: u8 = 4;
const LABELLED: u8 = 8;
const CHURNED: u8 = 16;
const DATED: u8 = 32;

const NUMBER: u8 = 1;
const CATEGORY: u8 = 2;

impl From<&Attributes> for About {
    fn from(attributes: &Attributes) -> About {
        let named = attributes.names().iter().zip(attributes.values());
        About {
            registered: attributes.registered,
            // A file without the column, or with an empty cell, takes no opt-out back.
            opted_out: attributes.opted_out.then_some(true),
            label: attributes.label,
            values: named
                .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
                .collect(),
        }
    }
}

impl About {
    /// Takes over what a later record says.
    pub fn update(&mut self, later: About) {
        self.registered = later.registered.or(self.registered);
        self.opted_out = later.opted_out.or(self.opted_out);
        self.label = later.label.or(self.label);
        for (name, value) in later.values {
            match self.values.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => self.values.push((name, value)),
            }
        }
    }

    /// The same as bytes; `number` gives the number of a name.
    pub fn put<E>(
        &self,
        bytes: &mut Vec<u8>,
        mut number: impl FnMut(&str) -> Result<u32, E>,
    ) -> Result<(), E> {
        let ended = self.label.and_then(|label| label.at);
        let flags = [
            (REGISTERED, self.registered.is_some()),
            (SAID_OUT, self.opted_out.is_some()),
            (OPTED_OUT, self.opted_out == Some(true)),
            (LABELLED, self.label.is_some()),
            (CHURNED, self.label.is_some_and(|label| label.churned)),
            (DATED, ended.is_some()),
        ];
        bytes.push(flags.iter().filter(|(_, on)| *on).fold(0, |flags, (bit, _)| flags | bit));
        for time in [self.registered, ended].into_iter().flatten() {
            put_number(bytes, time.0);
        }
        for (name, value) in &self.values {
            put_number(bytes, i64::from(number(name)?));
            match value {
                AttributeValue::Number(number) => {
                    bytes.push(NUMBER);
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
                AttributeValue::Category(text) => {
                    bytes.push(CATEGORY);
                    put_text(bytes, text.get().unwrap_or_default());
                }
            }
        }
        Ok(())
    }

    /// What [`About::put`] wrote; `None` where the bytes are none of its.
    pub fn take(bytes: &[u8], names: &[String]) -> Option<About> {
        let mut rest = Fields::of(bytes)?;
        let mut values = Vec::new();
        while let Some((name, value)) = rest.next()? {
            values.push((names.get(name)?.clone(), value));
        }
        let Fields { registered, opted_out, label, .. } = rest;
        Some(About { registered, opted_out, label, values })
    }

    /// The same as attributes, with a value or none for each name that the store knows.
    pub fn attributes(bytes: &[u8], names: &Arc<[String]>) -> Option<Attributes> {
        let mut rest = Fields::of(bytes)?;
        let mut values = vec![None; names.len()];
        while let Some((name, value)) = rest.next()? {
            *values.get_mut(name)? = Some(value);
        }
        let mut attributes = Attributes::new(Arc::clone(names), values);
        attributes.registered = rest.registered;
        attributes.opted_out = rest.opted_out == Some(true);
        attributes.label = rest.label;
        Some(attributes)
    }
}

/// The fields at the front of the bytes, with the values still to come.
struct Fields<'b> {
    registered: Option<Timestamp>,
    opted_out: Option<bool>,
    label: Option<Label>,
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    fn of(bytes: &'b [u8]) -> Option<Fields<'b>> {
        let (&flags, mut rest) = bytes.split_first()?;
        let mut time = |bit| match flags & bit {
            0 => Some(None),
            _ => take_number(&mut rest).map(|ms| Some(Timestamp(ms))),
        };
        let (registered, at) = (time(REGISTERED)?, time(DATED)?);
        let is = |bit| flags & bit != 0;
        Some(Fields {
            registered,
            opted_out: is(SAID_OUT).then(|| is(OPTED_OUT)),
            label: is(LABELLED).then(|| Label { churned: is(CHURNED), at }),
            rest,
        })
    }

    /// The next value with its name's number: `Some(None)` at the end.
    fn next(&mut self) -> Option<Option<(usize, AttributeValue)>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        let name = usize::try_from(take_number(&mut self.rest)?).ok()?;
        let (&tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        let value = match tag {
            NUMBER => {
                let (word, rest) = self.rest.split_first_chunk::<8>()?;
                self.rest = rest;
                AttributeValue::Number(f64::from_le_bytes(*word))
            }
            CATEGORY => AttributeValue::Category(take_text(&mut self.rest)?.into()),
            _ => return None,
        };
        Some(Some((name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
            registered: Some(Timestamp(-5)),
            opted_out: Some(false),
            label: Some(Label { churned: true, at: Some(Timestamp(7)) }),
            values: vec![
                ("age".into(), AttributeValue::Number(41.5)),
                ("region".into(), AttributeValue::Category("north".into())),
            ],
        }
    }

    fn bytes(about: &About, names: &[String]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let number =
            |name: &str| names.iter().position(|known| known == name).map(|at| at as u32).ok_or(());
        about.put(&mut bytes, number).unwrap();
        bytes
    }

    #[test]
    fn what_was_told_comes_back() {
        let names = ["region", "x", "age"].map(String::from);
        let kept = bytes(&about(), &names);
        assert_eq!(About::take(&kept, &names), Some(about()));
        let attributes = About::attributes(&kept, &names.into()).unwrap();
        assert_eq!(attributes.number("age"), Some(41.5));
        assert_eq!(attributes.category("region"), Some("north"));
        assert_eq!((attributes.get("x"), attributes.opted_out), (None, false));
        for end in 0..kept.len() {
            assert_ne!(About::take(&kept[..end], &["region".into()]), Some(about()));
        }
    }

    #[test]
    fn a_later_record_changes_what_it_names() {
        let mut known = about();
        let later = About {
            opted_out: Some(true),
            values: vec![("age".into(), AttributeValue::Number(42.0))],
            ..About::default()
        };
        known.update(later);
        assert_eq!((known.registered, known.opted_out), (Some(Timestamp(-5)), Some(true)));
        assert_eq!(known.values[0].1, AttributeValue::Number(42.0));
        assert_eq!(known.values.len(), 2);
    }
}
