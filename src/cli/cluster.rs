//! `habitus cluster`: clusters of any matrix of numbers, without a model version.

use super::Global;
use super::exit::Refusal;
use super::progress::Progress;
use super::simulate::is_same;
use crate::config::{Config, Overrides};
use crate::export::{Column, ColumnKind, Schema, TableWriter};
use crate::ingest::{ID_COLUMN, IngestError, MatrixReading, ParquetMatrix};
use crate::report::{Table, number, percent};
use anyhow::Context;
use habitus_engine::matrix::{CHUNK_ROWS, RowSource};
use habitus_engine::models::selection::Selected;
use habitus_engine::models::{Engine, Membership, SegmentModel, Segmenter};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Decimals of the smallest numbers that a table shows.
const MOST_DECIMALS: i32 = 12;

/// Learn clusters of any matrix of numbers in Parquet, without a model version
#[derive(Debug, clap::Args)]
pub struct Cluster {
    /// A Parquet file of numbers, such as `features` writes
    #[arg(value_name = "MATRIX")]
    matrix: PathBuf,
    /// The columns to cluster on; all that hold numbers where left out
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    columns: Vec<String>,
    /// How many clusters: a number, or a range such as 3..8 of which the best is kept
    #[arg(long, value_name = "N|MIN..MAX", value_parser = parse_k)]
    k: Option<K>,
    /// What a cluster is
    #[arg(long, value_parser = ["kmeans", "gaussian_mixture"], default_value = "kmeans")]
    family: String,
    /// What components of a mixture have of their own
    #[arg(long, value_parser = ["full", "tied", "diag", "spherical"])]
    covariance: Option<String>,
    /// Independent starts
    #[arg(long, value_name = "N")]
    n_init: Option<u32>,
    /// Iterations of a start, at most
    #[arg(long, value_name = "N")]
    max_iter: Option<u32>,
    /// When a start has converged
    #[arg(long, value_name = "X")]
    tol: Option<f64>,
    /// Added to the diagonal of every covariance of a mixture
    #[arg(long, value_name = "X")]
    reg_covar: Option<f64>,
    /// The same seed gives the same clusters
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Whose code fits; linfa is slower, a reference to compare with
    #[arg(long, value_parser = ["habitus", "linfa"])]
    engine: Option<String>,
    /// Rows that an iteration of k-means looks at, for a first look at very many
    #[arg(long, value_name = "ROWS")]
    mini_batch: Option<u32>,
    /// Take the columns as they are, instead of with mean 0 and variance 1
    #[arg(long)]
    no_standardize: bool,
    /// The bound for rows in memory; more are read from the file chunk by chunk
    #[arg(long, value_name = "MB")]
    memory_mb: Option<u64>,
    /// A file to write, with the cluster of every row: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The least and the largest number of clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct K {
    min: u32,
    max: u32,
}

fn parse_k(text: &str) -> Result<K, String> {
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| format!("`{text}` is no number; write 5, or 3..8"))
    };
    Ok(match text.split_once("..") {
        Some((min, max)) => K { min: number(min)?, max: number(max)? },
        None => {
            let k = number(text)?;
            K { min: k, max: k }
        }
    })
}

impl Cluster {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        self.check()?;
        let config = Config::load(None, &self.overrides())?;
        let (params, seed) = (&config.training.segmentation, config.training.seed);
        let limit = config.memory.limit;
        let progress = Progress::stages(global.quiet);
        progress.stage("looking at the columns");
        let columns = (!self.columns.is_empty()).then_some(self.columns.as_slice());
        let reading = MatrixReading { columns, standardize: !self.no_standardize, limit };
        let matrix = ParquetMatrix::open(&self.matrix, &reading)?;
        let with_density = self.is_mixture();
        let out = self.out.as_deref();
        let mut writer = out
            .map(|out| TableWriter::create(out, schema(matrix.has_ids(), with_density)))
            .transpose()?;
        let fits = matrix.fits(limit);
        if !fits && params.engine == Engine::Linfa {
            return Err(Refusal::LinfaBeyondMemory.into());
        }
        if fits {
            progress.stage("reading");
        }
        let held = if fits { Some(matrix.read_all()?) } else { None };
        let source: &dyn RowSource = match &held {
            Some(held) => held,
            None => &matrix,
        };
        progress.stage("fitting");
        let selected = params.select(source, seed)?;
        drop(progress);

