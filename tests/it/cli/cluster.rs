//! Clusters of a matrix in Parquet: the same from the file as from memory, and clear about what it
//! cannot be.

use crate::support::Run;
use habitus::export::{Column, ColumnKind, Schema, TableWriter};
use habitus::ingest::{MatrixReading, ParquetMatrix};
use habitus_engine::domain::Seed;
use habitus_engine::matrix::CHUNK_ROWS;
use habitus_engine::models::gmm::{CovarianceType, GmmParams, Init};
use habitus_engine::models::kmeans::KMeansParams;
use habitus_engine::models::{Engine, Estimator, Segmenter};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A directory with the matrix of a test.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn matrix(&self) -> PathBuf {
        self.path("matrix.parquet")
    }

    fn cluster(&self, args: &[&str]) -> Run {
        let run = Run::new("cluster").arg(self.matrix());
        args.iter().fold(run, |run, arg| run.arg(arg))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Writes columns of floats behind an id, a row group for every so many rows.
fn write(path: &Path, n_rows: usize, n_columns: usize, per_group: usize, value: Cell) {
    let names = (0..n_columns).map(|column| (format!("x{column}"), ColumnKind::Float));
    let id = ("customer_id".to_owned(), ColumnKind::Text);
    let schema = Schema::new(std::iter::once(id).chain(names));
    let mut writer = TableWriter::create(path, schema).unwrap();
    let rows: Vec<usize> = (0..n_rows).collect();
    for group in rows.chunks(per_group) {
        let ids = group.iter().map(|row| Some(format!("c{row:05}"))).collect();
        let floats = (0..n_columns).map(|column| {
            let number = |&row: &usize| value(row, column).unwrap_or(f64::NAN);
            Column::Float(group.iter().map(number).collect())
        });
        writer.write(std::iter::once(Column::Text(ids)).chain(floats).collect()).unwrap();
    }
    writer.finish().unwrap();
}

/// What stands in a row of a column.
type Cell = fn(usize, usize) -> Option<f64>;

/// Three clouds, the first of half of the rows; every 50th value is missing.
fn cloud(row: usize, column: usize) -> Option<f64> {
    let center = [0, 1, 0, 2][row % 4] as f64 * 10.0 * (1 + column) as f64;
    let noise = Seed(column as u64).uniform(row as u64);
    (row % 50 != 7).then_some(100.0 + center + noise)
}

fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_file_read_chunk_by_chunk_gives_the_bits_of_memory() {
    let bench = Bench::new();
    let n_rows = 3 * CHUNK_ROWS + 1_234;
    // Neither the groups nor the windows end where chunks do.
    write(&bench.matrix(), n_rows, 3, 5_000, cloud);
    for (standardize, limit) in [(true, 0), (true, u64::MAX), (false, 0)] {
        let reading = MatrixReading { columns: None, standardize, limit };
        let file = ParquetMatrix::open(&bench.matrix(), &reading).unwrap();
        let memory = file.read_all().unwrap();
        assert_eq!((memory.n_rows(), memory.n_features()), (n_rows, 3));
        for mini_batch in [None, Some(500)] {
            let params = KMeansParams {
                n_clusters: 4,
                n_init: 2,
                max_iter: 30,
                tol: 1e-4,
                engine: Engine::Habitus,
                mini_batch,
            };
            let ours = params.fit(&file, Seed(3)).unwrap();
            let theirs = params.fit(&memory, Seed(3)).unwrap();
            assert_eq!(ours.model, theirs.model, "{mini_batch:?}");
            assert_eq!(ours.diagnostics, theirs.diagnostics, "{mini_batch:?}");
            let assigned = ours.model.assign_source(&file).unwrap();
            assert_eq!(assigned, theirs.model.assign_all(&memory));
        }
        for covariance in [CovarianceType::Full, CovarianceType::Diag] {
            let params = GmmParams {
                n_components: 3,
                covariance,
                init: Init::Kmeans,
                n_init: 1,
                max_iter: 20,
                tol: 1e-4,
                reg_covar: 1e-3,
                engine: Engine::Habitus,
            };
            let ours = params.fit(&file, Seed(3)).unwrap();
            let theirs = params.fit(&memory, Seed(3)).unwrap();
            assert_eq!(ours.model, theirs.model, "{covariance:?}");
            assert_eq!(ours.diagnostics, theirs.diagnostics, "{covariance:?}");
        }
    }
}

#[test]
fn a_matrix_beyond_the_bound_has_the_same_clusters() {
    let bench = Bench::new();
    // 300 columns and what is kept beside them are 1,216 bytes a row: 51 megabytes.
    write(&bench.matrix(), 42_000, 300, 5_000, |row, column| {
        Some((row * (column + 7) % 13 + [0, 20][row % 2] * column) as f64)
    });
    let written = |bound: &str, out: &str| {
        let out = bench.path(out);
        let args = ["--k", "2", "--n-init", "1", "--max-iter", "10", "--memory-mb", bound];
        let mut report = bench.cluster(&args).path("--out", &out).json();
        let read_from = report["read_from"].take();
        report["out"].take();
        (read_from, report, fs::read(out).unwrap())
    };
    let (from_memory, report, bytes) = written("2000", "memory.csv");
    let (from_file, streamed, streamed_bytes) = written("50", "file.csv");
    assert_eq!((from_memory, from_file), ("memory".into(), "file".into()));
    assert_eq!(report, streamed);
    assert!(bytes == streamed_bytes);
    let linfa = ["--k", "2", "--memory-mb", "50", "--engine", "linfa"];
    bench.cluster(&linfa).fails(2, &["linfa", "--memory-mb"]);
}

#[test]
fn the_features_of_the_example_fall_into_clusters() {
    let bench = Bench::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cdnow");
    Run::new("features")
        .path("--config", &example.join("habitus.toml"))
        .path("--events", &example.join("orders.csv"))
        .arg("--as-of")
        .arg("1998-06-30")
        .path("--out", &bench.matrix())
        .json();
    for family in ["kmeans", "gaussian_mixture"] {
        let out = bench.path(&format!("{family}.ndjson"));
        let args = ["--family", family, "--k", "2..4", "--n-init", "2"];
        let report = bench.cluster(&args).path("--out", &out).json();
        assert_eq!(report["rows"], 2_357);
        assert_eq!(report["tried"].as_array().unwrap().len(), 3);
        let k = report["k"].as_u64().unwrap();
        assert!((2..=4).contains(&k), "{k}");
        let clusters = report["clusters"].as_array().unwrap();
        assert_eq!(clusters.len() as u64, k);
        let written = rows(&out);
        assert_eq!(written.len(), 2_357);
        for cluster in clusters {
            let n = written.iter().filter(|row| row["cluster"] == cluster["cluster"]).count();
            assert_eq!(cluster["rows"], n, "{family}");
        }
        let mut columns: Vec<&str> =
            written[0].as_object().unwrap().keys().map(String::as_str).collect();
        columns.sort();
        match family {
            "kmeans" => assert_eq!(columns, ["cluster", "customer_id"]),
            _ => {
                assert_eq!(columns, ["cluster", "customer_id", "log_density", "probability"]);
                let sure = |row: &Value| row["probability"].as_f64().unwrap();
                assert!(written.iter().all(|row| (0.0..=1.0).contains(&sure(row))));
                assert!(written.iter().all(|row| row["log_density"].is_number()));
            }
        }
    }
    let shown = bench.cluster(&["--k", "3"]).output();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && text.contains("held in memory"), "{text}");
    for word in ["inertia", "silhouette", "iterations", "cluster 2", "purchase_days"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn clouds_are_found_in_their_own_units_and_rows_keep_their_order() {
    let bench = Bench::new();
    write(&bench.matrix(), 2_000, 2, 700, cloud);
    let out = bench.path("clusters.csv");
    let args = ["--k", "2..5", "--columns", "x1,x0", "--seed", "5"];
    let one = bench.cluster(&args).arg("--threads").arg("1").path("--out", &out).json();
    let bytes = fs::read(&out).unwrap();
    assert_eq!(bench.cluster(&args).arg("--threads").arg("3").path("--out", &out).json(), one);
    assert_eq!(fs::read(&out).unwrap(), bytes, "threads change nothing");
    assert_eq!(bench.names(), ["clusters.csv", "matrix.parquet"]);

    let columns = one["columns"].as_array().unwrap();
    let told: Vec<_> = columns
        .iter()
        .map(|column| (column["name"].as_str(), column["missing"].as_u64()))
        .collect();
    assert_eq!(told, [(Some("x1"), Some(40)), (Some("x0"), Some(40))]);
    let notes = one["notes"].to_string();
    assert!(notes.contains("40 rows have no `x1`"), "{notes}");
    // The largest cluster is the first cloud, but for rows whose values are missing.
    let first = one["clusters"][0]["centre"]["x0"].as_f64().unwrap();
    assert!((first - 100.5).abs() < 0.5, "{first}");

    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2_001, "customer_id,cluster"));
    for (row, line) in lines[1..].iter().enumerate() {
        let (id, cluster) = line.split_once(',').unwrap();
        assert_eq!(id, format!("c{row:05}"));
        assert!(row % 2 == 1 || cluster == "0", "{line}");
    }
}

