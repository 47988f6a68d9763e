//! The rival of intervals: what happened to customers with alike predictions, and nothing more.

use super::{Answers, Asked, Bounds, INTERVAL_BASELINE};
use crate::domain::{AsOf, History};
use crate::features::{Encoder, Plan};
use crate::matrix::quantile;
use crate::models::blend::Blend;
use crate::models::value::NaiveRate;
use crate::training::blend::{Known, extras, fit};
use crate::training::forecast::start;
use crate::training::settings::TrainingSettings;
use crate::training::stage::Stage;
use crate::training::value::INTERVAL_LEVEL;
use crate::version::Forecast;
use rayon::prelude::*;

/// As many groups as there are tenths.
const N_GROUPS: usize = 10;

/// What is predicted of a customer: days with a purchase, and spend in major currency units.
type Predicted = (f64, f64);

/// Groups of customers by prediction, and what happened to those who were in them earlier.
struct Groups {
    /// From the group above the first on, the least prediction in it.
    edges: Vec<f64>,
    /// The outcomes of each group, ascending; empty where ties leave it without customers.
    outcomes: Vec<Vec<f64>>,
}

impl Groups {
    /// Ten groups of equal count by `predicted`, the least first; a tie is in one of them.
    fn of(predicted: &[f64], actual: &[f64]) -> Groups {
        let mut sorted = predicted.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let edge = |group: usize| sorted.get(group * sorted.len() / N_GROUPS).copied();
        let edges = (1..N_GROUPS).filter_map(edge).collect();
        let mut groups = Groups { edges, outcomes: vec![Vec::new(); N_GROUPS] };
        for (predicted, &actual) in predicted.iter().zip(actual) {
            let place = groups.place(*predicted);
            groups.outcomes[place].push(actual);
        }
        for outcomes in &mut groups.outcomes {
            outcomes.sort_unstable_by(f64::total_cmp);
        }
        groups
    }

    fn place(&self, predicted: f64) -> usize {
        self.edges.partition_point(|&edge| edge <= predicted)
    }

    /// The group of a prediction that has customers: its own, or else the next one above, or below.
    fn known(&self, predicted: f64) -> usize {
        let place = self.place(predicted);
        let has_any = |group: &usize| !self.outcomes[*group].is_empty();
        let above = (place..self.outcomes.len()).find(has_any);
        above.or_else(|| (0..place).rev().find(has_any)).unwrap_or(place)
    }

    /// The mean and the interval of each customer's group, stretched from what was asked earlier
    /// (`within`) to what is asked now (`beyond`) as the predictions of the group are.
    fn answer(&self, within: &[f64], beyond: &[f64]) -> (Vec<f64>, Bounds) {
        let groups: Vec<usize> = within.iter().map(|&predicted| self.known(predicted)).collect();
        let tail = 0.5 * (1.0 - INTERVAL_LEVEL);
        let told: Vec<[f64; 3]> = (0..self.outcomes.len())
            .map(|group| {
                let rows = || (0..groups.len()).filter(|&row| groups[row] == group);
                let total = |of: &[f64]| rows().map(|row| of[row]).sum::<f64>();
                let (from, to) = (total(within), total(beyond));
                let stretch = if from > 0.0 { to / from } else { 1.0 };
                let outcomes = &self.outcomes[group];
                let mean = outcomes.iter().sum::<f64>() / outcomes.len().max(1) as f64;
                [mean, quantile(outcomes, tail), quantile(outcomes, 1.0 - tail)]
                    .map(|number| stretch * number)
            })
            .collect();
        let each = |part: usize| groups.iter().map(|&group| told[group][part]).collect();
        (each(0), Bounds { level: INTERVAL_LEVEL, low: each(1), high: each(2) })
    }
}

