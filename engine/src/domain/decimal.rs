//! Decimal text to an integer count of the smallest unit, without passing through a float.

use thiserror::Error;

/// The largest magnitude accepted, in smallest units: every such integer is also an exact `f64`.
const LIMIT: i128 = 1 << 53;

/// Why a decimal text was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecimalError {
    #[error("not a number")]
    Unreadable,
    #[error("not finite")]
    NotFinite,
    #[error("larger than 2^53 smallest units")]
    OutOfRange,
}

/// Reads `text` as a count of `10^-digits` units and says whether digits were rounded away.
///
/// Accepts an optional sign, digits with an optional point, and an optional exponent, as floats are
/// printed. What lies beyond the last digit is rounded half to even, once.
///
/// # Errors
/// [`DecimalError`] where the text is no number, not finite, or too large.
pub fn parse(text: &str, digits: u8) -> Result<(i64, bool), DecimalError> {
    let text = text.trim();
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if ["nan", "inf", "infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
        return Err(DecimalError::NotFinite);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.parse::<i32>().map_err(|_| DecimalError::Unreadable)?)
        }
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return Err(DecimalError::Unreadable);
    }
    // The point moves right by this many places; the digits before it are the result.
    let point = whole.len() as i64 + i64::from(exponent) + i64::from(digits);
    let figures = || whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0'));
    let mut units: i128 = 0;
    for figure in figures().take(usize::try_from(point).unwrap_or(0)) {
        units = units * 10 + figure;
        if units > LIMIT {
            return Err(DecimalError::OutOfRange);
        }
    }
    let n_figures = (whole.len() + fraction.len()) as i64;
    for _ in n_figures..point {
        if units == 0 {
            break;
        }
        units *= 10;
        if units > LIMIT {
            return Err(DecimalError::OutOfRange);
        }
    }
    // A negative point means leading zeros after it: the first dropped figure is then a zero.
    let dropped: Vec<i128> = if point < 0 {
        std::iter::once(0).chain(figures()).collect()
    } else {
        figures().skip(point as usize).collect()
    };
    let rounded = dropped.iter().any(|&figure| figure != 0);
    if let Some((&first, rest)) = dropped.split_first() {
        let above_half = first > 5 || (first == 5 && rest.iter().any(|&figure| figure != 0));
        let tie_to_even = first == 5 && !above_half && units % 2 == 1;
        units += i128::from(above_half || tie_to_even);
    }
    if units > LIMIT {
        return Err(DecimalError::OutOfRange);
    }
    let units = units as i64;
    Ok((if negative { -units } else { units }, rounded))
}

/// Below this many smallest units a decimal and its nearest `f64` name each other: fifteen
/// significant digits survive the way through a float.
const EXACT_IN_FLOATS: f64 = 1e15;

/// Takes a float by its shortest decimal.
///
/// # Errors
/// As [`parse`].
pub fn of_float(number: f64, digits: u8) -> Result<(i64, bool), DecimalError> {
    if let Some(units) = exact(number, digits) {
        return Ok((units, false));
    }
    if !number.is_finite() {
        return Err(DecimalError::NotFinite);
    }
    parse(&number.to_string(), digits)
}

/// The count of units whose decimal names a float; `None` where there is none of at most fifteen
/// figures.
#[inline]
pub fn exact(number: f64, digits: u8) -> Option<i64> {
    const TENS: [f64; 7] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
    // Beyond 2^52 floats have no halves, so that adding as much rounds to even.
    const NO_HALVES: f64 = (3u64 << 51) as f64;
    let unit = TENS.get(usize::from(digits)).copied();
    let unit = unit.unwrap_or_else(|| 10f64.powi(i32::from(digits)));
    let scaled = number * unit;
    let units = (scaled + NO_HALVES) - NO_HALVES;
    (scaled.abs() < EXACT_IN_FLOATS && units / unit == number).then_some(units as i64)
}