        let progress = Progress::of(source.n_rows() as u64, "assigning", false, global.quiet);
        let sizes = assign(&matrix, source, &selected.model, writer.as_mut(), &progress)?;
        drop(progress);
        if let Some(writer) = writer {
            writer.finish().context("writing the clusters")?;
        }
        let found = Found { matrix: &matrix, selected: &selected, sizes, in_memory: fits };
        global.format.print(
            || match out {
                Some(out) => format!("{}clusters of all rows in {}", found.text(), out.display()),
                None => found.text(),
            },
            || {
                let mut document = found.json();
                document["matrix"] = json!(self.matrix);
                document["out"] = json!(self.out);
                document["seed"] = json!(seed);
                document["standardized"] = json!(!self.no_standardize);
                document
            },
        )
    }

    fn is_mixture(&self) -> bool {
        self.family == "gaussian_mixture"
    }

    /// Refuses flags that contradict each other. What a flag says must not be passed over in silence.
    fn check(&self) -> anyhow::Result<()> {
        if !self.matrix.exists() {
            let pattern = self.matrix.display().to_string();
            return Err(IngestError::NoMatch { pattern }.into());
        }
        if self.out.as_ref().is_some_and(|out| is_same(out, &self.matrix)) {
            return Err(Refusal::OutIsInput.into());
        }
        for (place, column) in self.columns.iter().enumerate() {
            if self.columns[..place].contains(column) {
                return Err(Refusal::ColumnTwice { column: column.clone() }.into());
            }
        }
        let reference = self.engine.as_deref() == Some("linfa");
        for (given, flag, beside) in [
            (!self.is_mixture() && self.covariance.is_some(), "--covariance", "k-means"),
            (!self.is_mixture() && self.reg_covar.is_some(), "--reg-covar", "k-means"),
            (reference && self.mini_batch.is_some(), "--mini-batch", "--engine linfa"),
        ] {
            if given {
                return Err(Refusal::Meaningless { flag, beside }.into());
            }
        }
        Ok(())
    }

    /// The flags as keys of `[segments]`, so that they have its defaults and its checks.
    fn overrides(&self) -> Overrides {
        let text = |value: &Option<String>| value.clone().map(toml::Value::String);
        let whole = |value: Option<u32>| value.map(|value| toml::Value::Integer(value.into()));
        let k = |K { min, max }: K| {
            let ends = [("min", min), ("max", max)];
            let ends = ends.map(|(key, end)| (key.to_owned(), toml::Value::Integer(end.into())));
            toml::Value::Table(toml::Table::from_iter(ends))
        };
        let segments = [
            ("family", Some(toml::Value::String(self.family.clone()))),
            ("k", self.k.map(k)),
            ("covariance", text(&self.covariance)),
            ("engine", text(&self.engine)),
            ("n_init", whole(self.n_init)),
            ("max_iter", whole(self.max_iter)),
            ("mini_batch", whole(self.mini_batch)),
            ("tol", self.tol.map(toml::Value::Float)),
            ("reg_covar", self.reg_covar.map(toml::Value::Float)),
        ];
        let given = segments.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Overrides {
            seed: self.seed,
            memory_mb: self.memory_mb,
            segments: given.collect(),
            ..Overrides::default()
        }
    }
}

/// The columns of the file that is written.
fn schema(has_ids: bool, with_density: bool) -> Schema {
    let id = if has_ids { (ID_COLUMN, ColumnKind::Text) } else { ("row", ColumnKind::Integer) };
    let mut columns = vec![id, ("cluster", ColumnKind::Integer)];
    if with_density {
        columns.push(("probability", ColumnKind::Float));
        columns.push(("log_density", ColumnKind::Float));
    }
    Schema::new(columns)
}

/// Where the rows of a chunk belong, and whose they are.
type Assigned = (Vec<Membership>, Vec<Option<String>>);

