//! The customers file: attributes, opting out, and labels of contracts with and without dates.

use crate::support::{CONFIG, Run, order_lines, write_log};
use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const ATTRIBUTES: &str = "[customers]\ncustomer = 'id'\nregistered_at = 'since'\n\
    opt_out = 'optout'\nnumbers = ['monthly']\ncategories = ['plan']\n";

const FEATURES: &str = "[features]\npack = 'none'\nlist = [\n\
    { name = 'monthly', aggregate = 'attribute', attribute = 'monthly' },\n\
    { name = 'plan', aggregate = 'one_hot', attribute = 'plan' },\n\
    { name = 'tenure', aggregate = 'days_since_registered' },\n]\n";

struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str, customers: &str) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::write(place.path("habitus.toml"), config).unwrap();
        std::fs::write(place.path("people.csv"), customers).unwrap();
        write_log(&place.path("orders.csv"), &order_lines());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, subcommand: &str) -> Run {
        Run::new(subcommand).path("--customers", &self.path("people.csv"))
    }

    fn train(&self) -> Run {
        let run = self.run("train").path("--config", &self.path("habitus.toml"));
        run.path("--models", &self.path("models"))
    }

    fn score(&self) -> Run {
        let run = self.run("score").path("--models", &self.path("models"));
        run.path("--out", &self.path("scores.ndjson"))
    }

    fn scores(&self) -> Vec<Value> {
        rows(&self.path("scores.ndjson"))
    }
}

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The customers of the small shop, and one who never bought: those on the basic plan leave more
/// often, and every fiftieth opted out.
fn people(label: impl Fn(u32, bool) -> String) -> String {
    let mut text = String::from("id,since,plan,monthly,optout,left,ended\n");
    for id in 0u32..=300 {
        let state = id.wrapping_mul(2_654_435_761) >> 16;
        let plan = ["basic", "pro", "team"][(state % 3) as usize];
        let left = state / 3 % 10 < if plan == "basic" { 7 } else { 2 };
        let opted_out = if id % 50 == 7 { "yes" } else { "" };
        let monthly = 5 + state % 80;
        let label = label(id, left);
        let _ = writeln!(text, "c{id:03},2020-01-05,{plan},{monthly}.50,{opted_out},{label}");
    }
    text
}

fn labelled(extra: &str) -> String {
    format!(
        "{ATTRIBUTES}label = 'left'\n{extra}[model]\nname = 'contracts'\nchurn = 'label'\n\
         horizon_days = 60\n[segments]\nfamily = 'kmeans'\nk = 3\n{FEATURES}"
    )
}

#[test]
fn attributes_are_features_beside_those_of_events() {
    let people = people(|_, _| ",".to_owned());
    let list = FEATURES.replace("pack = 'none'", "pack = 'purchases'");
    let place = Place::new(&format!("{CONFIG}{ATTRIBUTES}{list}"), &people);
    let (config, orders) = (place.path("habitus.toml"), place.path("orders.csv"));
    let out = place.path("features.ndjson");
    place
        .run("features")
        .path("--config", &config)
        .path("--events", &orders)
        .arg("--as-of")
        .arg("2021-12-27")
        .path("--out", &out)
        .json();
    let row = rows(&out).into_iter().find(|row| row["customer_id"] == "c001").unwrap();
    let one_hot: f64 = ["basic", "pro", "team"]
        .map(|plan| row[&format!("plan={plan}")].as_f64().unwrap())
        .iter()
        .sum();
    assert_eq!((one_hot, row["tenure"].as_f64()), (1.0, Some(722.0)));
    assert!(
        row["monthly"].as_f64().unwrap() > 5.0 && row["purchase_days"].as_f64().unwrap() >= 1.0
    );

    let report = place.train().path("--events", &orders).json();
    assert_eq!(report["rows"]["customers"]["counts"]["accepted"], 301);
    place.score().path("--events", &orders).json();
    let scores = place.scores();
    assert_eq!(scores.len(), 301);
    let status = |id: &str| {
        let row = scores.iter().find(|row| row["customer_id"] == id).unwrap();
        (row["churn_status"].clone(), row["value_status"].clone())
    };
    assert_eq!(status("c001"), ("OK".into(), "OK".into()));
    assert_eq!(status("c007"), ("OPTED_OUT".into(), "OPTED_OUT".into()));
    assert_eq!(status("c300"), ("NO_HISTORY".into(), "NO_HISTORY".into()));
    place.run("verify").path("--events", &orders).path("--models", &place.path("models")).json();
}

