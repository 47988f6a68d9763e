//! Rows of typed columns of which the event rules would change nothing: purchases whose customer,
//! time and amount are numbers or tidy texts. Most rows are such, and are taken without a look at
//! what they are not. Any other row goes the common way, [`EventRules::event`].

use super::codec::{Fields, days_ahead};
use super::columns::Layout;
use super::parquet_cells::Cells;
use habitus_engine::domain::{AmountIs, EventKind, EventRules, IdHash, RawValue, Timestamp};

/// The columns of one window.
pub(super) struct PlainRows<'c> {
    rules: &'c EventRules,
    now: Timestamp,
    customer: &'c Cells,
    time: &'c Cells,
    amount: &'c [f64],
    item: Option<&'c Cells>,
    category: Option<&'c Cells>,
    order_id: Option<&'c Cells>,
    event_id: Option<&'c Cells>,
}

/// Numbers of one row as texts.
#[derive(Default)]
pub(super) struct Spelled([itoa::Buffer; 5]);

/// A row that is plain: whose it is, when it was, and the rest.
pub(super) type PlainRow<'r> = (&'r str, Timestamp, Fields<'r>);

impl<'c> PlainRows<'c> {
    /// `None` where the rules look at more of a row, or say more of it, than what is plain.
    pub fn of(
        layout: &Layout,
        cells: &'c [Cells],
        rules: &'c EventRules,
        now: Timestamp,
    ) -> Option<PlainRows<'c>> {
        let is_plain = rules.kind_rules.is_empty()
            && rules.default_kind == EventKind::Purchase
            && rules.amount_is == AmountIs::Total;
        let fields = layout.places().map(|place| place.map(|place| &cells[place]));
        match fields {
            [
                Some(customer),
                Some(time),
                Some(amount),
                None,
                None,
                None,
                None,
                None,
                order_id,
                event_id,
                item,
                category,
                None,
            ] if is_plain => Some(PlainRows {
                rules,
                now,
                customer,
                time,
                amount: amount.floats()?,
                item,
                category,
                order_id,
                event_id,
            }),
            _ => None,
        }
    }

    /// A row, where it is plain.
    #[inline]
    pub fn row<'r>(&'r self, index: usize, spelled: &'r mut Spelled) -> Option<PlainRow<'r>> {
        let [of_customer, of_item, of_category, of_order, of_event] = &mut spelled.0;
        let customer = text(self.customer.at(index)?, of_customer)?;
        let zone = &self.rules.zone;
        let time = match self.time.at(index)? {
            RawValue::Instant(ms) => zone.of_instant(ms),
            RawValue::Local(ms) => zone.of_local(ms),
            _ => None,
        };
        let at = time.filter(|time| !time.adjusted && time.at <= self.now)?.at;
        let amount =
            self.rules.currency.exact(*self.amount.get(index)?).filter(|amount| amount.0 > 0)?;
        let item = optional(self.item, index, of_item)?;
        let category = optional(self.category, index, of_category)?;
        let id = |text: Option<&str>| text.and_then(IdHash::of);
        let fields = Fields {
            kind: EventKind::Purchase,
            days_ahead: days_ahead(at, zone.day_of(at)),
            numbers: [Some(amount.0), None, None, None],
            texts: [item, category, None],
            ids: [
                id(optional(self.order_id, index, of_order)?),
                id(optional(self.event_id, index, of_event)?),
            ],
            lines: &[],
        };
        Some((customer, at, fields))
    }
}

/// The text of a value without any blank around it; `None` of any other value.
#[inline]
fn text<'r>(value: RawValue<'r>, spelled: &'r mut itoa::Buffer) -> Option<&'r str> {
    match value {
        RawValue::Integer(number) => Some(spelled.format(number)),
        RawValue::Text(text) => {
            let tidy = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
            let bytes = text.as_bytes();
            (tidy(bytes.first()) && tidy(bytes.last())).then_some(text)
        }
        _ => None,
    }
}