/// Gives every row its cluster, some chunks at a time, writes it where that is wanted, and returns
/// the sizes of the clusters.
fn assign(
    matrix: &ParquetMatrix,
    source: &dyn RowSource,
    model: &SegmentModel,
    mut writer: Option<&mut TableWriter>,
    progress: &Progress,
) -> anyhow::Result<Vec<u64>> {
    let mut sizes = vec![0; model.n_clusters()];
    let mut n_done = 0;
    let with_ids = writer.is_some();
    let chunks: Vec<usize> = (0..source.n_chunks()).collect();
    for several in chunks.chunks(rayon::current_num_threads()) {
        let assigned = several
            .par_iter()
            .map_init(Vec::new, |buffer, &index| -> anyhow::Result<Assigned> {
                let rows = source.chunk(index, buffer)?;
                let memberships = model.assign_rows(rows, source.n_features());
                Ok((memberships, if with_ids { matrix.ids(index)? } else { Vec::new() }))
            })
            .collect::<anyhow::Result<Vec<Assigned>>>()?;
        for (&index, (memberships, ids)) in several.iter().zip(assigned) {
            memberships.iter().for_each(|membership| sizes[membership.cluster] += 1);
            n_done += memberships.len() as u64;
            if let Some(writer) = writer.as_deref_mut() {
                let ids = matrix.has_ids().then_some(ids);
                let is_mixture = matches!(model, SegmentModel::GaussianMixture(_));
                writer.write(columns_of(index, &memberships, ids, is_mixture))?;
            }
        }
        progress.at(n_done);
    }
    Ok(sizes)
}

/// The columns of a chunk of the file that is written.
fn columns_of(
    index: usize,
    memberships: &[Membership],
    ids: Option<Vec<Option<String>>>,
    with_density: bool,
) -> Vec<Column> {
    let id = match ids {
        Some(ids) => Column::Text(ids),
        None => {
            let first = (index * CHUNK_ROWS) as i64 + 1;
            Column::Integer((first..).take(memberships.len()).map(Some).collect())
        }
    };
    let clusters = memberships.iter().map(|row| Some(row.cluster as i64)).collect();
    let mut columns = vec![id, Column::Integer(clusters)];
    if with_density {
        columns.push(floats(memberships, |row| row.probability));
        columns.push(floats(memberships, |row| row.log_density));
    }
    columns
}

/// A column of numbers. A row far from all components may have no density that a number could tell.
fn floats(memberships: &[Membership], value: fn(&Membership) -> Option<f64>) -> Column {
    let finite = |row: &Membership| value(row).filter(|number| number.is_finite());
    Column::Float(memberships.iter().map(|row| finite(row).unwrap_or(f64::NAN)).collect())
}

/// What was found.
struct Found<'a> {
    matrix: &'a ParquetMatrix,
    selected: &'a Selected,
    sizes: Vec<u64>,
    in_memory: bool,
}

