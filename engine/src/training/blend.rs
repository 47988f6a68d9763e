//! Fits a blend at an as-of, from the windows after several earlier cut-offs.

use super::stage::{Lens, Stage};
use crate::domain::{AsOf, Day, EventKind, History, Zone};
use crate::features::{Aggregate, Encoder, Feature, FeatureSpec};
use crate::matrix::quantile;
use crate::models::blend::{
    Blend, Counts, Experts, Look, N_INPUTS, Parts, Residuals, Scale, Views, inputs, log_odds,
};
use crate::models::linear::{GlmParams, Linear, Link, Targets, sigmoid};
use crate::models::{Diagnostics, Fit, FitError};
use ndarray::Array2;
use rayon::prelude::*;

/// The share of customers that intervals are meant to hold.
pub const INTERVAL_LEVEL: f64 = 0.9;

/// With fewer customers at a cut-off, or fewer of either outcome at all, regressions learn noise, and
/// the models of purchases alone do better.
const LEAST_CUSTOMERS: usize = 300;
const LEAST_OF_EACH: usize = 50;

/// Regressions of some dozen inputs learn nothing more from more customers of one cut-off.
const MOST_CUSTOMERS: usize = 50_000;

/// Cut-offs lie a quarter of a window apart, and each has so much of the log before it.
const N_CUTS: i32 = 4;
const LEAST_HISTORY: f64 = 0.15;

/// Weights of the penalties against mean losses.
const SILENCE_PENALTY: f64 = 1e-3;
const SILENCE_L1_RATIO: f64 = 0.1;
const AMOUNT_PENALTY: f64 = 0.1;
const BASKET_PENALTY: f64 = 1e-3;

/// Spends beyond this quantile are not learned from as they are: one of them outweighs all others.
const CAP: f64 = 0.999;
const CAP_OF_BUYERS: f64 = 0.99;

/// The least share of purchase days' mean spend that amounts are told apart above.
const LEAST_SPEND: f64 = 0.01;

/// What a blend is fitted to.
pub struct Known<'a> {
    pub histories: &'a [History],
    pub lens: &'a Lens<'a>,
    pub zone: &'a Zone,
    /// The day on which the clock starts.
    pub start: Day,
    /// Nothing later is looked at.
    pub as_of: AsOf,
    /// How many days after the as-of will be asked about.
    pub days: u32,
    pub encoder: &'a Encoder,
    /// The places in encoded rows of features that are not about purchases.
    pub extras: &'a [usize],
}

/// Customers at one cut-off.
struct Cut {
    stage: Stage,
    /// `(n_customers, width)`.
    encoded: Array2<f64>,
    experts: Experts,
    /// What they say of the window, `(n_customers,)`.
    views: Vec<Views>,
    days: u32,
}

impl Cut {
    fn at(known: &Known<'_>, cutoff: AsOf, until: AsOf, days: u32) -> Result<Cut, FitError> {
        let lens = Lens { at_most: MOST_CUSTOMERS, ..*known.lens };
        let stage = Stage::at(known.histories, &lens, cutoff, until);
        let got = stage.n_customers();
        if got < LEAST_CUSTOMERS {
            return Err(FitError::TooFewRows { got, need: LEAST_CUSTOMERS });
        }
        let experts = Experts::fit(&stage.lifetimes)?;
        let views = stage.lifetimes.par_iter().map(|life| experts.views(life, days)).collect();
        Ok(Cut { encoded: known.encoder.encode_all(&stage.raw), stage, experts, views, days })
    }

    fn n_customers(&self) -> usize {
        self.stage.n_customers()
    }

    /// What a blend says of each customer here, asked with the experts of this cut-off.
    fn parts(&self, blend: &Blend) -> Vec<Parts> {
        self.looks(blend).iter().map(|look| blend.parts(look)).collect()
    }

    /// What it sees of them.
    fn looks(&self, blend: &Blend) -> Vec<Look> {
        let blend = Blend { experts: self.experts.clone(), ..blend.clone() };
        let look = |row: usize| {
            let encoded = self.encoded.row(row).to_vec();
            blend.look(&self.stage.lifetimes[row], &encoded, self.days)
        };
        (0..self.n_customers()).into_par_iter().map(look).collect()
    }
}

