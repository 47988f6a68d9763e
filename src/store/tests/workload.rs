//! Seeded workloads: what callers may ask of a store, in any order.

use super::super::{About, Batch, Outcome, SourceProgress, Store, StoreError};
use habitus_engine::domain::{AttributeValue, Draws, Label, RawEvent, RawValue, Seed, Timestamp};

/// Customers of a workload; the first is of many lines.
pub const CUSTOMERS: [&str; 9] =
    ["m", "a", "b", "b0", "customer-with-a-long-name", "é", "Z", "zz", "0"];

/// One call of the store.
#[derive(Debug, Clone)]
pub enum Step {
    Append(Vec<(String, Record)>, Option<SourceProgress>),
    Erase(String, Timestamp),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Line(Line),
    About(About),
}

/// A line whose texts it owns.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub at: i64,
    /// The instant as text; `None` gives it as a number.
    pub time: Option<String>,
    pub amount: String,
    pub kind: Option<&'static str>,
    pub item: String,
    pub order: Option<String>,
    pub id: Option<String>,
}

impl Line {
    pub fn raw(&self) -> RawEvent<'_> {
        fn text(field: &Option<String>) -> Option<RawValue<'_>> {
            field.as_deref().map(RawValue::Text)
        }
        RawEvent {
            time: text(&self.time).or(Some(RawValue::Instant(self.at))),
            amount: Some(RawValue::Text(&self.amount)),
            kind: self.kind.map(RawValue::Text),
            item: Some(RawValue::Text(&self.item)),
            order_id: text(&self.order),
            event_id: text(&self.id),
            ..RawEvent::default()
        }
    }

    /// Whether it says what another one says.
    pub fn says(&self, other: &Line) -> bool {
        let Line { at, time: _, amount, kind, item, order, id: _ } = self;
        (at, amount, kind, item, order)
            == (&other.at, &other.amount, &other.kind, &other.item, &other.order)
    }
}

/// A workload of so many steps, batches of at most so many records.
pub fn workload(seed: Seed, n_steps: usize, most: u32) -> Vec<Step> {
    let mut draws = Draws::new(seed);
    let mut known: Vec<(String, Line)> = Vec::new();
    (0..n_steps).map(|step| any_step(&mut draws, step, most, &mut known)).collect()
}

fn any_step(draws: &mut Draws, step: usize, most: u32, known: &mut Vec<(String, Line)>) -> Step {
    if draws.chance(0.1) {
        let at = Timestamp(i64::from(draws.below(1_000_000)) - 500_000);
        return Step::Erase(any_customer(draws), at);
    }
    let mut records = Vec::new();
    for _ in 0..1 + draws.below(most) {
        let customer = any_customer(draws);
        records.push(match draws.below(20) {
            0 => (customer, Record::About(any_about(draws))),
            // What came before comes again, some of it changed.
            1..4 if !known.is_empty() => {
                let (customer, mut line) = known[draws.below(known.len() as u32) as usize].clone();
                match draws.below(4) {
                    0 => line.amount = "7.77".into(),
                    1 => line.time = None,
                    _ => {}
                }
                (customer, Record::Line(line))
            }
            _ => {
                let line = any_line(draws);
                known.push((customer.clone(), line.clone()));
                (customer, Record::Line(line))
            }
        });
    }
    if draws.chance(0.3) {
        // A large batch of one customer, for the further chunks.
        let n = draws.below(120);
        records.extend((0..n).map(|_| (CUSTOMERS[0].to_owned(), Record::Line(any_line(draws)))));
    }
    let source = draws.chance(0.5).then(|| SourceProgress {
        digest: format!("digest {}", draws.below(3)),
        rows: step as u64 * 100,
        finished: draws.chance(0.5),
    });
    Step::Append(records, source)
}

fn any_customer(draws: &mut Draws) -> String {
    let number = if draws.chance(0.3) { 0 } else { draws.below(CUSTOMERS.len() as u32) };
    CUSTOMERS[number as usize].to_owned()
}

fn any_line(draws: &mut Draws) -> Line {
    let at = 946_684_800_000 + i64::from(draws.below(1_000_000)) * 1_000;
    let order = draws.chance(0.3).then(|| format!("o{}", draws.below(50)));
    Line {
        at,
        time: draws.chance(0.7).then(|| Timestamp(at).to_string()),
        amount: format!("{}.{:02}", draws.below(300), draws.below(100)),
        kind: [None, Some("purchase"), Some("refund"), Some("visit")][draws.below(4) as usize],
        item: (0..draws.below(90)).map(|_| char::from(b'a' + draws.below(26) as u8)).collect(),
        order,
        id: draws.chance(0.5).then(|| format!("e{}", draws.below(100_000))),
    }
}

fn any_about(draws: &mut Draws) -> About {
    let mut about = About {
        registered: draws.chance(0.5).then(|| Timestamp(i64::from(draws.below(1_000_000)))),
        opted_out: draws.chance(0.3).then(|| draws.chance(0.5)),
        label: None,
        values: Vec::new(),
    };
    if draws.chance(0.3) {
        let at = draws.chance(0.5).then(|| Timestamp(i64::from(draws.below(1_000))));
        about.label = Some(Label { churned: draws.chance(0.5), at });
    }
    for name in ["age", "region", "tier"] {
        if draws.chance(0.4) {
            let value = match draws.below(2) {
                0 => AttributeValue::Number(f64::from(draws.below(90))),
                _ => AttributeValue::Category(["north", "south"][draws.below(2) as usize].into()),
            };
            about.values.push((name.to_owned(), value));
        }
    }
    about
}

pub fn batch(records: &[(String, Record)]) -> Batch {
    let mut batch = Batch::default();
    for (customer, record) in records {
        match record {
            Record::Line(line) => batch.line(customer, &line.raw(), Timestamp(line.at)),
            Record::About(about) => batch.about(customer, about.clone()),
        }
    }
    batch
}

/// Does a step; the outcomes are of an append.
pub fn go(store: &Store, step: &Step) -> Result<Vec<Outcome>, StoreError> {
    match step {
        Step::Append(records, source) => store.append(&batch(records), source.as_ref()),
        Step::Erase(customer, at) => store.erase(customer, *at).map(|_| Vec::new()),
    }
}
