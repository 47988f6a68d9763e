//! A newer version takes the older one's place only if the gate lets it, and segments keep their
//! ids and names on the way.

use crate::support::{CONFIG, Run, order_lines, write_log};
use serde_json::Value;
use std::path::PathBuf;

const AUGUST: &str = "2021-08-31";
const OCTOBER: &str = "2021-10-31";
const DECEMBER: &str = "2021-12-26";

/// Features that say nothing of what a customer will do.
const USELESS: &str = "[heads]
value = 'hurdle'
churn = 'logistic'
purchases = []
[features]
pack = 'none'
list = [
    { name = 'visits', kinds = ['visit'], aggregate = 'count' },
    { name = 'age', aggregate = 'days_since_first', of = 'events' },
]
";

/// The small shop with a registry of its own.
struct Shop {
    directory: tempfile::TempDir,
}

/// A training run that was let into production or not.
struct Tried {
    code: Option<i32>,
    stderr: String,
    report: Value,
}

impl Tried {
    fn version(&self) -> &str {
        self.report["version"].as_str().unwrap()
    }
}

impl Shop {
    fn new() -> Shop {
        let shop = Shop { directory: tempfile::tempdir().unwrap() };
        write_log(&shop.path("log.csv"), &order_lines());
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Trains by the small shop's settings and `more` of them.
    fn train(&self, more: &str, as_of: &str, args: &[&str]) -> Tried {
        std::fs::write(self.path("habitus.toml"), format!("{CONFIG}{more}")).unwrap();
        let run = Run::new("train")
            .path("--config", &self.path("habitus.toml"))
            .path("--events", &self.path("log.csv"))
            .path("--models", &self.path("models"))
            .arg("--format")
            .arg("json")
            .arg("--as-of")
            .arg(as_of);
        let output = args.iter().fold(run, |run, arg| run.arg(arg)).output();
        Tried {
            code: output.status.code(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            report: serde_json::from_slice(&output.stdout).unwrap(),
        }
    }

    fn models(&self, args: &[&str]) -> Run {
        let run = args.iter().fold(Run::new("models"), |run, arg| run.arg(arg));
        run.path("--models", &self.path("models"))
    }

    fn show(&self, version: &str) -> Value {
        self.models(&["show", "--model", &format!("shop@{version}")]).json()
    }

    fn production(&self) -> String {
        self.show("production")["manifest"]["version"].as_str().unwrap().to_owned()
    }

    /// The changes of the alias, oldest first.
    fn history(&self) -> Vec<Value> {
        let path = self.path("models/shop/aliases/history.ndjson");
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn ids(report: &Value) -> Vec<String> {
    let segments = report["segments"].as_array().unwrap().iter();
    let mut ids: Vec<String> =
        segments.map(|segment| segment["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn two_months_later_the_same_settings_pass_and_segments_go_on() {
    let shop = Shop::new();
    let first = shop.train("", AUGUST, &[]);
    assert!(first.report["gate"].is_null() && first.report["lineage"].is_null());
    let second = shop.train("", OCTOBER, &["--promote"]);
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert_eq!(
        (&second.report["created"], &second.report["production"]),
        (&true.into(), &true.into())
    );
    let gate = &second.report["gate"];
    assert_eq!(
        (&gate["incumbent"], &gate["verdict"]["outcome"]),
        (&first.version().into(), &"passed".into())
    );
    assert_eq!(gate["verdict"]["reasons"].as_array().unwrap().len(), 0);
    assert_eq!(gate["verdict"]["comparisons"].as_array().unwrap().len(), 4);
    assert_eq!(gate["verdict"]["n_customers"], 300);
    let lineage = &second.report["lineage"];
    assert_eq!(lineage["incumbent"]["version"], first.version());
    assert_eq!(lineage["n_common"], 300);
    assert_eq!(lineage["records"].as_array().unwrap().len(), 3);
    assert_eq!(ids(&second.report), ids(&first.report));
    assert_eq!(shop.production(), second.version());
    let history = shop.history();
    assert_eq!(history.len(), 2);
    assert!(history[1]["version"] == second.version() && history[1]["overruled"].is_null());
    assert_eq!(shop.show("production")["gate"], *gate);
}

#[test]
fn a_worse_candidate_stays_in_the_registry_and_out_of_production() {
    let shop = Shop::new();
    let first = shop.train("", AUGUST, &[]);
    let worse = shop.train(USELESS, DECEMBER, &["--promote"]);
    assert_eq!(worse.code, Some(4), "{}", worse.stderr);
    assert!(worse.stderr.contains("certainly worse") && worse.stderr.contains(worse.version()));
    assert_eq!(
        (&worse.report["created"], &worse.report["production"]),
        (&true.into(), &false.into())
    );
    assert_eq!(shop.production(), first.version());
    let verdict = shop.show(worse.version())["gate"]["verdict"].clone();
    assert_eq!(verdict, worse.report["gate"]["verdict"]);
    assert_eq!(verdict["outcome"], "refused");
    let refusing = |comparison: &&Value| comparison["refuses"] == true;
    assert!(verdict["comparisons"].as_array().unwrap().iter().filter(refusing).count() >= 2);

    let named = format!("shop@{}", worse.version());
    shop.models(&["promote", &named]).fails(4, &["certainly worse"]);
    assert_eq!((shop.production().as_str(), shop.history().len()), (first.version(), 1));
    shop.models(&["promote", &named, "--force"]).json();
    assert_eq!(shop.production(), worse.version());
    let history = shop.history();
    assert!(history[1]["overruled"].as_str().unwrap().contains("certainly worse"), "{history:?}");
    // What is in production already needs no gate, and changes nothing.
    shop.models(&["promote", &named]).json();
    assert_eq!(shop.history().len(), 2);
    shop.models(&["rollback", "shop"]).json();
    assert_eq!(shop.production(), first.version());
    // Trained again, it is the same version and is refused again.
    let again = shop.train(USELESS, DECEMBER, &["--promote"]);
    assert_eq!((again.code, again.version()), (Some(4), worse.version()));
    assert_eq!(again.report["created"], false);
}

#[test]
fn relabelling_alone_is_a_reason() {
    let shop = Shop::new();
    let first = shop.train("", AUGUST, &[]);
    let settings = "k = 5\n[gate]\nmost_relabelled = 0.0\n";
    std::fs::write(shop.path("five.toml"), CONFIG.replace("k = 3\n", "") + settings).unwrap();
    let run = Run::new("train")
        .path("--config", &shop.path("five.toml"))
        .path("--events", &shop.path("log.csv"))
        .path("--models", &shop.path("models"))
        .arg("--promote");
    run.fails(4, &["would see another segment for the model's sake; at most 0.0 % may"]);
    assert_eq!(shop.production(), first.version());
}

#[test]
fn a_window_that_is_too_short_decides_nothing() {
    let shop = Shop::new();
    shop.train("", AUGUST, &[]);
    let soon = shop.train("", "2021-09-10", &["--promote"]);
    assert_eq!(soon.code, Some(4));
    assert_eq!(soon.report["gate"]["verdict"]["outcome"], "undecided");
    assert!(soon.stderr.contains("undecided: the window has 10 days; at least 28"));
    let forced = shop.train("", "2021-09-10", &["--promote", "--force"]);
    assert_eq!((forced.code, &forced.report["production"]), (Some(0), &true.into()));
    assert!(shop.history()[1]["overruled"].as_str().unwrap().starts_with("undecided"));
}

#[test]
fn a_verdict_counts_against_the_version_in_production_alone() {
    let shop = Shop::new();
    let first = shop.train("", AUGUST, &[]);
    let second = shop.train("", OCTOBER, &["--promote"]);
    let third = shop.train("", DECEMBER, &["--promote", "--incumbent", first.version()]);
    assert_eq!(third.report["gate"]["verdict"]["outcome"], "passed");
    assert_eq!((third.code, shop.production().as_str()), (Some(4), second.version()));
    let reason = format!("judged against {}, but {}", first.version(), second.version());
    assert!(third.stderr.contains(&reason), "{}", third.stderr);
    let named = format!("shop@{}", first.version());
    shop.models(&["promote", &named]).fails(4, &["never judged against", second.version()]);

    let alone = shop.train("", DECEMBER, &["--promote", "--incumbent", "none"]);
    assert!(alone.report["gate"].is_null() && alone.report["lineage"].is_null());
    assert!(ids(&alone.report).iter().all(|id| !ids(&second.report).contains(id)));
    assert_eq!(alone.code, Some(4));
    assert!(alone.stderr.contains("never judged"), "{}", alone.stderr);
}

#[test]
fn a_version_that_follows_another_is_made_again_from_its_input() {
    let shop = Shop::new();
    let first = shop.train("", AUGUST, &[]);
    let second = shop.train("", OCTOBER, &["--promote"]);
    let again = shop.train("", OCTOBER, &["--promote"]);
    assert_eq!((again.code, again.version()), (Some(0), second.version()));
    assert_eq!(
        (&again.report["created"], &again.report["production"]),
        (&false.into(), &true.into())
    );
    assert_eq!(again.report["lineage"], second.report["lineage"]);
    assert_eq!(shop.models(&["list"]).json().as_array().unwrap().len(), 2);
    assert_eq!(shop.history().len(), 2);
    for version in [first.version(), second.version()] {
        let verified = Run::new("verify")
            .path("--events", &shop.path("log.csv"))
            .path("--models", &shop.path("models"))
            .arg("--model")
            .arg(format!("shop@{version}"))
            .json();
        assert_eq!(verified["equal"], true, "{verified}");
    }
}

#[test]
fn a_segments_name_outlives_the_line_that_gave_it() {
    let shop = Shop::new();
    let first = shop.train("", AUGUST, &[]);
    let id = &ids(&first.report)[1];
    let names = format!("[segments.names]\n{id} = 'Regulars'\n");
    let second = shop.train(&names, OCTOBER, &["--promote"]);
    let third = shop.train("", DECEMBER, &["--promote"]);
    for tried in [&second, &third] {
        assert_eq!(tried.code, Some(0), "{}", tried.stderr);
        let segments = tried.report["segments"].as_array().unwrap();
        let named = segments.iter().find(|segment| segment["id"] == id.as_str()).unwrap();
        assert_eq!(named["name"], "Regulars");
    }
}

#[test]
fn the_differences_of_two_versions_are_told() {
    let shop = Shop::new();
    let first = format!("shop@{}", shop.train("", AUGUST, &[]).version());
    let second = shop.train("", OCTOBER, &["--promote"]);
    let diff = shop.models(&["diff", &first, "shop@production"]).json();
    let named = format!("shop@{}", second.version());
    assert_eq!(diff["versions"], serde_json::json!([first, named]));
    assert_eq!(diff["as_ofs"], serde_json::json!([AUGUST, OCTOBER]));
    assert_eq!(diff["customers"], serde_json::json!([300, 300]));
    let rows = |part: &str| diff[part].as_array().unwrap().clone();
    assert_eq!((rows("metrics").len(), rows("segments").len()), (7, 3));
    for row in rows("metrics").iter().chain(&rows("segments")) {
        assert!(row["a"].is_number() && row["b"].is_number(), "{row}");
    }
    let distances: Vec<f64> =
        rows("features").iter().map(|row| row["distance"].as_f64().unwrap()).collect();
    assert!(distances.len() > 5 && distances.is_sorted_by(|a, b| a >= b), "{distances:?}");

    let output = shop.models(&["diff", &first, &named]).output();
    let table = String::from_utf8_lossy(&output.stdout);
    for word in [&first, &named, "normalised Gini", "| segment ", "median A", "days_since_last"] {
        assert!(table.contains(word), "`{word}` is not in: {table}");
    }
    for id in ids(&second.report) {
        assert!(table.contains(&id), "{table}");
    }
    let same = shop.models(&["diff", &first, &first]).json();
    assert!(same["features"].as_array().unwrap().iter().all(|row| row["distance"] == 0.0));
}

#[test]
fn force_is_part_of_a_promotion() {
    let shop = Shop::new();
    let run = Run::new("train").path("--config", &shop.path("habitus.toml"));
    run.path("--events", &shop.path("log.csv")).arg("--force").fails(2, &["--promote"]);
}
