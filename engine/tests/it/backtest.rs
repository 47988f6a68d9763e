//! Every model at a cut-off, and the bootstrap by which it is measured.

use crate::support::{as_of, settings, shop, train};
use habitus_engine::domain::{AsOf, History, Seed};
use habitus_engine::models::selection::Family;
use habitus_engine::scoring::Scorer;
use habitus_engine::training::{
    Backtest, INTERVAL_BASELINE, Metric, ModelScores, Ranking, Resampled, SERVED, Scorecard,
    TrainError, TrainingSettings, Who, auc, backtest, decile_mape, ece, normalised_gini, spearman,
    top_decile_capture,
};
use habitus_engine::version::{ChurnIs, Eligibility};
use proptest::collection::vec;
use proptest::prelude::*;

const CUTOFF: &str = "2021-06-30";
const UNTIL: &str = "2021-08-29";

fn kmeans() -> TrainingSettings {
    settings(Family::Kmeans, 2, 2)
}

fn backtested(log: &[History], settings: &TrainingSettings) -> Backtest {
    backtest(log, settings, as_of(CUTOFF), as_of(UNTIL), &|_| {}).unwrap()
}

/// Whom anything was known of by then, and nothing later.
fn cut(log: &[History], at: AsOf) -> Vec<History> {
    let known = log.iter().filter(|history| !history.is_empty_until(at));
    known.map(|h| History::new(h.customer().clone(), h.until(at).into_owned())).collect()
}

fn near(got: Option<f64>, want: Option<f64>, what: &str) {
    match (got, want) {
        (Some(got), Some(want)) => {
            assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{what}: {got} is not {want}")
        }
        (got, want) => assert_eq!(got, want, "{what}"),
    }
}

#[test]
fn what_is_served_is_what_training_at_the_cut_off_would_answer() {
    let (log, settings) = (shop(600, 1), kmeans());
    let found = backtested(&log, &settings);
    // Training never sees what came later.
    let trained = train(&cut(&log, as_of(CUTOFF)), &settings, as_of(CUTOFF)).unwrap();
    assert_eq!((found.clock, settings.horizon_days), (trained.evaluation.clock, 60));
    let scorer = Scorer::new(trained.version).unwrap();
    let served = found.model(SERVED).unwrap();
    let bounds = served.spend_interval.as_ref().unwrap();
    let mut answered = 0;
    for history in &log {
        let answer = scorer.predict(history, as_of(CUTOFF));
        let Some(value) = answer.value.given() else { continue };
        assert_eq!(&found.customers[answered], history.customer());
        let bits = |column: &Option<Vec<f64>>| column.as_ref().unwrap()[answered].to_bits();
        assert_eq!(bits(&served.spend), value.ltv.to_bits());
        assert_eq!(bits(&served.purchases), value.expected_purchases.unwrap().to_bits());
        assert_eq!(bounds.low[answered].to_bits(), value.ltv_low.to_bits());
        assert_eq!(bounds.high[answered].to_bits(), value.ltv_high.to_bits());
        let churn = answer.churn.given().unwrap();
        assert_eq!(bits(&served.silence), churn.probability.to_bits());
        answered += 1;
    }
    assert_eq!(answered, found.customers.len());
}

#[test]
fn models_know_nothing_of_what_comes_and_outcomes_are_what_came() {
    let (log, settings) = (shop(500, 3), kmeans());
    let found = backtested(&log, &settings);
    // The horizon of another log in which nobody ever buys again.
    let quiet = backtested(&cut(&log, as_of(CUTOFF)), &settings);
    assert_eq!(found.models, quiet.models);
    assert_eq!(found.customers, quiet.customers);
    assert!(
        quiet.churned.iter().all(|&churned| churned == Some(true))
            && quiet.spend.iter().sum::<f64>() == 0.0
    );
    let (cutoff, until) = (as_of(CUTOFF).day, as_of(UNTIL).day);
    for (row, id) in found.customers.iter().enumerate() {
        let history = log.iter().find(|history| history.customer() == id).unwrap();
        let later = history.events().iter().filter(|e| cutoff < e.day && e.day <= until);
        let mut days: Vec<i32> = later.clone().map(|event| event.day.0).collect();
        days.dedup();
        let cents: i64 = later.map(|event| event.amount.unwrap().0).sum();
        assert_eq!(found.purchases[row], days.len() as f64);
        assert!((found.spend[row] - cents as f64 / 100.0).abs() < 1e-9);
    }
}

