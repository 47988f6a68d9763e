//! Whole numbers of a column in as few bytes as the largest takes beside the least.

use std::ops::Range;

/// Numbers by their place.
#[derive(Debug)]
pub(super) struct Numbers {
    least: i64,
    /// Whether each is the least and so many thousands, and not so many ones.
    in_thousands: bool,
    steps: Steps,
}

/// How many ones or thousands each is above the least.
#[derive(Debug)]
enum Steps {
    Short(Vec<u16>),
    Middle(Vec<u32>),
    Long(Vec<u64>),
}

/// Times in milliseconds are mostly of whole seconds.
const THOUSAND: u64 = 1_000;

impl Numbers {
    /// Numbers of which each goes to its own place.
    pub fn of(numbers: &[i64], places: &[u32]) -> Numbers {
        let least = numbers.iter().copied().min().unwrap_or(0);
        let steps = Steps::of(numbers, places, |number| number.wrapping_sub(least) as u64);
        Numbers { least, in_thousands: false, steps }
    }

    /// The same of times.
    pub fn of_times(times: &[i64], places: &[u32]) -> Numbers {
        if times.iter().any(|time| time % THOUSAND as i64 != 0) {
            return Numbers::of(times, places);
        }
        let least = times.iter().copied().min().unwrap_or(0);
        let steps = Steps::of(times, places, |time| time.wrapping_sub(least) as u64 / THOUSAND);
        Numbers { least, in_thousands: true, steps }
    }

    /// Those of some places, in place of what stood in `numbers`.
    pub fn put(&self, places: Range<usize>, numbers: &mut Vec<i64>) {
        numbers.clear();
        match &self.steps {
            Steps::Short(steps) => self.put_steps(&steps[places], numbers),
            Steps::Middle(steps) => self.put_steps(&steps[places], numbers),
            Steps::Long(steps) => self.put_steps(&steps[places], numbers),
        }
    }

    #[inline]
    fn put_steps<T: Copy + Into<u64>>(&self, steps: &[T], numbers: &mut Vec<i64>) {
        let least = self.least;
        if self.in_thousands {
            let number =
                |&steps: &T| least.wrapping_add(steps.into().wrapping_mul(THOUSAND) as i64);
            numbers.extend(steps.iter().map(number));
        } else {
            numbers.extend(steps.iter().map(|&steps| least.wrapping_add(steps.into() as i64)));
        }
    }

    /// How much memory they take.
    pub fn n_bytes(&self) -> usize {
        match &self.steps {
            Steps::Short(steps) => size_of_val(steps.as_slice()),
            Steps::Middle(steps) => size_of_val(steps.as_slice()),
            Steps::Long(steps) => size_of_val(steps.as_slice()),
        }
    }
}

impl Steps {
    fn of(numbers: &[i64], places: &[u32], steps: impl Fn(i64) -> u64) -> Steps {
        // The largest number has the most steps.
        let most = numbers.iter().copied().max().map_or(0, &steps);
        if most <= u64::from(u16::MAX) {
            Steps::Short(placed(numbers, places, |number| steps(number) as u16))
        } else if most <= u64::from(u32::MAX) {
            Steps::Middle(placed(numbers, places, |number| steps(number) as u32))
        } else {
            Steps::Long(placed(numbers, places, steps))
        }
    }
}

fn placed<T: Clone + Default>(numbers: &[i64], places: &[u32], steps: impl Fn(i64) -> T) -> Vec<T> {
    let mut placed = vec![T::default(); numbers.len()];
    for (&number, &place) in numbers.iter().zip(places) {
        placed[place as usize] = steps(number);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_width_come_back_from_their_places() {
        let wide = [i64::MIN, i64::MAX, 0, -1];
        let middle = [-5, i64::from(u32::MAX) - 5, 7, 7];
        let short = [1 << 40, (1 << 40) + 65_535, (1 << 40) + 1, 1 << 40];
        let seconds = [-86_400_000, 1_577_836_800_000, 0, 1_000];
        let places = [2, 0, 3, 1];
        for (numbers, n_bytes) in [(wide, 32), (middle, 16), (short, 8), (seconds, 16)] {
            let kept = Numbers::of_times(&numbers, &places);
            assert_eq!(kept.n_bytes(), n_bytes);
            let mut found = vec![9; 9];
            for (&number, &place) in numbers.iter().zip(&places) {
                kept.put(place as usize..place as usize + 1, &mut found);
                assert_eq!(found, [number]);
            }
            kept.put(0..4, &mut found);
            assert_eq!(found, [numbers[1], numbers[3], numbers[0], numbers[2]]);
        }
        assert_eq!(Numbers::of(&[], &[]).n_bytes(), 0);
    }
}
