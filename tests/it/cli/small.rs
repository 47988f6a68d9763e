//! A shop with few customers gets tiers instead of clusters, down to one customer.

use crate::support::{CONFIG, Run, order_lines, write_log};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A directory with the log of some customers.
struct Few {
    directory: tempfile::TempDir,
}

impl Few {
    fn new(lines: &[String], config: &str) -> Few {
        let few = Few { directory: tempfile::tempdir().unwrap() };
        write_log(&few.path("log.csv"), lines);
        std::fs::write(few.path("habitus.toml"), config).unwrap();
        few
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

    fn scores(&self) -> Vec<Value> {
        let out = self.path("scores.ndjson");
        Run::new("score")
            .path("--events", &self.path("log.csv"))
            .path("--models", &self.path("models"))
            .path("--out", &out)
            .json();
        rows(&out)
    }
}

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The orders of the small shop's first 30 customers.
fn thirty() -> Vec<String> {
    order_lines().into_iter().filter(|line| line.as_str() < "c030").collect()
}

fn names(report: &Value) -> Vec<&str> {
    let segments = report["segments"].as_array().unwrap();
    segments.iter().map(|segment| segment["name"].as_str().unwrap()).collect()
}

#[test]
fn thirty_customers_get_tiers_and_are_told_so() {
    let few = Few::new(&thirty(), CONFIG);
    let report = few.train().json();
    assert_eq!(names(&report), ["Tier A", "Tier B", "Tier C"]);
    let note = report["evaluation"]["notes"][0].as_str().unwrap();
    assert!(
        note.contains("too few customers for clusters (30")
            && note.contains("segments.small_below")
    );
    let rows = few.scores();
    assert_eq!(rows.len(), 30);
    for row in &rows {
        let tier = row["tier"].as_str().unwrap();
        assert_eq!(row["segment_name"], format!("Tier {tier}"), "{row}");
        assert!(row["segment_probability"].is_null(), "a rule has no doubts: {row}");
        assert!(row["segment_noise"].is_null(), "nor densities: {row}");
        let bands: Vec<u8> =
            row["rfm"].as_str().unwrap().split('-').map(|band| band.parse().unwrap()).collect();
        assert!(bands.len() == 3 && bands.iter().all(|band| (1..=5).contains(band)), "{row}");
        assert!(row["ltv"].is_number() && row["churn_probability"].is_number(), "{row}");
    }
    for segment in report["segments"].as_array().unwrap() {
        let letter = segment["name"].as_str().unwrap().trim_start_matches("Tier ");
        let n = rows.iter().filter(|row| row["tier"] == letter).count();
        assert_eq!(segment["profile"]["n_customers"], n, "{letter}");
    }
    let shown = few.train().output();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(
        shown.status.success() && text.contains("note: too few customers for clusters (30"),
        "{text}"
    );
}

#[test]
fn clusters_begin_at_the_configured_number() {
    let few = Few::new(&thirty(), &format!("{CONFIG}small_below = 30\n"));
    let report = few.train().json();
    assert!(names(&report).iter().all(|name| !name.starts_with("Tier")), "{report}");
    assert!(few.scores().iter().all(|row| row["tier"].is_string() && row["rfm"].is_string()));
}

#[test]
fn one_customer_over_a_long_log_is_enough() {
    let lines: Vec<String> = (0..24)
        .map(|month| format!("a,{}-{:02}-05,9.50", 2020 + month / 12, 1 + month % 12))
        .collect();
    let few = Few::new(&lines, CONFIG);
    let report = few.train().json();
    assert!(report["evaluation"]["notes"][0].as_str().unwrap().contains("too few"), "{report}");
    let rows = few.scores();
    assert_eq!((rows.len(), rows[0]["tier"].as_str()), (1, Some("A")));
    for head in ["segment", "value", "churn"] {
        assert_eq!(rows[0][format!("{head}_status")], "OK");
    }
    assert!(rows[0]["ltv"].as_f64().unwrap() > 0.0, "{}", rows[0]);
    let p = rows[0]["churn_probability"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&p), "{p}");
}

#[test]
fn too_few_customers_leave_the_gate_undecided() {
    let few = Few::new(&thirty(), CONFIG);
    let train = |as_of: &str| few.train().arg("--as-of").arg(as_of);
    let first = train("2021-08-31").json();
    train("2021-10-31").arg("--promote").fails(4, &["undecided", "30 customers", "200"]);
    let shown = Run::new("models").arg("show").path("--models", &few.path("models")).json();
    assert_eq!(shown["manifest"]["version"], first["version"]);
    train("2021-10-31").arg("--promote").arg("--force").json();
}
