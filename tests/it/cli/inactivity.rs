//! Churn as so many days without activity, from a simulated log with visits to the answers.

use crate::support::Run;
use habitus_engine::domain::{Day, Zone};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const COLUMNS: &str = "[data.columns]\nkind = 'kind'\nquantity = 'quantity'\norder_id = 'order_id'\n\
    event_id = 'event_id'\n[segments]\nfamily = 'kmeans'\nk = 3\n";
const MODEL: &str = "[model]\nname = 'shop'\nhorizon_days = 60\n";
const INACTIVITY: &str = "churn = 'inactivity'\ninactive_days = 30\n";
/// Before the last day of the log, so that nothing later may matter.
const AS_OF: &str = "2021-05-01";

/// A simulated shop of 500 days, and a version that was learned from it.
struct Place {
    directory: tempfile::TempDir,
    report: Value,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, subcommand: &str) -> Run {
        Run::new(subcommand).path("--events", &self.path("log.csv"))
    }

    fn train(&self, config: &str) -> Run {
        self.train_as_of(config, AS_OF)
    }

    fn train_as_of(&self, config: &str, as_of: &str) -> Run {
        let file = self.path(&format!("{:016x}.toml", habitus_engine::domain::hash(config)));
        std::fs::write(&file, config).unwrap();
        self.run("train").path("--config", &file).arg("--as-of").arg(as_of)
    }

    /// The days of each customer's activity up to the as-of, in the order of the log.
    fn active_days(&self) -> BTreeMap<String, Vec<Day>> {
        let zone = Zone::named("UTC").unwrap();
        let day = |time: &str| zone.day_of(zone.parse(time, None).unwrap().at);
        let until = day(AS_OF);
        let mut reader = csv::Reader::from_path(self.path("log.csv")).unwrap();
        let mut days: BTreeMap<String, Vec<Day>> = BTreeMap::new();
        for row in reader.deserialize() {
            let row: BTreeMap<String, String> = row.unwrap();
            let at = day(&row["time"]);
            let of = days.entry(row["customer_id"].clone()).or_default();
            if at <= until && !["campaign", "refund"].contains(&row["kind"].as_str()) {
                of.push(at);
            }
        }
        days
    }
}

fn place() -> &'static Place {
    static PLACE: LazyLock<Place> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log.csv");
        Run::new("simulate")
            .arg("--customers")
            .arg("1200")
            .arg("--days")
            .arg("500")
            .path("--out", &log)
            .json();
        let mut place = Place { directory, report: Value::Null };
        let train = place.train(&format!("{COLUMNS}{MODEL}{INACTIVITY}"));
        place.report = train.path("--models", &place.path("models")).json();
        place
    });
    &PLACE
}

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn trial<'a>(report: &'a Value, head: &str, family: &str) -> Option<&'a Value> {
    let trials = report["evaluation"][head].as_array().unwrap();
    trials.iter().find(|trial| trial["family"] == family)
}

#[test]
fn a_regression_tells_inactivity_and_models_of_purchases_do_not() {
    let report = &place().report;
    let trials: Vec<&Value> = report["evaluation"]["churn"].as_array().unwrap().iter().collect();
    let families: Vec<&Value> = trials.iter().map(|trial| &trial["family"]).collect();
    assert_eq!(families, ["logistic", "recency"]);
    let auc = |family| trial(report, "churn", family).unwrap()["holdout"]["auc"].as_f64().unwrap();
    assert!(auc("logistic") > 0.75 && auc("recency") > 0.6, "{trials:?}");
    // Value is of spend as ever.
    assert!(trial(report, "value", "blend").unwrap()["failure"].is_null());
    assert_eq!(report["evaluation"]["bridged"], false);

    let directory = PathBuf::from(report["directory"].as_str().unwrap());
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap();
    let parameters: Value = serde_json::from_str(&read("parameters.json")).unwrap();
    assert_eq!(parameters["churn_is"]["inactivity"]["days"], 30);
    let spec = parameters["spec"].as_array().unwrap();
    let names: Vec<&str> = spec.iter().map(|feature| feature["name"].as_str().unwrap()).collect();
    let added = ["days_since_activity", "active_days_lately", "activity_gap_mean"];
    assert!(added.iter().all(|name| names.contains(name)), "{names:?}");
    // Segments are of what was named.
    let columns = &parameters["segment"]["by"]["clusters"]["encoder"]["columns"];
    let of_segments = columns.as_array().unwrap();
    assert!(!of_segments.is_empty());
    assert!(of_segments.iter().all(|column| !added.contains(&column["name"].as_str().unwrap())));
    assert!(
        read("report.md").contains("Churn is 30 days in a row without activity (purchase, visit")
    );
}

