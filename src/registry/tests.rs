//! Processes that die between any two operations on the registry's files.

use super::{Draft, PRODUCTION, Registry};
use crate::export::DIE_AT;
use crate::ingest::{Account, Columns, CustomerColumns};
use habitus_engine::domain::{
    AsOf, Currency, CustomerId, Event, EventKind, EventRules, History, Money, Seed, Timestamp, Zone,
};
use habitus_engine::features::purchases;
use habitus_engine::models::Engine;
use habitus_engine::models::gmm::{CovarianceType, Init};
use habitus_engine::models::selection::{Family, SegmentationParams};
use habitus_engine::training::{self, HeadSettings, Input, Population, TrainingSettings};
use habitus_engine::version::{ChurnIs, Eligibility};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const NAME: &str = "shop";
const REGISTRY: &str = "HABITUS_TEST_REGISTRY";

/// Forty customers, each of whom buys every so many days.
fn shop(rules: &EventRules) -> (Vec<History>, AsOf) {
    let start = rules.zone.day_of(Timestamp(1_600_000_000_000));
    let history = |customer: i32| {
        let gap = 5 + customer % 17;
        let days = (customer..300 + 3 * customer).step_by(gap as usize);
        let events = days.map(|day| {
            let day = start.plus(day);
            let at = rules.zone.start_of(day);
            Event {
                amount: Some(Money(1_000 + i64::from(day.0 % 7 * 100))),
                ..Event::bare(at, day, EventKind::Purchase)
            }
        });
        History::new(CustomerId::new(&format!("c{customer:02}")), events.collect())
    };
    ((0..40).map(history).collect(), rules.zone.end_of(start.plus(420)))
}

/// Publishes versions of two horizons, points production at one and the other, and goes back. Each
/// step that is done is told; one that was done before is done again, which changes nothing.
fn scene(registry: &Registry) {
    let zone = Zone::named("UTC").unwrap();
    let rules = EventRules::plain(zone, Currency { code: "EUR".into(), digits: 2 });
    let (histories, as_of) = shop(&rules);
    let population = Population::of(&histories, as_of);
    let mut versions = Vec::new();
    for horizon_days in [60, 90] {
        let settings = TrainingSettings {
            rules: rules.clone(),
            eligibility: Eligibility { min_age_days: 0, lost_after_days: None },
            horizon_days,
            seed: Seed(1),
            spec: purchases(),
            segmentation: SegmentationParams {
                family: Family::Kmeans,
                engine: Engine::Habitus,
                covariance: CovarianceType::Full,
                init: Init::Kmeans,
                mini_batch: None,
                k_min: 2,
                k_max: 2,
                n_init: 1,
                max_iter: 10,
                tol: 1e-3,
                reg_covar: 1e-3,
                warm_start: false,
            },
            segment_features: Vec::new(),
            small_below: 200,
            noise_quantile: 0.01,
            segment_names: BTreeMap::new(),
            max_customers: 1_000,
            churn_is: ChurnIs::Silence,
            heads: HeadSettings::default(),
        };
        let histories = histories.as_slice();
        let input = Input { histories, population: &population, as_of, predecessor: None };
        let trained = training::train(&input, Box::new(histories), &settings, &|_| {}).unwrap();
        let draft = Draft {
            name: NAME,
            trained: &trained,
            settings: &settings,
            as_of,
            account: &Account::default(),
            incumbent: None,
            files: Vec::new(),
            store: None,
            columns: toml::from_str::<Columns>("customer = 'c'\ntime = 't'\namount = 'a'").unwrap(),
            customer_columns: CustomerColumns::default(),
            max_rejected_share: 0.1,
            created_at: Timestamp(0),
            threads: 1,
            report: "a report",
            plots: &[("plot.svg", "<svg/>".to_owned())],
        };
        let version = registry.publish(&draft).unwrap().manifest.version;
        println!("published {version}");
        registry.set_alias(NAME, PRODUCTION, &version, Timestamp(1)).unwrap();
        println!("set {version}");
        versions.push(version);
    }
    let back = registry.roll_back(NAME, PRODUCTION, Timestamp(2)).unwrap();
    assert_eq!(back, versions[0]);
    println!("back {back}");
}

/// What a process of its own does to the registry that it is told.
#[test]
#[ignore = "is run by the test below"]
#[expect(clippy::disallowed_methods, reason = "the test below tells its child by the environment")]
fn the_scene() {
    scene(&Registry::open(Path::new(&std::env::var(REGISTRY).unwrap())));
}

/// Runs the scene in a process that dies at a step, and gives what it had done by then, and whether it
/// came to the end.
fn played(registry: &Path, die_at: u64) -> (Vec<(String, String)>, bool) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "registry::tests::the_scene", "--ignored", "--nocapture"])
        .env(REGISTRY, registry)
        .env(DIE_AT, die_at.to_string())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let done = told
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(deed, _)| ["published", "set", "back"].contains(deed));
    (
        done.map(|(deed, version)| (deed.to_owned(), version.to_owned())).collect(),
        output.status.success(),
    )
}

#[test]
fn a_process_that_dies_at_any_step_leaves_versions_and_aliases_whole() {
    let (mut n_deaths, mut aliases_seen) = (0, Vec::new());
    for die_at in 1.. {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::open(directory.path());
        let (done, ended) = played(directory.path(), die_at);
        let last =
            |deed: &str| done.iter().rfind(|(done, _)| done == deed).map(|(_, version)| version);
        let versions = registry.versions(NAME);
        if last("published").is_some() {
            let versions = versions.unwrap();
            assert_eq!(versions.damaged.len(), 0, "{die_at}");
            let names: Vec<&String> = versions.manifests.iter().map(|one| &one.version).collect();
            for (deed, version) in &done {
                assert!(names.contains(&version), "{die_at}: {deed} {version} of {names:?}");
            }
            names.iter().for_each(|version| drop(registry.load(NAME, version).unwrap()));
        }
        // What the alias means is what it was last set to, or what it was about to be set to.
        let pointed = registry.aliases(NAME).unwrap().remove(PRODUCTION);
        let last_set =
            done.iter().rfind(|(deed, _)| deed != "published").map(|(_, version)| version);
        if let Some(version) = &pointed {
            registry.load(NAME, version).unwrap();
        }
        if pointed.as_ref() != last_set {
            assert!(!ended && pointed.is_some(), "{die_at}: {pointed:?} instead of {last_set:?}");
        }
        aliases_seen.push(pointed);
        if ended {
            assert_eq!(done.len(), 5, "{die_at}");
            break;
        }
        n_deaths += 1;
        // Whoever does the same again gets to the same end.
        let (done, ended) = played(directory.path(), 0);
        assert!(ended, "{die_at}: {done:?}");
        assert_eq!(registry.aliases(NAME).unwrap().get(PRODUCTION), last_of(&done), "{die_at}");
        assert_eq!(registry.versions(NAME).unwrap().manifests.len(), 2, "{die_at}");
    }
    assert!(n_deaths > 50, "{n_deaths}");
    aliases_seen.dedup();
    assert_eq!(aliases_seen.len(), 4, "none, the first, the second, the first: {aliases_seen:?}");
}

fn last_of(done: &[(String, String)]) -> Option<&String> {
    done.last().map(|(_, version)| version)
}
