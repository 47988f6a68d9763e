//! A running server whose alias moves: what it answers with, and that nobody notices but by the
//! version in the answer.

use super::running::{Running, ask, ask_all, pinned};
use super::versions::{add, answering, registry, set};
use crate::support::{CONFIG, Run, trained};
use habitus::registry::{PRODUCTION, Registry};
use habitus::rpc::pb;
use habitus::serving::{Followed, LoadedModel, Serving};
use habitus_engine::domain::Timestamp;
use pb::model_service_client::ModelServiceClient;
use pb::prediction_service_client::PredictionServiceClient;
use pb::segment_service_client::SegmentServiceClient;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// Swaps under load in the suite, and in the soak.
const SWAPS: usize = 200;
const MANY_SWAPS: usize = 1_000;

/// When an alias is changed does not matter here.
const AT: Timestamp = Timestamp(1);

/// Several looks of a running server at its alias.
const SOME_LOOKS: Duration = Duration::from_millis(1_000);

/// Another version of the shop, with other segments than the trained one.
fn add_other(models: &Path) -> String {
    add(models, &CONFIG.replace("k = 3", "k = 4"))
}

/// A server's state without a server, which looks at the alias when the test says so.
fn following(models: &Path, alias: &str) -> Serving {
    pinned(models, trained().histories.clone()).following(alias)
}

fn point(models: &Path, alias: &str, version: &str) {
    Registry::open(models).set_alias("shop", alias, version, AT).unwrap();
}

fn swapped(from: &str, to: &str) -> Followed {
    Followed::Swapped { from: from.to_owned(), to: to.to_owned() }
}

fn parameters(models: &Path, version: &str) -> PathBuf {
    models.join("shop").join(version).join("parameters.json")
}

/// Turns one bit in the middle of a file; doing it twice repairs the file.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Waits until a running server answers with this version. How long that takes is not measured.
async fn until_answering(server: &Running, version: &str) {
    for _ in 0..200 {
        if answering(server, "").await == version {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server does not come to answer with {version}");
}

// --- Calls that go on while versions are swapped ------------------------------------------------

/// What a version says of a customer: the segment, and the bits of the probability of churn.
type Said = (String, Option<u64>);

/// What each version says of each customer, as the engine tells the test.
struct Known {
    said: BTreeMap<String, BTreeMap<String, Said>>,
    segments: BTreeMap<String, Vec<String>>,
}

impl Known {
    fn of(models: &Path, versions: [&str; 2]) -> Known {
        let (mut said, mut segments) = (BTreeMap::new(), BTreeMap::new());
        for version in versions {
            let artefact = Registry::open(models).load("shop", version).unwrap();
            let model = LoadedModel::try_from(artefact).unwrap();
            let of_version = trained().histories.iter().map(|history| {
                let want = model.scorer.predict(history, trained().as_of);
                let segment = want.segment.given().map(|segment| segment.id.0.clone());
                let churn = want.churn.given().map(|churn| churn.probability.to_bits());
                (history.customer().to_string(), (segment.unwrap_or_default(), churn))
            });
            said.insert(version.to_owned(), of_version.collect());
            let ids = model.segments().iter().map(|segment| segment.id.0.clone());
            segments.insert(version.to_owned(), ids.collect::<Vec<String>>());
        }
        let [first, second] = versions.map(|version| &segments[version]);
        assert!(first.iter().all(|id| !second.contains(id)), "nothing could be told apart");
        Known { said, segments }
    }

    /// An answer must be the one of the version that it names, whichever that is.
    fn check(&self, prediction: &pb::Prediction) {
        let of_version = &self.said[&prediction.model_version];
        let (segment_id, churn) = &of_version[&prediction.customer_id];
        assert_eq!(&prediction.segment.as_ref().unwrap().segment_id, segment_id);
        let told = prediction.churn.as_ref().unwrap().probability;
        assert_eq!(&told.map(f64::to_bits), churn);
    }
}

/// Clients that ask in every way, one call after the other, and stop the test where one fails.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u64>>,
}

impl Load {
    fn start(server: &Running, known: Known) -> Load {
        let (stop, known) = (Arc::new(AtomicBool::new(false)), Arc::new(known));
        let asking =
            || Asking { channel: server.channel.clone(), known: known.clone(), stop: stop.clone() };
        let clients = vec![
            tokio::spawn(asking().singles("")),
            tokio::spawn(asking().singles("")),
            tokio::spawn(asking().singles(PRODUCTION)),
            tokio::spawn(asking().batches()),
            tokio::spawn(asking().segments()),
            tokio::spawn(asking().members()),
            tokio::spawn(asking().descriptions()),
        ];
        Load { stop, clients }
    }

    /// Every client must have been answered, and always well.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            assert!(client.await.unwrap() > 0);
        }
    }
}

