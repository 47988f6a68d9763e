//! Models of purchases and of spend: numbers of others (see `../golden/README.md`), laws, what
//! simulated customers give back, and cohorts of any kind.

use crate::golden::{get, near, read};
use habitus_engine::domain::{Draws, Seed};
use habitus_engine::models::btyd::{
    BetaGeometric, BgBb, BgBbParams, Cohort, GammaGamma, Nbd, OccasionCohort, Occasions, Pareto,
    Prospects, PurchaseFamily, PurchaseFit, PurchaseModel, PurchaseParams, Purchases, Spend,
    SpendCohort,
};
use habitus_engine::models::{Estimator, Fit};
use rayon::prelude::*;
use serde_json::Value;

/// A customer whose single gaps do not matter.
fn purchases(frequency: u32, recency: f64, age: f64) -> Purchases {
    Purchases { frequency, recency, age, ln_gaps: 0.0 }
}

// --- Numbers of others --------------------------------------------------------------------------

/// The family that a golden file calls so.
fn family(name: &str) -> PurchaseFamily {
    match name {
        "NBD" => PurchaseFamily::Nbd,
        "BG/NBD" => PurchaseFamily::BgNbd,
        "MBG/NBD" => PurchaseFamily::MbgNbd,
        "BG/CNBD-2" => PurchaseFamily::BgCnbd2,
        "MBG/CNBD-2" => PurchaseFamily::MbgCnbd2,
        "MBG/CNBD-3" => PurchaseFamily::MbgCnbd3,
        "Pareto/NBD" => PurchaseFamily::ParetoNbd,
        _ => panic!("no such family: {name}"),
    }
}

/// A model of the family with the parameters r, alpha and the two of drop-out.
fn model(family: PurchaseFamily, [r, alpha, third, fourth]: [f64; 4]) -> PurchaseModel {
    let beta_geometric = |k, modified| {
        PurchaseModel::BetaGeometric(BetaGeometric { r, alpha, a: third, b: fourth, k, modified })
    };
    match family {
        PurchaseFamily::Nbd => PurchaseModel::Nbd(Nbd { r, alpha }),
        PurchaseFamily::BgNbd => beta_geometric(1, false),
        PurchaseFamily::MbgNbd => beta_geometric(1, true),
        PurchaseFamily::BgCnbd2 => beta_geometric(2, false),
        PurchaseFamily::BgCnbd3 => beta_geometric(3, false),
        PurchaseFamily::MbgCnbd2 => beta_geometric(2, true),
        PurchaseFamily::MbgCnbd3 => beta_geometric(3, true),
        PurchaseFamily::ParetoNbd => {
            PurchaseModel::ParetoNbd(Pareto { r, alpha, s: third, beta: fourth })
        }
    }
}

/// The model with the parameters of a golden file.
fn golden_model(case: &Value) -> PurchaseModel {
    let family = family(&get::<String>(case, "model"));
    let of = |name: &str| case["parameters"][name].as_f64();
    let either = |one, other| of(one).or(of(other)).unwrap_or_default();
    let parameters = [("r", "r"), ("alpha", "alpha"), ("a", "s"), ("b", "beta")];
    model(family, parameters.map(|(one, other)| either(one, other)))
}

/// Histories of a golden file, each T and then the gaps in days, in another unit of time.
fn histories(file: &Value, key: &str, unit: impl Fn(f64) -> f64) -> Vec<Purchases> {
    get::<Vec<Vec<f64>>>(file, key)
        .into_iter()
        .map(|history| Purchases {
            frequency: history.len() as u32 - 1,
            recency: unit(history[1..].iter().sum()),
            age: unit(history[0]),
            ln_gaps: history[1..].iter().map(|&gap| unit(gap).ln()).sum(),
        })
        .collect()
}

/// The customers that a golden file's fit calls so.
fn data(file: &Value, name: &str) -> Option<Vec<Purchases>> {
    match name {
        "cdnow, days" => Some(histories(file, "cdnow_days", |days| days)),
        // As published, with two decimals.
        "cdnow, weeks" => Some(histories(file, "cdnow_days", |days| (days / 0.07).round() / 100.0)),
        "online_retail, days" => Some(histories(file, "online_retail_days", |days| days)),
        _ => None,
    }
}

fn fit(family: PurchaseFamily, customers: &[Purchases]) -> Fit<PurchaseFit> {
    let cohort = Cohort::new(customers).unwrap();
    PurchaseParams { family }.fit(&cohort, Seed(1)).unwrap()
}

fn spend(file: &Value) -> SpendCohort {
    let spend: Vec<(u32, f64)> = get(file, "cdnow_spend_cents");
    let customer = |(frequency, cents)| (Spend { frequency, mean: cents / 100.0 }, 1.0);
    SpendCohort::new(&spend.into_iter().map(customer).collect::<Vec<_>>()).unwrap()
}

fn donations(file: &Value) -> OccasionCohort {
    let rows: Vec<(u32, u32, f64)> = get(file, "donations");
    let row =
        |(frequency, recency, donors)| (Occasions { frequency, recency, occasions: 6 }, donors);
    OccasionCohort::new(&rows.into_iter().map(row).collect::<Vec<_>>()).unwrap()
}

