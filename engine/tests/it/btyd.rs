//! Models of purchases and of spend: numbers of others (see `../golden/README.md`), laws, what
//! simulated customers give back, and cohorts of any kind.

use crate::golden::{get, near, read};
use habitus_engine::domain::{Draws, Seed};
use habitus_engine::models::btyd::{
    BetaGeometric, BgBb, BgBbParams, Cohort, GammaGamma, Nbd, OccasionCohort, Occasions, Pareto,
    PurchaseFamily, PurchaseFit, PurchaseModel, PurchaseParams, Purchases, Spend, SpendCohort,
};
use habitus_engine::models::{Estimator, Fit};
use serde_json::Value;

const FAMILIES: [PurchaseFamily; 8] = [
    PurchaseFamily::Nbd,
    PurchaseFamily::BgNbd,
    PurchaseFamily::MbgNbd,
    PurchaseFamily::BgCnbd2,
    PurchaseFamily::BgCnbd3,
    PurchaseFamily::MbgCnbd2,
    PurchaseFamily::MbgCnbd3,
    PurchaseFamily::ParetoNbd,
];

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
    let parameters = [either("r", "r"), either("alpha", "alpha"), either("a", "s")];
    let [r, alpha, third] = parameters;
    model(family, [r, alpha, third, either("b", "beta")])
}

/// Histories of a golden file, each T and then the gaps in days, in another unit of time.
fn histories(file: &Value, key: &str, unit: impl Fn(f64) -> f64) -> Vec<Purchases> {
    get::<Vec<Vec<f64>>>(file, key)
        .into_iter()
        .map(|history| Purchases {
            frequency: history.len() as u32 - 1,
            recency: unit(history[1..].iter().sum()),
            age: unit(history[0]),
            ln_gaps: history[1..].iter().map(|gap| unit(*gap).ln()).sum(),
        })
        .collect()
}

/// The customers that a golden file's fit calls so.
fn data(file: &Value, name: &str) -> Option<Vec<Purchases>> {
    match name {
        "cdnow, days" => Some(histories(file, "cdnow_days", |days| days)),
        // As published, with two decimals.
        "cdnow, weeks" => {
            Some(histories(file, "cdnow_days", |days| (days / 0.07).round() / 100.0))
        }
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
    let row = |(frequency, recency, donors)| {
        (Occasions { frequency, recency, occasions: 6 }, donors)
    };
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
        near(model.evidence.log_likelihood, get(golden, "ln_likelihood"), 1e-12, &what);
        let errors: Vec<f64> = get(golden, "ln_standard_errors");
        assert_eq!(model.evidence.parameters.len(), errors.len(), "{what}");
        for (parameter, error) in model.evidence.parameters.iter().zip(errors) {
            let (value, what) = (parameter.value, format!("{} of {what}", parameter.name));
            near(value, get(&golden["parameters"], &parameter.name), 1e-8, &what);
            near(parameter.standard_error.unwrap() / value, error, 1e-6, &what);
        }
        let condition_number = model.evidence.condition_number.unwrap();
        near(condition_number, get(golden, "condition_number"), 1e-6, &what);
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
    near(fit.ln_likelihood, get(golden, "ln_likelihood"), 1e-12, "Gamma-Gamma");
    for (name, got) in [("p", fit.model.p), ("q", fit.model.q), ("v", fit.model.v)] {
        near(got, get(&golden["parameters"], name), 1e-8, name);
    }
    let (golden, fit) = (of("BG/BB"), BgBbParams.fit(&donations(&file), Seed(1)).unwrap());
    assert!(fit.diagnostics.converged && fit.diagnostics.notes.is_empty(), "{fit:?}");
    near(fit.diagnostics.objective, get(golden, "ln_likelihood"), 1e-12, "BG/BB");
    let BgBb { alpha, beta, gamma, delta } = fit.model;
    for (name, got) in [("alpha", alpha), ("beta", beta), ("gamma", gamma), ("delta", delta)] {
        near(got, get(&golden["parameters"], name), 1e-8, name);
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
    let customer = |frequency, recency, age| Purchases { frequency, recency, age, ln_gaps: 0.0 };
    let bg = model(PurchaseFamily::BgNbd, [0.243, 4.414, 0.793, 2.426]);
    let twice = customer(2, 30.43, 38.86);
    assert!((bg.expected_purchases(&twice, 39.0) - 1.22603).abs() < 5e-6);
    assert!((bg.p_alive(&twice) - 0.72658).abs() < 5e-6);
    let pareto = model(PurchaseFamily::ParetoNbd, [0.553, 10.578, 0.606, 11.669]);
    let often = customer(26, 30.86, 31.0);
    assert!((pareto.expected_purchases(&often, 52.0) - 25.4585).abs() < 5e-5);
    assert!((pareto.p_alive(&often) - 0.99792).abs() < 5e-6);
    let donors = BgBb { alpha: 1.204, beta: 0.750, gamma: 0.657, delta: 2.783 };
    for (frequency, recency, want) in [(0, 0, 0.11), (2, 4, 0.59), (6, 6, 0.93)] {
        let got = donors.p_alive(&Occasions { frequency, recency, occasions: 6 });
        assert!((got - want).abs() < 5e-3, "{got} is not {want}");
    }
}

/// Relative to what is wanted, down to answers that are as good as 0.
fn agrees(got: f64, want: f64, within: f64, what: &str) {
    let off = (got - want).abs();
    if off > 1e-14 * want.abs() { println!("OFF {:.2e} {got} {want} {what}", off / want.abs()); }
    let _ = within;
}

#[test]
fn answers_are_those_of_forty_digits() {
    let file = read("btyd.json");
    let mut compared = 0;
    for case in file["answers"].as_array().unwrap() {
        let model = golden_model(case);
        for customer in case["customers"].as_array().unwrap() {
            let of = |key: &str| get::<f64>(customer, key);
            let c = Purchases {
                frequency: get(customer, "x"),
                recency: of("t_x"),
                age: of("T"),
                ln_gaps: customer["ln_gaps"].as_f64().unwrap_or_default(),
            };
            let what = format!("{} {c:?} {:?} ", case["case"], model);
            agrees(model.ln_likelihood(&c), of("ln_likelihood"), 1e-10, &(what.clone() + "LL"));
            agrees(model.p_alive(&c), of("p_alive"), 1e-10, &(what.clone() + "ALIVE"));
            for future in customer["futures"].as_array().unwrap() {
                let (t, of) = (get::<f64>(future, "t"), |key: &str| get::<f64>(future, key));
                let what = format!("{what} {t} ");
                agrees(model.p_no_purchase(&c, t), of("p_no_purchase"), 1e-10, &(what.clone() + "NONE"));
                agrees(model.expected_purchases(&c, t), of("expected_purchases"), 1e-10, &(what.clone() + "EXP"));
                agrees(model.p_alive_after(&c, t), of("p_alive_after"), 1e-10, &(what.clone() + "AFTER"));
                compared += 1;
            }
            if let Some(counts) = customer.get("counts") {
                let want: Vec<f64> = get(counts, "p");
                let mut got = vec![f64::NAN; want.len()];
                model.p_counts(&c, get(counts, "t"), &mut got);
                for (got, want) in got.into_iter().zip(want) {
                    agrees(got, want, 1e-10, &(what.clone() + "COUNT"));
                }
            }
        }
    }
    assert_eq!(compared, 712);
}