impl Found<'_> {
    /// The centres in the matrix's own units, `(n_clusters, n_features)`.
    fn centres(&self) -> Vec<Vec<f64>> {
        let centres: &[Vec<f64>] = match &self.selected.model {
            SegmentModel::KMeans(model) => model.centroids(),
            SegmentModel::GaussianMixture(model) => &model.parameters().means,
        };
        let unscaled = |centre: &Vec<f64>| -> Vec<f64> {
            let pairs = self.matrix.columns().iter().zip(centre);
            pairs.map(|(column, &value)| column.unscaled(value)).collect()
        };
        centres.iter().map(unscaled).collect()
    }

    fn share(&self, cluster: usize) -> f64 {
        self.sizes[cluster] as f64 / self.matrix.n_rows() as f64
    }

    /// What a reader should know besides.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.selected.diagnostics.notes.clone();
        for column in self.matrix.columns() {
            let (name, missing) = (&column.name, column.n_missing);
            if missing > 0 {
                notes.push(format!("{missing} rows have no `{name}`, which counts as its mean"));
            }
            if column.std == 0.0 {
                notes.push(format!("`{name}` is the same in all rows and tells nothing apart"));
            }
        }
        notes
    }

    /// Tables and lines, each ended by a newline.
    fn text(&self) -> String {
        let (rows, columns) = (self.matrix.n_rows(), self.matrix.columns().len());
        let held = if self.in_memory {
            "held in memory"
        } else {
            "read from the file chunk by chunk, because they do not fit into the memory allowed"
        };
        let mut text = format!("{}\n{}\n{}\n", self.tried(), self.clusters(), self.columns());
        text += &format!("{rows} rows of {columns} columns, {held}\n");
        for note in self.notes() {
            text += &format!("note: {note}\n");
        }
        text
    }

    fn tried(&self) -> Table {
        let measure = match self.selected.model {
            SegmentModel::KMeans(_) => "inertia",
            SegmentModel::GaussianMixture(_) => "BIC",
        };
        let headers =
            ["k", "chosen", measure, "silhouette", "iterations", "converged", "what failed"];
        let mut table = Table::new(&headers);
        let chosen = self.selected.model.n_clusters();
        for candidate in &self.selected.table {
            let fit = candidate.diagnostics.as_ref();
            let n_iter = fit.and_then(|fit| fit.n_iter);
            table.row(vec![
                candidate.k.to_string(),
                if candidate.k == chosen { "yes" } else { "" }.to_owned(),
                number(candidate.inertia.or(candidate.bic), 1),
                number(candidate.silhouette, 4),
                n_iter.map_or_else(|| "-".to_owned(), |n_iter| n_iter.to_string()),
                if fit.is_some_and(|fit| fit.converged) { "yes" } else { "no" }.to_owned(),
                candidate.failure.clone().unwrap_or_default(),
            ]);
        }
        table
    }

    fn clusters(&self) -> Table {
        let mut table = Table::new(&["cluster", "rows", "share"]);
        for (cluster, rows) in self.sizes.iter().enumerate() {
            table.row(vec![cluster.to_string(), rows.to_string(), percent(self.share(cluster))]);
        }
        table
    }

    /// A line per column, because there may be many, with the centres side by side.
    fn columns(&self) -> Table {
        let centres = self.centres();
        let names: Vec<String> = (0..centres.len()).map(|c| format!("cluster {c}")).collect();
        let headers: Vec<&str> = ["column", "missing", "mean", "std"]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .collect();
        let mut table = Table::new(&headers);
        for (place, column) in self.matrix.columns().iter().enumerate() {
            let mut cells = vec![column.name.clone(), column.n_missing.to_string()];
            cells.extend([column.mean, column.std].map(short));
            cells.extend(centres.iter().map(|centre| short(centre[place])));
            table.row(cells);
        }
        table
    }

    fn json(&self) -> Value {
        let columns = self.matrix.columns();
        let told = columns.iter().map(|column| {
            json!({
                "name": column.name,
                "mean": column.mean,
                "std": column.std,
                "missing": column.n_missing,
            })
        });
        let centres = self.centres();
        let clusters = centres.iter().enumerate().map(|(cluster, centre)| {
            let named = columns.iter().zip(centre);
            let named = named.map(|(column, value)| (column.name.clone(), json!(value)));
            let centre: serde_json::Map<String, Value> = named.collect();
            json!({
                "cluster": cluster,
                "rows": self.sizes[cluster],
                "share": self.share(cluster),
                "centre": centre,
            })
        });
        let (clusters, columns): (Vec<Value>, Vec<Value>) = (clusters.collect(), told.collect());
        json!({
            "rows": self.matrix.n_rows(),
            "read_from": if self.in_memory { "memory" } else { "file" },
            "family": self.selected.model.family(),
            "k": self.selected.model.n_clusters(),
            "tried": self.selected.table,
            "clusters": clusters,
            "columns": columns,
            "diagnostics": self.selected.diagnostics,
            "notes": self.notes(),
        })
    }
}

/// A number with four significant digits, or all those before its point.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (3 - value.abs().log10().floor() as i32).clamp(0, MOST_DECIMALS) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_clusters_or_a_range_of_them() {
        assert_eq!(parse_k("5"), Ok(K { min: 5, max: 5 }));
        assert_eq!(parse_k("3..8"), Ok(K { min: 3, max: 8 }));
        for text in ["", "..", "3..", "..8", "-1", "3..=8", "many"] {
            assert!(parse_k(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_of_every_size_keep_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1.000"),
            (-12.3456, "-12.35"),
            (123_456.7, "123457"),
            (0.000_123_456, "0.0001235"),
            (1e-20, "0.000000000000"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