#[test]
fn fits_are_those_of_forty_digits() {
    let file = read("btyd.json");
    let mut compared = 0;
    for golden in file["fits"].as_array().unwrap() {
        let (of, name): (String, String) = (get(golden, "data"), get(golden, "model"));
        let Some(customers) = data(&file, &of) else { continue };
        let Fit { model, diagnostics } = fit(family(&name), &customers);
        let what = format!("{name} on {of}");
        assert!(diagnostics.converged && diagnostics.notes.is_empty(), "{what}: {diagnostics:?}");
        assert_eq!((model.replaced.clone(), model.model.family()), (None, family(&name)));
        assert_eq!(diagnostics.objective, model.evidence.log_likelihood);
        near(model.evidence.log_likelihood, get(golden, "ln_likelihood"), 1e-13, &what);
        let errors: Vec<f64> = get(golden, "ln_standard_errors");
        assert_eq!(model.evidence.parameters.len(), errors.len(), "{what}");
        for (parameter, error) in model.evidence.parameters.iter().zip(errors) {
            let (value, what) = (parameter.value, format!("{} of {what}", parameter.name));
            near(value, get(&golden["parameters"], &parameter.name), 1e-6, &what);
            near(parameter.standard_error.unwrap() / value, error, 1e-6, &what);
        }
        let condition_number = model.evidence.condition_number.unwrap();
        near(condition_number, get(golden, "condition_number"), 2e-6, &what);
        compared += 1;
    }
    assert_eq!(compared, 13);
}

#[test]
fn fits_of_spend_and_of_occasions_are_those_of_forty_digits() {
    let file = read("btyd.json");
    let of = |name: &str| {
        let fits = file["fits"].as_array().unwrap();
        fits.iter().find(|fit| fit["model"] == name).unwrap()
    };
    let (golden, fit) = (of("Gamma-Gamma"), GammaGamma::fit(&spend(&file)));
    assert!(fit.findings.is_empty(), "{fit:?}");
    near(fit.ln_likelihood, get(golden, "ln_likelihood"), 1e-13, "Gamma-Gamma");
    for (name, got) in [("p", fit.model.p), ("q", fit.model.q), ("v", fit.model.v)] {
        near(got, get(&golden["parameters"], name), 1e-6, name);
    }
    let (golden, fit) = (of("BG/BB"), BgBbParams.fit(&donations(&file), Seed(1)).unwrap());
    assert!(fit.diagnostics.converged && fit.diagnostics.notes.is_empty(), "{fit:?}");
    near(fit.diagnostics.objective, get(golden, "ln_likelihood"), 1e-13, "BG/BB");
    let BgBb { alpha, beta, gamma, delta } = fit.model;
    for (name, got) in [("alpha", alpha), ("beta", beta), ("gamma", gamma), ("delta", delta)] {
        near(got, get(&golden["parameters"], name), 1e-6, name);
    }
}

#[test]
fn published_fits_are_found() {
    let file = read("btyd.json");
    let weeks = data(&file, "cdnow, weeks").unwrap();
    for (family, ln_likelihood, parameters) in [
        // Fader, Hardie & Lee (2005), with more digits.
        (PurchaseFamily::BgNbd, -9582.4256, [0.24259, 4.41353, 0.79289, 2.42575]),
        (PurchaseFamily::MbgNbd, -9582.1327, [0.52484, 6.18299, 0.89136, 1.61400]),
        (PurchaseFamily::ParetoNbd, -9594.9739, [0.55328, 10.57761, 0.60621, 11.66791]),
    ] {
        let evidence = fit(family, &weeks).model.evidence;
        let what = family.name();
        assert!((evidence.log_likelihood - ln_likelihood).abs() < 1e-3, "{what}: {evidence:?}");
        for (parameter, want) in evidence.parameters.iter().zip(parameters) {
            near(parameter.value, want, 1e-4, what);
        }
    }
    let fit = GammaGamma::fit(&spend(&file));
    assert!((fit.ln_likelihood + 4055.9232).abs() < 1e-3);
    near(fit.model.p, 6.2488, 1e-4, "p");
    near(fit.model.q, 3.7446, 1e-4, "q");
    near(fit.model.v, 15.4477, 1e-4, "v");
    let BgBb { alpha, beta, gamma, delta } =
        BgBbParams.fit(&donations(&file), Seed(1)).unwrap().model;
    // Fader, Hardie & Shang (2010).
    for (got, want) in [(alpha, 1.204), (beta, 0.750), (gamma, 0.657), (delta, 2.783)] {
        assert!((got - want).abs() <= 5e-4, "{got} is not {want}");
    }
}

#[test]
fn published_answers_are_found() {
    let bg = model(PurchaseFamily::BgNbd, [0.243, 4.414, 0.793, 2.426]);
    let twice = purchases(2, 30.43, 38.86);
    assert!((bg.expected_purchases(&twice, 39.0) - 1.22603).abs() < 5e-6);
    assert!((bg.p_alive(&twice) - 0.72658).abs() < 5e-6);
    let pareto = model(PurchaseFamily::ParetoNbd, [0.553, 10.578, 0.606, 11.669]);
    let often = purchases(26, 30.86, 31.0);
    assert!((pareto.expected_purchases(&often, 52.0) - 25.4585).abs() < 5e-5);
    assert!((pareto.p_alive(&often) - 0.99792).abs() < 5e-6);
    let donors = BgBb { alpha: 1.204, beta: 0.750, gamma: 0.657, delta: 2.783 };
    for (frequency, recency, want) in [(0, 0, 0.11), (2, 4, 0.59), (6, 6, 0.93)] {
        let got = donors.p_alive(&Occasions { frequency, recency, occasions: 6 });
        assert!((got - want).abs() < 5e-3, "{got} is not {want}");
    }
}

