//! Plain purchases as columns, those of a part side by side. They take fewer bytes than records, and
//! are put and grouped without a look into each; where memory must not hold them they become records.

use super::N_PARTS;
use super::numbers::Numbers;
use crate::ingest::codec::Fields;
use habitus_engine::domain::{EventKind, Text, Timestamp, bucket};
use std::borrow::Cow;
use std::ops::Range;

/// The rows of a window on their way to a batch, each at its place in every column: purchases of
/// customers whose ids are whole numbers, on days that are those of UTC.
pub struct Draft<'c> {
    pub customers: Cow<'c, [i64]>,
    /// Milliseconds since 1970.
    pub times: Vec<i64>,
    /// Minor units.
    pub amounts: Vec<i64>,
    /// The items and the categories.
    pub goods: [(Cow<'c, [i64]>, Meaning); 2],
    /// Which rows are such purchases; what else is said of the others does not matter.
    pub is_plain: Vec<bool>,
}

/// What the numbers of an item or a category mean.
#[derive(Debug)]
pub enum Meaning {
    /// Nothing: there is no such column.
    Absent,
    /// Themselves, spelled.
    Number,
    /// The text with this index.
    Text(Vec<Text>),
}

/// Purchases by part.
#[derive(Debug)]
pub(super) struct Batch {
    /// Where each part begins, and where the last ends; `(N_PARTS + 2,)`, the last being no part.
    starts: Vec<u32>,
    customers: Numbers,
    times: Numbers,
    amounts: Numbers,
    goods: [Goods; 2],
}

/// The items or the categories of a batch.
#[derive(Debug)]
struct Goods {
    numbers: Numbers,
    meaning: Meaning,
}

/// One part of a batch as it is read, at one place in each column.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub customers: Vec<i64>,
    pub times: Vec<i64>,
    pub amounts: Vec<i64>,
    /// Indices into `texts`.
    pub goods: [Vec<u32>; 2],
    /// What the items and categories of all parts that were read are; the first is none.
    pub texts: Vec<Text>,
    numbers: Vec<i64>,
}

impl Draft<'_> {
    /// How many rows may stand in columns.
    pub fn n_plain(&self) -> usize {
        self.is_plain.iter().filter(|&&is_plain| is_plain).count()
    }

    /// When the first and the last row was; `None` without a row.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let times = || self.times.iter().zip(&self.is_plain).filter(|(_, is)| **is);
        let (oldest, newest) = (times().map(|(at, _)| at).min()?, times().map(|(at, _)| at).max()?);
        Some((Timestamp(*oldest), Timestamp(*newest)))
    }

    /// The rows by part. Those that are no such purchases stand behind all parts, where nobody looks.
    pub(super) fn batch(self) -> Batch {
        let mut spelled = itoa::Buffer::new();
        let part = |(&customer, &is_plain): (&i64, &bool)| match is_plain {
            true => u16::from(bucket(spelled.format(customer))),
            false => N_PARTS as u16,
        };
        let parts: Vec<u16> = self.customers.iter().zip(&self.is_plain).map(part).collect();
        let mut starts = vec![0u32; N_PARTS + 2];
        for &part in &parts {
            starts[usize::from(part) + 1] += 1;
        }
        for part in 0..=N_PARTS {
            starts[part + 1] += starts[part];
        }
        let mut next = starts.clone();
        let place = |&part: &u16| {
            let place = &mut next[usize::from(part)];
            *place += 1;
            *place - 1
        };
        let places: Vec<u32> = parts.iter().map(place).collect();
        Batch {
            starts,
            customers: Numbers::of(&self.customers, &places),
            times: Numbers::of_times(&self.times, &places),
            amounts: Numbers::of(&self.amounts, &places),
            goods: self.goods.map(|(numbers, meaning)| Goods::of(&numbers, meaning, &places)),
        }
    }
}

impl Batch {
    /// How many rows of a part there are.
    pub fn n_of(&self, part: usize) -> usize {
        self.places(part).len()
    }

    /// How many there are.
    pub fn n_rows(&self) -> usize {
        self.starts[N_PARTS] as usize
    }

    /// How much memory it takes.
    pub fn n_bytes(&self) -> usize {
        let goods = self.goods.iter().map(Goods::n_bytes).sum::<usize>();
        let others = [&self.customers, &self.times, &self.amounts];
        let others = others.map(Numbers::n_bytes).iter().sum::<usize>();
        size_of_val(self.starts.as_slice()) + goods + others
    }

