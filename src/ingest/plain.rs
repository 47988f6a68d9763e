//! Rows of typed columns of which the event rules would change nothing: purchases whose customer,
//! time and amount are numbers or tidy texts. Most rows are such, and are taken without a look at
//! what they are not. Any other row goes the common way, [`EventRules::event`].

use super::codec::{Fields, days_ahead};
use super::columns::Layout;
use super::parquet_cells::Cells;
use super::partitions::{Draft, Meaning, SameHash};
use habitus_engine::domain::{AmountIs, EventKind, EventRules, IdHash, Money, Text, Timestamp};
use polars::prelude::StaticArray;
use std::borrow::Cow;
use std::collections::HashMap;

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

    /// The rows that may stand in columns, which are not those of a day that is not UTC's, without an
    /// item or a category where there is a column of them, or with too rare a text in it. `None` where
    /// none may, because ids of customers are no whole numbers or orders and events have ids.
    pub fn draft(&self, n_rows: usize) -> Option<Draft<'c>> {
        if self.order_id.is_some() || self.event_id.is_some() {
            return None;
        }
        let mut is_plain = vec![true; n_rows];
        let customers = integers(self.customer, &mut is_plain)?;
        let mut goods = |cells| goods(cells, &mut is_plain);
        let goods = [goods(self.item)?, goods(self.category)?];
        let at = |index: usize| self.time(index).filter(|&at| self.days_ahead(at) == 0);
        let times = filled(&mut is_plain, |index| at(index).map(|at| at.0));
        let amount = |index: usize| self.amount(index).map(|amount| amount.0);
        let amounts = filled(&mut is_plain, amount);
        Some(Draft { customers, times, amounts, goods, is_plain })
    }

    /// When a row was, where that is a time as it should be.
    #[inline]
    fn time(&self, index: usize) -> Option<Timestamp> {
        let zone = &self.rules.zone;
        let time = match self.time {
            Cells::Instants(times) => zone.of_instant(times.at(index)?),
            Cells::Locals(times) => zone.of_local(times.at(index)?),
            _ => None,
        };
        Some(time.filter(|time| !time.adjusted && time.at <= self.now)?.at)
    }

    #[inline]
    fn days_ahead(&self, at: Timestamp) -> i8 {
        let zone = &self.rules.zone;
        if zone.is_utc() { 0 } else { days_ahead(at, zone.day_of(at)) }
    }

    /// The amount of a row, where it is exact and more than nothing.
    #[inline]
    fn amount(&self, index: usize) -> Option<Money> {
        self.rules.currency.exact(*self.amount.get(index)?).filter(|amount| amount.0 > 0)
    }

    /// A row, where it is plain.
    #[inline]
    pub fn row<'r>(&'r self, index: usize, spelled: &'r mut Spelled) -> Option<PlainRow<'r>> {
        let [of_customer, of_item, of_category, of_order, of_event] = &mut spelled.0;
        let customer = text(self.customer, index, of_customer)??;
        let at = self.time(index)?;
        let amount = self.amount(index)?;
        let item = optional(self.item, index, of_item)?;
        let category = optional(self.category, index, of_category)?;
        let id = |text: Option<&str>| text.and_then(IdHash::of);
        let fields = Fields {
            kind: EventKind::Purchase,
            days_ahead: self.days_ahead(at),
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

/// The text of a value without any blank around it, where there is a value; `None` of any other.
#[inline(always)]
fn text<'r>(
    cells: &'r Cells,
    index: usize,
    spelled: &'r mut itoa::Buffer,
) -> Option<Option<&'r str>> {
    match cells {
        Cells::Nothing => Some(None),
        Cells::Integers(numbers) => Some(numbers.get(index).map(|number| spelled.format(number))),
        Cells::Short(numbers) => Some(numbers.get(index).map(|number| spelled.format(number))),
        Cells::Texts(texts) => {
            let Some(text) = texts.get(index) else { return Some(None) };
            is_tidy(text).then_some(Some(text))
        }
        _ => None,
    }
}

/// The same of a field that may be left out.
#[inline(always)]
fn optional<'r>(
    cells: Option<&'r Cells>,
    index: usize,
    spelled: &'r mut itoa::Buffer,
) -> Option<Option<&'r str>> {
    cells.map_or(Some(None), |cells| text(cells, index, spelled))
}

/// Whether there is no blank around a text, and something in it.
#[inline]
fn is_tidy(text: &str) -> bool {
    let tidy = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    tidy(text.as_bytes().first()) && tidy(text.as_bytes().last())
}

/// A number for each row; a row without one is not plain.
#[inline]
fn filled(is_plain: &mut [bool], mut number: impl FnMut(usize) -> Option<i64>) -> Vec<i64> {
    let fill = |(index, is_plain): (usize, &mut bool)| {
        let number = number(index);
        *is_plain &= number.is_some();
        number.unwrap_or(0)
    };
    is_plain.iter_mut().enumerate().map(fill).collect()
}