/// That an answer is right to `relative` or, where it is next to 0, to `absolute`.
#[track_caller]
fn right(got: f64, want: f64, relative: f64, absolute: f64, what: &str) {
    let off = (got - want).abs();
    assert!(off <= relative * want.abs() + absolute, "{what}: {got} is not {want}");
}

#[test]
fn answers_are_those_of_forty_digits_at_any_parameters() {
    let file = read("btyd.json");
    let mut n_futures = 0;
    for case in file["answers"].as_array().unwrap() {
        let model = golden_model(case);
        for customer in case["customers"].as_array().unwrap() {
            let of = |key: &str| get::<f64>(customer, key);
            let c = Purchases {
                ln_gaps: customer["ln_gaps"].as_f64().unwrap_or_default(),
                ..purchases(get(customer, "x"), of("t_x"), of("T"))
            };
            let what = format!("{model:?} {c:?}");
            right(model.ln_likelihood(&c), of("ln_likelihood"), 1e-13, 1e-12, &what);
            right(model.p_alive(&c), of("p_alive"), 1e-12, 1e-15, &what);
            for future in customer["futures"].as_array().unwrap() {
                let (t, of) = (get::<f64>(future, "t"), |key: &str| get::<f64>(future, key));
                let (none, expected) = (of("p_no_purchase"), of("expected_purchases"));
                let what = format!("{what} {t}");
                right(model.p_no_purchase(&c, t), none, 1e-12, 1e-15, &what);
                right(model.p_alive_after(&c, t), of("p_alive_after"), 1e-12, 1e-15, &what);
                // Of very many purchases of every second or third event, fewer digits are left.
                let regular = matches!(&model, PurchaseModel::BetaGeometric(model) if model.k > 1);
                let relative = if regular && expected > 100.0 { 5e-8 } else { 1e-12 };
                right(model.expected_purchases(&c, t), expected, relative, 1e-15, &what);
                n_futures += 1;
            }
            if let Some(counts) = customer.get("counts") {
                let want: Vec<f64> = get(counts, "p");
                let mut got = vec![f64::NAN; want.len()];
                model.p_counts(&c, get(counts, "t"), &mut got);
                for (got, want) in got.into_iter().zip(want) {
                    right(got, want, 1e-11, 1e-15, &what);
                }
            }
        }
    }
    assert_eq!(n_futures, 712);
}

#[test]
fn answers_about_occasions_and_spend_are_those_of_forty_digits() {
    let file = read("btyd.json");
    for case in file["bgbb_answers"].as_array().unwrap() {
        let model: BgBb = get(case, "parameters");
        for customer in case["customers"].as_array().unwrap() {
            let of = |key: &str| get::<u32>(customer, key);
            let c = Occasions { frequency: of("x"), recency: of("t_x"), occasions: of("n") };
            let (of, what) = (|key: &str| get::<f64>(customer, key), format!("{model:?} {c:?}"));
            right(model.ln_likelihood(&c), of("ln_likelihood"), 1e-12, 1e-12, &what);
            right(model.p_alive_now(&c), of("p_alive"), 1e-12, 0.0, &what);
            right(model.p_alive(&c), of("p_alive_next"), 1e-12, 0.0, &what);
            for future in customer["futures"].as_array().unwrap() {
                let (t, of) = (get::<u32>(future, "t"), |key: &str| get::<f64>(future, key));
                right(model.p_no_purchase(&c, t), of("p_no_purchase"), 1e-12, 1e-15, &what);
                // Alive on the occasion n + t, which follows the next one by t - 1.
                right(model.p_alive_after(&c, t - 1), of("p_alive_after"), 1e-12, 0.0, &what);
                let expected = of("expected_purchases");
                right(model.expected_purchases(&c, t), expected, 1e-12, 0.0, &what);
                let mut counts = vec![0.0; t as usize + 1];
                model.p_counts(&c, t, &mut counts);
                right(counts[0], of("p_no_purchase"), 1e-12, 1e-15, &what);
                right(counts.iter().sum(), 1.0, 1e-12, 0.0, &what);
                let mean = counts.iter().zip(0..).map(|(p, j)| p * f64::from(j)).sum();
                right(mean, expected, 1e-12, 0.0, &what);
            }
        }
    }
    for case in file["spend_answers"].as_array().unwrap() {
        let model: GammaGamma = get(case, "parameters");
        for customer in case["customers"].as_array().unwrap() {
            let (x, mean) = (get(customer, "x"), get(customer, "mean"));
            let what = format!("{model:?}, {x} of {mean}");
            let spend = model.expected_spend(x, mean).unwrap();
            right(spend, get(customer, "expected_spend"), 1e-12, 0.0, &what);
            if x > 0 {
                let got = model.ln_likelihood(&Spend { frequency: x, mean });
                right(got, get(customer, "ln_likelihood"), 1e-12, 0.0, &what);
            }
        }
    }
}