/// One client. Each of its ways to ask returns the number of calls.
struct Asking {
    channel: Channel,
    known: Arc<Known>,
    stop: Arc<AtomicBool>,
}

impl Asking {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn singles(self, version: &'static str) -> u64 {
        let mut client = PredictionServiceClient::new(self.channel.clone());
        let mut n_calls = 0;
        for history in trained().histories.iter().cycle() {
            let version = Some(version.to_owned());
            let request = pb::GetPredictionRequest { version, ..ask(history.customer().as_str()) };
            let answer = client.get_prediction(request).await.unwrap().into_inner();
            self.known.check(&answer.prediction.unwrap());
            n_calls += 1;
            if !self.goes_on() {
                break;
            }
        }
        n_calls
    }

    /// All customers at once, who are too many for one thread.
    async fn batches(self) -> u64 {
        let mut client = PredictionServiceClient::new(self.channel.clone());
        let ids = trained().histories.iter().map(|history| history.customer().to_string());
        let ids: Vec<String> = ids.collect();
        let mut n_calls = 0;
        while self.goes_on() {
            let answer = client.batch_predict(ask_all(ids.clone())).await.unwrap().into_inner();
            assert_eq!(answer.rows.len(), ids.len());
            for row in answer.rows {
                let outcome = row.outcome.unwrap();
                let pb::batch_predict_row::Outcome::Prediction(prediction) = outcome else {
                    panic!("{outcome:?}")
                };
                assert_eq!(prediction.model_version, answer.model_version);
                self.known.check(&prediction);
            }
            n_calls += 1;
        }
        n_calls
    }

    async fn segments(self) -> u64 {
        let mut client = SegmentServiceClient::new(self.channel.clone());
        let mut n_calls = 0;
        while self.goes_on() {
            let request = pb::ListSegmentsRequest { version: None };
            let answer = client.list_segments(request).await.unwrap().into_inner();
            let ids = answer.segments.into_iter().map(|segment| segment.segment_id);
            let ids: Vec<String> = ids.collect();
            assert_eq!(ids, self.known.segments[&answer.model_version]);
            n_calls += 1;
        }
        n_calls
    }

    /// Who names a version goes on with it, whether or not it is the served one.
    async fn members(self) -> u64 {
        let mut client = SegmentServiceClient::new(self.channel.clone());
        let mut n_calls = 0;
        for (version, segments) in self.known.segments.iter().cycle() {
            let (segment_id, version) = (segments[0].clone(), version.clone());
            let expected = self.known.said[&version].iter();
            let expected: Vec<&String> = expected
                .filter(|(_, (segment, _))| *segment == segment_id)
                .map(|(customer, _)| customer)
                .collect();
            let request = pb::ListSegmentMembersRequest {
                segment_id,
                version: Some(version.clone()),
                ..Default::default()
            };
            let mut stream = client.list_segment_members(request).await.unwrap().into_inner();
            let mut members = Vec::new();
            while let Some(message) = stream.message().await.unwrap() {
                assert_eq!(message.model_version, version);
                members.extend(message.members.into_iter().map(|member| member.customer_id));
            }
            assert_eq!(members.iter().collect::<Vec<&String>>(), expected);
            n_calls += 1;
            if !self.goes_on() {
                break;
            }
        }
        n_calls
    }

