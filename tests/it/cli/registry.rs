//! `models`: what the registry holds and which version answers.

use crate::support::{CONFIG, Run, order_lines, trained, write_log};
use std::path::Path;

/// Trains after the incumbent; `promote` overrules the gate, which has nothing to go by where all
/// versions are of one as-of.
fn train(directory: &Path, seed: &str, promote: bool) -> String {
    let (log, config) = (directory.join("log.csv"), directory.join("habitus.toml"));
    write_log(&log, &order_lines());
    std::fs::write(&config, CONFIG).unwrap();
    let run = Run::new("train")
        .path("--config", &config)
        .path("--events", &log)
        .path("--models", &directory.join("models"))
        .arg("--seed")
        .arg(seed);
    let run = if promote { run.arg("--promote").arg("--force") } else { run };
    run.json()["version"].as_str().unwrap().to_owned()
}

fn models(directory: &Path, args: &[&str]) -> Run {
    let run = Run::new("models");
    let run = args.iter().fold(run, |run, arg| run.arg(arg));
    run.path("--models", &directory.join("models"))
}

#[test]
fn the_first_version_takes_the_alias_and_later_ones_only_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let production = || models(directory, &["show"]).json()["manifest"]["version"].clone();
    let first = train(directory, "1", false);
    assert_eq!(production(), first.as_str());
    let second = train(directory, "2", false);
    assert_eq!(production(), first.as_str());
    let third = train(directory, "3", true);
    assert_eq!(production(), third.as_str());
    models(directory, &["promote", &format!("shop@{second}"), "--force"]).json();
    assert_eq!(production(), second.as_str());
    assert_eq!(models(directory, &["list"]).json().as_array().unwrap().len(), 3);
    models(directory, &["rollback", "shop"]).json();
    assert_eq!(production(), third.as_str());
    models(directory, &["rollback", "shop"]).json();
    assert_eq!(production(), first.as_str());
    models(directory, &["rollback", "shop"]).fails(2, &["nothing to go back to"]);
    assert_eq!(production(), first.as_str());
}

#[test]
fn a_version_tells_from_where_on_a_customer_is_noise() {
    let shop = trained();
    let show = || Run::new("models").arg("show").path("--models", &shop.models_dir);
    let noise = show().json()["parameters"]["segment"]["by"]["clusters"]["noise"].clone();
    assert_eq!(noise["quantile"], 0.01);
    let log_density = noise["log_density"].as_f64().unwrap();
    let told = format!("log-density below {log_density:.1} (the 0.01 quantile)");
    let shown = show().output().stdout;
    let report = shop.models_dir.join(&shop.name).join(&shop.version).join("report.md");
    for text in [shown, std::fs::read(report).unwrap()] {
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("noise") && text.contains(&told), "{text}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let shop = trained();
    let show = |model: &str| {
        Run::new("models").arg("show").path("--models", &shop.models_dir).arg("--model").arg(model)
    };
    show("shop@1999-01-01-abcdefabcdef").fails(2, &["1999-01-01-abcdefabcdef"]);
    show("bakery").fails(2, &["bakery"]);
    show("../shop").fails(2, &["../shop"]);
    show("@production").fails(2, &["@production"]);
    let empty = tempfile::tempdir().unwrap();
    Run::new("models").arg("show").path("--models", empty.path()).fails(2, &["holds no model"]);
    Run::new("models").arg("diff").arg("a").arg("b").fails(2, &["`a` is no model"]);
}

#[test]
fn a_damaged_artefact_is_refused_by_every_reader() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let version = train(directory, "1", true);
    let log = directory.join("log.csv");
    let out = directory.join("scores.csv");
    for (file, from, to) in [
        ("parameters.json", "\"horizon_days\": 60", "\"horizon_days\": 61"),
        ("manifest.json", "\"n_customers\": 300", "\"n_customers\": 301"),
        ("manifest.json", "\"format\": 5", "\"format\": 4"),
        ("parameters.json", "{", ""),
    ] {
        let path = directory.join("models/shop").join(&version).join(file);
        let good = std::fs::read_to_string(&path).unwrap();
        let bad = good.replacen(from, to, 1);
        assert_ne!(good, bad, "{file} holds `{from}`");
        std::fs::write(&path, bad).unwrap();
        let score = || {
            Run::new("score")
                .path("--events", &log)
                .path("--models", &directory.join("models"))
                .path("--out", &out)
        };
        score().fails(1, &["is damaged", file]);
        assert!(!out.exists());
        Run::new("serve")
            .path("--events", &log)
            .path("--models", &directory.join("models"))
            .fails(1, &["is damaged", file]);
        std::fs::write(&path, good).unwrap();
        score().json();
        std::fs::remove_file(&out).unwrap();
    }
    let version_directory = directory.join("models/shop").join(&version);
    std::fs::rename(version_directory.join("manifest.json"), directory.join("aside")).unwrap();
    models(directory, &["show"]).fails(1, &["manifest.json", "missing"]);
    std::fs::remove_dir_all(&version_directory).unwrap();
    let retrain = || {
        Run::new("train")
            .path("--config", &directory.join("habitus.toml"))
            .path("--events", &log)
            .path("--models", &directory.join("models"))
    };
    retrain().fails(2, &["--incumbent none", "no model called `shop`"]);
    retrain().arg("--incumbent").arg("none").arg("--seed").arg("2").json();
    models(directory, &["show"]).fails(1, &["production", &version, "not there"]);
}