#[test]
fn every_model_has_a_row_and_whom_heads_do_not_answer_about_is_asked_about_too() {
    let log = shop(500, 3);
    let eligibility = Eligibility { min_age_days: 100, lost_after_days: Some(200) };
    let settings = TrainingSettings { eligibility, ..kmeans() };
    let found = backtested(&log, &settings);
    let names: Vec<&str> = found.models.iter().map(|answers| answers.model.as_str()).collect();
    let families = [
        "nbd",
        "bg_nbd",
        "mbg_nbd",
        "bg_cnbd_2",
        "bg_cnbd_3",
        "mbg_cnbd_2",
        "mbg_cnbd_3",
        "pareto_nbd",
    ];
    let heads =
        ["naive_rate", "recency", "decile_quantiles", "blend", "logistic", "purchases", "hurdle"];
    assert_eq!(names, [&heads[..], &families[..], &[SERVED]].concat());
    let n = found.customers.len();
    for answers in &found.models {
        let columns = [&answers.silence, &answers.purchases, &answers.spend];
        assert!(columns.iter().any(|column| column.is_some()), "{answers:?}");
        columns.iter().for_each(|column| assert!(column.as_ref().is_none_or(|c| c.len() == n)));
    }
    let count = |flags: &[bool]| flags.iter().filter(|&&flag| flag).count();
    let (valued, churning) = (count(&found.is_valued), count(&found.is_churning));
    assert!(0 < churning && churning < valued && valued <= n, "{churning} {valued} {n}");
    let all = found.scorecard(Who::All, 0, Seed(1));
    let some = found.scorecard(Who::Eligible, 0, Seed(1));
    assert_eq!((all.churn.n_customers, all.spend.n_customers), (n, n));
    assert_eq!((some.churn.n_customers, some.purchases.n_customers), (churning, valued));
    let curves = found.curves();
    let served = curves.iter().find(|curves| curves.model == SERVED).unwrap();
    let n_in_bins: usize =
        served.calibration.iter().flatten().map(|decile| decile.n_customers).sum();
    assert_eq!(n_in_bins, n);
    let (gain, best) = (served.gain.as_ref().unwrap(), found.best_gain().unwrap());
    assert_eq!((gain.len(), gain[0], gain[100]), (101, 0.0, 1.0));
    assert!(gain.is_sorted() && gain.iter().zip(&best).all(|(got, best)| *got <= best + 1e-12));
}

