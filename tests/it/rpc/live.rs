//! Customers whose events come in while the server runs: kept when acknowledged, seen by the next
//! answer, taken back when asked.

use super::running::{Running, ask, ask_all, assert_refused, held, instant, loaded, scorer};
use crate::support::trained;
use habitus::clock::now;
use habitus::rpc::pb;
use habitus::serving::{MAX_RECORDS, PARALLEL_FROM};
use habitus::store::{Batch, MAX_ID_BYTES, Store};
use habitus_engine::domain::{Event, RawEvent, RawValue, Timestamp};
use pb::batch_predict_row::Outcome;
use pb::customer_record::Record;
use pb::{HeadStatus, RecordStatus};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const DAY_MS: i64 = 86_400_000;

fn days_ago(days: i64) -> Timestamp {
    Timestamp(now().0 - days * DAY_MS)
}

fn purchase(customer: &str, at: Timestamp, amount: &str) -> pb::CustomerEvent {
    pb::CustomerEvent {
        customer_id: customer.to_owned(),
        time: Some(instant(at)),
        amount: amount.to_owned(),
        ..pb::CustomerEvent::default()
    }
}

fn with_id(event: pb::CustomerEvent, id: &str) -> pb::CustomerEvent {
    pb::CustomerEvent { event_id: id.to_owned(), ..event }
}

fn record(event: pb::CustomerEvent) -> pb::CustomerRecord {
    pb::CustomerRecord { record: Some(Record::Event(event)) }
}

fn about(told: pb::CustomerAttributes) -> pb::CustomerRecord {
    pb::CustomerRecord { record: Some(Record::Attributes(told)) }
}

fn opted_out(customer: &str, opt_out: bool) -> pb::CustomerRecord {
    let customer_id = customer.to_owned();
    let opt_out = Some(opt_out);
    about(pb::CustomerAttributes { customer_id, opt_out, ..pb::CustomerAttributes::default() })
}

/// Sends requests in one stream, and takes the answers until the stream ends.
async fn send(
    server: &Running,
    requests: Vec<Vec<pb::CustomerRecord>>,
) -> (Vec<pb::IngestEventsResponse>, Option<Status>) {
    let requests = requests.into_iter().map(|records| pb::IngestEventsRequest { records });
    let requests: Vec<_> = requests.collect();
    let answers = server.customers().ingest_events(tokio_stream::iter(requests)).await;
    let mut answers = match answers {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), Some(status)),
    };
    let mut taken = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => taken.push(answer),
            Ok(None) => return (taken, None),
            Err(status) => return (taken, Some(status)),
        }
    }
}

/// Sends one request, which must be answered.
async fn ingest(server: &Running, records: Vec<pb::CustomerRecord>) -> pb::IngestEventsResponse {
    let (mut answers, error) = send(server, vec![records]).await;
    assert!(error.is_none() && answers.len() == 1, "{error:?}");
    answers.remove(0)
}

fn statuses(answer: &pb::IngestEventsResponse) -> Vec<RecordStatus> {
    answer.results.iter().map(pb::RecordResult::status).collect()
}

async fn prediction(server: &Running, customer: &str) -> pb::Prediction {
    let answer = server.predictions().get_prediction(ask(customer)).await.unwrap();
    answer.into_inner().prediction.unwrap()
}

async fn prediction_at(server: &Running, customer: &str, at: Timestamp) -> pb::Prediction {
    let request = pb::GetPredictionRequest { as_of: Some(instant(at)), ..ask(customer) };
    let answer = server.predictions().get_prediction(request).await.unwrap();
    answer.into_inner().prediction.unwrap()
}

fn heads(prediction: &pb::Prediction) -> [HeadStatus; 3] {
    [
        prediction.segment.as_ref().unwrap().status(),
        prediction.value.as_ref().unwrap().status(),
        prediction.churn.as_ref().unwrap().status(),
    ]
}

/// The same answer, as it would be without a store.
fn unstamped(prediction: &pb::Prediction) -> pb::Prediction {
    pb::Prediction { store_sequence: None, ..prediction.clone() }
}

