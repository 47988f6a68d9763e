//! The values of one Parquet column in one window of rows, in the types in which the rules of
//! events take them.
//!
//! Numbers and times stay what they are. What cannot becomes text: a decimal, an integer beyond
//! `i64`, and a float of 32 bits, because the same number in 64 bits has a longer decimal.

use habitus_engine::domain::RawValue;
use polars::prelude::{
    ArrowDataType, ChunkedArray, DataType, Float64Type, Int32Type, Int64Type, PolarsDataType,
    PolarsResult, Series, StaticArray, StringChunked, StringType, TimeUnit,
};

/// Values of one type that lie in one piece, so that a row is found without a search.
type Piece<T> = <T as PolarsDataType>::Array;

/// A column whose values are found by the index of their row.
pub(super) enum Cells {
    /// Nulls alone.
    Nothing,
    Texts(Piece<StringType>),
    Integers(Piece<Int64Type>),
    /// Integers that the file has in 32 bits.
    Short(Piece<Int32Type>),
    Floats(Piece<Float64Type>),
    /// Days since 1970.
    Dates(Piece<Int32Type>),
    /// UTC milliseconds since 1970.
    Instants(Ticks),
    /// Milliseconds since 1970 on a clock whose zone the column does not tell.
    Locals(Ticks),
}

/// Times as the file counts them.
pub(super) struct Ticks {
    since_1970: Piece<Int64Type>,
    unit: TimeUnit,
}

impl Ticks {
    /// The milliseconds since 1970 in one row; `None` where it is null.
    #[inline]
    pub(super) fn at(&self, index: usize) -> Option<i64> {
        let ticks = self.since_1970.get(index)?;
        Some(match self.unit {
            TimeUnit::Nanoseconds => ticks.div_euclid(1_000_000),
            TimeUnit::Microseconds => ticks.div_euclid(1_000),
            TimeUnit::Milliseconds => ticks,
        })
    }
}

/// Whether there are cells for a type. Everything else is refused before polars sees it, which
/// stops at types it was not built for.
pub(super) fn is_readable(found: &ArrowDataType) -> bool {
    use ArrowDataType as Type;
    match found {
        Type::Dictionary(_, values, _) => {
            matches!(**values, Type::Utf8View | Type::Utf8 | Type::LargeUtf8)
        }
        Type::Null
        | Type::Utf8View
        | Type::Utf8
        | Type::LargeUtf8
        | Type::Int8
        | Type::Int16
        | Type::Int32
        | Type::Int64
        | Type::UInt8
        | Type::UInt16
        | Type::UInt32
        | Type::UInt64
        | Type::Float32
        | Type::Float64
        | Type::Date32
        | Type::Date64
        | Type::Timestamp(..)
        | Type::Decimal(..)
        | Type::Decimal32(..)
        | Type::Decimal64(..)
        | Type::Decimal256(..) => true,
        _ => false,
    }
}

impl Cells {
    /// Converts a column as a whole.
    ///
    /// # Errors
    /// Where polars cannot convert it.
    pub(super) fn of(series: &Series) -> PolarsResult<Cells> {
        Ok(match series.dtype() {
            DataType::String => Cells::Texts(in_one_piece(series.str()?)),
            DataType::Categorical(..) | DataType::Enum(..) => {
                Cells::Texts(in_one_piece(series.cast(&DataType::String)?.str()?))
            }
            DataType::Float64 => Cells::Floats(in_one_piece(series.f64()?)),
            DataType::Float32 => written(series.f32()?.iter(), |number| number.to_string()),
            DataType::Decimal(_, scale) => {
                written(series.decimal()?.physical().iter(), |units| decimal(units, *scale))
            }
            DataType::Date => Cells::Dates(in_one_piece(series.date()?.physical())),
            DataType::Datetime(unit, zone) => {
                let since_1970 = in_one_piece(series.datetime()?.physical());
                let ticks = Ticks { since_1970, unit: *unit };
                if zone.is_some() { Cells::Instants(ticks) } else { Cells::Locals(ticks) }
            }
            DataType::Int64 => Cells::Integers(in_one_piece(series.i64()?)),
            DataType::Int32 => Cells::Short(in_one_piece(series.i32()?)),
            dtype if dtype.is_integer() => integers(series)?,
            // A column in any other type was refused before it was read.
            _ => Cells::Nothing,
        })
    }

    /// All values, where they are floats and none is null.
    pub(super) fn floats(&self) -> Option<&[f64]> {
        match self {
            Cells::Floats(numbers) => {
                let has_nulls = numbers.validity().is_some_and(|there| there.unset_bits() > 0);
                (!has_nulls).then(|| numbers.values().as_slice())
            }
            _ => None,
        }
    }

    /// The value in one row; `None` where it is null.
    #[inline]
    pub(super) fn at(&self, index: usize) -> Option<RawValue<'_>> {
        match self {
            Cells::Nothing => None,
            Cells::Texts(texts) => texts.get(index).map(RawValue::Text),
            Cells::Integers(numbers) => numbers.get(index).map(RawValue::Integer),
            Cells::Short(numbers) => {
                numbers.get(index).map(|number| RawValue::Integer(i64::from(number)))
            }
            Cells::Floats(numbers) => numbers.get(index).map(RawValue::Float),
            Cells::Dates(days) => days.get(index).map(RawValue::Date),
            Cells::Instants(times) => times.at(index).map(RawValue::Instant),
            Cells::Locals(times) => times.at(index).map(RawValue::Local),
        }
    }
}

