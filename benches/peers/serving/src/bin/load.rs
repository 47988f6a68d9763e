//! Asks a server, and tells what it took.
//!
//!     load ready ADDRESS CUSTOMER           when it first answered, in nanoseconds since 1970
//!     load check ADDRESS CUSTOMER FILE      whether one answer is whole, and the answer into a file
//!     load run KEY=VALUE ...                load, and a line of JSON about it
//!
//! The keys of a run: `address`; `method` (`get`, `batch`, `ingest`, `raw`); `connections` and
//! `inflight` calls on each; `seconds`, after `warm` seconds that do not count, or `calls` instead of
//! both; `rate` for an open loop; `customers`, ids from c0000000 on, drawn evenly; `rows` of a batch or
//! records of a request of events, of which `window` are under way on each stream; `path` and `body`
//! (a file) of a raw call; `pid` of the server, whose CPU is counted with all that it started.
//!
//! In the open loop a thread of its own sends at the intended instants, whether or not answers came,
//! and the time of an answer counts from the instant its question was meant to leave. A stall
//! therefore counts for everybody who would have asked meanwhile.

use bytes::Bytes;
use habitus_serving_bench::pb::batch_predict_row::Outcome;
use habitus_serving_bench::pb::customer_service_client::CustomerServiceClient;
use habitus_serving_bench::pb::prediction_service_client::PredictionServiceClient;
use habitus_serving_bench::{pb, raw::Raw};
use hdrhistogram::Histogram;
use http::uri::PathAndQuery;
use prost::Message;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every so many answers one is read, and counts as an error where it is not whole.
const READ_EVERY: u64 = 256;

#[derive(Clone, Copy, PartialEq)]
enum Method {
    Get,
    Batch,
    Raw,
}

struct Run {
    method: Method,
    path: PathAndQuery,
    body: Bytes,
    customers: u64,
    rows: u64,
    measuring: AtomicBool,
    ended: AtomicBool,
    left: AtomicI64,
    calls: AtomicU64,
    asked: AtomicU64,
    errors: AtomicU64,
    rejected: AtomicU64,
    sequence: AtomicU64,
    first_error: Mutex<Option<String>>,
    times: Vec<Mutex<Histogram<u64>>>,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).unwrap()
}

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(0x9E37_79B9_7F4A_7C15u64.wrapping_mul(seed + 1) ^ 0x5DEE_CE66)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

fn customer(random: &mut Random, customers: u64) -> String {
    format!("c{:07}", random.below(customers))
}

/// What is wrong with an answer, if anything is.
fn fault(answer: &pb::Prediction) -> Option<String> {
    let ok = i32::from(pb::HeadStatus::Ok);
    let segment = answer.segment.as_ref().map(|head| head.status);
    let value = answer.value.as_ref().map(|head| head.status);
    let churn = answer.churn.as_ref().map(|head| head.status);
    let whole = [segment, value, churn].iter().all(|&status| status == Some(ok));
    (!whole).then(|| format!("{}: {segment:?} {value:?} {churn:?}", answer.customer_id))
}

impl Run {
    fn request(&self, random: &mut Random) -> Bytes {
        match self.method {
            Method::Get => {
                let customer_id = customer(random, self.customers);
                let request = pb::GetPredictionRequest { customer_id, ..Default::default() };
                request.encode_to_vec().into()
            }
            Method::Batch => {
                let ids = (0..self.rows).map(|_| customer(random, self.customers));
                let request =
                    pb::BatchPredictRequest { customer_ids: ids.collect(), ..Default::default() };
                request.encode_to_vec().into()
            }
            Method::Raw => self.body.clone(),
        }
    }

    fn fault(&self, answer: Bytes) -> Option<String> {
        match self.method {
            Method::Get => match pb::GetPredictionResponse::decode(answer) {
                Ok(answer) => fault(&answer.prediction.unwrap_or_default()),
                Err(error) => Some(error.to_string()),
            },
            Method::Batch => match pb::BatchPredictResponse::decode(answer) {
                Ok(answer) if answer.rows.len() as u64 != self.rows => Some("rows".to_owned()),
                Ok(answer) => answer.rows.into_iter().find_map(|row| match row.outcome {
                    Some(Outcome::Prediction(answer)) => fault(&answer),
                    other => Some(format!("{other:?}")),
                }),
                Err(error) => Some(error.to_string()),
            },
            Method::Raw => None,
        }
    }

    fn failed(&self, message: String) {
        self.errors.fetch_add(1, Relaxed);
        self.first_error.lock().unwrap().get_or_insert(message);
    }