/// A directory with a store that holds the shop's log.
fn shop() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(directory.path(), &held(None)).unwrap();
    let mut batch = Batch::default();
    for history in &trained().histories {
        for event in history.events() {
            let amount = amount(event);
            let raw = RawEvent {
                time: Some(RawValue::Instant(event.at.0)),
                amount: Some(RawValue::Text(&amount)),
                ..RawEvent::default()
            };
            batch.line(history.customer().as_str(), &raw, event.at);
        }
    }
    store.append(&batch, None).unwrap();
    directory
}

fn amount(event: &Event) -> String {
    let cents = event.amount.unwrap().0;
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The bytes of every file of a directory.
fn digests(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let digest = |path: &Path| Sha256::digest(std::fs::read(path).unwrap()).to_vec();
    files
        .map(|file| (file.file_name().to_string_lossy().into_owned(), digest(&file.path())))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_event_is_in_the_next_answer() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::keeping(directory.path(), None).await;
    let stranger = prediction(&server, "x0").await;
    assert_eq!(heads(&stranger), [HeadStatus::NoHistory; 3]);
    assert_eq!(stranger.store_sequence, Some(0));

    // Several at once, whose commits are made together.
    let clients = (0..6).map(|client| {
        let (customers, predictions) = (server.customers(), server.predictions());
        tokio::spawn(async move {
            let (mut customers, mut predictions) = (customers, predictions);
            let (requests, stream) = mpsc::channel(1);
            let id = format!("x{client}");
            let stream = ReceiverStream::new(stream);
            let mut answers = customers.ingest_events(stream).await.unwrap().into_inner();
            for hours in (1..=20).rev() {
                let at = Timestamp(now().0 - hours * 3_600_000);
                let records = vec![record(purchase(&id, at, "12.50"))];
                requests.send(pb::IngestEventsRequest { records }).await.unwrap();
                let kept = answers.message().await.unwrap().unwrap();
                assert_eq!(statuses(&kept), [RecordStatus::Accepted]);
                let answer = predictions.get_prediction(ask(&id)).await.unwrap().into_inner();
                let answer = answer.prediction.unwrap();
                assert_eq!(answer.newest_event, Some(instant(at)));
                assert!(answer.store_sequence >= Some(kept.sequence) && kept.sequence > 0);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!(prediction(&server, "x0").await.store_sequence, Some(120));

    // What is told late lands in its place: it changes the answer, and not what is newest.
    let before = prediction(&server, " x3 ").await;
    let long_ago = days_ago(400);
    let late = ingest(&server, vec![record(purchase(" x3", long_ago, "99"))]).await;
    let after = prediction(&server, "x3").await;
    assert_eq!((late.sequence, after.store_sequence), (121, Some(121)));
    assert_eq!(after.newest_event, before.newest_event);
    assert_ne!((after.segment, after.value), (before.segment, before.value));
    let then = prediction_at(&server, "x3", days_ago(399)).await;
    assert_eq!(then.newest_event, Some(instant(long_ago)));
    assert_eq!(
        heads(&prediction_at(&server, "x3", days_ago(401)).await),
        [HeadStatus::NoHistory; 3]
    );
}

#[tokio::test]
async fn each_record_has_its_result() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::keeping(directory.path(), None).await;
    let event = |change: &dyn Fn(&mut pb::CustomerEvent)| {
        let mut event = purchase("ann", days_ago(3), "5");
        change(&mut event);
        record(event)
    };
    let told = |change: &dyn Fn(&mut pb::CustomerAttributes)| {
        let mut told = pb::CustomerAttributes {
            customer_id: "ann".to_owned(),
            ..pb::CustomerAttributes::default()
        };
        change(&mut told);
        about(told)
    };
    let long = "x".repeat(4_097);
    let bad_time = prost_types::Timestamp { seconds: 0, nanos: -1 };
    let cases: Vec<(pb::CustomerRecord, &str)> = vec![
        (event(&|_| {}), ""),
        (pb::CustomerRecord { record: None }, "EMPTY_RECORD"),
        (event(&|event| event.customer_id.clear()), "MISSING_CUSTOMER"),
        (event(&|event| event.customer_id = " ".to_owned()), "MISSING_CUSTOMER"),
        (event(&|event| event.customer_id = "i".repeat(MAX_ID_BYTES + 1)), "CUSTOMER_TOO_LONG"),
        (event(&|event| event.customer_id = "i".repeat(MAX_ID_BYTES)), ""),
        (event(&|event| event.time = None), "MISSING_TIME"),
        (event(&|event| event.time = Some(bad_time)), "UNREADABLE_TIME"),
        (event(&|event| event.time = Some(instant(days_ago(-1)))), "FUTURE_TIME"),
        (event(&|event| event.amount.clear()), "MISSING_AMOUNT"),
        (event(&|event| event.amount = "-0.01".to_owned()), "NEGATIVE_AMOUNT"),
        (event(&|event| event.amount = "12,50".to_owned()), "UNREADABLE_AMOUNT"),
        (event(&|event| event.amount = "NaN".to_owned()), "NON_FINITE_AMOUNT"),
        (event(&|event| event.amount = "1e300".to_owned()), "AMOUNT_OUT_OF_RANGE"),
        (event(&|event| event.kind = "teleport".to_owned()), "UNKNOWN_KIND"),
        (event(&|event| event.currency = "XTS".to_owned()), "OTHER_CURRENCY"),
        (event(&|event| event.item = long.clone()), "TOO_LONG"),
        (event(&|event| event.event_id = long.clone()), "TOO_LONG"),
        (event(&|event| (event.kind, event.amount) = ("visit".to_owned(), String::new())), ""),
        (told(&|told| _ = told.numbers.insert("age".to_owned(), f64::NAN)), "NON_FINITE_ATTRIBUTE"),
        (
            told(&|told| _ = told.numbers.insert("age".to_owned(), f64::NEG_INFINITY)),
            "NON_FINITE_ATTRIBUTE",
        ),
        (told(&|told| told.registered_at = Some(bad_time)), "UNREADABLE_TIME"),
        (told(&|told| _ = told.categories.insert("plan".to_owned(), long.clone())), "TOO_LONG"),
        (
            told(&|told| {
                told.numbers = (0..257).map(|n| (format!("n{n}"), f64::from(n))).collect();
            }),
            "TOO_LONG",
        ),
        (told(&|told| told.customer_id.clear()), "MISSING_CUSTOMER"),
        (told(&|told| _ = told.numbers.insert("age".to_owned(), 41.5)), ""),
        (event(&|event| event.event_id = "e1".to_owned()), ""),
    ];
    let (records, reasons): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let answer = ingest(&server, records).await;
    assert_eq!(answer.results.len(), reasons.len());
    for (place, (result, &reason)) in answer.results.iter().zip(&reasons).enumerate() {
        assert_eq!(result.reason, reason, "record {place}: {result:?}");
        let is_kept = reason.is_empty();
        assert_eq!(result.status() == RecordStatus::Accepted, is_kept, "record {place}");
        assert_eq!(result.status() == RecordStatus::Rejected, !is_kept, "record {place}");
        assert_eq!(result.message.is_empty(), is_kept, "record {place}");
    }
    let n_kept = reasons.iter().filter(|reason| reason.is_empty()).count() as u64;
    assert_eq!(answer.sequence, n_kept);
    assert!(!answer.request_id.is_empty());

    let (answers, error) = send(&server, vec![vec![], vec![event(&|_| {})]]).await;
    assert!(error.is_none());
    let results: Vec<_> = answers.iter().map(|answer| answer.results.len()).collect();
    assert_eq!((results, answers[1].sequence), (vec![0, 1], n_kept + 1));
}

#[tokio::test]
async fn what_is_sent_again_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::keeping(directory.path(), None).await;
    let of = |customer: &str, n: i64| {
        with_id(purchase(customer, days_ago(20 + n), &format!("{n}.99")), &format!("e{n}"))
    };
    let records: Vec<_> =
        ["ann", "bob"].iter().flat_map(|id| (0..30).map(|n| of(id, n))).map(record).collect();
    let first = ingest(&server, records.clone()).await;
    assert_eq!(statuses(&first), [RecordStatus::Accepted; 60]);
    let at = now();
    let before = [prediction_at(&server, "ann", at).await, prediction_at(&server, "bob", at).await];
    for _ in 0..3 {
        let again = ingest(&server, records.clone()).await;
        assert_eq!(statuses(&again), [RecordStatus::Duplicate; 60]);
        assert_eq!(again.sequence, first.sequence);
    }
    // Twice in one request, too.
    let new = record(of("cleo", 1));
    let twice = ingest(&server, vec![new.clone(), new]).await;
    assert_eq!(statuses(&twice), [RecordStatus::Accepted, RecordStatus::Duplicate]);
    assert_eq!(twice.sequence, first.sequence + 1);
    // Of what differs under one id the earliest counts, and that is known already.
    let later = with_id(purchase("ann", days_ago(1), "1000"), "e7");
    let later = ingest(&server, vec![record(later)]).await;
    assert_eq!(statuses(&later), [RecordStatus::Duplicate]);
    let after = [prediction_at(&server, "ann", at).await, prediction_at(&server, "bob", at).await];
    assert_eq!(after.each_ref().map(unstamped), before.each_ref().map(unstamped));
    let earlier = with_id(purchase("ann", days_ago(300), "1000"), "e7");
    let earlier = ingest(&server, vec![record(earlier)]).await;
    assert_eq!(statuses(&earlier), [RecordStatus::Duplicate]);
    assert_ne!(prediction_at(&server, "ann", at).await.value, before[0].value);
}

#[tokio::test]
async fn too_many_records_end_the_stream_after_what_was_kept_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::keeping(directory.path(), None).await;
    let event = || record(purchase("ann", days_ago(2), "1"));
    let full = vec![event(); MAX_RECORDS];
    let too_many = vec![event(); MAX_RECORDS + 1];
    let (answers, error) = send(&server, vec![vec![event()], full, too_many, vec![event()]]).await;
    let results: Vec<usize> = answers.iter().map(|answer| answer.results.len()).collect();
    assert_eq!(results, [1, MAX_RECORDS]);
    let error = error.unwrap();
    assert_refused(&error, Code::ResourceExhausted, "TOO_MANY_RECORDS", None);
    assert!(error.message().contains(&MAX_RECORDS.to_string()));
    let kept = prediction(&server, "ann").await.store_sequence;
    assert_eq!(kept, Some(MAX_RECORDS as u64 + 1), "nothing of it was kept, and nothing after it");
}

#[tokio::test]
async fn a_server_of_a_log_keeps_nothing() {
    let server = Running::start().await;
    let (answers, error) = send(&server, vec![vec![opted_out("c001", true)]]).await;
    assert!(answers.is_empty());
    assert_refused(&error.unwrap(), Code::FailedPrecondition, "NO_STORE", None);
    let request = pb::DeleteCustomerRequest { customer_id: "c001".to_owned() };
    let refused = server.customers().delete_customer(request).await.unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "NO_STORE", None);
    assert_eq!(prediction(&server, "c001").await.store_sequence, None);
}

#[tokio::test]
async fn who_opts_out_is_not_answered_about_until_they_come_back() {
    let directory = shop();
    let server = Running::keeping(directory.path(), None).await;
    let at = trained().as_of.at;
    let before = prediction_at(&server, "c004", at).await;
    assert_eq!(before.value.as_ref().unwrap().status(), HeadStatus::Ok);
    ingest(&server, vec![opted_out("c004", true)]).await;
    for at in [at, now()] {
        let out = prediction_at(&server, "c004", at).await;
        assert_eq!(heads(&out), [HeadStatus::OptedOut; 3]);
    }
    // What is told of them later does not bring them back, unless it is that.
    let told = pb::CustomerAttributes {
        customer_id: "c004".to_owned(),
        categories: HashMap::from([("plan".to_owned(), "pro".to_owned())]),
        ..pb::CustomerAttributes::default()
    };
    let events = record(purchase("c004", days_ago(900), "3"));
    ingest(&server, vec![about(told), opted_out("c005", true), events]).await;
    assert_eq!(heads(&prediction(&server, "c004").await), [HeadStatus::OptedOut; 3]);
    let listed = members(&server, at).await;
    assert!(!listed.contains_key("c004") && !listed.contains_key("c005"));
    ingest(&server, vec![opted_out("c004", false)]).await;
    let back = prediction_at(&server, "c004", at).await;
    assert_eq!(back.segment, before.segment);
}

/// Every member of every segment, with its segment.
async fn members(server: &Running, at: Timestamp) -> BTreeMap<String, (String, Option<f64>)> {
    let mut members = BTreeMap::new();
    for segment in loaded().segments() {
        let request = pb::ListSegmentMembersRequest {
            segment_id: segment.id.0.clone(),
            version: None,
            as_of: Some(instant(at)),
        };
        let pages = server.segments().list_segment_members(request).await.unwrap().into_inner();
        let pages: Vec<_> = pages.map(Result::unwrap).collect().await;
        for member in pages.into_iter().flat_map(|page| page.members) {
            let segment = (segment.id.0.clone(), member.probability);
            assert_eq!(members.insert(member.customer_id, segment), None, "in one segment only");
        }
    }
    members
}

#[tokio::test]
async fn a_record_with_a_name_too_many_is_rejected_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::keeping(directory.path(), None).await;
    let told = |from: usize, n: usize| {
        let numbers = (from..from + n).map(|name| (format!("n{name}"), 1.0)).collect();
        let customer_id = "ann".to_owned();
        about(pb::CustomerAttributes { customer_id, numbers, ..pb::CustomerAttributes::default() })
    };
    let mut records: Vec<_> = (0..16).map(|part| told(part * 256, 256)).collect();
    records.extend([told(4_095, 2), told(7, 1), record(purchase("ann", days_ago(3), "5"))]);
    let answer = ingest(&server, records).await;
    let statuses = statuses(&answer);
    let (accepted, others) = statuses.split_at(16);
    assert_eq!(accepted, [RecordStatus::Accepted; 16]);
    assert_eq!(others, [RecordStatus::Rejected, RecordStatus::Duplicate, RecordStatus::Accepted]);
    assert_eq!(answer.results[16].reason, "TOO_MANY_NAMES");
    assert!(answer.results[16].message.contains("4096"), "{:?}", answer.results[16]);
    assert_eq!(answer.sequence, 17);
}

#[tokio::test]
async fn an_erased_customer_is_gone_and_stays_away() {
    let directory = shop();
    let server = Running::keeping(directory.path(), None).await;
    let shop = trained();
    let at = shop.as_of.at;
    let told = pb::CustomerAttributes {
        customer_id: "c007".to_owned(),
        numbers: HashMap::from([("age".to_owned(), 33.0)]),
        ..pb::CustomerAttributes::default()
    };
    let sequence = ingest(&server, vec![about(told)]).await.sequence;
    let everybody = members(&server, at).await;
    assert!(everybody.contains_key("c007"));
    let n_events = shop.histories.iter().find(|history| history.customer().as_str() == "c007");
    let n_events = n_events.unwrap().events().len() as u64;

    let erase = |id: &str| {
        let request = pb::DeleteCustomerRequest { customer_id: id.to_owned() };
        let mut client = server.customers();
        async move { client.delete_customer(request).await.map(tonic::Response::into_inner) }
    };
    let began = now();
    let receipt = erase(" c007 ").await.unwrap();
    assert_eq!(receipt.customer_id, "c007");
    let erased_at = receipt.erased_at.unwrap();
    let ended = instant(now());
    let order = |at: &prost_types::Timestamp| (at.seconds, at.nanos);
    assert!(order(&instant(began)) <= order(&erased_at) && order(&erased_at) <= order(&ended));
    assert_eq!((receipt.was_known, receipt.events, receipt.attributes), (true, n_events, true));
    assert!(receipt.cleaned.contains(&"store".to_owned()), "{receipt:?}");
    assert!(receipt.remaining.contains("compact"), "{receipt:?}");
    assert_eq!(receipt.sequence, sequence + 1, "answers before it and after it differ");
    assert!(!receipt.request_id.is_empty());
    let [version] = receipt.versions.as_slice() else { panic!("{receipt:?}") };
    assert_eq!((&version.name, &version.version), (&shop.name, &shop.version));
    assert_eq!(version.presence(), pb::Presence::Possible, "it was trained from a file");

    for at in [at, now()] {
        assert_eq!(heads(&prediction_at(&server, "c007", at).await), [HeadStatus::NoHistory; 3]);
    }
    let mut others = everybody.clone();
    others.remove("c007");
    assert_eq!(members(&server, at).await, others);

    let events = [purchase("c007", days_ago(1), "1"), with_id(purchase(" c007", at, "2"), "e1")];
    let mut replay: Vec<_> = events.into_iter().map(record).collect();
    replay.extend([opted_out("c007", true), record(purchase("c008", days_ago(1), "1"))]);
    let answer = ingest(&server, replay).await;
    let reasons: Vec<&str> = answer.results.iter().map(|result| result.reason.as_str()).collect();
    assert_eq!(reasons, ["ERASED", "ERASED", "ERASED", ""]);
    assert_eq!(answer.results[0].status(), RecordStatus::Rejected);
    assert_eq!(answer.sequence, receipt.sequence + 1);
    assert_eq!(heads(&prediction(&server, "c007").await), [HeadStatus::NoHistory; 3]);

    let again = erase("c007").await.unwrap();
    assert_eq!((again.was_known, again.events, again.attributes), (false, 0, false));
    // Somebody who was never here is kept out, too.
    assert!(!erase("zoe").await.unwrap().was_known);
    let zoe = ingest(&server, vec![record(purchase("zoe", days_ago(1), "1"))]).await;
    assert_eq!(zoe.results[0].reason, "ERASED");
    let refused = erase(" ").await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, "EMPTY_CUSTOMER_ID", Some("customer_id"));
}

