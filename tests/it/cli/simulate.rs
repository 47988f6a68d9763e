//! Simulated logs: the same by seed, and good for a model that uses every column.

use crate::support::Run;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// All columns of a simulated log, and features of most of them.
const CONFIG: &str = "[data]
max_rejected_share = 0.0
[data.columns]
kind = 'kind'
quantity = 'quantity'
discount = 'discount'
currency = 'currency'
rating = 'rating'
order_id = 'order_id'
event_id = 'event_id'
item = 'item'
category = 'category'
channel = 'channel'
[model]
name = 'simulated'
horizon_days = 60
[segments]
k = 3
n_init = 2
[features]
list = [
    { name = 'refunds', kinds = ['refund'], aggregate = 'count' },
    { name = 'rating', kinds = ['rating'], aggregate = 'mean', of = 'rating' },
    { name = 'visits', kinds = ['visit'], aggregate = 'count', window = '90d' },
    { name = 'discounts', aggregate = 'sum', of = 'discount' },
    { name = 'items', aggregate = 'distinct', of = 'item' },
    { name = 'web', aggregate = 'count', where = { channel = ['web'] } },
]
";

const KINDS: [&str; 6] = ["campaign", "cart", "purchase", "rating", "refund", "visit"];

fn simulate(customers: &str, out: &Path, args: &[&str]) -> Value {
    let run = Run::new("simulate").arg("--customers").arg(customers).path("--out", out);
    args.iter().fold(run, |run, arg| run.arg(arg)).json()
}

#[test]
fn a_seed_gives_the_same_bytes_for_any_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ["csv", "ndjson", "parquet"] {
        let written = |args: &[&str]| {
            let (out, truth) = (directory.path().join("log"), directory.path().join("truth"));
            let [out, truth] = [out, truth].map(|path| path.with_extension(kind));
            let args = [args, &["--truth", truth.to_str().unwrap()]].concat();
            simulate("300", &out, &args);
            (fs::read(out).unwrap(), fs::read(truth).unwrap())
        };
        let one = written(&["--threads", "1", "--seed", "7"]);
        assert_eq!(one, written(&["--threads", "2", "--seed", "7"]), "{kind}");
        let other = written(&["--seed", "8"]);
        assert!(one.0 != other.0 && one.1 != other.1, "{kind}");
        assert_eq!(written(&[]), written(&["--seed", "42"]), "{kind}");
    }
}

#[test]
fn a_log_has_all_kinds_and_the_truth_about_every_customer() {
    let directory = tempfile::tempdir().unwrap();
    let (log, truth) = (directory.path().join("log.csv"), directory.path().join("truth.ndjson"));
    let summary = simulate("300", &log, &["--truth", truth.to_str().unwrap()]);
    let events = summary["events"].as_object().unwrap();
    assert_eq!(events.keys().collect::<Vec<_>>(), KINDS);
    let mut reader = csv::Reader::from_path(&log).unwrap();
    let kind = reader.headers().unwrap().iter().position(|name| name == "kind").unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    for (name, count) in events {
        let n = rows.iter().filter(|row| &row[kind] == name).count();
        assert_eq!(count.as_u64(), Some(n as u64), "{name}");
    }
    assert_eq!(summary["rows"], rows.len());
    let text = fs::read_to_string(&truth).unwrap();
    let lives: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lives.len(), 300);
    for (index, life) in (0..).zip(&lives) {
        assert_eq!(life["customer_id"], format!("c{index:07}"));
        let p = life["p"].as_f64().unwrap();
        assert!(life["lambda"].as_f64().unwrap() > 0.0 && (0.0..=1.0).contains(&p), "{life}");
        assert!(life["mean_spend"].as_f64().unwrap() > 0.0, "{life}");
    }
    let gone = lives.iter().filter(|life| life["alive_until"].is_string()).count();
    assert!(gone > 0 && gone < 300, "some are gone and some are not: {gone}");

    let bought = simulate("300", &log, &["--purchases-only"]);
    assert_eq!(bought["events"].as_object().unwrap().keys().collect::<Vec<_>>(), ["purchase"]);
}

#[test]
fn a_simulated_log_trains_a_version_that_answers_about_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("habitus.toml"), CONFIG).unwrap();
    for kind in ["parquet", "csv", "ndjson"] {
        simulate("300", &path(&format!("log.{kind}")), &[]);
    }
    let train = |log: &str, models: &str| {
        Run::new("train")
            .path("--config", &path("habitus.toml"))
            .path("--events", &path(log))
            .path("--models", &path(models))
            .json()
    };
    let report = train("log.parquet", "models");
    let counts = &report["rows"]["counts"];
    assert_eq!(counts["accepted"], counts["rows"], "every row is as the model wants it: {counts}");
    assert_eq!(counts["repaired"].as_object().unwrap().len(), 0, "{counts}");
    for log in ["log.csv", "log.ndjson"] {
        assert_eq!(train(log, "others")["digest"], report["digest"], "{log}");
    }

    let out = path("scores.ndjson");
    let summary = Run::new("score")
        .path("--events", &path("log.parquet"))
        .path("--models", &path("models"))
        .path("--out", &out)
        .json();
    let customers = summary["customers"].as_u64().unwrap();
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count() as u64, customers);
    assert!(customers > 250, "{customers}");

    Run::new("features")
        .path("--config", &path("habitus.toml"))
        .path("--events", &path("log.parquet"))
        .path("--out", &path("features.ndjson"))
        .arg("--as-of")
        .arg("2021-12-31")
        .json();
    let text = fs::read_to_string(path("features.ndjson")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for feature in ["refunds", "rating", "visits", "discounts", "items", "web"] {
        let some = rows.iter().filter(|row| row[feature].as_f64() > Some(0.0)).count();
        assert!(some > 0 && some <= rows.len(), "{feature} tells customers apart: {some}");
    }
}

#[test]
fn impossible_shops_are_refused_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("log.csv");
    for (flag, value) in [
        ("--days", "0"),
        ("--orders", "nan"),
        ("--orders", "0"),
        ("--start", "soon"),
        ("--customers", "0"),
        ("--truth", "truth.xlsx"),
    ] {
        let customers = if flag == "--customers" { value } else { "5" };
        let run = Run::new("simulate").arg("--customers").arg(customers).path("--out", &out);
        let run = if flag == "--customers" { run } else { run.arg(flag).arg(value) };
        run.fails(2, &[]);
        assert!(fs::read_dir(directory.path()).unwrap().next().is_none(), "{flag} {value}");
    }
}