#[test]
fn intervals_are_held_against_empirical_quantiles_by_tenths() {
    let found = backtested(&shop(900, 4), &kmeans());
    let rival = found.model(INTERVAL_BASELINE).unwrap();
    assert!(rival.notes[0].contains("groups by the blend"), "{:?}", rival.notes);
    let bounds = rival.spend_interval.as_ref().unwrap();
    let mut different: Vec<u64> = bounds.high.iter().map(|high| high.to_bits()).collect();
    different.sort_unstable();
    different.dedup();
    assert!((2..=10).contains(&different.len()), "{different:?}");
    assert!(bounds.low.iter().zip(&bounds.high).all(|(low, high)| low <= high));
    let card = found.scorecard(Who::All, 50, Seed(1));
    for section in [&card.purchases, &card.spend] {
        assert_eq!(section.interval_baseline, Some(INTERVAL_BASELINE));
        let of = |name: &str| section.models.iter().find(|model| model.model == name).unwrap();
        let (blend, rival) = (of("blend"), of(INTERVAL_BASELINE));
        let held = rival.scores[&Metric::IntervalCoverage].estimate;
        assert!((0.7..=1.0).contains(&held), "{held}");
        let gain = &blend.gains[&Metric::IntervalScore];
        let score = |model: &ModelScores| model.scores[&Metric::IntervalScore].estimate;
        near(Some(gain.estimate), Some(score(rival) - score(blend)), "gain");
        assert!(gain.low.unwrap() <= gain.estimate && gain.estimate <= gain.high.unwrap());
        assert!(!rival.gains.contains_key(&Metric::IntervalScore));
        // Of other metrics gains are over the naive rate.
        assert!(rival.gains.contains_key(&Metric::Mae));
    }
    assert_eq!(card.churn.interval_baseline, None);
    // Too few for a blend are sorted by the naive rate.
    let few = backtested(&shop(120, 4), &kmeans());
    let rival = few.model(INTERVAL_BASELINE).unwrap();
    assert!(rival.notes[0].contains("groups by the naive rate"), "{:?}", rival.notes);
    assert!(rival.spend_interval.is_some());
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let (log, settings) = (shop(100, 3), kmeans());
    let ask = |settings: &TrainingSettings, cutoff: &str, until: &str| {
        backtest(&log, settings, as_of(cutoff), as_of(until), &|_| {}).map(|_| ())
    };
    let labels = TrainingSettings { churn_is: ChurnIs::Label, ..settings.clone() };
    assert_eq!(ask(&labels, CUTOFF, UNTIL), Err(TrainError::LabelsNotEvaluated));
    let backwards = ask(&settings, UNTIL, CUTOFF);
    assert!(matches!(backwards, Err(TrainError::NoHorizon { .. })), "{backwards:?}");
    let early = ask(&settings, "2020-01-20", "2020-03-01");
    assert!(matches!(early, Err(TrainError::Clock(_))), "{early:?}");
    let never = ask(&settings, "2019-01-20", "2020-03-01");
    assert!(matches!(never, Err(TrainError::NoEvents { .. })), "{never:?}");
}

#[test]
fn any_number_of_threads_measures_the_same_and_intervals_hold_the_numbers() {
    let found = backtested(&shop(500, 3), &kmeans());
    let in_pool = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| found.scorecard(Who::All, 100, Seed(5)))
    };
    let card: Scorecard = in_pool(1);
    assert_eq!(card, in_pool(4));
    assert_ne!(card, found.scorecard(Who::All, 100, Seed(6)));
    for section in [&card.churn, &card.purchases, &card.spend] {
        for model in &section.models {
            for (metric, score) in &model.scores {
                let (low, high) = (score.low.unwrap(), score.high.unwrap());
                let error = score.standard_error.unwrap();
                assert!(low <= high && error >= 0.0, "{} {metric:?}", model.model);
                // Of a bias of its own, as ECE and decile MAPE have it, no interval knows.
                let slack =
                    if matches!(metric, Metric::Ece | Metric::DecileMape) { 4.0 } else { 0.0 };
                let held = low - slack * error <= score.estimate;
                assert!(held && score.estimate <= high, "{} {metric:?} {score:?}", model.model);
            }
            let is_baseline = model.model == section.baseline;
            assert_eq!(model.gains.is_empty(), is_baseline, "{}", model.model);
        }
    }
    let bare = found.scorecard(Who::All, 0, Seed(5));
    let served = |card: &Scorecard| card.spend.models.last().unwrap().scores[&Metric::Mae];
    assert_eq!(served(&bare).estimate, served(&card).estimate);
    assert_eq!(served(&bare).standard_error, None);
}

#[test]
fn a_gain_is_the_difference_over_the_same_draws() {
    let found = backtested(&shop(400, 2), &kmeans());
    let card = found.scorecard(Who::All, 200, Seed(5));
    let model = |name: &str| card.churn.models.iter().find(|model| model.model == name).unwrap();
    let (base, own) = (model("recency"), model("logistic"));
    let (brier, gain) = (own.scores[&Metric::Brier], own.gains[&Metric::Brier]);
    let apart = base.scores[&Metric::Brier];
    assert!((apart.estimate - brier.estimate - gain.estimate).abs() < 1e-12);
    // What is paired is surer than two numbers apart.
    let unpaired = apart.standard_error.unwrap().hypot(brier.standard_error.unwrap());
    assert!(gain.standard_error.unwrap() < unpaired);
}