/// Fits the blend. The same histories give the same bits, for any number of threads.
///
/// # Errors
/// [`FitError`] where the customers are too few, or too few bought or did not.
pub fn fit(known: &Known<'_>) -> Result<Fit<Blend>, FitError> {
    let cuts = cuts(known)?;
    let silent = |cut: &Cut| cut.stage.purchases.iter().filter(|&&n| n == 0).count();
    let n: usize = cuts.iter().map(Cut::n_customers).sum();
    let n_silent: usize = cuts.iter().map(silent).sum();
    let got = n_silent.min(n - n_silent);
    if got < LEAST_OF_EACH {
        return Err(FitError::TooFewRows { got, need: LEAST_OF_EACH });
    }
    let now = Cut::at(known, known.as_of, known.as_of, known.days)?;
    let mut blend = regress(known, &cuts, &now)?;
    let told: Vec<Vec<Parts>> = cuts.iter().map(|cut| cut.parts(&blend.model)).collect();
    let levels = level(&mut blend.model, &cuts, &told, &now);
    spread(&mut blend.model, &cuts, &told);
    let looks = now.looks(&blend.model);
    blend.model.see_typical(&looks);
    let days: Vec<String> = cuts.iter().map(|cut| cut.stage.cutoff.to_string()).collect();
    let window = cuts.first().map_or(0, |cut| cut.days);
    blend.diagnostics.notes.push(format!("learned from {window} days after {}", days.join(", ")));
    blend.diagnostics.notes.push(levels);
    Ok(blend)
}

/// The customers at the earlier cut-offs, the latest first.
fn cuts(known: &Known<'_>) -> Result<Vec<Cut>, FitError> {
    let span = known.as_of.day.since(known.start);
    let window = (known.days as i32).min(span / 2).max(1);
    let end_of =
        |day: Day| if day == known.as_of.day { known.as_of } else { known.zone.end_of(day) };
    let mut cuts = Vec::new();
    for back in 0..N_CUTS {
        let cutoff = known.as_of.day.plus(-window - (back * window / 4).max(back));
        if f64::from(cutoff.since(known.start)) < LEAST_HISTORY * f64::from(span) {
            break;
        }
        match Cut::at(known, end_of(cutoff), end_of(cutoff.plus(window)), window as u32) {
            Ok(cut) => cuts.push(cut),
            Err(error) if cuts.is_empty() => return Err(error),
            // Earlier, there were fewer customers.
            Err(_) => break,
        }
    }
    Ok(cuts)
}

