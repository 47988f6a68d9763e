//! Whatever is handed in, the answer is a clear error or a counted repair, and nothing is left
//! half-written.

use crate::support::{CONFIG, Run, order_lines, trained, write_log};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A directory with a log and a configuration of their own.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new(log: &str, config: &str) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("log.csv"), log).unwrap();
        std::fs::write(directory.path().join("habitus.toml"), config).unwrap();
        Bench { directory }
    }

    fn with(extra_lines: &[&str]) -> Bench {
        let bench = Bench::new("", CONFIG);
        let mut lines = order_lines();
        lines.extend(extra_lines.iter().map(|&line| line.to_owned()));
        write_log(&bench.path("log.csv"), &lines);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn train(&self) -> Run {
        Run::new("train")
            .path("--config", &self.path("habitus.toml"))
            .path("--events", &self.path("log.csv"))
            .path("--models", &self.path("models"))
    }

    /// Training fails with this code and these words, and the registry stays empty.
    fn refuses(&self, code: i32, words: &[&str]) {
        self.train().fails(code, words);
        assert!(is_empty(&self.path("models")), "something was left in the registry");
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn logs_without_a_usable_event() {
    Bench::new("", CONFIG).refuses(3, &["log.csv", "empty"]);
    Bench::new("who,when,paid\n", CONFIG).refuses(3, &["no row of the log is usable"]);
    Bench::new("who,when,paid\na,never,1\nb,2020-01-01,much\n", CONFIG)
        .refuses(3, &["no row of the log is usable", "line 2", "line 3"]);
    Bench::new("who,when,paid\na,2020-01-01,1\n", CONFIG).refuses(3, &["spans 0 days", "28"]);
}

#[test]
fn a_log_of_a_few_weeks_is_too_short() {
    let lines: Vec<String> = (1..28)
        .map(|day| format!("c{day},2020-01-{day:02},{day}.00\nc{day},2020-01-{:02},2.5", day + 1))
        .collect();
    let bench = Bench::new(&format!("who,when,paid\n{}\n", lines.join("\n")), CONFIG);
    bench.refuses(3, &["spans 25 days", "28"]);
}

#[test]
fn an_as_of_before_the_first_event_or_after_now() {
    let bench = Bench::with(&[]);
    bench.train().arg("--as-of").arg("1999-12-31").fails(3, &["1999-12-31"]);
    bench.train().arg("--as-of").arg("soon").fails(2, &["soon"]);
    bench.train().arg("--as-of").arg("20210630").fails(2, &["20210630"]);
    bench.train().arg("--as-of").arg("2999-01-01").fails(2, &["2999-01-01", "future"]);
    assert!(is_empty(&bench.path("models")));
}

#[test]
fn all_customers_with_one_purchase_are_served_by_baselines() {
    let lines: Vec<String> = (0..200)
        .map(|id| format!("c{id},2020-{:02}-{:02},{}.50", 1 + id % 12, 1 + id % 28, 5 + id % 40))
        .collect();
    let bench = Bench::new(&format!("who,when,paid\n{}\n", lines.join("\n")), CONFIG);
    let report = bench.train().json();
    let chosen = |head: &str| {
        let trials = report["evaluation"][head].as_array().unwrap();
        trials.iter().find(|trial| trial["chosen"] == true).unwrap()["family"].clone()
    };
    assert_eq!((chosen("churn"), chosen("value")), ("base_rate".into(), "naive_rate".into()));
    let trials = report["evaluation"]["churn"].as_array().unwrap();
    let logistic = trials.iter().find(|trial| trial["family"] == "logistic").unwrap();
    let failure = &logistic["failure"];
    assert!(failure.as_str().unwrap().contains("same label"), "{failure}");
}

#[test]
fn constant_columns_are_no_obstacle() {
    let mut lines = order_lines();
    for line in &mut lines {
        let cut = line.rfind(',').unwrap();
        line.replace_range(cut.., ",9.99");
    }
    let bench = Bench::new("", CONFIG);
    write_log(&bench.path("log.csv"), &lines);
    let report = bench.train().json();
    assert_eq!(report["segments"].as_array().unwrap().len(), 3);
}

#[test]
fn bad_rows_are_counted_by_reason_and_the_rest_is_used() {
    let bench = Bench::with(&[
        "c001,2021-01-01,NaN",
        "c001,2021-01-01,inf",
        "c001,2021-01-01,12 dollars",
        "c001,2021-01-01,",
        "c001,2021-01-01,-5",
        "c001,2021-01-01,1e300",
        "c001,someday,5",
        ",2021-01-01,5",
        "c001,2999-01-01,5",
        "c001,2021-01-01,5,6,7",
        "c001",
        "c001,2021-01-01,1.005",
    ]);
    let report = bench.train().json();
    let counts = &report["rows"]["counts"];
    for (reason, count) in [
        ("non_finite_amount", 2),
        ("unreadable_amount", 1),
        ("missing_amount", 1),
        ("negative_amount", 1),
        ("amount_out_of_range", 1),
        ("unreadable_time", 1),
        ("missing_customer", 1),
        ("future_time", 1),
        ("ragged", 2),
    ] {
        assert_eq!(counts["rejected"][reason], count, "{reason}: {counts}");
        let example = &report["rows"]["rejected_examples"][reason][0];
        assert!(example["line"].as_u64().unwrap() > order_lines().len() as u64, "{example}");
    }
    assert_eq!(counts["repaired"]["amount_rounded"], 1);
    assert_eq!(counts["accepted"], order_lines().len() + 1);
    assert_eq!(counts["rows"], order_lines().len() + 12);
}

#[test]
fn columns_and_keys_that_do_not_exist() {
    let bench = Bench::with(&[]);
    std::fs::write(bench.path("habitus.toml"), CONFIG.replace("'paid'", "'total'")).unwrap();
    bench.refuses(2, &["total", "who, when, paid"]);
    std::fs::write(bench.path("habitus.toml"), format!("{CONFIG}colour = 'red'\n")).unwrap();
    bench.refuses(2, &["segments.colour"]);
    std::fs::write(bench.path("habitus.toml"), CONFIG.replace("[model]", "[model")).unwrap();
    bench.refuses(2, &["habitus.toml"]);
    std::fs::write(bench.path("habitus.toml"), CONFIG).unwrap();
    bench.train().env("HABITUS_MODEL__SEEED", "1").fails(2, &["model.seeed"]);
    bench.train().env("HABITUS_SEGMENTS__K", "many").fails(2, &["segments.k"]);
    assert!(is_empty(&bench.path("models")));
}

#[test]
fn more_clusters_than_customers() {
    let bench = Bench::with(&[]);
    std::fs::write(bench.path("habitus.toml"), CONFIG.replace("k = 3", "k = 301")).unwrap();
    bench.refuses(2, &["segments.k", "301", "300"]);
}

#[test]
fn usage_errors_have_exit_code_two() {
    let shop = trained();
    Run::new("train").fails(2, &["--config"]);
    Run::new("dance").fails(2, &["dance"]);
    let train = || Run::new("train").path("--config", &shop.config);
    train().arg("--events").arg("no-such-*.csv").fails(2, &["no-such-*.csv"]);
    train().path("--events", &shop.orders).arg("--threads").arg("0").fails(2, &["--threads"]);
    train().path("--events", &shop.orders).arg("--name").arg("A/B").fails(2, &["A/B"]);
    let score =
        || Run::new("score").path("--events", &shop.orders).path("--models", &shop.models_dir);
    score().arg("--out").arg("scores.xlsx").fails(2, &["xlsx", "parquet"]);
}

#[test]
fn an_unwritable_target_leaves_nothing_behind() {
    let shop = trained();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("missing/scores.csv");
    Run::new("score")
        .path("--events", &shop.orders)
        .path("--models", &shop.models_dir)
        .path("--out", &out)
        .fails(1, &["missing"]);
    assert!(is_empty(directory.path()));
}

#[test]
fn a_model_must_be_chosen_where_there_are_two() {
    let bench = Bench::with(&[]);
    bench.train().json();
    bench.train().arg("--name").arg("other").json();
    let score = || {
        Run::new("score")
            .path("--events", &bench.path("log.csv"))
            .path("--models", &bench.path("models"))
            .path("--out", &bench.path("scores.csv"))
    };
    score().fails(2, &["other", "shop", "--model"]);
    let summary: Value = score().arg("--model").arg("other@production").json();
    assert_eq!(summary["customers"], 300);
}