#[test]
fn drop_out_that_nobody_shows_is_no_finding() {
    let file = read("btyd.json");
    let lasting = &file["no_drop_out"];
    let customers = data(&file, &get::<String>(lasting, "data")).unwrap();
    let nbd = fit(PurchaseFamily::Nbd, &customers).model;
    for name in get::<Vec<String>>(lasting, "models") {
        let Fit { model, diagnostics } = fit(family(&name), &customers);
        let reason = model.replaced.unwrap();
        assert!(reason.contains("drop-out is not identified"), "{name}: {reason}");
        assert!(diagnostics.notes.contains(&reason), "{name}: {diagnostics:?}");
        assert_eq!((model.model, &model.evidence), (nbd.model, &nbd.evidence), "{name}");
    }
}

// --- Laws ---------------------------------------------------------------------------------------

/// Models of all families, of customers who buy about once in twenty units of time.
fn models() -> impl Iterator<Item = PurchaseModel> {
    PurchaseFamily::ALL.into_iter().map(|family| match family {
        PurchaseFamily::ParetoNbd => model(family, [0.8, 12.0, 1.6, 40.0]),
        _ => model(family, [0.8, 12.0, 1.4, 2.6]),
    })
}

/// Customers who are new, who have long been silent, and who have just bought.
fn customers() -> [Purchases; 6] {
    [
        purchases(0, 0.0, 0.0),
        purchases(0, 0.0, 50.0),
        purchases(1, 3.0, 60.0),
        purchases(2, 30.43, 38.86),
        purchases(9, 20.0, 90.0),
        purchases(30, 99.0, 99.0),
    ]
}

/// P(alive) at T, P(no purchase), P(alive) and the expected purchases after t.
fn answers(model: &PurchaseModel, c: &Purchases, t: f64) -> [f64; 4] {
    let one_by_one = [
        model.p_alive(c),
        model.p_no_purchase(c, t),
        model.p_alive_after(c, t),
        model.expected_purchases(c, t),
    ];
    let Prospects { p_alive, p_no_purchase, expected_purchases } = model.prospects(c, t);
    let at_once = [p_alive, p_no_purchase, one_by_one[2], expected_purchases];
    assert_eq!(at_once.map(f64::to_bits), one_by_one.map(f64::to_bits), "{model:?} {c:?} {t}");
    one_by_one
}

#[test]
fn in_no_time_nothing_happens_and_then_ever_more() {
    for model in models() {
        for c in customers() {
            let now = model.p_alive(&c);
            assert_eq!(answers(&model, &c, 0.0), [now, 1.0, now, 0.0], "{model:?} {c:?}");
            let mut last = [now, 1.0, now, 0.0];
            for t in (-20..=60).map(|power| 1.5f64.powi(power)) {
                let next = answers(&model, &c, t);
                let what = format!("{model:?} {c:?} {t}: {last:?} {next:?}");
                assert!(next[1] <= last[1] + 1e-15 && next[3] > last[3], "{what}");
                // Sums are right to 1e-13.
                assert!(next[2] <= last[2] + 1e-13, "{what}");
                assert!(next[1] >= 1.0 - now - 1e-15 && next[3] >= 1.0 - next[1] - 1e-12, "{what}");
                last = next;
            }
        }
    }
}

#[test]
fn in_the_end_all_have_dropped_out() {
    for model in models() {
        for c in customers() {
            let [now, none, later, expected] = answers(&model, &c, 1e40);
            let what = format!("{model:?} {c:?}: {none} {later} {expected}");
            let x = f64::from(c.frequency);
            match model {
                PurchaseModel::Nbd(_) => assert!(none < 1e-12 && expected > 1e30, "{what}"),
                // They buy until they drop out, of which a purchase is a part: E[1 / p] in all.
                PurchaseModel::BetaGeometric(BetaGeometric { a, b, modified, .. }) => {
                    right(none, 1.0 - now, 0.0, 1e-12, &what);
                    let stayed = b + x + if modified { 1.0 } else { 0.0 };
                    right(expected, now * (a + stayed - 1.0) / (a - 1.0), 1e-9, 0.0, &what);
                    assert!(later < 1e-12, "{what}");
                }
                // They are alive for (beta + T) / (s - 1) more on average.
                PurchaseModel::ParetoNbd(Pareto { r, alpha, s, beta }) => {
                    assert!(none > 1.0 - now && later < 1e-12, "{what}");
                    let lived = (beta + c.age) / (s - 1.0);
                    let want = now * (r + x) / (alpha + c.age) * lived;
                    right(expected, want, 1e-12, 0.0, &what);
                }
            }
        }
    }
}

#[test]
fn counts_are_a_distribution_with_the_expected_mean() {
    for model in models() {
        for c in customers() {
            for t in [0.0, 0.1, 20.0, 300.0] {
                let mut counts = vec![f64::NAN; 3000];
                model.p_counts(&c, t, &mut counts);
                let what = format!("{model:?} {c:?} {t}");
                assert!(counts.iter().all(|p| (0.0..=1.0).contains(p)), "{what}");
                right(counts[0], model.p_no_purchase(&c, t), 1e-12, 0.0, &what);
                right(counts.iter().sum(), 1.0, 1e-9, 0.0, &what);
                let mean = counts.iter().zip(0..).map(|(p, j)| p * f64::from(j)).sum();
                right(mean, model.expected_purchases(&c, t), 1e-8, 1e-12, &what);
            }
        }
    }
}

