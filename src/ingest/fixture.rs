//! What the tests of this room share: a three-column log, its rules, and as-ofs by date.

use super::{Columns, IngestError, Log, Source, read};
use habitus_engine::domain::{AsOf, Currency, EventKind, EventRules, Timestamp, Zone};
use std::collections::BTreeMap;

/// 2023-11-14, after every date that the tests accept.
const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(super) fn columns() -> Columns {
    Columns {
        customer: "id".into(),
        time: "date".into(),
        amount: "amount".into(),
        kind: None,
        quantity: None,
        discount: None,
        order_id: None,
        event_id: None,
        item: None,
        category: None,
        channel: None,
    }
}

pub(super) fn rules() -> EventRules {
    EventRules {
        zone: Zone::named("UTC").unwrap(),
        currency: Currency { code: "USD".into(), digits: 2 },
        time_format: None,
        default_kind: EventKind::Purchase,
        kinds: BTreeMap::new(),
    }
}

pub(super) fn as_of(text: &str) -> AsOf {
    rules().zone.parse_as_of(text).unwrap()
}

pub(super) fn log(text: &str) -> Result<Log, IngestError> {
    log_of(text.as_bytes())
}

pub(super) fn log_of(bytes: &[u8]) -> Result<Log, IngestError> {
    let sources = [Source::Bytes { name: "log.csv".into(), bytes: bytes.to_vec().into() }];
    read(&sources, &columns(), &rules(), NOW, &mut |_| ())
}
