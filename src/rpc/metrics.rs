//! What the server counts. A call costs a few atomic additions, at places that are found by the
//! method's number and by the thread; how the counts are shown stands in `metrics_page`.

use super::methods::Method;
use crate::clock;
use arc_swap::ArcSwap;
use habitus_engine::domain::Timestamp;
use std::array::from_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tonic::Code;

/// The upper bounds of the buckets of durations, in microseconds. One more holds what is longer.
const BOUNDS_US: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// The canonical codes by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Versions whose answers are counted apart. The one that was first asked for the longest ago goes
/// first, and would begin at 0 again; so the page stays small in a server that swaps often.
const MAX_VERSIONS: usize = 16;

/// Every count is kept so often, and a thread raises one of them: cores that write to the same cache
/// line wait for each other. Threads share one where there are more of them.
const SHARDS: usize = 8;

/// The counts of a server, from its start.
pub struct Metrics {
    pub started_at: Timestamp,
    methods: Box<[Sharded<MethodCounts>; Method::COUNT]>,
    /// From the version that was first asked for most recently on.
    answers: ArcSwap<Vec<Arc<Answers>>>,
}

#[derive(Default)]
struct MethodCounts {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
    codes: [AtomicU64; CODES.len()],
}

struct Answers {
    version: String,
    customers: Sharded<AtomicU64>,
    methods: [Sharded<MethodCounts>; Method::N_OF_VERSIONS],
}

/// A question whose answer will be a version's.
pub struct Asked {
    method: Method,
    at: Instant,
}

impl Asked {
    /// Now, by one of the first [`Method::N_OF_VERSIONS`] methods.
    pub fn now(method: Method) -> Asked {
        Asked { method, at: clock::tick() }
    }
}

impl MethodCounts {
    fn add(&self, code: Code, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1_000 < nanoseconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
        self.codes[code as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub fn new(started_at: Timestamp) -> Metrics {
        let methods = Box::new(from_fn(|_| Sharded::default()));
        Metrics { started_at, methods, answers: ArcSwap::default() }
    }

    /// Counts a call that has ended.
    pub fn ended(&self, method: Method, code: Code, took: Duration) {
        self.methods[method.index()].own().add(code, took);
    }

    /// Counts what a version was asked: how many customers it answered about, or why it did not.
    pub fn answered(&self, asked: &Asked, version: &str, told: Result<usize, Code>) {
        if !self.add(asked, version, told) {
            self.begin(version);
            self.add(asked, version, told);
        }
    }

    fn add(&self, asked: &Asked, version: &str, told: Result<usize, Code>) -> bool {
        let all = self.answers.load();
        let of_version = all.iter().find(|answers| answers.version == version);
        of_version.is_some_and(|answers| {
            if let Ok(n) = told {
                answers.customers.own().fetch_add(n as u64, Ordering::Relaxed);
            }
            let code = told.err().unwrap_or(Code::Ok);
            answers.methods[asked.method.index()].own().add(code, clock::tick() - asked.at);
            true
        })
    }

    fn begin(&self, version: &str) {
        self.answers.rcu(|all| {
            if all.iter().any(|answers| answers.version == version) {
                return Arc::clone(all);
            }
            let (version, customers) = (version.to_owned(), Sharded::default());
            let methods = from_fn(|_| Sharded::default());
            let new = Arc::new(Answers { version, customers, methods });
            let kept = all.iter().take(MAX_VERSIONS - 1).map(Arc::clone);
            Arc::new(std::iter::once(new).chain(kept).collect())
        });
    }

    /// Method, code and how many calls ended so. Of each method the good ones are told though there
    /// were none, and of the other codes those that occurred.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        Method::names().zip(self.methods.iter()).flat_map(|(name, counts)| {
            let told = counts.by_code().map(move |(code, n)| (name, code, n));
            told.filter(|(_, code, n)| *n > 0 || *code == CODES[0])
        })
    }

    /// How long the calls of each method took.
    pub fn durations(&self) -> impl Iterator<Item = (&'static str, Histogram)> {
        Method::names().zip(self.methods.iter()).map(|(name, counts)| (name, counts.durations()))
    }

    /// What each version was asked.
    pub fn answers(&self) -> Vec<OfVersion> {
        let told = |answers: &Arc<Answers>| {
            let mut told = OfVersion {
                version: answers.version.clone(),
                n_customers: answers.customers.sum(|n| n),
                errors: Vec::new(),
                durations: Vec::new(),
            };
            for (method, counts) in Method::names().zip(&answers.methods) {
                let errors = counts.by_code().skip(1).filter(|(_, n)| *n > 0);
                told.errors.extend(errors.map(|(code, n)| (method, code, n)));
                let durations = counts.durations();
                if durations.n() > 0 {
                    told.durations.push((method, durations));
                }
            }
            told
        };
        self.answers.load().iter().map(told).collect()
    }
}

/// What a version was asked since the server began.
pub struct OfVersion {
    pub version: String,
    pub n_customers: u64,
    /// Method, code and how many questions ended so; those that occurred.
    pub errors: Vec<(&'static str, &'static str, u64)>,
    /// By method, of those that were called.
    pub durations: Vec<(&'static str, Histogram)>,
}

/// How long calls took.
pub struct Histogram {
    /// All together.
    pub seconds: f64,
    /// Upper bounds in seconds, and how many calls lie between one and the one before.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// How many calls there were.
    pub fn n(&self) -> u64 {
        self.buckets.iter().map(|(_, n)| n).sum()
    }
}

/// The same counts several times over, each on cache lines of its own.
#[derive(Default)]
struct Sharded<T>([Line<T>; SHARDS]);

#[derive(Default)]
#[repr(align(64))]
struct Line<T>(T);

impl<T> Sharded<T> {
    /// Those that this thread raises.
    fn own(&self) -> &T {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        &self.0[SHARD.with(|shard| *shard)].0
    }

