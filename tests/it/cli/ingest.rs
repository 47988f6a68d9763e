//! `habitus ingest`, `store` and `erase`: what lands in a store, what survives a kill, and what is gone
//! for good.

use crate::support::{Run, trained};
use habitus::clock::now;
use habitus::rpc::pb;
use habitus_engine::domain::{Day, Draws, Seed};
use pb::customer_record::Record;
use pb::customer_service_client::CustomerServiceClient;
use pb::prediction_service_client::PredictionServiceClient;
use pb::{HeadStatus, RecordStatus};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt;

/// All columns of a simulated log.
const SIMULATED: &str = "[data.columns]\nkind = 'kind'\nquantity = 'quantity'\n\
    discount = 'discount'\ncurrency = 'currency'\nrating = 'rating'\norder_id = 'order_id'\n\
    event_id = 'event_id'\nitem = 'item'\ncategory = 'category'\nchannel = 'channel'\n";

/// A directory with a store, logs and settings.
struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        place.configure(config);
        place
    }

    /// Writes the settings, with a registry of its own.
    fn configure(&self, config: &str) {
        let registry = self.path("models");
        self.write(
            "habitus.toml",
            &format!("{config}\n[registry]\npath = '{}'\n", registry.display()),
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn simulate(&self, customers: u32, seed: u32, name: &str) {
        Run::new("simulate")
            .arg("--customers")
            .arg(customers.to_string())
            .arg("--seed")
            .arg(seed.to_string())
            .path("--out", &self.path(name))
            .json();
    }

    fn ingest(&self, events: &str, store: &str) -> Run {
        Run::new("ingest")
            .path("--config", &self.path("habitus.toml"))
            .path("--events", &self.path(events))
            .path("--store", &self.path(store))
    }

    fn store(&self, what: &str, store: &str) -> Run {
        Run::new("store")
            .arg(what)
            .path("--config", &self.path("habitus.toml"))
            .path("--store", &self.path(store))
    }

    /// Every event of a store as it came, as CSV.
    fn export(&self, store: &str) -> String {
        let out = self.path("export.csv");
        self.store("export", store).path("--out", &out).json();
        fs::read_to_string(out).unwrap()
    }

    fn serve(&self, store: &str) -> Run {
        Run::new("serve")
            .path("--config", &self.path("habitus.toml"))
            .path("--models", &trained().models_dir)
            .path("--store", &self.path(store))
    }

    /// Every byte of a store's directory.
    fn bytes(&self, store: &str) -> Vec<u8> {
        let files = fs::read_dir(self.path(store)).unwrap().map(|file| file.unwrap().path());
        files.flat_map(|file| fs::read(file).unwrap()).collect()
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Rows with numbers as numbers: 38 and 38.0 are the same amount.
fn cells(export: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(export.as_bytes());
    let cell = |text: &str| match text.parse::<f64>() {
        Ok(number) => format!("{number}"),
        Err(_) => text.to_owned(),
    };
    reader.records().map(|row| row.unwrap().iter().map(cell).collect()).collect()
}

#[test]
fn the_format_of_a_log_does_not_matter_and_no_row_goes_in_twice() {
    let place = Place::new(SIMULATED);
    let mut exports = BTreeMap::new();
    for kind in ["csv", "ndjson", "parquet"] {
        let (log, store) = (format!("log.{kind}"), format!("of-{kind}"));
        place.simulate(200, 3, &log);
        let first = place.ingest(&log, &store).json();
        let rows = first["account"]["rows"].as_u64().unwrap();
        assert!(rows > 5_000, "{first}");
        assert_eq!(first["account"]["accepted"], rows);
        assert_eq!((&first["events"], &first["sequence"]), (&rows.into(), &rows.into()));
        assert_eq!(first["customers"], 200);
        let export = place.export(&store);

        let again = place.ingest(&log, &store).json();
        assert_eq!(
            (&again["account"]["resumed"], &again["account"]["accepted"]),
            (&rows.into(), &0.into())
        );
        assert_eq!(again["sequence"], rows);
        assert_eq!(place.export(&store), export);
        let stats = place.store("stats", &store).json();
        assert_eq!((&stats["lines"], &stats["customers"]), (&rows.into(), &200.into()));
        let checked = place.store("check", &store).json();
        assert_eq!((&checked["lines"], &checked["faults"]), (&rows.into(), &serde_json::json!([])));
        exports.insert(kind, cells(&export));
    }
    assert_eq!(exports["csv"], exports["ndjson"]);
    assert_eq!(exports["csv"], exports["parquet"]);

    // The same events under another name and in another order: the ids tell.
    let text = fs::read_to_string(place.path("log.csv")).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let backwards: Vec<&str> = rows.lines().rev().collect();
    place.write("other.csv", &format!("{header}\n{}\n", backwards.join("\n")));
    let other = place.ingest("other.csv", "of-csv").json();
    assert_eq!(other["account"]["duplicates"], other["account"]["rows"]);
    assert_eq!(other["sequence"], other["sequence_before"]);
}

/// Starts a run that is not waited for.
fn spawned(place: &Place, events: &str, store: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_habitus"));
    command.args(["ingest", "--quiet", "--config"]).arg(place.path("habitus.toml"));
    command.arg("--events").arg(place.path(events)).arg("--store").arg(place.path(store));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "to kill a run somewhere between its ends")]
fn a_killed_run_goes_on_without_loss_or_repetition() {
    let place = Place::new(SIMULATED);
    // One file of more rows than a commit takes, and some small ones.
    fs::create_dir(place.path("logs")).unwrap();
    for (number, customers) in [300, 9_500, 300].into_iter().enumerate() {
        place.simulate(customers, number as u32, &format!("logs/{number}.csv"));
    }
    let begun = std::time::Instant::now();
    let whole = place.ingest("logs/*.csv", "whole").json();
    let takes = begun.elapsed();
    assert!(whole["sequence"].as_u64().unwrap() > 500_000, "{whole}");
    let expected = place.export("whole");

    // A run may be over before it is killed, so it is kills that are counted.
    let mut draws = Draws::new(Seed(11));
    let mut n_killed = 0;
    for round in 0..20 {
        let store = format!("killed-{round}");
        for _ in 0..2 {
            let mut child = spawned(&place, "logs/*.csv", &store);
            std::thread::sleep(takes.mul_f64(0.7 * draws.unit()));
            child.kill().unwrap();
            n_killed += usize::from(child.wait().unwrap().code().is_none());
        }
        let last = place.ingest("logs/*.csv", &store).json();
        assert_eq!((&last["sequence"], &last["events"]), (&whole["sequence"], &whole["events"]));
        assert!(place.export(&store) == expected, "round {round}: the export differs");
        let checked = place.store("check", &store).json();
        assert_eq!(checked["faults"], serde_json::json!([]), "round {round}");
        fs::remove_dir_all(place.path(&store)).unwrap();
        if n_killed >= 4 {
            return;
        }
    }
    panic!("only {n_killed} runs could be killed");
}

#[test]
fn faulty_rows_are_counted_and_named() {
    let place = Place::new("[data]\nmax_rejected_share = 0.5\n");
    let good: String = (1..=5).map(|n| format!("ann,2020-01-0{n},{n}.50\n")).collect();
    let bad = "bob,2020-01-01,free\n,2020-01-01,1\ncleo,someday,1\ndan,2020-01-01\n";
    place.write("log.csv", &format!("customer_id,date,amount\n{good}{bad}"));
    let config = "[data]\nmax_rejected_share = 0.5\n[data.columns]\ntime = 'date'\n";
    place.configure(config);
    let report = place.ingest("log.csv", "store").json();
    let account = &report["account"];
    assert_eq!((&account["rows"], &account["accepted"]), (&9.into(), &5.into()));
    let rejected = account["rejected"].as_object().unwrap();
    let words: Vec<&str> = rejected.keys().map(String::as_str).collect();
    assert_eq!(words.len(), 4, "{words:?}");
    for word in ["amount cannot be read", "customer is missing", "time cannot be read", "form"] {
        assert!(words.iter().any(|reason| reason.contains(word)), "{word} of {words:?}");
    }
    let examples = account["examples"].to_string();
    for word in ["free", "someday", "log.csv"] {
        assert!(examples.contains(word), "{word} of {examples}");
    }
    assert_eq!((&report["events"], &report["customers"]), (&5.into(), &1.into()));

    place.configure(&config.replace("0.5", "0.1"));
    place.ingest("log.csv", "other").fails(3, &["rejected", "max_rejected_share", "free"]);
    // The file is not done with: settings that bear it get all that is good.
    place.configure(config);
    place.ingest("log.csv", "other").json();
    assert_eq!(place.export("other"), place.export("store"));
}

#[test]
fn a_row_with_a_name_of_an_attribute_too_many_is_counted() {
    let names: Vec<String> = (0..4_097).map(|n| format!("n{n}")).collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let numbers = quoted.join(", ");
    let place = Place::new(&format!(
        "[data]\nmax_rejected_share = 0.5\n[customers]\nnumbers = [{numbers}]\n"
    ));
    let (all, few) = ("1,".repeat(4_096) + "1", ",".repeat(4_095) + "1,");
    place.write("people.csv", &format!("customer_id,{}\nann,{few}\nbob,{all}\n", names.join(",")));
    let report = Run::new("ingest")
        .path("--config", &place.path("habitus.toml"))
        .path("--customers", &place.path("people.csv"))
        .path("--store", &place.path("store"))
        .json();
    let account = &report["account"];
    assert_eq!((&account["rows"], &account["accepted"]), (&2.into(), &1.into()));
    let rejected = account["rejected"].as_object().unwrap();
    assert_eq!(rejected.values().collect::<Vec<_>>(), [1]);
    assert!(rejected.keys().all(|reason| reason.contains("4096")), "{rejected:?}");
    assert_eq!(report["customers"], 1);
}

#[test]
fn a_store_that_is_missing_or_in_use_is_named() {
    let place = Place::new("");
    place.write("log.csv", "customer_id,time,amount\nann,2020-01-01,1\n");
    for what in ["stats", "check", "compact"] {
        place.store(what, "nowhere").fails(2, &["no store", "nowhere"]);
    }
    Run::new("erase").arg("ann").path("--store", &place.path("nowhere")).fails(2, &["nowhere"]);
    assert!(!place.path("nowhere").exists());

    let server = place.serve("store").listening();
    assert_eq!(server.announced["customers"], 0);
    place.ingest("log.csv", "store").fails(2, &["in use", "store"]);
    for what in ["stats", "check", "compact"] {
        place.store(what, "store").fails(2, &["in use", "store"]);
    }
    drop(server);
    // A process that was killed holds nothing.
    assert_eq!(place.ingest("log.csv", "store").json()["events"], 1);
}

#[test]
fn a_flipped_byte_is_noticed_or_changes_nothing() {
    let place = Place::new(SIMULATED);
    place.simulate(60, 5, "log.csv");
    place.ingest("log.csv", "good").json();
    let expected = place.export("good");
    let bytes = fs::read(place.path("good/store.redb")).unwrap();
    fs::create_dir(place.path("bad")).unwrap();
    let mut draws = Draws::new(Seed(17));
    // Most of a small file is free; what is not is looked for.
    let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
    let mut n_noticed = 0;
    for round in 0..60 {
        let at = used[draws.below(used.len() as u32) as usize];
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << draws.below(8);
        fs::write(place.path("bad/store.redb"), flipped).unwrap();
        let checked = place.store("check", "bad").output();
        let stderr = String::from_utf8_lossy(&checked.stderr);
        assert!(!stderr.contains("panicked"), "byte {at}: {stderr}");
        match checked.status.code() {
            Some(0) => assert!(place.export("bad") == expected, "round {round}, byte {at}"),
            Some(1) => n_noticed += 1,
            code => panic!("byte {at}: {code:?} {stderr}"),
        }
    }
    assert!(n_noticed > 20, "{n_noticed} of 60 were noticed");
}

#[test]
fn a_compacted_store_holds_the_same() {
    let place = Place::new(SIMULATED);
    place.simulate(300, 9, "log.csv");
    place.ingest("log.csv", "store").json();
    let (before, stats) = (place.export("store"), place.store("stats", "store").json());
    let report = place.store("compact", "store").json();
    assert_eq!(report["after"]["lines"], report["before"]["lines"]);
    assert!(place.export("store") == before);
    let after = place.store("stats", "store").json();
    for same in ["sequence", "lines", "customers", "newest", "kept_from"] {
        assert_eq!(after[same], stats[same], "{same}");
    }
    // It still knows the file, and goes on.
    assert_eq!(place.ingest("log.csv", "store").json()["sequence"], stats["sequence"]);
}

#[test]
#[ignore = "the new file is larger than the old one"]
fn compacting_does_not_make_a_store_larger() {
    let place = Place::new(SIMULATED);
    place.simulate(3_000, 9, "log.csv");
    place.ingest("log.csv", "store").json();
    let report = place.store("compact", "store").json();
    let bytes = |when: &str| report[when]["file_bytes"].as_u64().unwrap();
    assert!(bytes("after") <= bytes("before"), "{report}");
}

#[test]
fn nothing_is_left_of_an_erased_customer() {
    const ID: &str = "zebra-4711-finch";
    let place = Place::new(SIMULATED);
    place.simulate(40, 2, "log.csv");
    // Enough events for several chunks, among those of others, in several commits.
    let mut log = String::from(
        "customer_id,time,kind,amount,quantity,discount,order_id,event_id,item,category,channel,currency,rating\n",
    );
    for n in 0..900 {
        let day = Day(18_262 + n);
        log += &format!("{ID},{day},purchase,{n}.25,1,,,walrus-{n},narwhal-{n},k1,web,USD,\n");
    }
    place.write("own.csv", &log);
    place.write("people.csv", &format!("customer_id,plan\n{ID},ocelot-plan\n"));
    let config = format!("{SIMULATED}[customers]\ncategories = ['plan']\n");
    place.configure(&config);
    place.ingest("log.csv", "store").json();
    let others = place.export("store");
    place.ingest("own.csv", "store").path("--customers", &place.path("people.csv")).json();
    let words = [ID, "walrus-", "narwhal-", "ocelot-plan"];
    for word in words {
        assert!(holds(&place.bytes("store"), word), "{word} is there as it is");
    }
    let erase = |id: &str| {
        Run::new("erase")
            .arg(id)
            .path("--store", &place.path("store"))
            .path("--models", &trained().models_dir)
    };
    let receipt = erase(ID).arg("--compact").json();
    let receipt = &receipt[0];
    assert_eq!(receipt["customer"], ID);
    let told = &receipt["receipt"];
    let erased = &told["erased"];
    assert_eq!((&erased["was_known"], &erased["n_lines"]), (&true.into(), &900.into()));
    assert_eq!(erased["had_attributes"], true);
    assert_eq!(told["versions"][0]["version"], trained().version.as_str());
    assert_eq!(told["versions"][0]["presence"], "possible");
    for word in words {
        assert!(!holds(&place.bytes("store"), word), "{word} is left");
    }
    assert!(place.export("store") == others, "nobody else lost anything");

    // Neither the same file under another name nor the same rows bring them back.
    place.write("again.csv", &format!("{log}\n"));
    let again = place.ingest("again.csv", "store").json();
    assert_eq!(
        (&again["account"]["erased"], &again["account"]["accepted"]),
        (&900.into(), &0.into())
    );
    assert!(place.export("store") == others);
    assert!(!holds(&place.bytes("store"), ID));
    assert_eq!(place.store("stats", "store").json()["erased_customers"], 1);
    let again = erase(ID).json();
    assert_eq!(again[0]["receipt"]["erased"]["was_known"], false);
}

async fn client(address: std::net::SocketAddr) -> tonic::transport::Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

fn date(days_ago: i64) -> String {
    Day((now().0.div_euclid(86_400_000) - days_ago) as i32).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_retention_goes_and_is_not_asked_about() {
    let place = Place::new("[store]\nretention_days = 100\n");
    let rows = [("ann", 300), ("ann", 150), ("ann", 50), ("bob", 200), ("cleo", 5)];
    let rows = rows.map(|(id, days)| format!("{id},{},7.00\n", date(days)));
    place.write("log.csv", &format!("customer_id,time,amount\n{}", rows.concat()));
    place.ingest("log.csv", "store").json();
    assert_eq!(place.export("store").lines().count(), 6);
    let report = place.store("compact", "store").json();
    assert_eq!((&report["before"]["lines"], &report["after"]["lines"]), (&5.into(), &2.into()));
    assert_eq!(report["after"]["customers"], 2, "nothing is known of bob any more");
    let export = place.export("store");
    let kept: Vec<&str> = export.lines().skip(1).map(|line| &line[..3]).collect();
    assert_eq!(kept, ["ann", "cle"]);

    // Longer retention does not bring back what is gone: the store remembers.
    for days in [100, 1_000] {
        place.configure(&format!("[store]\nretention_days = {days}\n"));
        let server = place.serve("store").listening();
        let mut predictions = PredictionServiceClient::new(client(server.address()).await);
        let ask = |days_ago: i64| {
            let seconds = now().0.div_euclid(1_000) - days_ago * 86_400;
            let as_of = Some(prost_types::Timestamp { seconds, nanos: 0 });
            pb::GetPredictionRequest { customer_id: "ann".to_owned(), as_of, version: None }
        };
        let refused = predictions.get_prediction(ask(101)).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
        assert_eq!(refused.get_details_error_info().unwrap().reason, "AS_OF_TOO_OLD");
        let told = predictions.get_prediction(ask(1)).await.unwrap().into_inner();
        assert!(told.prediction.unwrap().newest_event.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_file_in_the_store_reaches_the_answers() {
    let config = "[customers]\ncustomer = 'id'\nopt_out = 'out'\n";
    let place = Place::new(config);
    let rows: String = ["ann", "bob"].map(|id| format!("{id},{},7.00\n", date(9))).concat();
    place.write("log.csv", &format!("customer_id,time,amount\n{rows}"));
    place.write("people.csv", "id,out\nann,yes\nbob,no\nzoe,yes\n");
    let people = place.path("people.csv");
    place.ingest("log.csv", "store").path("--customers", &people).json();
    // Alone, and once more.
    let alone = Run::new("ingest").path("--config", &place.path("habitus.toml"));
    alone.path("--customers", &people).path("--store", &place.path("store")).json();
    let server = place.serve("store").listening();
    assert_eq!(server.announced["customers"], 3);
    let mut predictions = PredictionServiceClient::new(client(server.address()).await);
    for (id, out) in [("ann", true), ("bob", false), ("zoe", true)] {
        let customer_id = id.to_owned();
        let request = pb::GetPredictionRequest { customer_id, as_of: None, version: None };
        let told = predictions.get_prediction(request).await.unwrap().into_inner();
        let status = told.prediction.unwrap().value.unwrap().status();
        assert_eq!(status == HeadStatus::OptedOut, out, "{id}");
    }
}

/// A request of one event, of one of many customers.
fn event(number: usize) -> pb::IngestEventsRequest {
    let event = pb::CustomerEvent {
        customer_id: format!("c{}", number % 997),
        time: Some(prost_types::Timestamp { seconds: 1_600_000_000 + number as i64, nanos: 0 }),
        amount: format!("{number}.50"),
        event_id: format!("e{number}"),
        ..pb::CustomerEvent::default()
    };
    pb::IngestEventsRequest {
        records: vec![pb::CustomerRecord { record: Some(Record::Event(event)) }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_kill() {
    const MOST: usize = 2_000_000;
    const MARGIN: usize = 3_000;
    let place = Place::new("");
    let mut draws = Draws::new(Seed(23));
    let mut sent_before = 0;
    for round in 0..3 {
        let mut server = place.serve("store").listening();
        let mut customers = CustomerServiceClient::new(client(server.address()).await);
        let (requests, stream) = mpsc::channel(16);
        let sending = tokio::spawn(async move {
            for number in sent_before..MOST {
                if requests.send(event(number)).await.is_err() {
                    return;
                }
            }
        });
        let answers = customers.ingest_events(ReceiverStream::new(stream)).await.unwrap();
        let mut answers = answers.into_inner();
        let wait = Duration::from_secs_f64(0.1 + 0.5 * draws.unit());
        let killing = tokio::task::spawn_blocking(move || {
            std::thread::sleep(wait);
            server.child.kill().unwrap();
            server.child.wait().unwrap();
        });
        let mut acknowledged = 0;
        while let Ok(Some(answer)) = answers.message().await {
            assert_eq!(answer.results[0].status(), RecordStatus::Accepted);
            acknowledged += 1;
        }
        killing.await.unwrap();
        drop(answers);
        sending.abort();
        assert!(acknowledged > 0 && sent_before + acknowledged < MOST, "round {round}");

        // All of it is sent again, with what may have been on its way and some that never was.
        let server = place.serve("store").listening();
        let mut customers = CustomerServiceClient::new(client(server.address()).await);
        let last = sent_before + acknowledged;
        let records =
            (0..last + MARGIN).flat_map(|number| event(number).records).collect::<Vec<_>>();
        let requests: Vec<_> = records
            .chunks(5_000)
            .map(|records| pb::IngestEventsRequest { records: records.to_vec() })
            .collect();
        let answers = customers.ingest_events(tokio_stream::iter(requests)).await.unwrap();
        let mut answers = answers.into_inner();
        let mut told = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            told.extend(answer.results.iter().map(pb::RecordResult::status));
        }
        let kept = told.iter().take_while(|&&status| status == RecordStatus::Duplicate).count();
        assert!(kept >= last, "round {round}: {kept} of {last} acknowledged events are there");
        // What was on its way is there from the first to some last one, with no hole.
        assert!(kept < told.len(), "round {round}");
        assert!(told[kept..].iter().all(|&status| status == RecordStatus::Accepted));
        drop(server);
        sent_before = last + MARGIN;
        assert_eq!(place.store("stats", "store").json()["lines"], sent_before as u64);
    }
    let checked = place.store("check", "store").json();
    assert_eq!(checked["faults"], Value::Array(Vec::new()));
}