#[test]
fn drawn_purchases_have_the_expected_mean() {
    const N: usize = 40_000;
    for model in models() {
        for c in customers() {
            let mut draws = Draws::new(Seed(3));
            let counts: Vec<f64> =
                (0..N).map(|_| f64::from(model.draw(&c, 30.0, &mut draws))).collect();
            let mean = counts.iter().sum::<f64>() / N as f64;
            let squares: f64 = counts.iter().map(|count| (count - mean).powi(2)).sum();
            let error = squares.sqrt() / N as f64;
            let what = format!("{model:?} {c:?}");
            right(mean, model.expected_purchases(&c, 30.0), 0.0, 4.5 * error + 1e-4, &what);
            let none = counts.iter().filter(|&&count| count == 0.0).count() as f64 / N as f64;
            right(none, model.p_no_purchase(&c, 30.0), 0.0, 4.5 * 0.5 / (N as f64).sqrt(), &what);
        }
    }
}

/// The same customer in a unit of time of which ours is `scale`.
fn scaled(c: &Purchases, scale: f64) -> Purchases {
    Purchases {
        recency: scale * c.recency,
        age: scale * c.age,
        ln_gaps: c.ln_gaps + f64::from(c.frequency) * scale.ln(),
        ..*c
    }
}

#[test]
fn a_fit_does_not_depend_on_the_unit_of_time() {
    let customers = data(&read("btyd.json"), "cdnow, days").unwrap();
    let repeats: f64 = customers.iter().map(|c| f64::from(c.frequency)).sum();
    for family in PurchaseFamily::ALL {
        let days = fit(family, &customers);
        for scale in [1e-3, 1e3] {
            let others: Vec<Purchases> = customers.iter().map(|c| scaled(c, scale)).collect();
            let other = fit(family, &others);
            let what = family.name();
            assert_eq!(other.model.replaced, days.model.replaced);
            let (ours, theirs) = (&days.model.evidence, &other.model.evidence);
            assert_eq!(ours.n_rows, theirs.n_rows);
            let in_days = theirs.log_likelihood + repeats * scale.ln();
            right(in_days, ours.log_likelihood, 1e-12, 0.0, what);
            for (ours, theirs) in ours.parameters.iter().zip(&theirs.parameters) {
                let unit = if ["alpha", "beta"].contains(&&*ours.name) { scale } else { 1.0 };
                right(theirs.value, unit * ours.value, 1e-6, 0.0, what);
                let errors = (theirs.standard_error.unwrap(), ours.standard_error.unwrap());
                right(errors.0, unit * errors.1, 1e-6, 0.0, what);
            }
            for (c, scaled) in customers.iter().zip(&others).step_by(97) {
                let one = answers(&days.model.model, c, 90.0);
                let other = answers(&other.model.model, scaled, 90.0 * scale);
                for (one, other) in one.into_iter().zip(other) {
                    right(other, one, 1e-6, 1e-12, what);
                }
            }
        }
    }
}

#[test]
fn neither_the_order_of_customers_nor_threads_change_a_bit_of_a_fit() {
    let file = read("btyd.json");
    let mut draws = Draws::new(Seed(2));
    let few = data(&file, "cdnow, days").unwrap();
    // So many different rows that a fit does not begin with all of them.
    let true_model = model(PurchaseFamily::MbgCnbd2, [0.9, 5.0, 0.8, 2.0]);
    let many: Vec<Purchases> = (0..12_000).map(|_| simulated(&true_model, &mut draws)).collect();
    for customers in [few, many] {
        let mut others = customers.clone();
        others.reverse();
        others.rotate_left(701);
        for family in PurchaseFamily::ALL {
            let first = fit(family, &customers).model;
            for threads in [1, 2, 4] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                for customers in [&customers, &others] {
                    let same = pool.install(|| fit(family, customers)).model;
                    assert_eq!(same, first, "{threads} threads");
                }
            }
        }
    }
    let spends: Vec<(Spend, f64)> = get::<Vec<(u32, f64)>>(&file, "cdnow_spend_cents")
        .into_iter()
        .map(|(frequency, mean)| (Spend { frequency, mean }, 1.0))
        .collect();
    let mut others = spends.clone();
    others.reverse();
    let first = GammaGamma::fit(&SpendCohort::new(&spends).unwrap());
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let same = pool.install(|| GammaGamma::fit(&SpendCohort::new(&others).unwrap()));
        assert_eq!(same, first, "{threads} threads");
    }
}

// --- Simulated customers ------------------------------------------------------------------------

