//! Every model against what happened after a cut-off, as the command says it.

use crate::support::{CONFIG, Run, order_lines, trained, write_log};
use serde_json::Value;
use std::path::Path;

const CUTOFF: &str = "2021-08-31";

fn evaluate(cutoffs: &[&str]) -> Run {
    let shop = trained();
    let run = Run::new("evaluate").path("--config", &shop.config).path("--events", &shop.orders);
    cutoffs.iter().fold(run, |run, cutoff| run.arg("--cutoff").arg(cutoff))
}

fn model<'a>(section: &'a Value, name: &str) -> &'a Value {
    let models = section["models"].as_array().unwrap();
    models.iter().find(|model| model["model"] == name).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn every_model_is_measured_with_its_error() {
    let found = evaluate(&["2021-10-15", CUTOFF]).arg("--bootstrap").arg("50").json();
    assert_eq!((&found["name"], &found["bootstrap"]["replicates"]), (&"shop".into(), &50.into()));
    assert_eq!(found["currency"], "USD");
    let cutoffs = found["cutoffs"].as_array().unwrap();
    let days: Vec<&Value> = cutoffs.iter().map(|cutoff| &cutoff["cutoff"]).collect();
    assert_eq!(days, [CUTOFF, "2021-10-15"]);
    let first = &cutoffs[0];
    assert_eq!((&first["until"], &first["horizon_days"]), (&"2021-10-30".into(), &60.into()));
    let all = &first["all"];
    let n = all["churn"]["n_customers"].as_u64().unwrap();
    assert!(n > 250 && n <= 300, "{n}");
    assert_eq!(first["eligible"]["churn"]["n_customers"], n);
    for (section, name, metrics) in [
        ("churn", "served", &["auc", "brier", "log_loss", "ece"][..]),
        ("churn", "naive_rate", &["auc"]),
        ("purchases", "mbg_nbd", &["mae", "rmse", "spearman", "total_ratio"]),
        (
            "spend",
            "served",
            &[
                "mae",
                "rmse",
                "spearman",
                "normalised_gini",
                "top_decile_capture",
                "decile_mape",
                "total_ratio",
                "interval_coverage",
                "interval_score",
            ],
        ),
    ] {
        let scores = model(&all[section], name)["scores"].as_object().unwrap();
        for metric in metrics {
            let score = &scores[*metric];
            let number = |key: &str| score[key].as_f64().unwrap();
            assert!(number("low") <= number("high"), "{section} {name} {metric}");
            assert!(number("estimate").is_finite() && number("standard_error") >= 0.0);
        }
    }
    assert!(model(&all["churn"], "naive_rate")["scores"].get("brier").is_none());
    let gain = &model(&all["churn"], "served")["gains"]["brier"];
    assert!(gain["low"].as_f64().unwrap() <= gain["estimate"].as_f64().unwrap());
    assert_eq!(all["churn"]["baseline"], "recency");
    let served = first["curves"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&served["model"], served["gain"].as_array().unwrap().len()),
        (&"served".into(), 101)
    );
    assert_eq!(served["calibration"].as_array().unwrap().len(), 10);
}

#[test]
fn the_same_seed_gives_the_same_document_and_files_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("some/where");
    let run = || evaluate(&[CUTOFF]).arg("--bootstrap").arg("20");
    let found = run().path("--out", &out).json();
    assert_eq!(found, run().arg("--threads").arg("1").json());
    let read = |file: &str| std::fs::read_to_string(out.join(file)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&read("evaluation.json")).unwrap(), found);
    let report = read("evaluation.md");
    for plot in ["calibration", "gain", "deciles"] {
        let file = format!("{CUTOFF}-{plot}.svg");
        assert!(read(&file).starts_with("<svg"), "{file}");
        assert!(report.contains(&format!("({file})")), "{file}");
    }
    assert!(
        report.contains("# Evaluation of shop") && report.contains("gain in churn over recency")
    );
    let bare = evaluate(&[CUTOFF]).arg("--bootstrap").arg("0").json();
    let served = model(&bare["cutoffs"][0]["all"]["churn"], "served");
    assert!(served["scores"]["auc"]["standard_error"].is_null());
    let table = run().output();
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("| served"));
    assert!(text.contains(" ± ") && text.contains("cut-off 2021-08-31, 60 days up to 2021-10-30"));
}

