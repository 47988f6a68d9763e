//! What a store is, said plainly: a map from customers to what was told of them. It is what stores
//! are compared with.

use super::super::{About, Kept, Outcome, SourceProgress, Store, StoreError};
use super::workload::{CUSTOMERS, Line, Record, Step};
use habitus_engine::domain::{
    AttributeValue, Attributes, CustomerId, Event, EventRules, History, RawEvent, RawValue,
    Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub customers: BTreeMap<String, Customer>,
    sources: BTreeMap<String, (u64, bool)>,
    erased: BTreeMap<String, Timestamp>,
    sequence: u64,
    newest: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
pub struct Customer {
    pub about: Option<About>,
    pub lines: Vec<Line>,
}

/// All that can be seen of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    pub sequence: u64,
    pub n_lines: u64,
    pub newest: Option<Timestamp>,
    /// By customer, what is told of them and the texts of each line.
    pub customers: BTreeMap<String, (Option<String>, Vec<Texts>)>,
    pub sources: BTreeMap<String, (u64, bool)>,
    pub erased: BTreeMap<String, Timestamp>,
    /// Whether the ways to read it contradict each other.
    pub is_odd: bool,
}

type Texts = [Option<String>; 6];

impl Model {
    /// What becomes of the records of a step, in their order.
    pub fn go(&mut self, step: &Step) -> Vec<Outcome> {
        match step {
            Step::Erase(customer, at) => {
                self.customers.remove(customer);
                self.sequence += 1;
                self.erased.insert(customer.clone(), *at);
                Vec::new()
            }
            Step::Append(records, source) => {
                if let Some(SourceProgress { digest, rows, finished }) = source {
                    self.sources.insert(digest.clone(), (*rows, *finished));
                }
                records.iter().map(|(customer, record)| self.take(customer, record)).collect()
            }
        }
    }

    /// The models after each of the steps, before which stands an empty one.
    pub fn all(steps: &[Step]) -> Vec<Model> {
        let mut models = vec![Model::default()];
        for step in steps {
            let mut next = models.last().cloned().unwrap_or_default();
            next.go(step);
            models.push(next);
        }
        models
    }

    fn take(&mut self, id: &str, record: &Record) -> Outcome {
        if self.erased.contains_key(id) {
            return Outcome::Erased;
        }
        let customer = self.customers.entry(id.to_owned()).or_default();
        match record {
            Record::About(later) => {
                let before = customer.about.clone();
                let about = customer.about.get_or_insert_default();
                about.registered = later.registered.or(about.registered);
                about.opted_out = later.opted_out.or(about.opted_out);
                about.label = later.label.or(about.label);
                let mut values: BTreeMap<String, AttributeValue> = about.values.drain(..).collect();
                values.extend(later.values.iter().cloned());
                about.values = values.into_iter().collect();
                if customer.about == before {
                    return Outcome::Duplicate;
                }
                self.sequence += 1;
                Outcome::Accepted
            }
            Record::Line(line) => {
                let twins = || {
                    customer.lines.iter().filter(|known| known.id.is_some() && known.id == line.id)
                };
                let (is_there, is_same) =
                    (twins().count() > 0, twins().any(|twin| twin.says(line)));
                if !is_same {
                    customer.lines.push(line.clone());
                    self.sequence += 1;
                    self.newest = self.newest.max(Some(Timestamp(line.at)));
                }
                if is_there { Outcome::Duplicate } else { Outcome::Accepted }
            }
        }
    }

    pub fn content(&self) -> Content {
        let customers: BTreeMap<_, _> = self
            .customers
            .iter()
            .map(|(id, Customer { about, lines })| {
                let lines = lines.iter().map(|line| texts(&line.raw())).collect();
                (id.clone(), (about.as_ref().map(told), lines))
            })
            .collect();
        Content {
            sequence: self.sequence,
            n_lines: self.customers.values().map(|customer| customer.lines.len() as u64).sum(),
            newest: self.newest,
            customers,
            sources: self.sources.clone(),
            erased: self.erased.clone(),
            is_odd: false,
        }
    }

    /// The history that a customer has; attributes by these names.
    pub fn history(&self, id: &str, rules: &EventRules, names: &Arc<[String]>) -> Option<History> {
        let Customer { about, lines } = self.customers.get(id)?;
        let read = |line: &Line| -> Option<Event> {
            let raw = RawEvent { customer: Some(RawValue::Text(id)), ..line.raw() };
            rules.read(&raw, Timestamp(i64::MAX)).ok().map(|accepted| accepted.event)
        };
        let shaped = rules.shape(CustomerId::new(id), lines.iter().filter_map(read).collect());
        let attributes = about.as_ref().map(|about| {
            let value = |name: &String| {
                about.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            };
            let mut attributes =
                Attributes::new(Arc::clone(names), names.iter().map(value).collect());
            attributes.registered = about.registered;
            attributes.opted_out = about.opted_out == Some(true);
            attributes.label = about.label;
            attributes
        });
        Some(shaped.history.with_attributes(attributes))
    }
}

impl Content {
    /// What a store holds, read in every way there is.
    pub fn of(store: &Store, rules: &EventRules) -> Result<Content, StoreError> {
        let snapshot = store.snapshot();
        let mut customers: BTreeMap<String, (Option<String>, Vec<Texts>)> = BTreeMap::new();
        let (mut ids, mut is_odd) = (BTreeSet::new(), false);
        for history in snapshot.page(None, usize::MAX, rules, None)? {
            customers.insert(history.customer().as_str().to_owned(), (None, Vec::new()));
            ids.insert(history.customer().as_str().to_owned());
            let again = snapshot.history(history.customer().as_str(), rules, None)?;
            is_odd |= again != Some(history);
        }
        is_odd |= ids.len() as u64 != snapshot.n_customers();
        snapshot.each(|customer, kept| -> Result<(), StoreError> {
            let (about, lines) = customers.entry(customer.to_owned()).or_default();
            match kept {
                Kept::About(kept) => *about = Some(told(kept)),
                Kept::Line(raw) => lines.push(texts(raw)),
            }
            Ok(())
        })?;
        is_odd |= !customers.keys().eq(&ids);
        let mut erased = BTreeMap::new();
        for customer in CUSTOMERS {
            if let Some(at) = store.erased_at(customer)? {
                erased.insert(customer.to_owned(), at);
            }
        }
        let sources = store.sources()?.into_iter();
        Ok(Content {
            sequence: snapshot.sequence(),
            n_lines: snapshot.n_lines(),
            newest: snapshot.newest(),
            customers,
            sources: sources.map(|known| (known.digest, (known.rows, known.finished))).collect(),
            erased,
            is_odd,
        })
    }
}

fn texts(raw: &RawEvent<'_>) -> Texts {
    [raw.time, raw.amount, raw.kind, raw.item, raw.order_id, raw.event_id]
        .map(|field| field.filter(|value| !value.is_blank()).map(|value| value.text().into_owned()))
}

fn told(about: &About) -> String {
    let mut about = about.clone();
    about.values.sort_by(|a, b| a.0.cmp(&b.0));
    format!("{about:?}")
}