/// What one customer of the model does until an age between 60 and 120.
fn simulated(model: &PurchaseModel, draws: &mut Draws) -> Purchases {
    let age = 60.0 + 60.0 * draws.unit();
    let (r, alpha, k) = match *model {
        PurchaseModel::Nbd(Nbd { r, alpha }) => (r, alpha, 1),
        PurchaseModel::BetaGeometric(BetaGeometric { r, alpha, k, .. }) => (r, alpha, k),
        PurchaseModel::ParetoNbd(Pareto { r, alpha, .. }) => (r, alpha, 1),
    };
    let rate = draws.gamma(r) / alpha;
    let (mut end, mut p, mut after_first) = (f64::INFINITY, 0.0, false);
    match *model {
        PurchaseModel::Nbd(_) => {}
        PurchaseModel::BetaGeometric(BetaGeometric { a, b, modified, .. }) => {
            (p, after_first) = (draws.beta(a, b), modified);
        }
        PurchaseModel::ParetoNbd(Pareto { s, beta, .. }) => {
            end = draws.exponential() * beta / draws.gamma(s);
        }
    }
    let mut c = purchases(0, 0.0, age);
    let mut alive = !(after_first && draws.chance(p));
    while alive {
        let gap = (0..k).map(|_| draws.exponential()).sum::<f64>() / rate;
        if c.recency + gap > age.min(end) {
            break;
        }
        c.frequency += 1;
        c.recency += gap;
        c.ln_gaps += gap.ln();
        alive = !draws.chance(p);
    }
    c
}

#[test]
fn simulated_customers_give_back_what_made_them() {
    for (family, true_parameters) in [
        (PurchaseFamily::MbgNbd, [0.6, 9.0, 0.8, 2.0]),
        (PurchaseFamily::ParetoNbd, [0.6, 9.0, 0.7, 20.0]),
        (PurchaseFamily::MbgCnbd2, [0.9, 5.0, 0.8, 2.0]),
    ] {
        let true_model = model(family, true_parameters);
        let mut draws = Draws::new(Seed(1));
        let customers: Vec<Purchases> =
            (0..20_000).map(|_| simulated(&true_model, &mut draws)).collect();
        let fit = fit(family, &customers);
        assert!(fit.diagnostics.converged && fit.model.replaced.is_none(), "{fit:?}");
        for (parameter, truth) in fit.model.evidence.parameters.iter().zip(true_parameters) {
            let error = parameter.standard_error.unwrap();
            assert!(error < 0.15 * truth, "{}: {parameter:?}", family.name());
            right(parameter.value, truth, 0.0, 4.0 * error, family.name());
        }
        let sum: f64 = customers.iter().map(|c| true_model.ln_likelihood(c)).sum();
        let gain = fit.model.evidence.log_likelihood - sum;
        assert!((0.0..12.0).contains(&gain), "{}: {gain}", family.name());
    }
}

// --- Cohorts of any kind ------------------------------------------------------------------------

/// Customers as odd as a log can make them: in any unit of time, buyers of once and of 10,000 times,
/// one alone, all alike, all with one gap, some of this very moment.
fn any_cohort(seed: u64) -> Vec<Purchases> {
    let mut draws = Draws::new(Seed(seed).derive("any cohort", 0));
    let mut one_of = |numbers: [f64; 4]| numbers[draws.below(4) as usize];
    let n = one_of([1.0, 3.0, 40.0, 300.0]) as usize;
    let most = one_of([1.0, 3.0, 30.0, 10_000.0]);
    let once = one_of([0.0, 0.3, 0.95, 0.95]);
    let new = one_of([0.0, 0.0, 0.0, 0.3]);
    let unit = 10f64.powf(6.0 * draws.unit() - 3.0);
    let kind = draws.below(8);
    let common_age = draws.unit();
    let customer = |draws: &mut Draws| {
        let mut age = if kind == 0 { common_age } else { draws.unit() };
        if kind == 1 {
            // A few who are old beyond measure.
            age *= one_in(draws, 20, 1e6);
        }
        if draws.chance(new) {
            return purchases(0, 0.0, 0.0);
        }
        let x = if kind != 2 && draws.chance(once) {
            0.0
        } else {
            (1.0 + most * draws.unit().powi(3)).min(most).floor()
        };
        let mut recency = match kind {
            3 => age,
            4 => 1e-9 * age,
            _ => age * draws.unit(),
        };
        let mut gaps: Vec<f64> = (0..x as u32).map(|_| draws.exponential()).collect();
        if kind == 5 {
            // Days, of which customers have many in common.
            (age, recency) = ((30.0 * age).ceil().max(x), (30.0 * recency).ceil().max(x));
            recency = recency.min(age);
            gaps = vec![1.0; x as usize];
        }
        if x == 0.0 {
            recency = 0.0;
        }
        let sum: f64 = gaps.iter().sum();
        let ln_gaps = gaps.iter().map(|gap| (unit * recency * gap / sum).ln()).sum();
        Purchases { frequency: x as u32, recency: unit * recency, age: unit * age, ln_gaps }
    };
    if kind == 6 {
        return vec![customer(&mut draws); n];
    }
    (0..n).map(|_| customer(&mut draws)).collect()
}

/// A factor for one customer in so many, and 1 for the others.
fn one_in(draws: &mut Draws, n: u32, factor: f64) -> f64 {
    if draws.below(n) == 0 { factor } else { 1.0 }
}