/// What training at the cut-off serves, asked by `score`, has the numbers of the row `served`.
#[test]
fn what_is_served_is_what_train_and_score_give() {
    let shop = trained();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    Run::new("train")
        .path("--config", &shop.config)
        .path("--events", &shop.orders)
        .path("--models", &path("models"))
        .arg("--as-of")
        .arg(CUTOFF)
        .json();
    Run::new("score")
        .path("--events", &shop.orders)
        .path("--models", &path("models"))
        .arg("--as-of")
        .arg(CUTOFF)
        .path("--out", &path("scores.csv"))
        .json();
    let mut scores = csv::Reader::from_path(path("scores.csv")).unwrap();
    let headers = scores.headers().unwrap().clone();
    let (mut ltv, mut purchases, mut squares, mut n) = (0.0, 0.0, 0.0, 0.0);
    let spent = spent_after(&shop.orders, CUTOFF, "2021-10-30");
    for row in scores.records().map(Result::unwrap) {
        let cell = |name: &str| &row[headers.iter().position(|header| header == name).unwrap()];
        let number = |name: &str| cell(name).parse::<f64>().unwrap();
        let silent = f64::from(u8::from(!spent.contains_key(cell("customer_id"))));
        ltv += number("ltv");
        purchases += number("expected_purchases");
        squares += (number("churn_probability") - silent).powi(2);
        n += 1.0;
    }
    let found = evaluate(&[CUTOFF]).arg("--bootstrap").arg("0").json();
    let all = &found["cutoffs"][0]["all"];
    let near = |section: &str, metric: &str, want: f64| {
        let got = model(&all[section], "served")["scores"][metric]["estimate"].as_f64().unwrap();
        assert!((got / want - 1.0).abs() < 1e-12, "{section} {metric}: {got} is not {want}");
    };
    near("churn", "brier", squares / n);
    near("spend", "total_ratio", ltv / spent.values().map(|(_, paid)| paid).sum::<f64>());
    let days = spent.values().map(|(days, _)| days.len() as f64).sum::<f64>();
    near("purchases", "total_ratio", purchases / days);
}

/// Per customer who was known at the cut-off the days with a purchase after it, and what was paid.
fn spent_after(
    orders: &Path,
    cutoff: &str,
    until: &str,
) -> std::collections::BTreeMap<String, (std::collections::BTreeSet<String>, f64)> {
    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_path(orders).unwrap().records().map(Result::unwrap).collect();
    let known: std::collections::BTreeSet<&str> =
        rows.iter().filter(|row| &row[1] <= cutoff).map(|row| &row[0]).collect();
    let mut spent = std::collections::BTreeMap::<_, (std::collections::BTreeSet<_>, f64)>::new();
    for row in &rows {
        if cutoff < &row[1] && &row[1] <= until && known.contains(&row[0]) {
            let own = spent.entry(row[0].to_owned()).or_default();
            own.0.insert(row[1].to_owned());
            own.1 += row[2].parse::<f64>().unwrap();
        }
    }
    spent
}

#[test]
fn a_horizon_beyond_the_log_names_its_days() {
    evaluate(&["2021-11-30"]).fails(3, &["2021-11-30", "2022-01-29", "beyond the log", "2021-12"]);
    evaluate(&[CUTOFF]).arg("--horizon-days").arg("365").fails(3, &[CUTOFF, "2022-08-31"]);
}

#[test]
fn what_cannot_be_asked_is_refused() {
    evaluate(&["yesterday"]).fails(2, &["--cutoff", "yesterday", "YYYY-MM-DD"]);
    evaluate(&["2021-06-30T12:00:00Z"]).fails(2, &["--cutoff", "YYYY-MM-DD"]);
    evaluate(&["2021-02-30"]).fails(2, &["2021-02-30"]);
    evaluate(&[CUTOFF]).arg("--horizon-days").arg("0").fails(2, &["--horizon-days"]);
    evaluate(&[]).fails(2, &["--cutoff"]);
    evaluate(&["2019-06-30"]).fails(3, &["2019-06-30"]);
    // Too little history for three windows.
    evaluate(&["2020-01-20"]).fails(3, &["2020-01-20", "28"]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    write_log(&path("log.csv"), &order_lines());
    let config = CONFIG.replace("[segments]", "churn = 'label'\n[segments]")
        + "[customers]\ncustomer = 'who'\nlabel = 'gone'\n";
    std::fs::write(path("habitus.toml"), config).unwrap();
    std::fs::write(path("people.csv"), "who,gone\nc001,yes\n").unwrap();
    Run::new("evaluate")
        .path("--config", &path("habitus.toml"))
        .path("--events", &path("log.csv"))
        .path("--customers", &path("people.csv"))
        .arg("--cutoff")
        .arg(CUTOFF)
        .fails(2, &["model.churn", "label"]);
}