    async fn call(&self, channel: Channel, request: Bytes, from: Instant, times: usize) {
        let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
        let answer = match client.ready().await {
            Ok(()) => client
                .unary(tonic::Request::new(request), self.path.clone(), Raw)
                .await
                .map_err(|status| status.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.took(from, times, answer.is_ok());
        match answer {
            Err(message) => self.failed(message),
            Ok(answer) if self.asked.fetch_add(1, Relaxed) % READ_EVERY == 0 => {
                if let Some(message) = self.fault(answer.into_inner()) {
                    self.failed(message);
                }
            }
            Ok(_) => {}
        }
    }

    fn took(&self, from: Instant, times: usize, answered: bool) {
        if answered && self.measuring.load(Relaxed) {
            self.calls.fetch_add(1, Relaxed);
            let micros = from.elapsed().as_micros() as u64;
            self.times[times].lock().unwrap().saturating_record(micros.max(1));
        }
    }
}

/// Processor time of a process and of all that it started, in seconds.
fn cpu(pid: u32) -> f64 {
    let mut ticks = 0.0;
    let mut todo = vec![pid.to_string()];
    while let Some(pid) = todo.pop() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before the bracket may hold blanks. utime and stime are fields 14 and 15.
        if let Some((_, fields)) = stat.rsplit_once(')') {
            let fields: Vec<&str> = fields.split_whitespace().collect();
            ticks += fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        }
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten()
        {
            let children = std::fs::read_to_string(thread.path().join("children"));
            todo.extend(children.unwrap_or_default().split_whitespace().map(str::to_owned));
        }
    }
    ticks / 100.0 // Linux counts them in hundredths, whatever the kernel's own tick is.
}

async fn connect(address: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(address.to_owned())?.tcp_nodelay(true).connect().await
}

/// One answer, as soon as there is one.
async fn first(address: &str, id: &str) -> pb::GetPredictionResponse {
    loop {
        if let Ok(channel) = connect(address).await {
            let request =
                pb::GetPredictionRequest { customer_id: id.to_owned(), ..Default::default() };
            if let Ok(answer) = PredictionServiceClient::new(channel).get_prediction(request).await
            {
                return answer.into_inner();
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn record(random: &mut Random, customers: u64, mark: u64, number: u64) -> pb::CustomerRecord {
    let now = SystemTime::now() - Duration::from_millis(1000 + random.below(60_000));
    let event = pb::CustomerEvent {
        customer_id: customer(random, customers),
        time: Some(now.into()),
        amount: format!("{}.{:02}", 1 + random.below(200), random.below(100)),
        quantity: "1".to_owned(),
        order_id: format!("o{mark:x}-{number}"),
        event_id: format!("e{mark:x}-{number}"),
        ..Default::default()
    };
    pb::CustomerRecord { record: Some(pb::customer_record::Record::Event(event)) }
}

/// One stream of events, of which a request leaves as soon as one of those before it is acknowledged.
async fn ingest(run: Arc<Run>, channel: Channel, index: usize, window: usize, mark: u64) {
    let (send, requests) = mpsc::channel(window);
    let mut random = Random::new(mark ^ index as u64);
    let mut number = (index as u64) << 40;
    let mut request = || {
        let mut one = || {
            number += 1;
            record(&mut random, run.customers, mark, number)
        };
        pb::IngestEventsRequest { records: (0..run.rows).map(|_| one()).collect() }
    };
    let mut sent = VecDeque::new();
    for _ in 0..window {
        let request = request();
        sent.push_back(Instant::now());
        let _ = send.send(request).await;
    }
    let mut client = CustomerServiceClient::new(channel);
    let mut answers = match client.ingest_events(ReceiverStream::new(requests)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return run.failed(status.to_string()),
    };
    while !run.ended.load(Relaxed) {
        // Made while the answer is awaited, so that its making is not part of the time.
        let next = request();
        match answers.message().await {
            Ok(Some(answer)) => {
                run.took(sent.pop_front().unwrap(), index % run.times.len(), true);
                run.sequence.fetch_max(answer.sequence, Relaxed);
                let accepted = i32::from(pb::RecordStatus::Accepted);
                let refused = answer.results.iter().find(|result| result.status != accepted);
                if let Some(refused) = refused {
                    run.rejected.fetch_add(1, Relaxed);
                    run.first_error.lock().unwrap().get_or_insert(refused.message.clone());
                }
            }
            Ok(None) => return run.failed("the stream ended".to_owned()),
            Err(status) => return run.failed(status.to_string()),
        }
        sent.push_back(Instant::now());
        if send.send(next).await.is_err() {
            return run.failed("the stream takes no more".to_owned());
        }
    }
}

async fn run(keys: HashMap<String, String>) {
    let number = |key: &str, default: f64| -> f64 {
        keys.get(key).map_or(default, |value| value.parse().unwrap())
    };
    let address = keys["address"].clone();
    let connections = number("connections", 16.0) as usize;
    let inflight = number("inflight", 1.0) as usize;
    let calls = number("calls", 0.0) as i64;
    let warm = if calls > 0 { 0.0 } else { number("warm", 1.0) };
    let (seconds, rate) = (number("seconds", 5.0), number("rate", 0.0));
    let pid = number("pid", 0.0) as u32;
    let window = number("window", 1.0) as usize;
    let events = keys["method"] == "ingest";
    let (method, path) = match keys["method"].as_str() {
        "batch" => (Method::Batch, "/habitus.v1.PredictionService/BatchPredict"),
        "raw" => (Method::Raw, keys["path"].as_str()),
        _ => (Method::Get, "/habitus.v1.PredictionService/GetPrediction"),
    };
    let run = Arc::new(Run {
        method,
        path: path.parse().unwrap(),
        body: keys.get("body").map(|file| std::fs::read(file).unwrap().into()).unwrap_or_default(),
        customers: number("customers", 1e6) as u64,
        rows: number("rows", 1000.0) as u64,
        measuring: AtomicBool::new(calls > 0),
        ended: AtomicBool::new(false),
        left: AtomicI64::new(if calls > 0 { calls } else { i64::MAX }),
        calls: AtomicU64::new(0),
        asked: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        rejected: AtomicU64::new(0),
        sequence: AtomicU64::new(0),
        first_error: Mutex::new(None),
        times: (0..connections).map(|_| Mutex::new(histogram())).collect(),
    });
    let mut channels = Vec::new();
    for _ in 0..connections {
        channels.push(connect(&address).await.expect("the server takes connections"));
    }
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    // Random ids of one run are not those of the next.
    let seed = since >> 10;
    let mut tasks = Vec::new();
    let mut pacer = None;
    if rate > 0.0 {
        let (run, channels) = (Arc::clone(&run), channels.clone());
        let handle = tokio::runtime::Handle::current();
        pacer = Some(std::thread::spawn(move || {
            let mut random = Random::new(seed);
            let start = Instant::now();
            let mut sent = 0u64;
            while !run.ended.load(Relaxed) {
                let next = start + Duration::from_secs_f64(sent as f64 / rate);
                if let Some(wait) = next.checked_duration_since(Instant::now()) {
                    std::thread::sleep(wait);
                }
                let to = sent as usize % channels.len();
                let (run, channel) = (Arc::clone(&run), channels[to].clone());
                let request = run.request(&mut random);
                handle.spawn(async move { run.call(channel, request, next, to).await });
                sent += 1;
            }
        }));
    }
    for index in 0..if rate > 0.0 { 0 } else { connections * inflight } {
        let (run, to) = (Arc::clone(&run), index % connections);
        let channel = channels[to].clone();
        if events {
            tasks.push(tokio::spawn(ingest(run, channel, index, window, since)));
            continue;
        }
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(seed ^ ((index as u64) << 32));
            while !run.ended.load(Relaxed) && run.left.fetch_sub(1, Relaxed) > 0 {
                let request = run.request(&mut random);
                run.call(channel.clone(), request, Instant::now(), to).await;
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs_f64(warm)).await;
    let (before, start) = (cpu(pid), Instant::now());
    run.measuring.store(true, Relaxed);
    if calls > 0 {
        for task in tasks {
            task.await.unwrap();
        }
    } else {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
    run.measuring.store(false, Relaxed);
    let (spent, took) = (cpu(pid) - before, start.elapsed().as_secs_f64());
    run.ended.store(true, Relaxed);
    if let Some(pacer) = pacer {
        pacer.join().unwrap();
    }
    // Whoever was asked may still answer, so that the server is idle when the next run begins.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut times = histogram();
    run.times.iter().for_each(|some| times.add(&*some.lock().unwrap()).unwrap());
    let done = run.calls.load(Relaxed);
    println!(
        "{}",
        serde_json::json!({
            "calls": done,
            "calls_per_s": done as f64 / took,
            "cpu_us": spent * 1e6 / done.max(1) as f64,
            "cores": spent / took,
            "p50_us": times.value_at_quantile(0.5),
            "p99_us": times.value_at_quantile(0.99),
            "max_us": times.max(),
            "errors": run.errors.load(Relaxed),
            "rejected": run.rejected.load(Relaxed),
            "sequence": run.sequence.load(Relaxed),
            "first_error": *run.first_error.lock().unwrap(),
        })
    );
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments[0].as_str() {
        "ready" => {
            first(&arguments[1], &arguments[2]).await;
            println!("{}", SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos());
        }
        "check" => {
            let answer = first(&arguments[1], &arguments[2]).await;
            let prediction = answer.prediction.clone().expect("an answer has a prediction");
            if let Some(fault) = fault(&prediction) {
                eprintln!("{fault}");
                std::process::exit(1);
            }
            std::fs::write(&arguments[3], prediction.encode_to_vec()).unwrap();
            println!("{}\n{prediction:?}", answer.encoded_len());
        }
        _ => {
            let keys = arguments[1..].iter().map(|argument| {
                let (key, value) = argument.split_once('=').expect("KEY=VALUE");
                (key.to_owned(), value.to_owned())
            });
            run(keys.collect()).await;
            std::process::exit(0);
        }
    }
}
