//! `train --store`: what a store teaches, what a version knows of the store, and who was in it.

use crate::support::{CONFIG, Run, order_lines, write_log};
use habitus::clock::now;
use habitus_engine::domain::Day;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const ATTRIBUTES: &str = "[customers]\ncustomer = 'id'\nregistered_at = 'since'\n\
    opt_out = 'optout'\nnumbers = ['monthly']\ncategories = ['plan']\n\
    [features]\npack = 'purchases'\nlist = [\n\
    { name = 'monthly', aggregate = 'attribute', attribute = 'monthly' },\n\
    { name = 'plan', aggregate = 'one_hot', attribute = 'plan' },\n\
    { name = 'tenure', aggregate = 'days_since_registered' },\n]\n";

/// The small shop's log and settings, with whatever a test adds to them.
struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        place.write("habitus.toml", config);
        write_log(&place.path("orders.csv"), &order_lines());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, subcommand: &str) -> Run {
        Run::new(subcommand).path("--config", &self.path("habitus.toml"))
    }

    fn ingest(&self, events: &str, store: &str) -> Value {
        let run = self.run("ingest").path("--events", &self.path(events));
        run.path("--store", &self.path(store)).json()
    }

    fn train(&self, models: &str) -> Run {
        self.run("train").path("--models", &self.path(models)).arg("--incumbent").arg("none")
    }

    fn by_log(&self, models: &str) -> Run {
        self.train(models).path("--events", &self.path("orders.csv"))
    }

    fn by_store(&self, store: &str, models: &str) -> Run {
        self.train(models).path("--store", &self.path(store))
    }

    fn verify(&self, models: &str, report: &Value) -> Run {
        let (name, version) = (report["name"].as_str(), report["version"].as_str());
        let model = format!("{}@{}", name.unwrap(), version.unwrap());
        Run::new("verify").path("--models", &self.path(models)).arg("--model").arg(model)
    }

    fn stats(&self, store: &str) -> Value {
        Run::new("store").arg("stats").path("--store", &self.path(store)).json()
    }

    fn erase(&self, customer: &str, store: &str, models: &str) -> Run {
        let run = Run::new("erase").arg(customer).path("--store", &self.path(store));
        run.path("--models", &self.path(models))
    }
}

/// A file of a trained version.
fn file(report: &Value, name: &str) -> String {
    let directory = PathBuf::from(report["directory"].as_str().unwrap());
    fs::read_to_string(directory.join(name)).unwrap()
}

fn manifest(report: &Value) -> Value {
    serde_json::from_str(&file(report, "manifest.json")).unwrap()
}

/// Both versions are the same but for where they learned.
fn assert_same(of_log: &Value, of_store: &Value) {
    assert_eq!(of_store["version"], of_log["version"]);
    for name in ["parameters.json", "metrics.json"] {
        assert!(file(of_store, name) == file(of_log, name), "{name} differs");
    }
    let [of_log, of_store] = [of_log, of_store].map(manifest);
    assert_eq!(of_store["sealed"], of_log["sealed"]);
    assert_eq!(of_store["account"]["counts"], of_log["account"]["counts"]);
    assert_eq!((of_log.get("store"), &of_store["files"]), (None, &Value::Array(Vec::new())));
}

