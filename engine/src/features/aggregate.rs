//! The words of a spec: how events become one number, and what of them is looked at.

use crate::domain::{Currency, Event, LineView, QUANTITY_DIGITS};
use serde::{Deserialize, Serialize};

/// How the events of a window become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Number of events, or of days with an event; 0 where there are none.
    Count,
    /// Sum of a measure; 0 where there is nothing to add.
    Sum,
    /// Mean of a measure; undefined of nothing.
    Mean,
    /// Smallest value of a measure; undefined of nothing.
    Min,
    /// Largest value of a measure; undefined of nothing.
    Max,
    /// The sample's standard deviation (n - 1); undefined of fewer than two values.
    Std,
    /// Calendar days from the last event to the as-of; undefined without one.
    DaysSinceLast,
    /// Calendar days from the first event to the as-of; undefined without one.
    DaysSinceFirst,
    /// Mean of the days between consecutive days with an event; undefined below two such days.
    GapMean,
    /// Coefficient of variation (sample's) of those gaps; undefined below three such days.
    GapVariation,
    /// Mean of the calendar days between consecutive events, 0 for two of one day; undefined below
    /// two events.
    EventGapMean,
    /// Coefficient of variation (sample's) of those gaps; undefined below three events, and where
    /// all are of one day.
    EventGapVariation,
    /// One count or sum divided by another; undefined where the latter is 0.
    Ratio,
    /// Number of different texts; 0 of nothing.
    Distinct,
    /// Share of the commonest text among the lines (of channels: events) that carry one; undefined
    /// of nothing.
    TopShare,
    /// Days of the longest run of consecutive days with an event; 0 of nothing.
    LongestStreak,
    /// Days of the run that ends at the as-of's day or the day before; 0 where none does.
    CurrentStreak,
    /// The largest total of one calendar month; of nothing 0 for what is counted, and undefined for
    /// what is summed.
    MaxPerMonth,
    /// The largest total of `span` consecutive days; of nothing as the month's.
    MaxInDays,
    /// A number of the customers file by the name in `attribute`; with `value`, 1 where the category
    /// is that and 0 where it is another. Undefined where the file does not say.
    Attribute,
    /// One `attribute` feature for each category of the training customers, at most twenty, called
    /// `name=category`.
    OneHot,
    /// Calendar days from the registration to the as-of; undefined where the file does not say.
    DaysSinceRegistered,
}

/// What an aggregate looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    #[default]
    Events,
    /// Distinct calendar days with an event.
    Days,
    /// Major currency units.
    Amount,
    /// Units of goods.
    Quantity,
    /// Major currency units.
    Discount,
    /// Points.
    Rating,
    /// The texts of lines.
    Item,
    /// The texts of lines.
    Category,
    /// The texts of events.
    Channel,
}

impl Aggregate {
    /// Whether there is such an aggregate of this measure.
    pub(super) fn takes(self, of: Measure) -> bool {
        match self {
            Aggregate::Count => matches!(of, Measure::Events | Measure::Days),
            Aggregate::Sum | Aggregate::Mean | Aggregate::Min | Aggregate::Max | Aggregate::Std => {
                of.is_valued()
            }
            Aggregate::DaysSinceLast
            | Aggregate::DaysSinceFirst
            | Aggregate::GapMean
            | Aggregate::GapVariation
            | Aggregate::EventGapMean
            | Aggregate::EventGapVariation
            | Aggregate::LongestStreak
            | Aggregate::CurrentStreak
            | Aggregate::Attribute
            | Aggregate::OneHot
            | Aggregate::DaysSinceRegistered => of == Measure::Events,
            Aggregate::Ratio => !of.is_text(),
            Aggregate::Distinct | Aggregate::TopShare => of.is_text(),
            Aggregate::MaxPerMonth | Aggregate::MaxInDays => {
                matches!(of, Measure::Events | Measure::Days | Measure::Amount | Measure::Quantity)
            }
        }
    }
}

impl Measure {
    /// Whether an event carries a value of it, or is merely counted.
    pub(super) fn is_valued(self) -> bool {
        matches!(self, Measure::Amount | Measure::Quantity | Measure::Discount | Measure::Rating)
    }

    /// Whether it is a text, of which there is no sum.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Measure::Item | Measure::Category | Measure::Channel)
    }

    /// The optional column of a log that carries it, by its name in `data.columns`.
    pub(super) fn column(self) -> Option<&'static str> {
        match self {
            Measure::Events | Measure::Days | Measure::Amount => None,
            Measure::Quantity => Some("quantity"),
            Measure::Discount => Some("discount"),
            Measure::Rating => Some("rating"),
            Measure::Item => Some("item"),
            Measure::Category => Some("category"),
            Measure::Channel => Some("channel"),
        }
    }

    /// How many of the smallest units, in which it is summed, one unit of its columns is.
    pub(super) fn unit(self, currency: &Currency) -> f64 {
        match self {
            Measure::Amount | Measure::Discount => currency.minor_per_major(),
            Measure::Quantity | Measure::Rating => 10f64.powi(i32::from(QUANTITY_DIGITS)),
            _ => 1.0,
        }
    }

    /// The value that an event carries, in smallest units.
    #[inline]
    pub(super) fn of_event(self, event: &Event) -> Option<i64> {
        match self {
            Measure::Amount => event.amount.map(|amount| amount.0),
            Measure::Discount => event.discount.map(|discount| discount.0),
            Measure::Quantity => event.quantity,
            Measure::Rating => event.details.as_ref().and_then(|details| details.rating),
            _ => None,
        }
    }

    /// The value that a line carries, in smallest units; a rating is of the whole event.
    pub(super) fn of_line(self, line: &LineView<'_>) -> Option<i64> {
        match self {
            Measure::Amount => line.amount.map(|amount| amount.0),
            Measure::Discount => line.discount.map(|discount| discount.0),
            Measure::Quantity => line.quantity,
            _ => None,
        }
    }
}