/// The regressions, learned from the customers of all cut-offs together.
fn regress(known: &Known<'_>, cuts: &[Cut], now: &Cut) -> Result<Fit<Blend>, FitError> {
    let lifetimes = || cuts.iter().flat_map(|cut| &cut.stage.lifetimes);
    let spent: f64 = lifetimes().map(|life| life.total_spend).sum();
    let bought: f64 = lifetimes().map(|life| f64::from(life.purchase_days)).sum();
    let least_spend = (LEAST_SPEND * spent / bought.max(1.0)).max(1e-6);
    let width = N_INPUTS + known.extras.len();
    let mut rows = Vec::new();
    for cut in cuts {
        for (row, (life, views)) in cut.stage.lifetimes.iter().zip(&cut.views).enumerate() {
            rows.extend(inputs(life, views, cut.days, least_spend));
            rows.extend(known.extras.iter().map(|&place| cut.encoded[[row, place]]));
        }
    }
    let column = |place: usize| rows.iter().skip(place).step_by(width).copied();
    let scales: Vec<Scale> = (0..width).map(|place| Scale::of(column(place))).collect();
    for row in rows.chunks_exact_mut(width) {
        row.iter_mut().zip(&scales).for_each(|(value, scale)| *value = scale.apply(*value));
    }
    let purchases: Vec<f64> =
        cuts.iter().flat_map(|cut| &cut.stage.purchases).map(|&n| f64::from(n)).collect();
    let spends: Vec<f64> = cuts.iter().flat_map(|cut| cut.stage.spend.iter().copied()).collect();
    let n = purchases.len() as f64;
    let mut notes = Vec::new();
    let mut learn = |name, link, penalty, l1_ratio, rows: &[f64], targets: &[f64]| {
        let fit = GlmParams { link, penalty, l1_ratio }.fit(&Targets { rows, width, targets })?;
        notes.extend(fit.diagnostics.notes.iter().map(|note| format!("{name}: {note}")));
        Ok::<Fit<Linear>, FitError>(fit)
    };
    let silences: Vec<f64> = purchases.iter().map(|&n| f64::from(u8::from(n == 0.0))).collect();
    let penalty = SILENCE_PENALTY.max(10.0 / n);
    let silence = learn("silence", Link::Logit, penalty, SILENCE_L1_RATIO, &rows, &silences)?;
    let counted = learn("purchases", Link::Log, AMOUNT_PENALTY, 0.0, &rows, &purchases)?;
    let mut sorted = spends.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    // Where few buy, most of those who do must still be told apart.
    let of_buyers = &sorted[sorted.partition_point(|&spend| spend <= 0.0)..];
    let least = if of_buyers.is_empty() { 0.0 } else { quantile(of_buyers, CAP_OF_BUYERS) };
    let cap = quantile(&sorted, CAP).max(least);
    let mean = spends.iter().map(|spend| spend.min(cap)).sum::<f64>() / n;
    let shares: Vec<f64> = spends.iter().map(|spend| spend.min(cap) / mean).collect();
    let mut spend = if mean > 0.0 {
        learn("spend", Link::Log, AMOUNT_PENALTY, 0.0, &rows, &shares)?
    } else {
        // Nothing that was bought cost anything.
        return Err(FitError::OneClass);
    };
    spend.model.intercept += libm::log(mean);
    let (mut of_buyers, mut baskets) = (Vec::new(), Vec::new());
    for (row, &spend) in rows.chunks_exact(width).zip(&spends) {
        if spend > 0.0 {
            of_buyers.extend_from_slice(row);
            baskets.push(libm::log(spend));
        }
    }
    let basket = learn("basket", Link::Identity, BASKET_PENALTY, 0.0, &of_buyers, &baskets)?;
    let diagnostics = Diagnostics { notes, ..silence.diagnostics };
    let blend = Blend {
        experts: now.experts.clone(),
        least_spend,
        extras: known.extras.to_vec(),
        typical: vec![0.0; scales.len()],
        scales,
        silence: silence.model,
        silence_level: 0.0,
        purchases: counted.model,
        purchases_level: 1.0,
        spend: spend.model,
        basket: basket.model,
        largest_basket: baskets.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        spend_level: 1.0,
        residuals: Residuals::of(Vec::new()),
        counts: Counts { dispersion: 1.0 },
        interval_level: INTERVAL_LEVEL,
    };
    Ok(Fit { model: blend, diagnostics })
}

/// Sets the levels, and says what each expert would have set.
fn level(blend: &mut Blend, cuts: &[Cut], told: &[Vec<Parts>], now: &Cut) -> String {
    let n_cuts = cuts.len() as f64;
    // How far the model of customers who never leave was off.
    let silence_drift = cuts.iter().map(|cut| {
        let odds: Vec<f64> =
            cut.views.iter().map(|views| log_odds(views.nbd.p_no_purchase)).collect();
        let silent = cut.stage.purchases.iter().filter(|&&n| n == 0).count() as f64;
        shift(&odds, silent / cut.n_customers() as f64)
    });
    let silence_drift = silence_drift.sum::<f64>() / n_cuts;
    let total = |cut: &Cut| cut.stage.purchases.iter().map(|&n| f64::from(n)).sum::<f64>();
    let purchases_drift = cuts.iter().map(|cut| {
        let expected: f64 = cut.views.iter().map(|views| views.nbd.expected_purchases).sum();
        libm::log(total(cut).max(1.0) / expected.max(f64::MIN_POSITIVE))
    });
    let purchases_drift = purchases_drift.sum::<f64>() / n_cuts;

    let parts = now.parts(blend);
    let n = parts.len() as f64;
    let mean = |value: &dyn Fn(&Parts) -> f64| parts.iter().map(value).sum::<f64>() / n;
    let rates = [
        mean(&|part| sigmoid(log_odds(part.views.nbd.p_no_purchase) + silence_drift)),
        mean(&|part| part.views.mbg_nbd.p_no_purchase),
        mean(&|part| sigmoid(part.log_odds)),
    ];
    let rate = sigmoid(rates.map(log_odds).iter().sum::<f64>() / 3.0);
    let odds: Vec<f64> = parts.iter().map(|part| part.log_odds).collect();
    blend.silence_level = shift(&odds, rate);
    let means = [
        libm::exp(purchases_drift) * mean(&|part| part.views.nbd.expected_purchases),
        mean(&|part| part.views.mbg_nbd.expected_purchases),
        mean(&|part| part.regressed_purchases),
    ];
    let ln = |value: f64| libm::log(value.max(f64::MIN_POSITIVE));
    let purchases = libm::exp(means.map(ln).iter().sum::<f64>() / 3.0);
    blend.purchases_level = purchases / mean(&|part| part.purchases).max(f64::MIN_POSITIVE);

    // Spend is what those purchases are worth by the customers' own baskets, as far as that held at
    // the cut-offs.
    let (mut spent, mut worth) = (0.0, 0.0);
    for (cut, parts) in cuts.iter().zip(told) {
        let level = total(cut) / parts.iter().map(|part| part.purchases).sum::<f64>();
        spent += cut.stage.spend.iter().sum::<f64>();
        worth += parts.iter().map(|part| level * part.purchases * part.basket).sum::<f64>();
    }
    let wanted = mean(&|part| blend.purchases_level * part.purchases * part.basket) * spent / worth;
    let reached = mean(&|part| part.mean_spend(blend.purchases_level * part.purchases));
    let spend_level = wanted / reached;
    blend.spend_level = if spend_level.is_finite() { spend_level } else { 1.0 };
    let told = |values: [f64; 3]| values.map(|value| format!("{value:.4}")).join(", ");
    format!(
        "of the nbd corrected, the mbg_nbd and the regression, P(no purchase) is {} on average, and \
         expected purchases are {}",
        told(rates),
        told(means)
    )
}

