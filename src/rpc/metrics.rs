//! What the server counts. A call costs a few atomic additions, at places that are found by the
//! method's number and by the thread; how the counts are shown stands in `metrics_page`.

use super::methods::Method;
use arc_swap::ArcSwap;
use habitus_engine::domain::Timestamp;
use std::array::from_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
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
    count: Sharded<AtomicU64>,
}

impl Metrics {
    pub fn new(started_at: Timestamp) -> Metrics {
        let methods = Box::new(from_fn(|_| Sharded::default()));
        Metrics { started_at, methods, answers: ArcSwap::default() }
    }

    /// Counts a call that has ended.
    pub fn ended(&self, method: Method, code: Code, took: Duration) {
        let counts = self.methods[method.index()].own();
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1_000 < nanoseconds);
        counts.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        counts.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
        counts.codes[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts customers that a version answered about.
    pub fn answered(&self, version: &str, n_customers: usize) {
        if !self.add(version, n_customers as u64) {
            self.begin(version);
            self.add(version, n_customers as u64);
        }
    }

    fn add(&self, version: &str, n: u64) -> bool {
        let all = self.answers.load();
        let of_version = all.iter().find(|answers| answers.version == version);
        of_version.is_some_and(|answers| {
            answers.count.own().fetch_add(n, Ordering::Relaxed);
            true
        })
    }

    fn begin(&self, version: &str) {
        self.answers.rcu(|all| {
            if all.iter().any(|answers| answers.version == version) {
                return Arc::clone(all);
            }
            let (version, count) = (version.to_owned(), Sharded::default());
            let new = Arc::new(Answers { version, count });
            let kept = all.iter().take(MAX_VERSIONS - 1).map(Arc::clone);
            Arc::new(std::iter::once(new).chain(kept).collect())
        });
    }

    /// Method, code and how many calls ended so. Of each method the good ones are told though there
    /// were none, and of the other codes those that occurred.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        Method::names().zip(self.methods.iter()).flat_map(|(name, counts)| {
            let codes = CODES.into_iter().enumerate();
            let told =
                codes.map(move |(at, code)| (name, code, counts.sum(|counts| &counts.codes[at])));
            told.filter(|(_, code, n)| *n > 0 || *code == CODES[0])
        })
    }

    /// Of each method: the seconds of all its calls together, and the calls by the upper bounds of
    /// their seconds, each call in one bucket.
    pub fn durations(&self) -> impl Iterator<Item = (&'static str, f64, Vec<(f64, u64)>)> {
        Method::names().zip(self.methods.iter()).map(|(name, counts)| {
            // The exporter knows the last bucket by this bound.
            let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::MAX]);
            let in_bucket = |(at, bound)| (bound, counts.sum(|counts| &counts.buckets[at]));
            let seconds = counts.sum(|counts| &counts.sum_ns) as f64 / 1e9;
            (name, seconds, bounds.enumerate().map(in_bucket).collect())
        })
    }

    /// Versions, and how many customers each answered about.
    pub fn answers(&self) -> Vec<(String, u64)> {
        let told = |answers: &Arc<Answers>| (answers.version.clone(), answers.count.sum(|n| n));
        self.answers.load().iter().map(told).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(Timestamp(0))
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
                let (_, _, buckets) = metrics.durations().find(|(of, ..)| *of == name).unwrap();
                buckets.into_iter().find(|(upper, _)| *upper == bound).unwrap().1
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
                    metrics.answered("a", 3);
                    metrics.ended(Method::of("/"), Code::Ok, Duration::from_millis(1));
                });
            }
        });
        let n = 2 * SHARDS as u64;
        assert_eq!(metrics.answers(), [("a".to_owned(), 3 * n)]);
        assert_eq!(metrics.calls().find(|(method, ..)| *method == "other").unwrap().2, n);
        let (_, seconds, buckets) = metrics.durations().last().unwrap();
        assert_eq!(seconds, n as f64 / 1e3);
        assert_eq!(buckets.iter().map(|(_, n)| n).sum::<u64>(), n);
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
        metrics.answered("a", 1);
        metrics.answered("b", 10);
        metrics.answered("a", 1);
        assert_eq!(metrics.answers(), [("b".to_owned(), 10), ("a".to_owned(), 2)]);
        for number in 0..MAX_VERSIONS {
            metrics.answered(&number.to_string(), 1);
        }
        let kept = metrics.answers();
        assert_eq!(kept.len(), MAX_VERSIONS);
        assert!(kept.iter().all(|(version, n)| version != "a" && *n == 1));
    }
}