#[test]
fn rows_without_ids_are_numbered() {
    let bench = Bench::new();
    let schema = Schema::new([("x", ColumnKind::Integer), ("y", ColumnKind::Float)]);
    let mut writer = TableWriter::create(&bench.matrix(), schema).unwrap();
    let x = Column::Integer([1, 2, 50, 51].map(Some).to_vec());
    let y = Column::Float(vec![0.5, 0.5, 9.5, 9.5]);
    writer.write(vec![x, y]).unwrap();
    writer.finish().unwrap();
    let out = bench.path("clusters.csv");
    fs::write(&out, "old").unwrap();
    let report = bench.cluster(&["--k", "2", "--no-standardize"]).path("--out", &out).json();
    assert_eq!(report["standardized"], false);
    let x = report["clusters"][0]["centre"]["x"].as_f64().unwrap();
    assert!((x - 1.5).abs() < 1e-6, "{x}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "row,cluster\n1,0\n2,0\n3,1\n4,1\n");
}

#[test]
fn what_cannot_be_clustered_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let out = bench.path("clusters.csv");
    fs::write(&out, "old").unwrap();
    let refused = |args: &[&str], code: i32, words: &[&str]| {
        bench.cluster(args).path("--out", &out).fails(code, words);
        assert_eq!(fs::read_to_string(&out).unwrap(), "old");
    };
    refused(&[], 2, &["no file matches", "matrix.parquet"]);
    write(&bench.matrix(), 5, 2, 5, |row, column| match (row, column) {
        (3, 1) => Some(1e200),
        _ => Some(row as f64),
    });
    let only_x0 = ["--columns", "x0"];
    let with_x0 = |args: &[&'static str]| [&only_x0[..], args].concat();
    refused(&[], 3, &["matrix.parquet", "row 4", "`x1`"]);
    refused(&["--columns", "x0,customer_id"], 2, &["matrix.parquet", "`customer_id`", "no number"]);
    refused(&["--columns", "x0,shoe"], 2, &["no column `shoe`", "customer_id, x0, x1"]);
    refused(&["--columns", "x0,x0"], 2, &["`x0` twice"]);
    refused(&with_x0(&["--k", "6"]), 2, &["6 clusters", "5 distinct rows"]);
    refused(&with_x0(&["--k", "8..3"]), 2, &["8 to 3 clusters"]);
    refused(&with_x0(&["--k", "some"]), 2, &["`some` is no number"]);
    refused(&with_x0(&["--tol", "0"]), 2, &["segments.tol"]);
    refused(&with_x0(&["--memory-mb", "1"]), 2, &["memory.limit_mb"]);
    refused(&with_x0(&["--covariance", "diag"]), 2, &["--covariance", "k-means"]);
    refused(&with_x0(&["--mini-batch", "9", "--engine", "linfa"]), 2, &["--mini-batch", "linfa"]);
    let mixture = ["--mini-batch", "9", "--family", "gaussian_mixture"];
    refused(&with_x0(&mixture), 2, &["segments.mini_batch"]);
    bench.cluster(&only_x0).path("--out", &bench.matrix()).fails(2, &["the matrix itself"]);
    bench.cluster(&only_x0).path("--out", &bench.path("a.xlsx")).fails(2, &["xlsx"]);

    write(&bench.matrix(), 0, 2, 1, |_, _| None);
    refused(&[], 3, &["matrix.parquet", "no row"]);
    fs::write(bench.matrix(), "").unwrap();
    refused(&[], 3, &["matrix.parquet", "empty"]);
    fs::write(bench.matrix(), "x,y\n1,2\n").unwrap();
    refused(&[], 3, &["matrix.parquet", "Parquet"]);
    assert_eq!(bench.names(), ["clusters.csv", "matrix.parquet"]);
}