/// Integers, where a column has them; a row without one is not plain.
fn integers<'c>(cells: &'c Cells, is_plain: &mut [bool]) -> Option<Cow<'c, [i64]>> {
    let (numbers, there) = match cells {
        Cells::Integers(numbers) => {
            (Cow::Borrowed(numbers.values().as_slice()), numbers.validity())
        }
        Cells::Short(numbers) => {
            let wide = numbers.values().iter().map(|&number| i64::from(number)).collect();
            (Cow::Owned(wide), numbers.validity())
        }
        _ => return None,
    };
    if let Some(there) = there.filter(|there| there.unset_bits() > 0) {
        is_plain.iter_mut().zip(there).for_each(|(is_plain, is_there)| *is_plain &= is_there);
    }
    Some(numbers)
}

/// So many different texts of a window are told apart by a number.
const MOST_TEXTS: usize = 1 << 12;

/// The items or the categories as numbers, and what these mean.
fn goods<'c>(cells: Option<&'c Cells>, is_plain: &mut [bool]) -> Option<(Cow<'c, [i64]>, Meaning)> {
    let Some(cells) = cells else { return Some((Cow::Borrowed(&[]), Meaning::Absent)) };
    let Cells::Texts(texts) = cells else {
        return Some((integers(cells, is_plain)?, Meaning::Number));
    };
    let mut known: HashMap<&str, i64, SameHash> = HashMap::default();
    let mut meaning = Vec::new();
    let numbers = filled(is_plain, |index| {
        let text = texts.get(index).filter(|text| is_tidy(text))?;
        known.get(text).copied().or_else(|| {
            let number = meaning.len() as i64;
            (meaning.len() < MOST_TEXTS).then(|| {
                meaning.push(Text::from(text));
                known.insert(text, number);
                number
            })
        })
    });
    Some((Cow::Owned(numbers), Meaning::Text(meaning)))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{as_of, histories, parquet, read_with, rules, validation};
    use super::super::{Columns, Source};
    use super::*;
    use habitus_engine::domain::{Currency, KindRule, RuleField, RuleTest, RuledKind, Zone};
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
        let sources = [Source::Path(path)];
        // Where orders and events have no ids, rows may stand in columns.
        let in_columns = Columns { order_id: None, event_id: None, ..plain.clone() };
        for plain in [plain, in_columns] {
            compare(&sources, plain, rules);
        }
    }

    fn compare(sources: &[Source], plain: Columns, rules: &EventRules) {
        let common = Columns { channel: Some("nothing".to_owned()), ..plain.clone() };
        let [plain, common] = [plain, common].map(|columns| {
            let log = read_with(sources, &columns, rules, &mut |_| ()).unwrap();
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

    /// Most rows may stand in columns, and some of each window may not.
    #[test]
    fn rows_in_columns_are_what_the_rules_make_of_them() {
        let directory = tempfile::tempdir().unwrap();
        const HOUR: i64 = 3_600_000;
        let mut ms: Vec<i64> = (0..97).map(|step| 852_163_200_500 + step * 31 * HOUR).collect();
        ms.extend([859_685_400_000, -HOUR, 4_000_000_000_000]);
        let amounts = [5.0, 12.34, 0.1, 90_071_992_547.33, 7.25, 3.0, 1e300, 2.5, 1.0];
        let ids: Vec<Option<i64>> = (0..40)
            .map(|id| (id != 7).then_some(id * 1_000_003 - 5))
            .chain([Some(i64::MAX)])
            .collect();
        let many: Vec<String> =
            (0..N_ROWS).map(|row| format!("item {}", row * 7 % 5_000)).collect();
        let few =
            cycle(&[Some("tea"), Some("é"), None, Some("17"), Some("a longer text than most")], 3);
        for zone in ["UTC", "Europe/London", "Asia/Tokyo"] {
            for (item, category) in [
                (
                    Series::new("id".into(), &few),
                    Series::new("id".into(), cycle(&[3i64, 9, 4_000], 1)),
                ),
                (
                    Series::new("id".into(), &many),
                    Series::new("id".into(), cycle(&[i64::MIN, 5], 1)),
                ),
            ] {
                let customers = Series::new("id".into(), cycle(&ids, 3));
                let mut columns = columns_of(customers, times(&ms, None), [item, category]);
                columns[2] = Series::new("amount".into(), cycle(&amounts, 2));
                let rules = EventRules::plain(
                    Zone::named(zone).unwrap(),
                    Currency { code: "GBP".into(), digits: 2 },
                );
                check(directory.path(), columns, &rules);
            }
        }
    }
}