#[test]
fn a_store_teaches_what_its_log_does() {
    let place = Place::new(&format!("{CONFIG}{ATTRIBUTES}"));
    let mut lines = order_lines();
    lines.push("c001,2021-05-05,7.005".to_owned());
    lines.push("c002,2021-05-05,0".to_owned());
    write_log(&place.path("orders.csv"), &lines);
    let mut people = String::from("id,since,plan,monthly,optout\n");
    for id in 0..310u32 {
        let plan = ["basic", "pro", "team"][(id % 3) as usize];
        let optout = if id % 50 == 7 { "yes" } else { "" };
        people += &format!("c{id:03},2020-01-05,{plan},{}.50,{optout}\n", id * 7 % 83);
    }
    place.write("people.csv", &people);
    let customers = place.path("people.csv");
    let of_log = place.by_log("of-log").path("--customers", &customers).json();

    let run = place.run("ingest").path("--events", &place.path("orders.csv"));
    let filled = run.path("--customers", &customers).path("--store", &place.path("store")).json();
    let of_store = place.by_store("store", "of-store").json();
    assert_same(&of_log, &of_store);
    assert_eq!(of_store["rows"]["customers"]["counts"]["accepted"], 310);
    let (stats, store) = (place.stats("store"), &manifest(&of_store)["store"]);
    assert_eq!((&store["id"], &store["sequence"]), (&stats["id"], &filled["sequence"]));
    assert_eq!(store["id"].as_str().unwrap().len(), 16);
    assert_eq!(&of_store["store"], store);

    // An earlier as-of is one of the store's, too.
    let until = |run: Run| run.arg("--as-of").arg("2021-06-30").json();
    let of_log = until(place.by_log("of-log").path("--customers", &customers));
    assert_same(&of_log, &until(place.by_store("store", "of-store")));
}

/// Beyond a sample, segments are learned part by part, and so the order of customers matters.
#[test]
fn a_store_larger_than_the_sample_teaches_what_its_log_does() {
    let columns = "[data.columns]\nkind = 'kind'\nquantity = 'quantity'\ndiscount = 'discount'\n\
        order_id = 'order_id'\nevent_id = 'event_id'\nitem = 'item'\ncategory = 'category'\n\
        [model]\nmax_customers = 1000\nhorizon_days = 60\n[segments]\nk = 3\nn_init = 1\n";
    let place = Place::new(columns);
    Run::new("simulate")
        .arg("--customers")
        .arg("1300")
        .arg("--seed")
        .arg("5")
        .path("--out", &place.path("orders.csv"))
        .json();
    place.ingest("orders.csv", "store");
    let of_log = place.by_log("of-log").json();
    let of_store = place.by_store("store", "of-store").arg("--memory-mb").arg("50").json();
    assert_same(&of_log, &of_store);
    let population = &manifest(&of_store)["sealed"]["population"];
    assert_eq!(population["n_sampled"], 1000);
    assert!(population["n_customers"].as_u64().unwrap() > 1000, "{population}");
}

#[test]
fn a_receipt_tells_who_was_in_the_store_when_a_version_was_trained() {
    let place = Place::new(CONFIG);
    place.ingest("orders.csv", "store");
    place.ingest("orders.csv", "other");
    let seed = |run: Run, seed: &str| run.arg("--seed").arg(seed).json()["version"].clone();
    let before = seed(place.by_store("store", "models"), "1");
    write_log(&place.path("more.csv"), &["zoe,2021-11-05,7.00".to_owned()]);
    for store in ["store", "other"] {
        place.ingest("more.csv", store);
    }
    let after = seed(place.by_store("store", "models"), "2");
    let elsewhere = seed(place.by_store("other", "models"), "3");
    let of_file = seed(place.by_log("models"), "4");

    let told = |customer: &str| {
        let receipt = place.erase(customer, "store", "models").json();
        let mut told: Vec<(Value, Value)> = receipt[0]["receipt"]["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|trained| (trained["version"].clone(), trained["presence"].clone()))
            .collect();
        told.sort_by_key(|(version, _)| version.to_string());
        told
    };
    let expected = |versions: &[(&Value, &str)]| {
        let mut expected: Vec<(Value, Value)> = versions
            .iter()
            .map(|&(version, presence)| (version.clone(), presence.into()))
            .collect();
        expected.sort_by_key(|(version, _)| version.to_string());
        expected
    };
    let possible = [(&elsewhere, "possible"), (&of_file, "possible")];
    let zoe = [&[(&after, "certain")][..], &possible].concat();
    assert_eq!(told("zoe"), expected(&zoe), "{before} is left out");
    let c001 = [&[(&before, "certain"), (&after, "certain")][..], &possible].concat();
    assert_eq!(told("c001"), expected(&c001));
    // Of somebody who is gone already, or never came, nothing is sure.
    let all = [&before, &after, &elsewhere, &of_file].map(|version| (version, "possible"));
    assert_eq!(told("zoe"), expected(&all));

    let shown = place.erase("c002", "store", "models").output().stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains(&format!("shop@{} (certain)", after.as_str().unwrap())), "{shown}");
}