#[tokio::test]
async fn an_instant_that_is_no_longer_kept_or_yet_to_come_is_refused() {
    let directory = shop();
    let server = Running::keeping(directory.path(), Some(30)).await;
    ingest(&server, vec![record(purchase("ann", days_ago(29), "4"))]).await;
    let segment_id = loaded().segments()[0].id.0.clone();
    for (at, code, reason) in [
        (days_ago(31), Code::OutOfRange, "AS_OF_TOO_OLD"),
        (trained().as_of.at, Code::OutOfRange, "AS_OF_TOO_OLD"),
        (days_ago(-1), Code::InvalidArgument, "AS_OF_IN_FUTURE"),
    ] {
        let as_of = Some(instant(at));
        let one = pb::GetPredictionRequest { as_of, ..ask("ann") };
        let many = pb::BatchPredictRequest { as_of, ..ask_all(vec!["ann".to_owned()]) };
        let list =
            pb::ListSegmentMembersRequest { segment_id: segment_id.clone(), version: None, as_of };
        let mut predictions = server.predictions();
        for refused in [
            predictions.get_prediction(one).await.unwrap_err(),
            predictions.batch_predict(many).await.unwrap_err(),
            server.segments().list_segment_members(list).await.unwrap_err(),
        ] {
            assert_refused(&refused, code, reason, Some("as_of"));
            let info = refused.get_details_error_info().unwrap();
            assert_eq!(info.metadata.contains_key("kept_from"), code == Code::OutOfRange);
        }
    }
    let kept = prediction_at(&server, "ann", days_ago(28)).await;
    assert!(kept.newest_event.is_some());
    // A caller who brings the history may ask about any time.
    let customer = history("ann", vec![purchase("", days_ago(800), "4")]);
    let scored = score(&server, vec![customer], Some(days_ago(700))).await;
    assert!(scored[0].1.newest_event.is_some());
}