/// Learns how outcomes lie around what was expected at the cut-offs, brought to what happened there in
/// all.
fn spread(blend: &mut Blend, cuts: &[Cut], told: &[Vec<Parts>]) {
    let (mut ln_ratios, mut pairs) = (Vec::new(), Vec::new());
    let actual_purchases: f64 =
        cuts.iter().flat_map(|cut| &cut.stage.purchases).map(|&n| f64::from(n)).sum();
    let expected: f64 = told.iter().flatten().map(|part| part.purchases).sum();
    let of_purchases = actual_purchases / expected;
    let spent: f64 = cuts.iter().flat_map(|cut| &cut.stage.spend).sum();
    let spend = |part: &Parts| part.mean_spend(of_purchases * part.purchases);
    let of_spend = spent / told.iter().flatten().map(spend).sum::<f64>();
    for (cut, parts) in cuts.iter().zip(told) {
        for (row, part) in parts.iter().enumerate() {
            let buys = sigmoid(-part.log_odds).max(1e-9);
            let n = f64::from(cut.stage.purchases[row]);
            if n > 0.0 {
                let more = of_purchases * part.purchases / buys - 1.0;
                pairs.push((n - 1.0, more.max(0.02)));
            }
            if cut.stage.spend[row] > 0.0 {
                let expected = of_spend * spend(part) / buys;
                ln_ratios.push(libm::log(cut.stage.spend[row] / expected.max(1e-9)));
            }
        }
    }
    blend.residuals = Residuals::of(ln_ratios);
    blend.counts = Counts::of(&pairs);
}

/// What must be added to log-odds so that the mean probability is `rate`.
fn shift(odds: &[f64], rate: f64) -> f64 {
    let rate = rate.clamp(0.002, 0.998);
    let mut shift = 0.0;
    for _ in 0..60 {
        let (mut sum, mut slope) = (0.0, 0.0);
        for odds in odds {
            let p = sigmoid(odds + shift);
            sum += p;
            slope += p * (1.0 - p);
        }
        let n = odds.len() as f64;
        let step = (rate - sum / n) / (slope / n).max(1e-6);
        shift += step.clamp(-2.0, 2.0);
        if step.abs() < 1e-12 {
            break;
        }
    }
    shift
}

/// The places in encoded rows of features that are not about purchases alone, or about some of them.
/// Of all purchases the blend's own inputs tell what is worth telling.
pub fn extras(spec: &FeatureSpec, encoder: &Encoder) -> Vec<usize> {
    let is_told = |feature: &Feature| {
        let of_customer = matches!(
            feature.aggregate,
            Aggregate::Attribute | Aggregate::OneHot | Aggregate::DaysSinceRegistered
        );
        let only = |kinds: &[EventKind]| kinds.iter().all(|kind| *kind == EventKind::Purchase);
        !of_customer
            && !feature.kinds.is_empty()
            && only(&feature.kinds)
            && only(&feature.over_kinds)
            && feature.filter.is_empty()
    };
    let columns = encoder.columns.iter().enumerate();
    columns
        .filter(|(_, column)| !is_told(&spec.0[column.feature]))
        .map(|(place, _)| place)
        .collect()
}