fn in_one_piece<T: PolarsDataType>(values: &ChunkedArray<T>) -> Piece<T> {
    values.rechunk().downcast_as_array().clone()
}

/// Values that have to become texts.
fn written<T>(values: impl Iterator<Item = Option<T>>, text: impl Fn(T) -> String) -> Cells {
    let texts: StringChunked = values.map(|value| value.map(&text)).collect();
    Cells::Texts(in_one_piece(&texts))
}

/// Integers of any other width; texts where one of the column is larger than every `i64`.
fn integers(series: &Series) -> PolarsResult<Cells> {
    // What does not fit becomes null, and only a column of `u64` can hold such a number.
    let fitting = series.cast(&DataType::Int64)?;
    if fitting.null_count() > series.null_count() {
        return Ok(written(series.u64()?.iter(), |number| number.to_string()));
    }
    Ok(Cells::Integers(in_one_piece(fitting.i64()?)))
}

/// A decimal from its digits and how many of them stand behind the point.
fn decimal(units: i128, scale: usize) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::{Categories, IntoSeries, NamedFrom, TimeZone};

    /// Whether a column has these values.
    fn check(series: &Series, values: &[Option<RawValue<'_>>]) {
        let cells = Cells::of(series).unwrap();
        assert_eq!(series.len(), values.len());
        let found: Vec<Option<RawValue<'_>>> = (0..series.len()).map(|row| cells.at(row)).collect();
        assert_eq!(found, values, "{:?}", series.dtype());
    }

    fn text(text: &str) -> Option<RawValue<'_>> {
        Some(RawValue::Text(text))
    }

    #[test]
    fn integers_of_every_width_stay_integers() {
        let numbers = Series::new("x".into(), &[Some(1i64), None, Some(100)][..]);
        for dtype in [
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
        ] {
            let expected = [Some(RawValue::Integer(1)), None, Some(RawValue::Integer(100))];
            check(&numbers.cast(&dtype).unwrap(), &expected);
        }
    }

    #[test]
    fn an_integer_beyond_all_others_is_not_lost() {
        let numbers = [Some(7), None, Some(u64::MAX)];
        let expected = [text("7"), None, text("18446744073709551615")];
        check(&Series::new("x".into(), &numbers[..]), &expected);

        let limit = i64::MAX as u64;
        let fitting = Series::new("x".into(), &[limit][..]);
        check(&fitting, &[Some(RawValue::Integer(i64::MAX))]);
        let one_more = Series::new("x".into(), &[limit + 1][..]);
        check(&one_more, &[text("9223372036854775808")]);
    }

    #[test]
    fn a_float_is_taken_by_its_own_shortest_decimal() {
        let doubles = Series::new("x".into(), &[Some(0.1f64 + 0.2), None, Some(5.0)][..]);
        let [sum, five] = [0.1 + 0.2, 5.0].map(|number| Some(RawValue::Float(number)));
        check(&doubles, &[sum, None, five]);
        let singles = Series::new("x".into(), &[Some(0.1f32), None, Some(f32::NAN)][..]);
        check(&singles, &[text("0.1"), None, text("NaN")]);
    }

    #[test]
    fn decimals_are_written_out() {
        let units = Series::new("x".into(), &[Some(1_210i128), None, Some(-5)][..]);
        let decimals = units.i128().unwrap().clone().into_decimal_unchecked(12, 2);
        check(&decimals.into_series(), &[text("12.10"), None, text("-0.05")]);
        for (units, scale, text) in [(7, 0, "7"), (0, 3, "0.000"), (-1_000, 3, "-1.000")] {
            assert_eq!(decimal(units, scale), text);
        }
    }

    #[test]
    fn texts_are_found_over_pieces_and_in_categories() {
        let long = "longer than what is kept beside its length";
        let mut texts = Series::new("x".into(), &[Some("a"), None][..]);
        texts.append(&Series::new("x".into(), &[Some(long), Some("")][..])).unwrap();
        let expected = [text("a"), None, text(long), text("")];
        check(&texts, &expected);
        let categories = DataType::from_categories(Categories::global());
        check(&texts.cast(&categories).unwrap(), &expected);
    }

    #[test]
    fn dates_and_times_keep_what_is_known_of_their_zone() {
        let days = Series::new("x".into(), &[Some(9_863i32), None, Some(-1)][..]);
        let dates = [Some(RawValue::Date(9_863)), None, Some(RawValue::Date(-1))];
        check(&days.cast(&DataType::Date).unwrap(), &dates);

        for (unit, ticks_per_ms) in [
            (TimeUnit::Milliseconds, 1),
            (TimeUnit::Microseconds, 1_000),
            (TimeUnit::Nanoseconds, 1_000_000),
        ] {
            let ticks = [Some(1_500i64 * ticks_per_ms), None, Some(-1)];
            let ticks = Series::new("x".into(), &ticks[..]).i64().unwrap().clone();
            let local = ticks.clone().into_datetime(unit, None).into_series();
            check(&local, &[Some(RawValue::Local(1_500)), None, Some(RawValue::Local(-1))]);
            let known = ticks.into_datetime(unit, Some(TimeZone::UTC)).into_series();
            check(&known, &[Some(RawValue::Instant(1_500)), None, Some(RawValue::Instant(-1))]);
        }
    }

    #[test]
    fn a_column_of_nulls_holds_nothing() {
        check(&Series::full_null("x".into(), 2, &DataType::Null), &[None, None]);
        check(&Series::full_null("x".into(), 2, &DataType::Int32), &[None, None]);
        check(&Series::full_null("x".into(), 1, &DataType::String), &[None]);
    }
}