#[test]
#[cfg(unix)]
fn what_is_published_can_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let version = train(directory.path(), "1", true);
    let model = directory.path().join("models/shop");
    for path in ["aliases/production", "aliases/history.ndjson", &version] {
        let mode = std::fs::metadata(model.join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o044, 0o044, "{path}: {mode:o}");
    }
}

#[test]
fn two_processes_may_publish_the_same_version_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (log, config) = (directory.path().join("log.csv"), directory.path().join("habitus.toml"));
    write_log(&log, &order_lines());
    std::fs::write(&config, CONFIG).unwrap();
    let train = || {
        Run::new("train")
            .path("--config", &config)
            .path("--events", &log)
            .path("--models", &directory.path().join("models"))
            .json()
    };
    let [a, b] = std::thread::scope(|scope| {
        [scope.spawn(train), scope.spawn(train)].map(|run| run.join().unwrap())
    });
    assert_eq!(a["version"], b["version"]);
    assert_eq!(models(directory.path(), &["list"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn a_history_that_a_crash_cut_short_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let first = train(directory, "1", true);
    let second = train(directory, "2", true);
    let history = directory.join("models/shop/aliases/history.ndjson");
    let mut text = std::fs::read_to_string(&history).unwrap();
    text += "{\"at\":1,\"ali";
    std::fs::write(&history, text).unwrap();
    models(directory, &["rollback", "shop"]).json();
    let production = models(directory, &["show"]).json()["manifest"]["version"].clone();
    assert_eq!(production, first.as_str());
    models(directory, &["promote", &format!("shop@{second}"), "--force"]).json();
    models(directory, &["rollback", "shop"]).json();
    let production = models(directory, &["show"]).json()["manifest"]["version"].clone();
    assert_eq!(production, first.as_str());
}

#[test]
fn one_damaged_version_hides_no_other_from_the_list() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (good, bad) = (train(directory, "1", true), train(directory, "2", false));
    std::fs::write(directory.join("models/shop").join(&bad).join("manifest.json"), "{").unwrap();
    let output = models(directory, &["list"]).output();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&good));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&bad));
}

#[test]
#[cfg(target_os = "linux")]
fn a_log_disk_that_is_full_costs_log_lines_only() {
    let directory = tempfile::tempdir().unwrap();
    train(directory.path(), "1", true);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_habitus"))
        .args(["models", "show", "--models"])
        .arg(directory.path().join("models"))
        .args(["--model", "nobody"])
        .stderr(full)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2), "an error that cannot be told is still its exit code");
}