#[test]
fn the_standard_error_of_a_mean_is_as_theory_has_it() {
    let values: Vec<f64> = (0..1_000).map(|row| f64::from(row % 10)).collect();
    let mean = |weights: &[f64]| {
        vec![Some(values.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>() / 1_000.0)]
    };
    let resampled = Resampled::of(1_000, mean, Seed(3), 2_000);
    let found = resampled.estimate(|values| values[0]).unwrap();
    let error = (8.25_f64 / 1_000.0).sqrt();
    assert!((found.estimate - 4.5).abs() < 1e-12);
    assert!((found.standard_error.unwrap() / error - 1.0).abs() < 0.08, "{found:?}");
    let half = (found.high.unwrap() - found.low.unwrap()) / 2.0;
    assert!((half / (1.96 * error) - 1.0).abs() < 0.1, "{found:?}");
    assert_eq!(resampled.estimate(|_| None), None);
    assert_eq!(Resampled::of(0, |_| vec![None], Seed(3), 9).estimate(|values| values[0]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A row that counts so often is so many rows.
    #[test]
    fn weights_are_repeated_rows(rows in vec((0u32..6, 0u32..8, 0u32..4), 1..60)) {
        let often = |value: &dyn Fn(&(u32, u32, u32)) -> f64| -> Vec<f64> {
            rows.iter().flat_map(|row| vec![value(row); row.2 as usize]).collect()
        };
        let column = |value: &dyn Fn(&(u32, u32, u32)) -> f64| -> Vec<f64> {
            rows.iter().map(value).collect()
        };
        let actual: &dyn Fn(&(u32, u32, u32)) -> f64 = &|row| f64::from(row.0.saturating_sub(2)) * 1.5;
        let predicted: &dyn Fn(&(u32, u32, u32)) -> f64 = &|row| f64::from(row.1) / 8.0;
        let silent: &dyn Fn(&(u32, u32, u32)) -> f64 = &|row| f64::from(u8::from(row.0 > 2));
        let weights = column(&|row| f64::from(row.2));
        let (a, p, c) = (column(actual), column(predicted), column(silent));
        let (many_a, many_p) = (often(actual), often(predicted));
        let many_c: Vec<bool> = often(silent).into_iter().map(|silent| silent > 0.0).collect();
        let by_p = Ranking::of(&p);
        let own = Ranking::of(&a).gini(&a, &weights);
        near(by_p.auc(&c, &weights), auc(&many_c, &many_p), "AUC");
        near(by_p.normalised_gini(own, &a, &weights), normalised_gini(&many_a, &many_p), "Gini");
        near(by_p.top_decile(&a, &weights), top_decile_capture(&many_a, &many_p), "top decile");
        near(by_p.decile_mape(&a, &p, &weights), decile_mape(&many_a, &many_p), "decile MAPE");
        if !many_a.is_empty() {
            near(Some(by_p.ece(&c, &p, &weights)), Some(ece(&many_c, &many_p)), "ECE");
        }
        let ranked = |values: &[f64]| {
            let mut ranks = vec![0.0; values.len()];
            Ranking::of(values).ranks(&weights, &mut ranks);
            rows.iter().zip(ranks).flat_map(|(row, rank)| vec![rank; row.2 as usize]).collect()
        };
        // Spearman of ranks is Spearman of what was ranked.
        let (ranks_a, ranks_p): (Vec<f64>, Vec<f64>) = (ranked(&a), ranked(&p));
        near(spearman(&ranks_a, &ranks_p), spearman(&many_a, &many_p), "Spearman");
    }

    #[test]
    fn metrics_do_not_depend_on_the_order_of_rows(
        rows in vec((0u32..6, 0u32..8), 10..60), turn in 0usize..60
    ) {
        let split = |rows: &[(u32, u32)]| -> (Vec<f64>, Vec<f64>) {
            rows.iter().map(|row| (f64::from(row.0), f64::from(row.1))).unzip()
        };
        let (a, p) = split(&rows);
        let mut turned = rows.clone();
        turned.rotate_left(turn % rows.len());
        let (turned_a, turned_p) = split(&turned);
        for metric in [spearman, top_decile_capture, decile_mape, normalised_gini] {
            near(metric(&turned_a, &turned_p), metric(&a, &p), "turned");
        }
    }
}