#[test]
fn a_version_of_a_store_is_verified_by_that_store_as_it_was() {
    let place = Place::new(CONFIG);
    let filled = place.ingest("orders.csv", "store")["sequence"].as_u64().unwrap();
    place.ingest("orders.csv", "other");
    let report = place.by_store("store", "models").json();
    let verify = |store: &str| place.verify("models", &report).path("--store", &place.path(store));
    assert_eq!(verify("store").json()["equal"], true);

    let (id, other) = (place.stats("store")["id"].clone(), place.stats("other")["id"].clone());
    let [id, other] = [&id, &other].map(|id| id.as_str().unwrap());
    verify("other").fails(2, &[id, other]);
    let orders = place.path("orders.csv");
    for run in
        [place.verify("models", &report), place.verify("models", &report).path("--events", &orders)]
    {
        run.fails(2, &["--store", id, &format!("sequence {filled}")]);
    }
    write_log(&place.path("more.csv"), &["zoe,2021-11-05,7.00".to_owned()]);
    place.ingest("more.csv", "store");
    verify("store").fails(2, &[&format!("sequence {filled}"), &format!("sequence {}", filled + 1)]);

    let of_file = place.by_log("files").json();
    place.verify("files", &of_file).fails(2, &["--events"]);
}

#[test]
fn what_is_older_than_the_retention_is_not_learned_from() {
    let place = Place::new(CONFIG);
    place.ingest("orders.csv", "store");
    let first = Day(18_383);
    assert_eq!(first.to_string(), "2020-05-01");
    let days = now().0.div_euclid(86_400_000) - i64::from(first.0);
    place.write("habitus.toml", &format!("{CONFIG}[store]\nretention_days = {days}\n"));
    let of_store = place.by_store("store", "of-store").json();
    let mut lines = order_lines();
    lines.retain(|line| line.split(',').nth(1).unwrap() >= "2020-05-01");
    write_log(&place.path("orders.csv"), &lines);
    assert_same(&place.by_log("of-log").json(), &of_store);
    let kept_from = i64::from(first.0) * 86_400_000;
    assert_eq!(manifest(&of_store)["store"]["kept_from"], kept_from);
    let asked = place.by_store("store", "of-store").arg("--as-of").arg("2020-04-30");
    asked.fails(2, &["2020-04-30", "2020-05-01"]);
    // The settings of today do not matter to what was.
    let verify = place.verify("of-store", &of_store).path("--store", &place.path("store"));
    assert_eq!(verify.json()["equal"], true);
}

#[test]
fn a_store_that_cannot_be_read_is_named() {
    let place = Place::new(CONFIG);
    place.by_store("nowhere", "models").fails(2, &["no store", "nowhere"]);
    assert!(!place.path("nowhere").exists());
    place.by_log("models").path("--store", &place.path("store")).fails(2, &["--events", "--store"]);
    place.train("models").fails(2, &["--events", "--store"]);

    place.ingest("orders.csv", "store");
    place.by_store("store", "models").json();
    let run = place.run("serve").path("--models", &place.path("models"));
    let server = run.path("--store", &place.path("store")).listening();
    place.by_store("store", "models").fails(2, &["in use", "stop the server"]);
    drop(server);
    place.by_store("store", "models").json();
}