    /// What is described and not named is what is served, and of a list one version is.
    async fn descriptions(self) -> u64 {
        let mut client = ModelServiceClient::new(self.channel.clone());
        let mut n_calls = 0;
        while self.goes_on() {
            let request = pb::GetModelVersionRequest { name: None, version: None };
            let answer = client.get_model_version(request).await.unwrap().into_inner();
            assert!(answer.version.unwrap().serving);
            let request = pb::ListModelVersionsRequest { name: None };
            let answer = client.list_model_versions(request).await.unwrap().into_inner();
            assert_eq!(answer.versions.iter().filter(|version| version.serving).count(), 1);
            n_calls += 2;
        }
        n_calls
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_reaches_a_running_server_and_no_call_fails() {
    let directory = registry();
    let (models, old) = (directory.path(), trained().version.as_str());
    let new = add_other(models);
    let server = Running::following(models).await;
    let load = Load::start(&server, Known::of(models, [old, &new]));
    assert_eq!(answering(&server, "").await, old);
    Registry::open(models).promote("shop", &new, true, AT).unwrap();
    until_answering(&server, &new).await;
    assert_eq!(answering(&server, old).await, old, "who names the version before goes on");
    Registry::open(models).roll_back("shop", PRODUCTION, AT).unwrap();
    until_answering(&server, old).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_fail_no_call() {
    swap_under_load(SWAPS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the same for longer"]
async fn many_swaps_under_load_fail_no_call() {
    swap_under_load(MANY_SWAPS).await;
}

/// A change through the server takes effect before it is answered, so that no swap waits for a look.
async fn swap_under_load(n_swaps: usize) {
    let directory = registry();
    let (models, old) = (directory.path(), trained().version.as_str());
    let new = add_other(models);
    let server = Running::following(models).await;
    let load = Load::start(&server, Known::of(models, [old, &new]));
    for version in [new.as_str(), old].into_iter().cycle().take(n_swaps) {
        let answer = set(&server, PRODUCTION, version, true).await.unwrap();
        assert_eq!(answer.served_version.as_deref(), Some(version));
        assert_eq!(answering(&server, "").await, version);
    }
    load.end().await;
}

// --- What is not swapped ------------------------------------------------------------------------

#[tokio::test]
async fn a_damaged_version_is_refused_and_a_good_one_after_it_is_served() {
    let directory = registry();
    let (models, old) = (directory.path(), trained().version.as_str());
    let bad = add_other(models);
    let good = add(models, &CONFIG.replace("horizon_days = 60", "horizon_days = 30"));
    flip(&parameters(models, &bad));
    let server = Running::following(models).await;
    let alone = following(models, PRODUCTION);
    // Promotion would refuse it too, so the alias is moved past it.
    point(models, PRODUCTION, &bad);
    for _ in 0..2 {
        assert_eq!(alone.follow(), Followed::Refused);
    }
    assert_eq!(alone.served().version(), old);
    tokio::time::sleep(SOME_LOOKS).await;
    assert_eq!(answering(&server, "").await, old);

    point(models, PRODUCTION, &good);
    assert_eq!(alone.follow(), swapped(old, &good));
    assert_eq!(alone.follow(), Followed::Same);
    until_answering(&server, &good).await;
}

#[test]
fn a_repaired_version_is_tried_when_somebody_asks() {
    let directory = registry();
    let (models, old) = (directory.path(), trained().version.as_str());
    let other = add_other(models);
    let damaged = parameters(models, &other);
    flip(&damaged);
    let serving = following(models, PRODUCTION);
    point(models, PRODUCTION, &other);
    assert_eq!(serving.follow(), Followed::Refused);
    flip(&damaged);
    assert_eq!(serving.follow(), Followed::Refused, "it is not read at every look");
    let pointed = serving.set_alias(None, PRODUCTION, &other, true, AT).unwrap();
    assert_eq!(pointed.served.as_deref(), Some(other.as_str()));

    // In memory a version is as good as it was, whatever becomes of its file.
    flip(&damaged);
    point(models, PRODUCTION, old);
    assert_eq!(serving.follow(), swapped(&other, old));
    point(models, PRODUCTION, &other);
    assert_eq!(serving.follow(), swapped(old, &other));
}

#[test]
fn an_alias_that_means_nothing_changes_nothing() {
    let directory = registry();
    let (models, old) = (directory.path(), trained().version.as_str());
    let serving = following(models, PRODUCTION);
    let alias = models.join("shop").join("aliases").join(PRODUCTION);
    std::fs::write(&alias, "1970-01-01-000000000000\n").unwrap();
    assert_eq!(serving.follow(), Followed::Refused);
    std::fs::remove_file(&alias).unwrap();
    assert_eq!(serving.follow(), Followed::Refused);
    std::fs::write(&alias, format!("{old}\n")).unwrap();
    assert_eq!(serving.follow(), Followed::Same);
    assert_eq!(serving.served().version(), old);
}

#[test]
fn a_version_of_other_event_rules_is_not_swapped_in() {
    let directory = registry();
    let (models, old) = (directory.path(), trained().version.as_str());
    let tokyo = add(models, &format!("[data]\nzone = 'Asia/Tokyo'\n{CONFIG}"));
    let serving = following(models, PRODUCTION);
    let pointed = serving.set_alias(None, PRODUCTION, &tokyo, true, AT).unwrap();
    assert_eq!((pointed.version.as_str(), pointed.served.as_deref()), (&*tokyo, Some(old)));
    assert_eq!(serving.follow(), Followed::Refused);
    let back = serving.roll_back(None, None, AT).unwrap();
    assert_eq!((back.version.as_str(), back.served.as_deref()), (old, Some(old)));
    assert_eq!(serving.follow(), Followed::Same);
}

#[test]
fn only_the_alias_that_is_followed_counts() {
    let directory = registry();
    let (models, old) = (directory.path(), trained().version.as_str());
    let other = add_other(models);
    point(models, "canary", old);
    let serving = following(models, "canary");
    let pointed = serving.set_alias(None, PRODUCTION, &other, true, AT).unwrap();
    assert_eq!(pointed.served.as_deref(), Some(old));
    assert_eq!(serving.follow(), Followed::Same);
    let pointed = serving.set_alias(None, "canary", &other, false, AT).unwrap();
    assert_eq!(pointed.served.as_deref(), Some(other.as_str()));
    assert_eq!(serving.follow(), Followed::Same);
    let back = serving.roll_back(None, Some("canary"), AT).unwrap();
    assert_eq!(back.served.as_deref(), Some(old));
}

#[test]
fn serve_follows_an_alias_and_stays_with_a_version() {
    let directory = registry();
    let (models, old) = (directory.path(), trained().version.as_str());
    let other = add_other(models);
    point(models, "canary", old);
    let serve = |model: &str| {
        Run::new("serve")
            .path("--models", models)
            .path("--events", &trained().orders)
            .arg("--model")
            .arg(model)
            .listening()
    };
    let [production, canary, stays] =
        [serve("shop"), serve("shop@canary"), serve(&format!("shop@{old}"))];
    Run::new("models")
        .arg("promote")
        .arg(format!("shop@{other}"))
        .arg("--force")
        .path("--models", models)
        .json();

    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let answering = async |server: &crate::support::Server| {
            let answer = habitus::rpc::ask(server.address(), "c001").await.unwrap();
            answer.prediction.unwrap().model_version
        };
        for _ in 0..200 {
            if answering(&production).await == other {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(answering(&production).await, other);
        tokio::time::sleep(SOME_LOOKS).await;
        assert_eq!(answering(&canary).await, old);
        assert_eq!(answering(&stays).await, old);
    });
}