    /// One count, over all threads.
    fn sum(&self, count: impl Fn(&T) -> &AtomicU64) -> u64 {
        self.0.iter().map(|line| count(&line.0).load(Ordering::Relaxed)).sum()
    }
}

impl Sharded<MethodCounts> {
    fn by_code(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let codes = CODES.into_iter().enumerate();
        codes.map(|(at, code)| (code, self.sum(|counts| &counts.codes[at])))
    }

    fn durations(&self) -> Histogram {
        // The exporter knows the last bucket by this bound.
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::MAX]);
        let in_bucket = |(at, bound)| (bound, self.sum(|counts| &counts.buckets[at]));
        Histogram {
            seconds: self.sum(|counts| &counts.sum_ns) as f64 / 1e9,
            buckets: bounds.enumerate().map(in_bucket).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(Timestamp(0))
    }

    fn answered(metrics: &Metrics, version: &str, n: usize) {
        metrics.answered(&Asked::now(Method::BATCH_PREDICT), version, Ok(n));
    }

    fn customers(metrics: &Metrics) -> Vec<(String, u64)> {
        metrics.answers().into_iter().map(|told| (told.version, told.n_customers)).collect()
    }

    #[test]
    fn what_a_version_is_asked_is_counted_by_method_and_code() {
        let metrics = metrics();
        answered(&metrics, "a", 7);
        let asked = Asked::now(Method::GET_PREDICTION);
        metrics.answered(&asked, "a", Err(Code::DataLoss));
        metrics.answered(&asked, "a", Ok(1));
        let [get, batch] = ["GetPrediction", "BatchPredict"]
            .map(|name| format!("habitus.v1.PredictionService/{name}"));
        let told = metrics.answers().remove(0);
        assert_eq!((told.version.as_str(), told.n_customers), ("a", 8));
        assert_eq!(told.errors, [(get.as_str(), "DATA_LOSS", 1)]);
        let calls: Vec<(&str, u64)> =
            told.durations.iter().map(|(method, durations)| (*method, durations.n())).collect();
        assert_eq!(calls, [(get.as_str(), 2), (batch.as_str(), 1)]);
        assert_eq!(Method::of(&format!("/{get}")), Method::GET_PREDICTION);
        assert_eq!(Method::of(&format!("/{batch}")), Method::BATCH_PREDICT);
        let score = Method::of("/habitus.v1.PredictionService/ScoreCustomers");
        assert_eq!(score, Method::SCORE_CUSTOMERS);
    }

    #[test]
    fn a_call_lies_in_the_bucket_whose_bound_it_does_not_pass() {
        let metrics = metrics();
        let method = Method::of("/grpc.health.v1.Health/Check");
        for (microseconds, bound) in
            [(0, 50e-6), (50, 50e-6), (51, 100e-6), (10_000_000, 10.0), (10_000_001, f64::MAX)]
        {
            let count = || {
                let name = "grpc.health.v1.Health/Check";
                let (_, told) = metrics.durations().find(|(of, _)| *of == name).unwrap();
                told.buckets.into_iter().find(|(upper, _)| *upper == bound).unwrap().1
            };
            let before = count();
            metrics.ended(method, Code::Ok, Duration::from_micros(microseconds));
            assert_eq!(count(), before + 1, "{microseconds}");
        }
    }

    #[test]
    fn what_several_threads_count_adds_up() {
        let metrics = metrics();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| {
                    answered(&metrics, "a", 3);
                    metrics.ended(Method::of("/"), Code::Ok, Duration::from_millis(1));
                });
            }
        });
        let n = 2 * SHARDS as u64;
        assert_eq!(customers(&metrics), [("a".to_owned(), 3 * n)]);
        assert_eq!(metrics.calls().find(|(method, ..)| *method == "other").unwrap().2, n);
        let (_, told) = metrics.durations().last().unwrap();
        assert_eq!((told.seconds, told.n()), (n as f64 / 1e3, n));
    }

    #[test]
    fn every_code_has_its_name() {
        let metrics = metrics();
        for (number, name) in CODES.into_iter().enumerate() {
            let code = Code::from(number as i32);
            assert_eq!(format!("{code:?}").to_uppercase(), name.replace('_', ""));
            metrics.ended(Method::of("/no/method"), code, Duration::ZERO);
        }
        let others = metrics.calls().filter(|(method, _, n)| *method == "other" && *n == 1);
        assert_eq!(others.count(), CODES.len());
    }

    #[test]
    fn answers_are_counted_by_version_of_which_a_few_are_kept() {
        let metrics = metrics();
        answered(&metrics, "a", 1);
        answered(&metrics, "b", 10);
        answered(&metrics, "a", 1);
        assert_eq!(customers(&metrics), [("b".to_owned(), 10), ("a".to_owned(), 2)]);
        for number in 0..MAX_VERSIONS {
            answered(&metrics, &number.to_string(), 1);
        }
        let kept = customers(&metrics);
        assert_eq!(kept.len(), MAX_VERSIONS);
        assert!(kept.iter().all(|(version, n)| version != "a" && *n == 1));
    }
}
