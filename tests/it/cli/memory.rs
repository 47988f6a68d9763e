//! A log that does not fit into the memory it may take gives what it would give otherwise, and a
//! run that was killed over it leaves nothing that the next one would trip over.

use crate::support::{CONFIG, Run, order_lines, trained};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The least bound, of which rows may take a quarter before they go to disk.
const BOUND: [&str; 2] = ["--memory-mb", "50"];

/// The small shop's log in the order of its days, with texts so long that the rows are beyond the
/// bound while their customers are still the small shop's.
struct Large {
    input: tempfile::TempDir,
    output: tempfile::TempDir,
}

impl Large {
    fn new() -> Large {
        let [input, output] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let large = Large { input, output };
        let mut lines = order_lines();
        lines.sort_by(|a, b| a.split(',').nth(1).cmp(&b.split(',').nth(1)));
        let text = "abcdefghi ".repeat(500);
        let rows: String =
            (0..).zip(&lines).map(|(row, line)| format!("{line},{}{text}\n", row % 50)).collect();
        assert!(rows.len() > 13_000_000, "beyond a quarter of the bound");
        fs::write(large.log(), format!("who,when,paid,what\n{rows}")).unwrap();
        let config = CONFIG.replace("[model]", "item = 'what'\n[model]");
        fs::write(large.config(), config).unwrap();
        large
    }

    fn log(&self) -> PathBuf {
        self.input.path().join("log.csv")
    }

    fn config(&self) -> PathBuf {
        self.input.path().join("habitus.toml")
    }

    /// Where results go.
    fn path(&self, name: &str) -> PathBuf {
        self.output.path().join(name)
    }

    /// What is there now.
    fn written(&self) -> Vec<String> {
        names(self.output.path())
    }

    fn run(&self, subcommand: &str, args: &[&str]) -> Run {
        let run = Run::new(subcommand).path("--config", &self.config());
        args.iter().fold(run.path("--events", &self.log()), |run, arg| run.arg(arg))
    }

    /// A run of `score` by the small shop's version.
    fn score(&self, args: &[&str]) -> Run {
        let run = self.run("score", args).path("--models", &trained().models_dir);
        run.path("--out", &self.path("scores.csv"))
    }

    /// The same within the bound, to be killed.
    fn spawned(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_habitus"))
            .args(["score", "--quiet", "--config"])
            .arg(self.config())
            .arg("--events")
            .arg(self.log())
            .arg("--models")
            .arg(&trained().models_dir)
            .arg("--out")
            .arg(self.path("scores.csv"))
            .args(BOUND)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The directory of the work on the scores, if there is one.
    fn job(&self) -> Option<PathBuf> {
        let is_job =
            |name: &String| name.starts_with(".habitus-scores.csv-") && name.ends_with(".job");
        self.written().into_iter().find(is_job).map(|name| self.path(&name))
    }

    /// Kills a run after its first part was scored and before its file stands.
    fn kill_midway(&self, args: &[&str]) {
        let begun = || {
            let runs = self.job().map(|job| names(&job.join("runs"))).unwrap_or_default();
            runs.iter().any(|name| name.starts_with("run-"))
        };
        let out = self.path("scores.csv");
        for _ in 0..100 {
            let mut child = self.spawned(args);
            while child.try_wait().unwrap().is_none() {
                if begun() {
                    child.kill().unwrap();
                    break;
                }
                std::thread::yield_now();
            }
            child.wait().unwrap();
            if !out.exists() && begun() {
                return;
            }
            // It was faster.
            let _ = fs::remove_file(&out);
        }
        panic!("never caught at work");
    }

    fn scores(&self) -> Vec<u8> {
        fs::read(self.path("scores.csv")).unwrap()
    }

    /// Scores without a bound, away from everything.
    fn whole(&self, args: &[&str]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("whole.csv");
        let run = self.run("score", args).path("--models", &trained().models_dir);
        run.path("--out", &out).json();
        fs::read(out).unwrap()
    }

    /// Puts other rows into the log, of as many bytes, at the time of the last change that it had.
    fn change_unseen(&self) {
        let modified = fs::metadata(self.log()).unwrap().modified().unwrap();
        let text = fs::read_to_string(self.log()).unwrap();
        let changed = text.replace(",1", ",2");
        assert!(changed != text && changed.len() == text.len());
        fs::write(self.log(), changed).unwrap();
        File::options().write(true).open(self.log()).unwrap().set_modified(modified).unwrap();
    }
}

/// The files of a directory, sorted, the hidden ones with them.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn features_and_training_are_the_same_within_a_bound() {
    let large = Large::new();
    fs::create_dir(large.path("rows")).unwrap();
    let bounded = |run: Run, rows: &str| {
        let run = run.env("HABITUS_MEMORY__DIRECTORY", large.path(rows).to_str().unwrap());
        BOUND.iter().fold(run, |run, arg| run.arg(arg))
    };
    let features = |out: &str| {
        large.run("features", &["--as-of", "2021-06-30"]).path("--out", &large.path(out))
    };
    let train = |models: &str| large.run("train", &[]).path("--models", &large.path(models));