/// That fits of all families to a cohort give usable models, or reasons why not.
fn check_cohort(customers: &[Purchases], name: &str) {
    let cohort = Cohort::new(customers).unwrap();
    let oldest = customers.iter().fold(0.0, |oldest: f64, c| oldest.max(c.age));
    let oldest = if oldest > 0.0 { oldest } else { 1.0 };
    let strangers = [
        purchases(0, 0.0, 0.0),
        purchases(0, 0.0, 3.0 * oldest),
        purchases(1, 1e-6 * oldest, oldest),
        purchases(10_000, oldest, oldest),
    ];
    for family in PurchaseFamily::ALL {
        let what = format!("{name}, {}", family.name());
        let fit = match (PurchaseParams { family }).fit(&cohort, Seed(1)) {
            Err(error) => {
                assert!(error.to_string().len() > 10, "{what}");
                let n_repeats = customers.iter().filter(|c| c.frequency > 0).count();
                assert!(n_repeats == 0, "{what}: {error}");
                continue;
            }
            Ok(fit) => fit.model,
        };
        let what = format!("{what}: {:?} {:?}", fit.model, fit.replaced);
        assert!(fit.model.check(), "{what}");
        match &fit.replaced {
            Some(reason) => assert!(reason.len() > 10, "{what}"),
            None => assert_eq!(fit.model.family(), family, "{what}"),
        }
        let each: Vec<f64> = customers.iter().map(|c| fit.model.ln_likelihood(c)).collect();
        let size: f64 = 1.0 + each.iter().map(|ln| ln.abs()).sum::<f64>();
        let evidence = &fit.evidence;
        right(evidence.log_likelihood, each.iter().sum(), 0.0, 1e-7 * size, &what);
        let gain = evidence.log_likelihood - evidence.log_likelihood_without_drop_out;
        assert!(gain >= -1e-9 * size, "{what}: {gain}");
        for parameter in &evidence.parameters {
            assert!(parameter.value.is_finite() && parameter.value > 0.0, "{what}");
            assert!(parameter.standard_error.is_none_or(|error| error >= 0.0), "{what}");
        }
        let step = customers.len().div_ceil(6);
        for c in customers.iter().step_by(step).chain(&strangers) {
            check_answers(&fit.model, c, oldest, &what);
        }
    }
}

/// That answers about a customer are numbers in their ranges, and such as go together.
fn check_answers(model: &PurchaseModel, c: &Purchases, oldest: f64, what: &str) {
    let now = model.p_alive(c);
    let mut last = [now, 1.0, now, 0.0];
    for t in [0.0, 1e-6, 0.01, 0.3, 1e3, f64::INFINITY].map(|share| share * oldest) {
        let next = answers(model, c, t);
        let what = format!("{what} {c:?} {t}: {last:?} {next:?}");
        assert!(next[..3].iter().all(|p| (0.0..=1.0).contains(p)), "{what}");
        assert!(next[3].is_finite() && next[3] >= 0.0, "{what}");
        assert!(next[1] <= last[1] + 1e-8 && next[2] <= last[2] + 1e-8, "{what}");
        assert!(next[3] >= last[3] * (1.0 - 1e-7), "{what}");
        // Who drops out has bought before; and of purchases there are more than of buyers.
        assert!(next[1] >= 1.0 - now - 1e-8 && next[3] >= 1.0 - next[1] - 1e-8, "{what}");
        last = next;
    }
    let mut counts = [f64::NAN; 12];
    model.p_counts(c, 0.3 * oldest, &mut counts);
    assert!(counts.iter().all(|p| (0.0..=1.0).contains(p)), "{what} {c:?}: {counts:?}");
    assert!(counts.iter().sum::<f64>() <= 1.0 + 1e-9, "{what} {c:?}: {counts:?}");
    let mut draws = Draws::new(Seed(1));
    for _ in 0..3 {
        let drawn = model.draw(c, 0.3 * oldest, &mut draws);
        assert!(drawn == 0 || now > 0.0, "{what} {c:?}: {drawn}");
    }
}

/// That a fit of Gamma-Gamma to any spend gives a usable model, or a reason why not.
fn check_any_spend(seed: u64) {
    let mut draws = Draws::new(Seed(seed).derive("any spend", 0));
    let mut one_of = |numbers: [f64; 4]| numbers[draws.below(4) as usize];
    let n = one_of([1.0, 2.0, 30.0, 300.0]) as usize;
    let most = one_of([0.0, 3.0, 30.0, 9_999.0]);
    let spread = one_of([0.0, 1e-4, 1.0, 5.0]);
    let unit = 10f64.powf(6.0 * draws.unit() - 3.0);
    let customers: Vec<(Spend, f64)> = (0..n)
        .map(|_| {
            let frequency = 1 + (most * draws.unit().powi(3)) as u32;
            (Spend { frequency, mean: draws.lognormal(unit, spread) }, 1.0)
        })
        .collect();
    let cohort = match SpendCohort::new(&customers) {
        Ok(cohort) => cohort,
        Err(error) => return assert!(error.to_string().len() > 10, "spend {seed}"),
    };
    let fit = GammaGamma::fit(&cohort);
    let what = format!("spend {seed}: {fit:?}");
    assert!([fit.model.p, fit.model.q, fit.model.v].iter().all(|v| v.is_finite() && *v > 0.0));
    let each: Vec<f64> =
        customers.iter().map(|(spend, _)| fit.model.ln_likelihood(spend)).collect();
    let size: f64 = 1.0 + each.iter().map(|ln| ln.abs()).sum::<f64>();
    right(fit.ln_likelihood, each.iter().sum(), 0.0, 1e-7 * size, &what);
    for (spend, _) in customers.iter().take(10) {
        let (x, mean) = (spend.frequency, spend.mean);
        let expected = fit.model.expected_spend(x, mean);
        assert!(expected.is_none_or(|spend| spend.is_finite() && spend > 0.0), "{what}");
        let drawn = fit.model.draw_total(x, mean, 3, &mut draws);
        assert!(drawn.is_finite() && drawn >= 0.0, "{what}: {drawn}");
    }
}