/// The same of a field that may be absent.
#[inline]
fn optional<'r>(
    cells: Option<&'r Cells>,
    index: usize,
    spelled: &'r mut itoa::Buffer,
) -> Option<Option<&'r str>> {
    match cells.and_then(|cells| cells.at(index)) {
        None => Some(None),
        Some(value) => text(value, spelled).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{as_of, histories, parquet, read_with, rules, validation};
    use super::super::{Columns, Source};
    use super::*;
    use habitus_engine::domain::{KindRule, RuleField, RuleTest, RuledKind, Zone};
    use polars::prelude::{DataType, IntoSeries, NamedFrom, Series, TimeUnit, TimeZone};
    use std::path::Path;

    const N_ROWS: usize = 4_000;

    /// The values of a list over and over, in a step that is a column's own.
    fn cycle<T: Clone>(values: &[T], step: usize) -> Vec<T> {
        (0..N_ROWS).map(|row| values[row * step / 7 % values.len()].clone()).collect()
    }

    /// What is tidy, what is not, and what is no text of a customer or an item at all.
    const TEXTS: [Option<&str>; 12] = [
        Some("tea"),
        Some("a b"),
        None,
        Some(""),
        Some(" "),
        Some(" tea"),
        Some("tea\u{a0}"),
        Some("é"),
        Some("x"),
        Some("17"),
        Some("a text of more than fifteen bytes"),
        Some("17 "),
    ];

    const AMOUNTS: [f64; 13] = [
        5.0,
        0.1,
        0.1 + 0.2,
        0.125,
        0.135,
        0.0,
        -0.0,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        1e300,
        90_071_992_547.33,
        12.34,
    ];

    fn times(ms: &[i64], zone: Option<TimeZone>) -> Series {
        let times = Series::new("date".into(), cycle(ms, 5)).i64().unwrap().clone();
        times.into_datetime(TimeUnit::Milliseconds, zone).into_series()
    }

    /// Both ways to read one log. A column of a channel that no row has makes no row plain.
    fn check(directory: &Path, series: Vec<Series>, rules: &EventRules) {
        let path = directory.join("log.parquet");
        let nothing = Series::full_null("nothing".into(), N_ROWS, &DataType::String);
        parquet(&path, series.into_iter().chain([nothing]).collect(), Some(1_500));
        let mapped = |name: &str| Some(name.to_owned());
        let plain = Columns {
            item: mapped("item"),
            category: mapped("category"),
            order_id: mapped("order"),
            event_id: mapped("event"),
            ..super::super::fixture::columns()
        };
        let common = Columns { channel: mapped("nothing"), ..plain.clone() };
        let sources = [Source::Path(path)];
        let [plain, common] = [plain, common].map(|columns| {
            let log = read_with(&sources, &columns, rules, &mut |_| ()).unwrap();
            let validation = validation(&log, as_of("2020-01-01"));
            (histories(&log), log.span(), format!("{:?}", validation.account.counts))
        });
        assert_eq!(plain, common);
        assert!(plain.0.iter().map(|history| history.events().len()).sum::<usize>() > 100);
    }

    fn columns_of(customers: Series, times: Series, goods: [Series; 2]) -> Vec<Series> {
        let [mut item, mut category] = goods;
        item.rename("item".into());
        category.rename("category".into());
        vec![
            customers,
            times,
            Series::new("amount".into(), cycle(&AMOUNTS, 11)),
            item,
            category,
            Series::new("order".into(), cycle(&TEXTS, 2)),
            Series::new("event".into(), cycle(&(0..1_900i64).collect::<Vec<_>>(), 7)),
        ]
    }

    #[test]
    fn plain_rows_are_what_the_rules_make_of_them() {
        let directory = tempfile::tempdir().unwrap();
        const DAY: i64 = 86_400_000;
        // Common times, one that does not exist in London, the edges of days, and what no calendar
        // and no clock knows.
        let ms = [
            852_163_200_500,
            852_163_200_500 + DAY,
            859_685_400_000,
            867_753_000_000,
            852_163_200_000 - 1,
            -DAY,
            i64::MIN,
            i64::MAX / 2,
            4_000_000_000_000,
        ];
        let texts = |step| Series::new("id".into(), cycle(&TEXTS, step));
        let numbers = |step| {
            let numbers = [Some(7i64), Some(-3), None, Some(i64::MAX), Some(0)];
            Series::new("id".into(), cycle(&numbers, step))
        };
        let short = numbers(3).cast(&DataType::Int16).unwrap().cast(&DataType::Int32).unwrap();
        let london = EventRules { zone: Zone::named("Europe/London").unwrap(), ..rules() };
        for rules in [rules(), london] {
            for zone in [None, Some(TimeZone::UTC)] {
                let times = times(&ms, zone);
                for (customers, goods) in [
                    (texts(13), [texts(3), numbers(5)]),
                    (numbers(13), [short.clone(), texts(9)]),
                    (short.clone(), [texts(3), texts(17)]),
                ] {
                    let mut customers = customers;
                    customers.rename("id".into());
                    check(directory.path(), columns_of(customers, times.clone(), goods), &rules);
                }
            }
        }
    }

    #[test]
    fn rules_that_look_at_rows_are_asked() {
        let directory = tempfile::tempdir().unwrap();
        let texts = |step| Series::new("id".into(), cycle(&TEXTS, step));
        let columns =
            || columns_of(texts(13), times(&[852_163_200_500], None), [texts(3), texts(5)]);
        let kind_rules = vec![KindRule {
            field: RuleField::Item,
            is: RuleTest::OneOf(vec!["tea".into()]),
            kind: RuledKind::Event(EventKind::Refund),
        }];
        for rules in [
            EventRules { kind_rules, ..rules() },
            EventRules { default_kind: EventKind::Refund, ..rules() },
            EventRules { merge_orders: false, ..rules() },
        ] {
            check(directory.path(), columns(), &rules);
        }
    }
}
