//! What a log says once it has been read: histories, and an account of the rows.

use super::report::{Example, IngestReport, RowCounts, Validation};
use habitus_engine::domain::{
    AsOf, EventRules, History, HistoryBuilder, RawEvent, Rejection, Timestamp, Zone,
};

/// All accepted events of a log, by customer, and what became of the other rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Sorted by customer id.
    pub histories: Vec<History>,
    pub report: IngestReport,
    /// The time of the newest accepted event.
    pub newest: Option<Timestamp>,
}

impl Log {
    /// What became of the rows, seen from an as-of. Whatever is dated later is only counted as
    /// such, so that rows to come change no other number.
    pub fn counts(&self, as_of: AsOf) -> RowCounts {
        let (mut accepted, mut later) = (0, 0);
        for history in &self.histories {
            let seen = history.until(as_of).len();
            accepted += seen as u64;
            later += (history.events().len() - seen) as u64;
        }
        let rejected = self.report.rejected(as_of);
        let after_as_of = later + self.report.rejected_after(as_of);
        let rows = accepted + after_as_of + rejected.values().sum::<u64>();
        RowCounts { rows, accepted, after_as_of, rejected, repaired: self.report.repaired(as_of) }
    }

    /// The same counts with examples, to be shown.
    pub fn validation(&self, as_of: AsOf) -> Validation {
        Validation {
            as_of,
            counts: self.counts(as_of),
            rejected_examples: self.report.rejected_examples(as_of),
            repaired_examples: self.report.repaired_examples(as_of),
        }
    }

    /// The end of the day of the newest accepted event.
    pub fn default_as_of(&self, zone: &Zone) -> Option<AsOf> {
        self.newest.map(|newest| zone.end_of(zone.day_of(newest)))
    }
}

/// Hands rows to the event rules and keeps what comes of them, whatever file format they are from.
pub(super) struct Collector<'a> {
    rules: &'a EventRules,
    now: Timestamp,
    histories: HistoryBuilder,
    report: IngestReport,
    newest: Option<Timestamp>,
}

impl Collector<'_> {
    pub(super) fn new(rules: &EventRules, now: Timestamp) -> Collector<'_> {
        Collector {
            rules,
            now,
            histories: HistoryBuilder::default(),
            report: IngestReport::default(),
            newest: None,
        }
    }

    /// Takes one row. The example is made only if the report keeps it.
    pub(super) fn take(&mut self, raw: &RawEvent<'_>, example: impl Fn() -> Example) {
        match self.rules.read(raw, self.now) {
            Ok(accepted) => {
                let at = accepted.event.at;
                for repair in accepted.repairs {
                    self.report.repair(repair, at, &example);
                }
                self.newest = self.newest.max(Some(at));
                // Blanks around an id are an accident of the file, as around any other field.
                self.histories.add(raw.customer.trim(), accepted.event);
            }
            Err(rejection) => self.reject(rejection, self.time_of(raw, rejection), example),
        }
    }

    /// Counts a row that cannot be taken, with its time where that can be read.
    pub(super) fn reject(
        &mut self,
        rejection: Rejection,
        at: Option<Timestamp>,
        example: impl Fn() -> Example,
    ) {
        self.report.reject(rejection, at, example);
    }

    pub(super) fn finish(self) -> Log {
        Log { histories: self.histories.finish(), report: self.report, newest: self.newest }
    }

    /// A faulty row is dated too where possible, because one that lies after the as-of is ignored
    /// with its fault. A time in the future is itself the fault: it is told from every as-of.
    fn time_of(&self, raw: &RawEvent<'_>, rejection: Rejection) -> Option<Timestamp> {
        if rejection == Rejection::FutureTime {
            return None;
        }
        let time = self.rules.zone.parse(raw.time, self.rules.time_format.as_deref());
        time.ok().map(|time| time.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{as_of, log, rules};
    use habitus_engine::domain::{Rejection, Repair};
    use std::collections::BTreeMap;

    const TEXT: &str = "id,date,amount
1,1997-01-01,5.005
2,1997-06-01,5
 1 ,1997-06-02,5.015
3,1997-01-01,x
3,1997-06-02,x
,1997-06-02,1
3,1997-01-01
4,2999-01-01,1
";

    #[test]
    fn rows_after_the_as_of_are_counted_apart() {
        let log = log(TEXT).unwrap();
        let counts = log.counts(as_of("1997-06-01"));
        assert_eq!((counts.rows, counts.accepted, counts.after_as_of), (8, 2, 3));
        let rejected = BTreeMap::from([
            (Rejection::Ragged, 1),
            (Rejection::FutureTime, 1),
            (Rejection::UnreadableAmount, 1),
        ]);
        assert_eq!(counts.rejected, rejected);
        assert_eq!(counts.repaired, BTreeMap::from([(Repair::AmountRounded, 1)]));

        let counts = log.counts(as_of("1997-06-02"));
        assert_eq!((counts.rows, counts.accepted, counts.after_as_of), (8, 3, 0));
        assert_eq!(counts.rejected.values().sum::<u64>(), 5);
        assert_eq!(counts.repaired, BTreeMap::from([(Repair::AmountRounded, 2)]));
    }

    #[test]
    fn the_default_as_of_is_the_end_of_the_newest_day() {
        let log = log(TEXT).unwrap();
        assert_eq!(log.default_as_of(&rules().zone), Some(as_of("1997-06-02")));
        let empty = super::super::fixture::log("id,date,amount\n").unwrap();
        assert_eq!(empty.default_as_of(&rules().zone), None);
    }

    #[test]
    fn blanks_around_an_id_do_not_make_another_customer() {
        let customers: Vec<String> = log(TEXT)
            .unwrap()
            .histories
            .iter()
            .map(|history| history.customer().to_string())
            .collect();
        assert_eq!(customers, ["1", "2"]);
    }
}