fn check_any_cohorts(seeds: std::ops::Range<u64>) {
    let check = |seed| {
        check_cohort(&any_cohort(seed), &format!("cohort {seed}"));
        check_any_spend(seed);
    };
    let failed: Vec<u64> = seeds
        .into_par_iter()
        .filter(|&seed| std::panic::catch_unwind(|| check(seed)).is_err())
        .collect();
    assert!(failed.is_empty(), "these cohorts failed, each as told above: {failed:?}");
}

#[test]
fn any_cohort_gives_usable_models_or_reasons() {
    check_any_cohorts(0..400);
}

/// `cargo test --release -p habitus-engine --test it -- --ignored any_of_ten_thousand`
#[test]
#[ignore = "takes a minute or two"]
fn any_of_ten_thousand_cohorts_gives_usable_models_or_reasons() {
    check_any_cohorts(0..10_000);
}

/// Sums over purchases to come once ended before the first of them, where every third event of a
/// long silence is a purchase.
#[test]
fn after_a_long_silence_a_first_purchase_soon_is_not_overlooked() {
    for family in [PurchaseFamily::BgCnbd2, PurchaseFamily::BgCnbd3] {
        let model = model(family, [0.8, 12.0, 1.4, 2.6]);
        let c = purchases(0, 0.0, 50.0);
        for t in [1e-9, 1e-6, 1e-3] {
            // Of those who buy, next to all do so once, and 1.4 of 4 drop out.
            let buys = model.expected_purchases(&c, t);
            right(1.0 - model.p_no_purchase(&c, t), buys, 1e-3, 1e-15, family.name());
            right(1.0 - model.p_alive_after(&c, t), 0.35 * buys, 1e-3, 1e-15, family.name());
        }
    }
}

/// Squares of such times once overflowed.
#[test]
fn horizons_without_end_have_answers() {
    for family in PurchaseFamily::ALL {
        let model = model(family, [0.8, 1e-6, 1e-6, 1e6]);
        for c in [purchases(0, 0.0, 0.0), purchases(3, 1e-6, 1e-6)] {
            let answers = answers(&model, &c, f64::INFINITY);
            assert!(answers.iter().all(|answer| answer.is_finite()), "{model:?}: {answers:?}");
        }
    }
}

#[test]
fn cohorts_that_tell_next_to_nothing_give_usable_models_or_reasons() {
    let again = purchases(3, 8.0, 9.0);
    for (name, customers) in [
        ("one customer", vec![again]),
        ("one new customer", vec![purchases(0, 0.0, 0.0)]),
        ("one who bought 10,000 times", vec![purchases(10_000, 7.0, 9.0)]),
        ("one who has just bought", vec![purchases(1, 5e-324, 5e-324)]),
        ("all alike", vec![again; 500]),
        ("all new", vec![purchases(0, 0.0, 0.0); 500]),
        ("all bought once", vec![purchases(0, 0.0, 30.0); 500]),
        ("all bought twice", (1..500).map(|t| purchases(1, f64::from(t), 500.0)).collect()),
        ("one of many bought again", [vec![purchases(0, 0.0, 30.0); 500], vec![again]].concat()),
        ("huge times", vec![purchases(2, 1e140, 2e140), purchases(1, 1e139, 1e140)]),
        ("tiny times", vec![purchases(2, 1e-300, 2e-300), purchases(1, 1e-301, 1e-300)]),
    ] {
        check_cohort(&customers, name);
        if customers.iter().all(|c| c.frequency == 0) {
            let cohort = Cohort::new(&customers).unwrap();
            for family in PurchaseFamily::ALL {
                let error = PurchaseParams { family }.fit(&cohort, Seed(1)).unwrap_err();
                assert!(error.to_string().contains("bought twice"), "{name}: {error}");
            }
        }
    }
}

#[test]
fn without_drop_out_a_silent_customer_is_alive() {
    // Regular gaps, of which none is an end: each customer buys every ten days up to the as-of.
    let customer = |n: u32| Purchases {
        frequency: n,
        recency: f64::from(10 * n),
        age: f64::from(10 * n + n % 7),
        ln_gaps: f64::from(n) * 10f64.ln(),
    };
    let cohort = Cohort::new(&(1..200).map(customer).collect::<Vec<_>>()).unwrap();
    for family in [PurchaseFamily::MbgCnbd2, PurchaseFamily::MbgCnbd3, PurchaseFamily::MbgNbd] {
        let fit = PurchaseParams { family }.fit(&cohort, Seed(1)).unwrap().model;
        assert!(fit.replaced.is_some(), "{fit:?}");
        for (x, recency, age) in [(20, 100.0, 400.0), (40, 300.0, 700.0), (60, 100.0, 9_000.0)] {
            let silent = Purchases { frequency: x, recency, age, ln_gaps: 0.0 };
            assert!(fit.model.p_alive(&silent) > 1.0 - 1e-12, "{fit:?} {silent:?}");
        }
    }
}