#[test]
fn who_was_inactive_for_long_enough_is_already_lost() {
    let place = place();
    let out = place.path("scores.ndjson");
    let score = place.run("score").path("--models", &place.path("models")).path("--out", &out);
    score.arg("--model").arg("shop").arg("--as-of").arg(AS_OF).json();
    let active = place.active_days();
    let zone = Zone::named("UTC").unwrap();
    let as_of = zone.parse_as_of(AS_OF).unwrap().day;
    let (mut lost, mut given) = (0, Vec::new());
    for row in rows(&out) {
        let days = &active[row["customer_id"].as_str().unwrap()];
        let silent = as_of.since(*days.iter().max().unwrap());
        let is_lost = row["churn_status"] == "ALREADY_LOST";
        assert_eq!(is_lost, silent >= 30, "{silent} days: {row}");
        // A lost customer keeps segment and value.
        assert_eq!((&row["segment_status"], &row["value_status"]), (&"OK".into(), &"OK".into()));
        assert_eq!(row["churn_probability"].is_null(), is_lost, "{row}");
        lost += u32::from(is_lost);
        given.extend(row["churn_probability"].as_f64().map(|p| (silent, p)));
    }
    assert!(lost > 50 && given.len() > 50, "{lost} {}", given.len());
    // Who is near the end of the days is likelier to complete them than who was just active.
    let mean = |is_in: &dyn Fn(i32) -> bool| {
        let of: Vec<f64> = given.iter().filter(|(days, _)| is_in(*days)).map(|(_, p)| *p).collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    let (long, short) = (mean(&|days| days > 20), mean(&|days| days < 3));
    assert!(long > short + 0.2, "{long} {short}");
}

#[test]
fn a_version_is_made_again_and_told_apart_from_others() {
    let place = place();
    place.run("verify").arg("--model").arg("shop").path("--models", &place.path("models")).json();
    // Another meaning, or another number of days, is another incumbent.
    let models = place.path("others");
    let days = |days: u32| {
        let churn = format!("churn = 'inactivity'\ninactive_days = {days}\n");
        place.train(&format!("{COLUMNS}{MODEL}{churn}")).path("--models", &models).json()
    };
    let (first, second) = (days(30), days(45));
    assert_eq!(first["version"], place.report["version"]);
    assert!(second["lineage"].is_null());
    let verdict = &second["gate"]["verdict"];
    let reason = verdict["reasons"][0].as_str().unwrap();
    assert_eq!(verdict["outcome"], "undecided");
    assert!(reason.contains("model.inactive_days"), "{reason}");
    let name = |report: &Value| format!("shop@{}", report["version"].as_str().unwrap());
    let diff = Run::new("models")
        .arg("diff")
        .arg(name(&first))
        .arg(name(&second))
        .path("--models", &models)
        .json();
    let told = |place: usize| diff["churn_is"][place].as_str().unwrap();
    assert!(
        told(0).starts_with("30 days") && told(1).starts_with("45 days"),
        "{} {}",
        told(0),
        told(1)
    );
    // Metrics of two meanings are told side by side, without a difference.
    let diff = Run::new("models").arg("diff").arg(name(&first)).arg(name(&second));
    let output = diff.path("--models", &models).output();
    let shown = String::from_utf8(output.stdout).unwrap();
    let row = |head: &str, metric: &str| {
        let is_it = |line: &&str| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            (cells.next(), cells.next()) == (Some(head), Some(metric))
        };
        let line = shown.lines().find(is_it).unwrap_or_else(|| panic!("{shown}"));
        line.split('|').map(str::trim).skip(3).take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    let (brier, gini) = (row("churn", "Brier"), row("value", "normalised Gini"));
    assert!(brier[0] != "-" && brier[1] != "-" && brier[2] == "-", "{brier:?}");
    assert!(gini.iter().all(|cell| cell != "-"), "{gini:?}");
}

#[test]
fn a_store_teaches_what_its_log_does() {
    let place = place();
    let (config, store) = (place.path("store.toml"), place.path("store"));
    std::fs::write(&config, format!("{COLUMNS}{MODEL}{INACTIVITY}")).unwrap();
    place.run("ingest").path("--config", &config).path("--store", &store).json();
    let of_store = Run::new("train")
        .path("--config", &config)
        .path("--store", &store)
        .path("--models", &place.path("of-store"))
        .arg("--as-of")
        .arg(AS_OF)
        .json();
    assert_eq!(of_store["digest"], place.report["digest"]);
}

#[test]
fn what_happened_after_a_cutoff_is_inactivity_too() {
    let place = place();
    let config = place.path("evaluate.toml");
    std::fs::write(&config, format!("{COLUMNS}{MODEL}{INACTIVITY}")).unwrap();
    let found = place
        .run("evaluate")
        .path("--config", &config)
        .arg("--cutoff")
        .arg("2021-02-15")
        .arg("--bootstrap")
        .arg("20")
        .path("--out", &place.path("evaluation"))
        .json();
    let cutoff = &found["cutoffs"][0];
    let zone = Zone::named("UTC").unwrap();
    let day = |date: &str| zone.parse_as_of(date).unwrap().day;
    let (from, until) = (day("2021-02-15"), day("2021-04-16"));
    assert_eq!(cutoff["until"], until.to_string());
    // The outcome by hand: the longest gap that ends after the cut-off.
    let (mut asked, mut churned) = (0u32, 0u32);
    for days in place.active_days().values() {
        let seen: Vec<Day> = days.iter().copied().filter(|day| *day <= from).collect();
        let Some(last) = seen.iter().max() else { continue };
        if from.since(*last) >= 30 {
            continue;
        }
        let mut later: Vec<Day> =
            days.iter().copied().filter(|day| from < *day && *day <= until).collect();
        later.sort_unstable();
        later.push(until.plus(1));
        later.insert(0, *last);
        asked += 1;
        churned += u32::from(later.windows(2).any(|gap| gap[1].since(gap[0]) > 30));
    }
    let churn = &cutoff["all"]["churn"];
    assert_eq!(churn["n_customers"], asked);
    let rate = churn["mean_actual"].as_f64().unwrap();
    assert!(
        (rate - f64::from(churned) / f64::from(asked)).abs() < 1e-12,
        "{rate} {churned}/{asked}"
    );
    let models = churn["models"].as_array().unwrap();
    let names: Vec<&Value> = models.iter().map(|model| &model["model"]).collect();
    assert_eq!(names, ["naive_rate", "recency", "logistic", "served"]);
    let served = &models[3]["scores"];
    assert!(served["auc"]["estimate"].as_f64().unwrap() > 0.7, "{served}");
    let plot = place.path("evaluation/2021-02-15-calibration.svg");
    assert!(std::fs::read_to_string(plot).unwrap().contains("became inactive"));
}

#[test]
fn a_log_too_short_for_the_horizon_is_refused() {
    let place = place();
    let config = format!("{COLUMNS}{MODEL}{INACTIVITY}").replace("= 60", "= 150");
    let train = place.train(&config).path("--models", &place.path("short"));
    train.fails(3, &["inactivity", "150 days", "model.horizon_days"]);
}

#[test]
fn nothing_is_published_where_everybody_is_lost() {
    let place = place();
    let models = place.path("lost");
    // Seven weeks after the last row of the log, and less than the horizon.
    let lost = |model: &str, setting: &str| {
        let train = place.train_as_of(&format!("{COLUMNS}{MODEL}{model}"), "2021-07-01");
        train.path("--models", &models).fails(3, &["2021-07-01", setting]);
        assert!(!models.join("shop").exists(), "{setting}");
    };
    lost(INACTIVITY, "model.inactive_days");
    lost("lost_after_days = 30\n", "model.lost_after_days");
}

#[test]
fn scores_of_mid_day_call_nobody_lost_a_day_early() {
    let place = place();
    let out = place.path("noon.ndjson");
    let score = place.run("score").path("--models", &place.path("models")).path("--out", &out);
    score.arg("--model").arg("shop").arg("--as-of").arg("2021-05-01T12:00:00Z").json();
    let zone = Zone::named("UTC").unwrap();
    let today = zone.parse_as_of(AS_OF).unwrap().day;
    let active = place.active_days();
    let mut on_the_edge = 0;
    for row in rows(&out) {
        let days = &active[row["customer_id"].as_str().unwrap()];
        let before = days.iter().filter(|day| **day < today).max();
        // Who comes on the day itself comes before or after noon; of both nothing is claimed here.
        let Some(last) = before.filter(|_| !days.contains(&today)) else { continue };
        let silent = today.since(*last);
        let is_lost = row["churn_status"] == "ALREADY_LOST";
        assert_eq!(is_lost, silent > 30, "{silent} days: {row}");
        on_the_edge += u32::from(silent == 30);
    }
    assert!(on_the_edge > 0);
}