#[test]
fn labels_without_dates_are_split_by_the_seed() {
    let place = Place::new(&labelled(""), &people(|_, left| format!("{left},")));
    let train = || place.train().arg("--as-of").arg("2021-12-31").json();
    let report = train();
    let note = report["evaluation"]["notes"][0].as_str().unwrap();
    assert!(note.contains("labels have no dates"), "{note}");
    let logistic = &report["evaluation"]["churn"][0];
    assert_eq!((&logistic["family"], &logistic["chosen"]), (&"logistic".into(), &true.into()));
    assert!(logistic["holdout"]["auc"].as_f64().unwrap() > 0.6, "{logistic}");
    assert_eq!(train()["version"], report["version"]);
    place.score().arg("--as-of").arg("2021-12-31").json();
    let scores = place.scores();
    let mean = |plan: bool| {
        let people = std::fs::read_to_string(place.path("people.csv")).unwrap();
        let basic: Vec<String> = people
            .lines()
            .filter(|line| line.contains(",basic,") == plan)
            .filter_map(|line| line.split(',').next().map(str::to_owned))
            .collect();
        let of: Vec<f64> = scores
            .iter()
            .filter(|row| basic.iter().any(|id| row["customer_id"] == id.as_str()))
            .filter_map(|row| row["churn_probability"].as_f64())
            .collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    assert!(mean(true) > mean(false) + 0.2, "{} {}", mean(true), mean(false));
    assert!(scores.iter().all(|row| row["value_status"] != "OK" && row["ltv"].is_null()));
}

#[test]
fn labels_with_dates_are_cut_off_in_time() {
    // Whoever leaves does so on some day of 2021.
    let ends = |id: u32, left: bool| match left {
        true => format!("1,2021-{:02}-{:02}", 1 + id % 12, 1 + id % 28),
        false => "0,".to_owned(),
    };
    let place = Place::new(&labelled("label_date = 'ended'\n"), &people(ends));
    let report = place.train().arg("--as-of").arg("2021-12-31").json();
    let clock = &report["evaluation"]["clock"];
    assert_ne!(clock["fit"], clock["measure"]);
    let holdout = &report["evaluation"]["churn"][0]["holdout"];
    // Those who left before the last cut-off are not asked about.
    assert!(holdout["n_customers"].as_u64().unwrap() < 290, "{holdout}");
    assert!(holdout["rate"].as_f64().unwrap() < 0.3, "{holdout}");
    place.score().arg("--as-of").arg("2021-06-30").json();
    let lost = place.scores().iter().filter(|row| row["churn_status"] == "ALREADY_LOST").count();
    assert!(lost > 20, "{lost}");
}

#[test]
fn a_version_with_a_customers_file_does_not_answer_without_it() {
    let people = people(|_, _| ",".to_owned());
    let place = Place::new(&format!("{CONFIG}{ATTRIBUTES}"), &people);
    let orders = place.path("orders.csv");
    place.train().path("--events", &orders).json();
    Run::new("score")
        .path("--events", &orders)
        .path("--models", &place.path("models"))
        .path("--out", &place.path("scores.csv"))
        .fails(2, &["--customers", "opt-outs"]);
}

#[test]
fn labels_without_dates_are_refused_beside_events() {
    let place = Place::new(&labelled(""), &people(|_, left| format!("{left},")));
    let mut config = std::fs::read_to_string(place.path("habitus.toml")).unwrap();
    config += "[data.columns]\ncustomer = 'who'\ntime = 'when'\namount = 'paid'\n";
    std::fs::write(place.path("habitus.toml"), config).unwrap();
    place.train().path("--events", &place.path("orders.csv")).fails(3, &["customers.label_date"]);
}

#[test]
fn what_is_wrong_is_named() {
    let twice = "id,since,plan,monthly,optout\na,2020-01-01,pro,5,\na,2020-01-01,team,5,\n";
    let place = Place::new(&format!("{CONFIG}{ATTRIBUTES}"), twice);
    let orders = place.path("orders.csv");
    place.train().path("--events", &orders).fails(3, &["two different things", "`a`"]);
    let config = format!("{CONFIG}{ATTRIBUTES}{FEATURES}")
        .replace("attribute = 'monthly'", "attribute = 'shoe'");
    let place = Place::new(&config, twice);
    place.train().path("--events", &orders).fails(2, &["customers.numbers", "shoe"]);
    let place = Place::new(&labelled("").replace("label = 'left'\n", ""), twice);
    place.train().fails(2, &["model.churn", "customers.label"]);
}