    let free = features("free.csv").json();
    let bound = bounded(features("bound.csv"), "rows").json();
    assert_eq!(bound["rows"], free["rows"]);
    let [free, bound] = ["free.csv", "bound.csv"].map(|name| fs::read(large.path(name)).unwrap());
    assert_eq!(bound, free);
    let (free, bound) = (train("free").json(), bounded(train("bound"), "rows").json());
    assert_eq!(bound["digest"], free["digest"]);
    assert!(names(&large.path("rows")).is_empty(), "rows go when they are no longer needed");

    // They had been there: without a place for them there is an error.
    bounded(features("none.csv"), "nowhere").fails(1, &["disk", "nowhere"]);
    bounded(train("none"), "nowhere").fails(1, &["disk", "nowhere"]);
    assert_eq!(large.written(), ["bound", "bound.csv", "free", "free.csv", "rows"]);
}

#[test]
fn scores_are_the_same_within_a_bound_and_every_customer_counts_once_per_head() {
    let large = Large::new();
    let (config, models) = (large.path("h.toml"), large.path("models"));
    let eligibility = "horizon_days = 60\nmin_age_days = 40\nlost_after_days = 200";
    fs::write(&config, CONFIG.replace("horizon_days = 60", eligibility)).unwrap();
    let train = Run::new("train").path("--config", &config).path("--events", &trained().orders);
    train.path("--models", &models).json();
    let scored = |name: &str, args: &[&str]| {
        let run = large.run("score", &["--as-of", "2020-02-29"]).path("--models", &models);
        let run = args.iter().fold(run, |run, arg| run.arg(arg));
        let summary = run.path("--out", &large.path(name)).json();
        (summary, fs::read(large.path(name)).unwrap())
    };
    let (free, bound) = (scored("free.csv", &[]), scored("bound.csv", &BOUND));
    assert_eq!(free.1, bound.1);
    for summary in [&free.0, &bound.0] {
        let customers = summary["customers"].as_u64().unwrap();
        assert!(customers > 0 && customers < 300, "some come later: {customers}");
        assert!(summary["heads"]["value"]["TOO_NEW"].as_u64().unwrap() > 0, "{summary}");
        let heads: BTreeMap<String, BTreeMap<String, u64>> =
            serde_json::from_value(summary["heads"].clone()).unwrap();
        let sums: Vec<u64> = heads.values().map(|statuses| statuses.values().sum()).collect();
        assert_eq!(sums, [customers; 3], "{summary}");
    }
    assert_eq!(free.0["heads"], bound.0["heads"]);
    assert_eq!(free.0["rows"], bound.0["rows"]);
    assert_eq!(large.written(), ["bound.csv", "free.csv", "h.toml", "models"]);
}

#[test]
fn a_killed_run_goes_on_where_it_was_and_leaves_nothing() {
    let large = Large::new();
    let whole = large.whole(&[]);
    large.kill_midway(&[]);
    assert!(!large.path("scores.csv").exists());
    // What it had read is what counts, so that the log is not needed again.
    large.change_unseen();
    large.score(&BOUND).json();
    assert_eq!(large.scores(), whole);
    assert_ne!(large.scores(), large.whole(&[]));
    assert_eq!(large.written(), ["scores.csv"]);
}

#[test]
fn another_question_on_the_same_file_does_not_find_the_killed_runs_work() {
    let large = Large::new();
    large.kill_midway(&[]);
    let early = ["--as-of", "2020-06-30"];
    large.score(&[BOUND, early].concat()).json();
    assert_eq!(large.scores(), large.whole(&early));
    assert_eq!(large.written(), ["scores.csv"]);

    fs::remove_file(large.path("scores.csv")).unwrap();
    large.kill_midway(&early);
    let mut log = File::options().append(true).open(large.log()).unwrap();
    log.write_all(b"c001,2020-06-01,12.00,late\n").unwrap();
    large.score(&[BOUND, early].concat()).json();
    assert_eq!(large.scores(), large.whole(&early), "a log that grew is another log");
    assert_eq!(large.written(), ["scores.csv"]);
}

#[test]
fn rows_that_did_not_survive_are_read_again() {
    let large = Large::new();
    large.kill_midway(&[]);
    let rows = large.job().unwrap().join("rows");
    let kept = names(&rows).into_iter().rfind(|name| name.starts_with("rows-")).unwrap();
    let kept = File::options().write(true).open(rows.join(kept)).unwrap();
    kept.set_len(kept.metadata().unwrap().len() - 5).unwrap();
    large.score(&BOUND).json();
    assert_eq!(large.scores(), large.whole(&[]));
    assert_eq!(large.written(), ["scores.csv"]);
}

#[test]
fn a_run_that_is_refused_leaves_nothing() {
    let large = Large::new();
    let before = ["--as-of", "1999-12-31"];
    for args in [&before[..], &[before, BOUND].concat()] {
        large.score(args).fails(3, &["1999-12-31"]);
        assert!(large.written().is_empty(), "{:?}", large.written());
    }
}

#[test]
fn several_runs_at_once_write_the_same_file() {
    let large = Large::new();
    let mut runs: Vec<Child> = (0..4).map(|_| large.spawned(&[])).collect();
    let good: Vec<bool> = runs.iter_mut().map(|run| run.wait().unwrap().success()).collect();
    assert_eq!(good, [true; 4]);
    assert_eq!(large.scores(), large.whole(&[]));
    assert_eq!(large.written(), ["scores.csv"]);
}
