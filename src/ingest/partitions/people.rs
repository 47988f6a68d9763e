//! What a customers file says of one customer, as bytes.

use crate::ingest::bytes::{put_number, put_text, take_byte, take_number, take_text};
use habitus_engine::domain::{AttributeValue, Attributes, Label, Timestamp};
use std::sync::Arc;

const REGISTERED: u8 = 1;
const OPTED_OUT: u8 = 2;
const LABELLED: u8 = 4;
const CHURNED: u8 = 8;
const DATED: u8 = 16;

const NOTHING: u8 = 0;
const NUMBER: u8 = 1;
const CATEGORY: u8 = 2;

/// Appends one customer.
pub(super) fn put(bytes: &mut Vec<u8>, customer: &str, attributes: &Attributes) {
    put_text(bytes, customer);
    let label = attributes.label;
    let ended = label.and_then(|label| label.at);
    let flags = [
        (REGISTERED, attributes.registered.is_some()),
        (OPTED_OUT, attributes.opted_out),
        (LABELLED, label.is_some()),
        (CHURNED, label.is_some_and(|label| label.churned)),
        (DATED, ended.is_some()),
    ];
    bytes.push(flags.iter().filter(|(_, on)| *on).fold(0, |flags, (bit, _)| flags | bit));
    for time in [attributes.registered, ended].into_iter().flatten() {
        put_number(bytes, time.0);
    }
    for value in attributes.values() {
        match value {
            None => bytes.push(NOTHING),
            Some(AttributeValue::Number(number)) => {
                bytes.push(NUMBER);
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            Some(AttributeValue::Category(text)) => {
                bytes.push(CATEGORY);
                put_text(bytes, text.get().unwrap_or_default());
            }
        }
    }
}

/// Takes one customer from the front; `None` at the end, or where the bytes are none that [`put`]
/// wrote for these names.
pub(super) fn take<'b>(
    bytes: &mut &'b [u8],
    names: &Arc<[String]>,
) -> Option<(&'b str, Attributes)> {
    let customer = take_text(bytes)?;
    let flags = take_byte(bytes)?;
    let mut time = |bit| match flags & bit {
        0 => Some(None),
        _ => take_number(bytes).map(|ms| Some(Timestamp(ms))),
    };
    let (registered, at) = (time(REGISTERED)?, time(DATED)?);
    let mut values = Vec::with_capacity(names.len());
    for _ in names.iter() {
        values.push(match take_byte(bytes)? {
            NOTHING => None,
            NUMBER => {
                let (word, rest) = bytes.split_first_chunk::<8>()?;
                *bytes = rest;
                Some(AttributeValue::Number(f64::from_le_bytes(*word)))
            }
            CATEGORY => Some(AttributeValue::Category(take_text(bytes)?.into())),
            _ => return None,
        });
    }
    let mut attributes = Attributes::new(Arc::clone(names), values);
    attributes.registered = registered;
    attributes.opted_out = flags & OPTED_OUT != 0;
    if flags & LABELLED != 0 {
        attributes.label = Some(Label { churned: flags & CHURNED != 0, at });
    }
    Some((customer, attributes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_come_back_as_they_were() {
        let names: Arc<[String]> = ["age", "plan"].map(str::to_owned).to_vec().into();
        let plain = Attributes::new(Arc::clone(&names), vec![None, None]);
        let mut rich = Attributes::new(
            Arc::clone(&names),
            vec![Some(AttributeValue::Number(-0.5)), Some(AttributeValue::Category("pro".into()))],
        );
        rich.registered = Some(Timestamp(-5));
        rich.opted_out = true;
        rich.label = Some(Label { churned: true, at: Some(Timestamp(7)) });
        let mut bytes = Vec::new();
        for attributes in [&plain, &rich] {
            put(&mut bytes, "é7", attributes);
        }
        let mut rest = bytes.as_slice();
        assert_eq!(take(&mut rest, &names), Some(("é7", plain)));
        assert_eq!(take(&mut rest, &names), Some(("é7", rich)));
        assert_eq!(take(&mut rest, &names), None);
    }
}