/// The product of two counts, of `10^-a_digits` and `10^-b_digits` units, as a count of
/// `10^-digits` units: rounded half to even once, and said.
///
/// # Errors
/// [`DecimalError::OutOfRange`].
pub fn product(
    (a, a_digits): (i64, u8),
    (b, b_digits): (i64, u8),
    digits: u8,
) -> Result<(i64, bool), DecimalError> {
    let exact = i128::from(a) * i128::from(b);
    let surplus = u32::from(a_digits) + u32::from(b_digits);
    let (units, rounded) = match surplus.checked_sub(u32::from(digits)) {
        None => (exact.saturating_mul(10i128.pow(u32::from(digits) - surplus)), false),
        Some(surplus) => {
            let divisor = 10i128.pow(surplus);
            let (whole, rest) = (exact.div_euclid(divisor), exact.rem_euclid(divisor));
            let up = 2 * rest > divisor || (2 * rest == divisor && whole % 2 != 0);
            (whole + i128::from(up), rest != 0)
        }
    };
    if units.abs() > LIMIT { Err(DecimalError::OutOfRange) } else { Ok((units as i64, rounded)) }
}

/// So many figures always fit into an `i64`.
const MAX_FIGURES: usize = 18;

/// The most digits after the point that [`canonical`] takes.
const MAX_DIGITS: usize = 9;

/// A count of `10^-digits` units as a count of `10^-wanted` units: what [`parse`] makes of its
/// [`spelled`] text, without the text.
///
/// # Errors
/// [`DecimalError::OutOfRange`].
pub fn rescale(units: i64, digits: u8, wanted: u8) -> Result<(i64, bool), DecimalError> {
    let size = units.unsigned_abs();
    let (size, rounded) = if wanted >= digits {
        let factor = 10u64.checked_pow(u32::from(wanted - digits));
        let scaled = factor.and_then(|factor| size.checked_mul(factor));
        // Nothing stays nothing, however finely it is counted.
        let scaled = if size == 0 { Some(0) } else { scaled };
        (scaled.ok_or(DecimalError::OutOfRange)?, false)
    } else {
        match 10u64.checked_pow(u32::from(digits - wanted)) {
            Some(divisor) => {
                let (whole, rest) = (size / divisor, size % divisor);
                let half = divisor / 2;
                let up = rest > half || (rest == half && whole % 2 == 1);
                (whole + u64::from(up), rest != 0)
            }
            // Less than half of a unit, whatever it is.
            None => (0, size != 0),
        }
    };
    if i128::from(size) > LIMIT {
        return Err(DecimalError::OutOfRange);
    }
    Ok((if units < 0 { -(size as i64) } else { size as i64 }, rounded))
}