impl Asked<'_> {
    /// Sorts the customers of an earlier cut-off by prediction into ten groups and takes the quantiles of
    /// what they did up to the cut-off. Predictions are those of a blend, each of a cut-off's own, or
    /// of the naive rate where there is none. The window between is the horizon, or half of the log
    /// where that is shorter.
    pub(super) fn decile_quantiles(
        &self,
        known: &[History],
        settings: &TrainingSettings,
        plan: &Plan,
        cutoff: AsOf,
        forecast: &Forecast,
    ) -> Answers {
        let mut answers = Answers::named(INTERVAL_BASELINE);
        let Some(start) = start(known, settings, cutoff) else { return answers };
        let window_days = self.days.min(cutoff.day.since(start).max(2) as u32 / 2);
        let zone = &settings.rules.zone;
        let then = zone.end_of(cutoff.day.plus(-(window_days as i32)));
        let lens = settings.lens(plan);
        let stage = Stage::at(known, &lens, then, cutoff);
        if stage.n_customers() < N_GROUPS {
            let n = stage.n_customers();
            answers.notes.push(format!("{n} customers at {} are too few for groups", then.day));
            return answers;
        }
        let early = Encoder::fit(&settings.spec, &[], &stage.raw).ok().and_then(|encoder| {
            let known = Known {
                histories: known,
                lens: &lens,
                zone,
                start,
                as_of: then,
                days: window_days,
                encoder: &encoder,
                extras: &extras(&settings.spec, &encoder),
            };
            Some((fit(&known).ok()?.model, encoder))
        });
        let late = forecast.blend.as_ref().map(|head| (&head.model, &forecast.encoder));
        let now = Asked { days: window_days, ..*self };
        let before = Asked {
            cutoff: then.day,
            days: window_days,
            raw: &stage.raw,
            lifetimes: &stage.lifetimes,
            churn_is: self.churn_is,
        };
        let (by, asked) = match (&early, late) {
            (Some((early, encoder)), Some((late, fresh))) => {
                let late = |asked: &Asked<'_>| asked.by_blend(late, fresh);
                ("blend", [before.by_blend(early, encoder), late(&now), late(self)])
            }
            _ => ("naive rate", [&before, &now, self].map(Asked::by_rate)),
        };
        let column = |part: fn(&Predicted) -> f64| {
            asked.each_ref().map(|all| all.iter().map(part).collect::<Vec<f64>>())
        };
        let [before, within, beyond] = column(|said| said.0);
        let bought: Vec<f64> = stage.purchases.iter().map(|&n| f64::from(n)).collect();
        let (mean, bounds) = Groups::of(&before, &bought).answer(&within, &beyond);
        (answers.purchases, answers.purchase_interval) = (Some(mean), Some(bounds));
        let [before, within, beyond] = column(|said| said.1);
        let (mean, bounds) = Groups::of(&before, &stage.spend).answer(&within, &beyond);
        (answers.spend, answers.spend_interval) = (Some(mean), Some(bounds));
        let n = stage.n_customers();
        answers.notes.push(format!(
            "groups by the {by}, of {n} customers at {} and the {window_days} days after it{}",
            then.day,
            if window_days < self.days {
                ", stretched to the horizon as the groups' predictions"
            } else {
                ""
            }
        ));
        answers
    }

    fn by_blend(&self, blend: &Blend, encoder: &Encoder) -> Vec<Predicted> {
        let ask = |encoded: &mut Vec<f64>, row: usize| {
            encoder.encode(self.raw.row(row), encoded);
            let said = blend.answer(&blend.look(&self.lifetimes[row], encoded, self.days));
            (said.expected_purchases, said.expected_spend)
        };
        let room = || vec![0.0; encoder.width()];
        (0..self.lifetimes.len()).into_par_iter().map_init(room, ask).collect()
    }

    fn by_rate(&self) -> Vec<Predicted> {
        let rate = NaiveRate { window_days: self.days };
        self.lifetimes.iter().map(|life| (rate.purchases(life), rate.predict(life))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(range: std::ops::Range<u32>) -> Vec<f64> {
        range.map(f64::from).collect()
    }

    #[test]
    fn a_group_has_the_quantiles_of_what_its_customers_did() {
        // Of a thousand, the group of 100..200 did 1,000 to 1,099.
        let predicted = numbers(0..1_000);
        let actual: Vec<f64> = predicted.iter().map(|value| 900.0 + value).collect();
        let groups = Groups::of(&predicted, &actual);
        let asked = [100.0, 150.0, 199.9, 5_000.0, -3.0];
        let (mean, bounds) = groups.answer(&asked, &asked);
        // numpy.quantile(range(1000, 1100), [.05, .95])
        let (low, high) = (1_004.95, 1_094.05);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        for row in 0..3 {
            assert!(close(mean[row], 1_049.5), "{mean:?}");
            assert!(close(bounds.low[row], low) && close(bounds.high[row], high), "{bounds:?}");
        }
        // What lies beyond all that was seen is in the outermost groups.
        assert!(close(mean[3], 1_849.5), "{mean:?}");
        assert!(bounds.high[4] < bounds.low[0], "{bounds:?}");
        assert_eq!(bounds.level, 0.9);
    }

    #[test]
    fn a_tie_is_in_one_group_and_empty_groups_ask_their_neighbours() {
        let predicted = [vec![0.0; 70], vec![1.0; 30]].concat();
        let actual: Vec<f64> = (0..100).map(f64::from).collect();
        let groups = Groups::of(&predicted, &actual);
        let filled: Vec<usize> = groups.outcomes.iter().map(Vec::len).filter(|&n| n > 0).collect();
        assert_eq!(filled, [70, 30]);
        let asked = [-1.0, 0.0, 0.5, 1.0];
        let (mean, _) = groups.answer(&asked, &asked);
        assert_eq!([mean[1], mean[2], mean[3]], [34.5, 34.5, 84.5]);
        assert_eq!(mean[0], mean[1]);
    }

    #[test]
    fn a_longer_horizon_stretches_as_the_predictions_do() {
        let groups = Groups::of(&numbers(0..100), &numbers(0..100));
        let within = vec![95.0; 4];
        let (short, near) = groups.answer(&within, &within);
        let (long, far) = groups.answer(&within, &[190.0, 95.0, 95.0, 190.0]);
        assert_eq!(long[0], 1.5 * short[0]);
        assert_eq!((far.low[1], far.high[2]), (1.5 * near.low[1], 1.5 * near.high[2]));
        // Where nothing was predicted nothing can be stretched by.
        let (none, _) = groups.answer(&[0.0], &[0.0]);
        assert!(none[0].is_finite());
    }
}