    /// Reads whose the rows of a part are.
    pub fn put_customers(&self, part: usize, columns: &mut Columns) {
        self.customers.put(self.places(part), &mut columns.customers);
    }

    /// Reads what the rows of a part are besides.
    pub fn put_events(&self, part: usize, columns: &mut Columns) {
        let places = self.places(part);
        self.times.put(places.clone(), &mut columns.times);
        self.amounts.put(places.clone(), &mut columns.amounts);
        let Columns { goods, texts, numbers, .. } = columns;
        for (own, indices) in self.goods.iter().zip(goods) {
            own.put(places.clone(), indices, texts, numbers);
        }
    }

    /// Shows every row as a record has it.
    pub fn each(&self, mut see: impl FnMut(&str, Timestamp, &Fields<'_>)) {
        let mut columns = Columns::default();
        let mut spelled = itoa::Buffer::new();
        for part in 0..N_PARTS {
            self.put_customers(part, &mut columns);
            columns.texts.truncate(1);
            self.put_events(part, &mut columns);
            for row in 0..columns.customers.len() {
                let [item, category] =
                    [0, 1].map(|of| columns.texts[columns.goods[of][row] as usize].get());
                let fields = Fields {
                    kind: EventKind::Purchase,
                    days_ahead: 0,
                    numbers: [Some(columns.amounts[row]), None, None, None],
                    texts: [item, category, None],
                    ids: [None; 2],
                    lines: &[],
                };
                let customer = spelled.format(columns.customers[row]);
                see(customer, Timestamp(columns.times[row]), &fields);
            }
        }
    }

    fn places(&self, part: usize) -> Range<usize> {
        self.starts[part] as usize..self.starts[part + 1] as usize
    }
}

/// Whole numbers that lie no further apart are spelled once for a batch, and others in every row.
const CLOSE: i64 = 1 << 12;

impl Goods {
    fn of(numbers: &[i64], meaning: Meaning, places: &[u32]) -> Goods {
        match meaning {
            Meaning::Absent => Goods { numbers: Numbers::of(&[], &[]), meaning },
            Meaning::Number => Goods::of_numbers(numbers, places),
            meaning => Goods { numbers: Numbers::of(numbers, places), meaning },
        }
    }

    fn of_numbers(numbers: &[i64], places: &[u32]) -> Goods {
        let least = numbers.iter().copied().min().unwrap_or(0);
        let most = numbers.iter().copied().max().unwrap_or(0);
        let most_apart = CLOSE.min(numbers.len() as i64);
        if most.checked_sub(least).is_none_or(|apart| apart >= most_apart) {
            return Goods { numbers: Numbers::of(numbers, places), meaning: Meaning::Number };
        }
        let mut spelled = itoa::Buffer::new();
        let texts = (least..=most).map(|number| Text::from(spelled.format(number))).collect();
        let indices: Vec<i64> = numbers.iter().map(|number| number - least).collect();
        Goods { numbers: Numbers::of(&indices, places), meaning: Meaning::Text(texts) }
    }

    fn n_bytes(&self) -> usize {
        let of_text = |text: &Text| size_of::<Text>() + text.get().map_or(0, str::len);
        let texts = match &self.meaning {
            Meaning::Text(texts) => texts.iter().map(of_text).sum(),
            Meaning::Absent | Meaning::Number => 0,
        };
        texts + self.numbers.n_bytes()
    }