#[tokio::test]
async fn members_of_a_store_are_those_who_are_told_so_one_by_one() {
    let directory = shop();
    let server = Running::keeping(directory.path(), None).await;
    let new = (0..40).map(|n| record(purchase(&format!("n{n}"), days_ago(1800 + n), "30")));
    ingest(&server, new.collect()).await;
    for at in [trained().as_of.at, Timestamp(trained().as_of.at.0 - 300 * DAY_MS), now()] {
        let listed = members(&server, at).await;
        let ids = trained().histories.iter().map(|history| history.customer().to_string());
        for id in ids.chain((0..40).map(|n| format!("n{n}"))) {
            let told = prediction_at(&server, &id, at).await.segment.unwrap();
            let is_given = told.status() == HeadStatus::Ok;
            let expected = is_given.then_some((told.segment_id, told.probability));
            assert_eq!(listed.get(&id).cloned(), expected, "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_of_one_moment_whatever_comes_in() {
    let directory = shop();
    let server = Running::keeping(directory.path(), None).await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let mut customers = server.customers();
    let writing = tokio::spawn(async move {
        let (requests, stream) = mpsc::channel(1);
        let stream = ReceiverStream::new(stream);
        let mut answers = customers.ingest_events(stream).await.unwrap().into_inner();
        while stopped.try_recv().is_err() {
            // Both, or neither.
            let both = ["c010", "c011"].map(|id| record(purchase(id, days_ago(1), "7")));
            requests.send(pb::IngestEventsRequest { records: both.to_vec() }).await.unwrap();
            answers.message().await.unwrap().unwrap();
        }
    });
    let mut seen = Vec::new();
    for round in 0..60 {
        let n = if round % 2 == 0 { 20 } else { 2 * PARALLEL_FROM };
        let ids: Vec<String> = (0..n).map(|n| format!("c{:03}", n % 300)).collect();
        let answer = server.predictions().batch_predict(ask_all(ids)).await.unwrap().into_inner();
        let sequences: Vec<Option<u64>> = answer
            .rows
            .iter()
            .map(|row| match row.outcome.as_ref().unwrap() {
                Outcome::Prediction(prediction) => prediction.store_sequence,
                Outcome::Error(error) => panic!("{error:?}"),
            })
            .collect();
        assert!(sequences.iter().all(|&sequence| sequence == sequences[0]), "{sequences:?}");
        seen.push(sequences[0].unwrap());
    }
    stop.send(()).unwrap();
    writing.await.unwrap();
    assert!(seen.is_sorted() && seen.first() < seen.last(), "{seen:?}");
    let first = seen[0] % 2;
    assert!(seen.iter().all(|sequence| sequence % 2 == first), "a request is kept as one");
}

fn history(customer: &str, events: Vec<pb::CustomerEvent>) -> pb::CustomerHistory {
    pb::CustomerHistory { customer_id: customer.to_owned(), events, attributes: None }
}

/// Scores histories in one request: each row, and its prediction.
async fn score(
    server: &Running,
    customers: Vec<pb::CustomerHistory>,
    at: Option<Timestamp>,
) -> Vec<(pb::ScoredCustomer, pb::Prediction)> {
    let request = pb::ScoreCustomersRequest { customers, as_of: at.map(instant), version: None };
    let answers = server.predictions().score_customers(tokio_stream::once(request)).await;
    let mut answers = answers.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(answers.message().await.unwrap().is_none());
    let told = |row: &pb::ScoredCustomer| match row.row.as_ref().unwrap().outcome.clone().unwrap() {
        Outcome::Prediction(prediction) => prediction,
        Outcome::Error(error) => panic!("{error:?}"),
    };
    answer.rows.into_iter().map(|row| (row.clone(), told(&row))).collect()
}

#[tokio::test]
async fn supplied_histories_are_answered_as_kept_ones_are_to_the_bit() {
    let directory = shop();
    let server = Running::keeping(directory.path(), None).await;
    let shop = trained();
    let supplied: Vec<_> = shop
        .histories
        .iter()
        .map(|history| {
            let id = history.customer().as_str();
            let events = history.events().iter().rev();
            // Whose they are is told once; the order is nobody's concern.
            let events = events.map(|event| purchase("", event.at, &amount(event))).collect();
            self::history(id, events)
        })
        .collect();
    for at in [shop.as_of.at, Timestamp(shop.as_of.at.0 - 400 * DAY_MS), now()] {
        let scored = score(&server, supplied.clone(), Some(at)).await;
        assert_eq!(scored.len(), supplied.len());
        for ((row, told), history) in scored.iter().zip(&shop.histories) {
            let kept = prediction_at(&server, history.customer().as_str(), at).await;
            assert_eq!(*told, unstamped(&kept));
            assert_eq!(told.store_sequence, None);
            assert_eq!((row.unread_events, row.first_unread_reason.as_str()), (0, ""));
            let as_of = scorer().version().rules.zone.as_of(at);
            let expected = scorer().predict(history, as_of);
            let ltv = told.value.as_ref().unwrap().ltv.map(f64::to_bits);
            assert_eq!(ltv, expected.value.given().map(|value| value.ltv.to_bits()));
        }
    }
    // Nothing is known of somebody whom nothing is told of, though the store knows them.
    let alone = score(&server, vec![history("c001", Vec::new())], None).await;
    assert_eq!(heads(&alone[0].1), [HeadStatus::NoHistory; 3]);
}

#[tokio::test]
async fn events_that_cannot_be_read_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::keeping(directory.path(), None).await;
    let bought = purchase("", days_ago(9), "4");
    let good = || bought.clone();
    let bad = pb::CustomerEvent { amount: "four".to_owned(), ..good() };
    let long = pb::CustomerEvent { item: "x".repeat(5_000), ..good() };
    let undated = pb::CustomerEvent { time: None, ..good() };
    let customers = vec![
        history("ann", vec![good(), bad, undated.clone(), long]),
        history("bob", vec![undated, good()]),
        history(" cleo ", vec![good()]),
    ];
    let scored = score(&server, customers, None).await;
    let unread: Vec<(u32, &str)> = scored
        .iter()
        .map(|(row, _)| (row.unread_events, row.first_unread_reason.as_str()))
        .collect();
    assert_eq!(unread, [(3, "UNREADABLE_AMOUNT"), (1, "MISSING_TIME"), (0, "")]);
    let ids: Vec<&str> = scored.iter().map(|(_, told)| told.customer_id.as_str()).collect();
    assert_eq!(ids, ["ann", "bob", "cleo"]);
    assert!(scored.iter().all(|(_, told)| told.newest_event == scored[2].1.newest_event));

    // Somebody without an id, and opted out: a row each, like any other.
    let out = pb::CustomerAttributes { opt_out: Some(true), ..pb::CustomerAttributes::default() };
    let out = pb::CustomerHistory { attributes: Some(out), ..history("dan", vec![good()]) };
    let request = pb::ScoreCustomersRequest {
        customers: vec![history(" ", vec![good()]), out],
        as_of: None,
        version: None,
    };
    let answers = server.predictions().score_customers(tokio_stream::once(request)).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let outcomes: Vec<Outcome> =
        answer.rows.into_iter().map(|row| row.row.unwrap().outcome.unwrap()).collect();
    let [Outcome::Error(error), Outcome::Prediction(out)] = outcomes.as_slice() else {
        panic!("{outcomes:?}");
    };
    assert_eq!(error.reason, "EMPTY_CUSTOMER_ID");
    assert_eq!(heads(out), [HeadStatus::OptedOut; 3]);
    // Nothing of all this is kept.
    let ann = prediction(&server, "ann").await;
    assert_eq!((heads(&ann), ann.store_sequence), ([HeadStatus::NoHistory; 3], Some(0)));
}

#[tokio::test]
async fn reading_writes_nothing() {
    let directory = shop();
    let server = Running::keeping(directory.path(), None).await;
    let sequence = prediction(&server, "c000").await.store_sequence;
    let before = digests(directory.path());
    let at = trained().as_of.at;
    let ids: Vec<String> = (0..300).map(|n| format!("c{n:03}")).collect();
    for id in ids.iter().take(100) {
        assert_eq!(prediction(&server, id).await.store_sequence, sequence);
        prediction_at(&server, id, at).await;
        prediction(&server, &format!("stranger {id}")).await;
    }
    for _ in 0..10 {
        server.predictions().batch_predict(ask_all(ids.clone())).await.unwrap();
    }
    members(&server, at).await;
    score(&server, vec![history("new", vec![purchase("", at, "1")])], None).await;
    // Nor does what is refused.
    ingest(&server, vec![record(purchase("", at, "1"))]).await;
    assert_eq!(prediction(&server, "c000").await.store_sequence, sequence);
    assert_eq!(digests(directory.path()), before);
}