/// A count of `10^-digits` units as text, with as many digits after the point.
pub fn spelled(units: i64, digits: u8) -> String {
    let digits = usize::from(digits);
    let figures = format!("{:0>width$}", units.unsigned_abs(), width = digits + 1);
    let (whole, fraction) = figures.split_at(figures.len() - digits);
    let sign = if units < 0 { "-" } else { "" };
    let point = if digits == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// Reads a text that is exactly as [`spelled`] writes it, with at most nine digits after the point;
/// `None` of any other, such as `+1`, `01`, `.5` or `-0`.
pub fn canonical(text: &str) -> Option<(i64, u8)> {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let point = unsigned.iter().position(|&byte| byte == b'.');
    let digits = point.map_or(0, |point| unsigned.len() - point - 1);
    let n_whole = point.unwrap_or(unsigned.len());
    let leads_with_zero = n_whole > 1 && unsigned.first() == Some(&b'0');
    if n_whole == 0
        || leads_with_zero
        || (point.is_some() && digits == 0)
        || digits > MAX_DIGITS
        || n_whole + digits > MAX_FIGURES
    {
        return None;
    }
    let mut units = 0i64;
    for (place, byte) in unsigned.iter().enumerate() {
        if Some(place) != point {
            units = units * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        }
    }
    if negative && units == 0 {
        return None;
    }
    Some((if negative { -units } else { units }, digits as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts of every size, and those where rounding and refusing begin.
    fn counts() -> impl Strategy<Value = i64> {
        let limit = LIMIT as i64;
        prop_oneof![
            any::<i64>(),
            (any::<i64>(), 0u32..63).prop_map(|(units, shift)| units >> shift),
            (-2_000i64..2_000).prop_map(|halves| halves * 5),
            (-20i64..20).prop_map(move |units| units + limit),
            (-20i64..20, 0u32..4).prop_map(move |(units, tens)| units - limit / 10i64.pow(tens)),
            Just(i64::MIN),
            Just(i64::MAX),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn a_rescaled_count_is_what_its_text_reads_as(
            units in counts(), digits in 0u8..=9, wanted in 0u8..=12,
        ) {
            let text = spelled(units, digits);
            prop_assert_eq!(rescale(units, digits, wanted), parse(&text, wanted), "{}", text);
        }

        #[test]
        fn digits_beyond_reason_are_counted_too(
            units in counts(), digits: u8, wanted: u8,
        ) {
            let text = spelled(units, digits);
            prop_assert_eq!(rescale(units, digits, wanted), parse(&text, wanted), "{}", text);
        }

        #[test]
        fn what_is_spelled_canonically_is_read_back(units in counts(), digits in 0u8..=9) {
            let text = spelled(units, digits);
            let fits = text.bytes().filter(u8::is_ascii_digit).count() <= MAX_FIGURES;
            prop_assert_eq!(canonical(&text), fits.then_some((units, digits)), "{}", text);
        }

        #[test]
        fn only_what_is_spelled_canonically_is_read(text in "[-+]?[0-9]{0,3}[.e, ]?[0-9]{0,10}") {
            if let Some((units, digits)) = canonical(&text) {
                prop_assert_eq!(spelled(units, digits), text);
            }
        }
    }

    #[test]
    fn a_count_is_spelled_with_all_its_digits() {
        for (units, digits, text) in
            [(1_250, 2, "12.50"), (-5, 2, "-0.05"), (7, 0, "7"), (0, 3, "0.000"), (-70, 1, "-7.0")]
        {
            assert_eq!(spelled(units, digits), text);
            assert_eq!(canonical(text), Some((units, digits)));
        }
        for text in
            ["", "-", ".", "+1", "01", "-0", "-0.00", ".5", "5.", "1e3", " 1", "1.2.3", "１"]
        {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn text_is_read_exactly() {
        for (text, units) in [
            ("11.77", 1177),
            ("12", 1200),
            ("12.0", 1200),
            ("-0.01", -1),
            ("1.5e3", 150_000),
            (".5", 50),
            ("1e-2", 1),
            ("0e99", 0),
        ] {
            assert_eq!(parse(text, 2), Ok((units, false)), "{text}");
        }
    }

    #[test]
    fn what_is_too_fine_is_rounded_half_to_even_and_said() {
        for (text, units) in [
            ("0.125", 12),
            ("0.135", 14),
            ("0.1250001", 13),
            ("0.124", 12),
            ("0.006", 1),
            ("6e-3", 1),
            ("6e-4", 0),
            ("5e-3", 0),
        ] {
            assert_eq!(parse(text, 2), Ok((units, true)), "{text}");
        }
    }

    #[test]
    fn a_float_is_its_shortest_decimal() {
        for (number, units, rounded) in [
            (11.77, 1177, false),
            (0.1 + 0.2, 30, true),
            (0.125, 12, true),
            (-2.55, -255, false),
            (1e13, 1_000_000_000_000_000, false),
            (90_071_992_547.33, 9_007_199_254_733, false),
        ] {
            assert_eq!(of_float(number, 2), Ok((units, rounded)), "{number}");
            assert_eq!(of_float(number, 2), parse(&number.to_string(), 2), "{number}");
        }
        assert_eq!(of_float(f64::NAN, 2), Err(DecimalError::NotFinite));
        assert_eq!(of_float(1e300, 2), Err(DecimalError::OutOfRange));
    }

    #[test]
    fn a_product_is_rounded_once() {
        assert_eq!(product((2_550_000, 6), (6_000, 3), 2), Ok((1_530, false)));
        assert_eq!(product((125, 3), (1_000, 3), 2), Ok((12, true)));
        assert_eq!(product((-125, 3), (1_000, 3), 2), Ok((-12, true)));
        assert_eq!(product((-375, 3), (1_000, 3), 2), Ok((-38, true)));
        assert_eq!(product((7, 0), (3, 0), 2), Ok((2_100, false)));
        assert_eq!(product((i64::MAX, 0), (i64::MAX, 0), 2), Err(DecimalError::OutOfRange));
    }

    #[test]
    fn what_is_no_amount_is_refused_by_name() {
        for text in ["", " ", "-", ".", "1,5", "12 USD", "1e", "1e1.5", "--1", "0x10", "１"] {
            assert_eq!(parse(text, 2), Err(DecimalError::Unreadable), "{text}");
        }
        for text in ["NaN", "inf", "-Infinity"] {
            assert_eq!(parse(text, 2), Err(DecimalError::NotFinite), "{text}");
        }
        for text in ["1e30", "99999999999999999", "90071992547409.93", "1e2000000000"] {
            assert_eq!(parse(text, 2), Err(DecimalError::OutOfRange), "{text}");
        }
    }
}