    /// Reads which texts those of some places are, and adds the texts to others.
    fn put(
        &self,
        places: Range<usize>,
        indices: &mut Vec<u32>,
        texts: &mut Vec<Text>,
        numbers: &mut Vec<i64>,
    ) {
        indices.clear();
        if texts.is_empty() {
            texts.push(Text::NONE);
        }
        let first = texts.len() as u32;
        match &self.meaning {
            Meaning::Absent => indices.resize(places.len(), 0),
            Meaning::Number => {
                self.numbers.put(places, numbers);
                let mut spelled = itoa::Buffer::new();
                texts.extend(numbers.iter().map(|&number| Text::from(spelled.format(number))));
                indices.extend(first..texts.len() as u32);
            }
            Meaning::Text(known) => {
                // All texts are fetched only where that is less than one for each row.
                let all = known.len() <= places.len();
                self.numbers.put(places, numbers);
                if all {
                    texts.extend_from_slice(known);
                    indices.extend(numbers.iter().map(|&index| first + index as u32));
                } else {
                    texts.extend(numbers.iter().map(|&index| known[index as usize].clone()));
                    indices.extend(first..texts.len() as u32);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Partitions, Spill};
    use super::*;
    use crate::ingest::fixture::rules;
    use habitus_engine::domain::{History, IdHash, Shaped};
    use std::sync::Arc;

    const N_ROWS: usize = 3_000;

    /// Rows of which every seventh is no plain purchase, with these items.
    fn draft(items: &[i64], of_items: Meaning) -> Draft<'static> {
        let row = |step: usize, n: i64| (0..N_ROWS).map(move |row| (row * step) as i64 * 7_919 % n);
        let goods: Vec<i64> = (0..N_ROWS).map(|row| items[row * 5 % items.len()]).collect();
        let texts = ["tea", "a text of more than fifteen bytes"].map(Text::from);
        Draft {
            customers: row(3, 400).map(|customer| customer - 40).collect(),
            times: row(11, 900_000).map(|seconds| seconds * 1_000 - 5_000_000).collect(),
            amounts: row(13, 100_000).map(|amount| amount + 1).collect(),
            goods: [(goods.into(), of_items), (row(1, 2).collect(), Meaning::Text(texts.to_vec()))],
            is_plain: (0..N_ROWS).map(|row| row % 7 != 0).collect(),
        }
    }

    fn partitions() -> Partitions {
        Partitions::new(usize::MAX, Spill::Temporary(None, None), Arc::default())
    }

    /// Something that is no plain purchase, of a customer who has such too.
    fn visit(partitions: &mut Partitions) {
        let at = Timestamp(864_000_000_000);
        let fields = Fields {
            kind: EventKind::Visit,
            days_ahead: 0,
            numbers: [None; 4],
            texts: [None; 3],
            ids: [IdHash::of("visit"), None],
            lines: &[],
        };
        partitions.add("17", at, &fields).unwrap();
        partitions.settle();
    }

    fn histories(partitions: &Partitions) -> Vec<History> {
        let mut histories = Vec::new();
        for part in 0..N_PARTS {
            let see = |shaped: Shaped| histories.push(shaped.history);
            partitions.each_shaped(part, &rules(), see).unwrap();
        }
        histories
    }

    #[test]
    fn rows_in_columns_are_those_that_records_are() {
        let near = || vec![7, -3, 7, 90];
        let far = || vec![i64::MAX, -5, 12];
        for (items, of_items) in
            [(near(), Meaning::Number), (far(), Meaning::Number), (near(), Meaning::Absent)]
        {
            let is_absent = matches!(of_items, Meaning::Absent);
            let draft = draft(&items, of_items);
            let [(own_items, _), (categories, _)] = &draft.goods;
            let mut by_records = partitions();
            for row in (0..N_ROWS).filter(|&row| draft.is_plain[row]) {
                let item = (!is_absent).then(|| own_items[row].to_string());
                let category = ["tea", "a text of more than fifteen bytes"];
                let fields = Fields {
                    kind: EventKind::Purchase,
                    days_ahead: 0,
                    numbers: [Some(draft.amounts[row]), None, None, None],
                    texts: [item.as_deref(), Some(category[categories[row] as usize]), None],
                    ids: [None; 2],
                    lines: &[],
                };
                let customer = draft.customers[row].to_string();
                by_records.add(&customer, Timestamp(draft.times[row]), &fields).unwrap();
            }
            visit(&mut by_records);
            let expected = histories(&by_records);
            let n_events: usize = expected.iter().map(|history| history.events().len()).sum();
            assert_eq!(n_events, N_ROWS - N_ROWS.div_ceil(7) + 1);

            let mut by_columns = partitions();
            by_columns.add_batch(draft).unwrap();
            visit(&mut by_columns);
            assert_eq!(by_columns.n_rows(), by_records.n_rows());
            assert_eq!(histories(&by_columns), expected);
            let has = |partitions: &Partitions| [0, 1, 2].map(|part| partitions.has(part));
            assert_eq!(has(&by_columns), has(&by_records));

            by_columns.flush().unwrap();
            assert!(by_columns.is_whole());
            assert_eq!(by_columns.counts(), by_records.counts());
            assert_eq!(histories(&by_columns), expected);
        }
    }

    #[test]
    fn a_draft_without_a_plain_row_is_nothing() {
        let mut draft = draft(&[1], Meaning::Number);
        draft.is_plain.fill(false);
        assert_eq!(draft.span(), None);
        let batch = draft.batch();
        assert_eq!(batch.n_rows(), 0);
        batch.each(|_, _, _| panic!("a row"));
    }
}
