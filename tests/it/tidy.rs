//! The order of the house: who may import whom, which library stops where, and how a file begins
//! and ends.
//!
//! Each check is a function of one [`Source`], so that the tests at the end can show it a bad line.

mod source;

use source::{Source, paths, within, words};

/// The longest a file may be before it is perhaps two.
const MAX_LINES: usize = 600;

/// A package: its rooms in layers, of which each may import from those before it.
struct Package {
    folder: &'static str,
    layers: &'static [&'static [&'static str]],
    aside: &'static [Aside],
    /// Who may import what lib.rs itself holds, which is the generated gRPC code.
    generated_for: &'static [&'static str],
}

/// A room beside the layers.
struct Aside {
    room: &'static str,
    used_by: &'static [&'static str],
    uses: &'static [&'static str],
}

const PACKAGES: [Package; 2] = [
    Package {
        folder: "engine/src",
        layers: &[
            &["domain"],
            &["matrix", "simulation"],
            &["kernels"],
            &["features", "models"],
            &["segments"],
            &["version"],
            &["training", "scoring"],
        ],
        aside: &[],
        generated_for: &[],
    },
    Package {
        folder: "src",
        layers: &[
            &["ingest", "export"],
            &["registry", "store"],
            &["serving", "report"],
            &["rpc"],
            &["cli"],
        ],
        aside: &[
            Aside { room: "config", used_by: &["cli"], uses: &["ingest", "registry", "store"] },
            Aside { room: "clock", used_by: &["rpc", "cli"], uses: &[] },
            Aside { room: "panics", used_by: &["ingest", "store"], uses: &[] },
            Aside { room: "telemetry", used_by: &["cli"], uses: &[] },
        ],
        generated_for: &["rpc"],
    },
];

/// Libraries, and `unsafe`, with the places beyond which they are not named.
const CONFINED: [(&str, &[&str]); 10] = [
    ("unsafe", &["engine/src/kernels"]),
    ("polars", &["src/ingest", "src/export"]),
    ("tonic", &["src/rpc", "src/lib"]),
    ("prost", &["src/rpc", "src/lib"]),
    ("linfa", &["engine/src/models"]),
    ("plotters", &["src/report"]),
    ("redb", &["src/store"]),
    ("memmap2", &["src/store/history_cache"]),
    ("axum", &["src/rpc"]),
    ("prometheus_client", &["src/rpc"]),
];

#[test]
fn imports_go_downwards() {
    check(&["src", "engine/src"], imports);
}

#[test]
fn libraries_stop_at_their_rooms() {
    check(&["src", "engine/src"], libraries);
}

#[test]
fn the_engine_touches_no_file_socket_clock_or_environment() {
    check(&["engine/src"], surroundings);
}

#[test]
fn every_file_says_what_it_is() {
    check(&["build.rs", "src", "engine", "tests", "benches", "examples"], first_line);
}

#[test]
fn no_file_is_too_long() {
    check(&["src", "engine/src"], length);
}

#[test]
fn nothing_outside_tests_panics_on_an_error() {
    check(&["src", "engine/src"], panics);
}

/// Runs a check over all files of some places and tells every fault.
fn check(places: &[&str], rule: fn(&Source) -> Vec<String>) {
    let faults: Vec<String> = source::read_all(places).iter().flat_map(rule).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

// --- The checks ---------------------------------------------------------------------------------

fn imports(source: &Source) -> Vec<String> {
    let Some(package) = PACKAGES.iter().find(|package| within(&source.path, package.folder)) else {
        return Vec::new();
    };
    let module = module_of(&source.path, package.folder);
    let Some(from) = module.first() else {
        return Vec::new();
    };
    if !package.knows(from) {
        return vec![source.fault(1, &format!("`{from}` has no place in the order of the rooms"))];
    }
    let mut faults = Vec::new();
    for (line, path) in paths(&source.production) {
        let Some(to) = imported(&module, &path) else {
            continue;
        };
        if !package.allows(from, to) {
            faults.push(source.fault(line, &format!("`{from}` may not import `{to}`")));
        }
    }
    faults
}

fn libraries(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, word) in words(&source.production) {
        for (library, places) in CONFINED {
            let named = word
                .strip_prefix(library)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
            if named && !places.iter().any(|place| within(&source.path, place)) {
                faults.push(source.fault(line, &format!("`{word}` outside {}", places.join(", "))));
            }
        }
    }
    faults
}

fn surroundings(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, path) in paths(&source.production) {
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        let ambient = matches!(segments[..], ["std", "fs" | "net" | "env", ..])
            || segments.contains(&"SystemTime")
            || segments.windows(2).any(|pair| pair == ["Instant", "now"]);
        if ambient {
            faults.push(source.fault(line, &format!("`{}` in the engine", segments.join("::"))));
        }
    }
    faults
}

fn first_line(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![source.fault(1, "the file does not begin with `//!`")]
}

fn length(source: &Source) -> Vec<String> {
    let n_lines = source.text.lines().count();
    if n_lines <= MAX_LINES {
        return Vec::new();
    }
    vec![source.fault(n_lines, &format!("{n_lines} lines, more than {MAX_LINES}"))]
}

fn panics(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, line) in source.production.lines().enumerate() {
        for call in [".unwrap()", ".expect("] {
            if line.contains(call) {
                faults.push(source.fault(index + 1, &format!("`{call}` outside tests")));
            }
        }
    }
    faults
}

impl Package {
    fn layer(&self, room: &str) -> Option<usize> {
        self.layers.iter().position(|rooms| rooms.contains(&room))
    }

    fn knows(&self, room: &str) -> bool {
        self.layer(room).is_some() || self.aside.iter().any(|aside| aside.room == room)
    }

    fn allows(&self, from: &str, to: &str) -> bool {
        if from == to {
            return true;
        }
        if !self.knows(to) {
            return self.generated_for.contains(&from);
        }
        for aside in self.aside {
            if aside.room == to {
                return aside.used_by.contains(&from);
            }
            if aside.room == from {
                return aside.uses.contains(&to);
            }
        }
        self.layer(to) < self.layer(from)
    }
}

/// The modules above a file and its own, from the package's root: `[features, plan]`. Empty for
/// lib.rs and main.rs, which stand above all rooms.
fn module_of(path: &str, folder: &str) -> Vec<String> {
    let inner = path[folder.len() + 1..].trim_end_matches(".rs").trim_end_matches("/mod");
    if matches!(inner, "lib" | "main") {
        return Vec::new();
    }
    inner.split('/').map(str::to_owned).collect()
}

/// The room (or other item of the package's root) that a path leads to from a module.
fn imported<'a>(module: &[String], path: &'a [String]) -> Option<&'a str> {
    if path[0] == "crate" {
        return path.get(1).map(String::as_str);
    }
    let path = if path[0] == "self" { &path[1..] } else { path };
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    let leaves = supers > 0 && supers >= module.len();
    let to = path.get(supers).filter(|_| leaves)?;
    // From a module within the file, the same count may end lower; a room's name tells.
    PACKAGES.iter().any(|package| package.knows(to)).then_some(to)
}

// --- The checks can fail ------------------------------------------------------------------------

fn faults(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    rule(&Source::new(path, text))
}

#[test]
fn an_import_upwards_or_aside_is_found() {
    for (path, line, bad) in [
        ("engine/src/domain/event.rs", "use crate::matrix::FeatureMatrix;", true),
        ("engine/src/models/mod.rs", "use crate::features::Plan;", true),
        ("engine/src/models/gmm/fit.rs", "use super::super::super::features::Plan;", true),
        ("engine/src/training/mod.rs", "use crate::{domain::Seed, scoring::{Scorer, self}};", true),
        ("engine/src/scoring.rs", "fn f() -> crate::training::Outcome { g() }", true),
        ("engine/src/version.rs", "use super::scoring::Scorer;", true),
        ("engine/src/extra.rs", "", true),
        ("src/ingest/csv.rs", "use crate::config::Config;", true),
        ("src/store/mod.rs", "use crate::registry::Manifest;", true),
        ("src/store/mod.rs", "use crate::ingest::Log;", false),
        ("src/rpc/server.rs", "use crate::cli::Serve;", true),
        ("src/config.rs", "use crate::serving::Serving;", true),
        ("src/serving/mod.rs", "use crate::pb::Prediction;", true),
        ("src/report/mod.rs", "use crate::*;", true),
        ("engine/src/training/mod.rs", "use crate::{domain::Seed, version::ModelVersion};", false),
        ("engine/src/models/gmm/fit.rs", "use super::super::kmeans::KMeans;", false),
        (
            "engine/src/models/gmm/fit.rs",
            "pub(in crate::models) fn f(x: crate::domain::Day) {}",
            false,
        ),
        ("src/cli/serve.rs", "use crate::{config::Config, rpc, telemetry};", false),
        ("src/config.rs", "use crate::ingest::Columns;", false),
        ("src/rpc/convert.rs", "use crate::pb::Prediction;", false),
        ("src/main.rs", "use habitus::cli;", false),
        ("src/rpc/server.rs", "// like crate::cli", false),
        ("src/rpc/server.rs", "#[cfg(test)]\nmod tests { use crate::cli::Serve; }", false),
    ] {
        assert_eq!(!faults(imports, path, line).is_empty(), bad, "{path}: {line}");
    }
}

#[test]
fn a_fault_names_its_file_and_line() {
    let text = "//! Room.\n\nuse crate::{\n    domain::Day,\n    training::Outcome,\n};\n";
    let expected = ["engine/src/models/mod.rs:5: `models` may not import `training`"];
    assert_eq!(faults(imports, "engine/src/models/mod.rs", text), expected);
}

#[test]
fn a_library_outside_its_room_is_found() {
    for (path, line, bad) in [
        ("src/report/mod.rs", "use polars::prelude::DataFrame;", true),
        ("src/cli/demo.rs", "let error: tonic_types::ErrorInfo;", true),
        ("src/serving/mod.rs", "use ::prost::Message;", true),
        ("engine/src/training/mod.rs", "use linfa_logistic::LogisticRegression;", true),
        ("src/ingestion.rs", "use polars::prelude::DataFrame;", true),
        ("src/ingest/parquet.rs", "use polars::prelude::DataFrame;", false),
        ("src/export.rs", "use polars::prelude::DataFrame;", false),
        ("src/lib.rs", "tonic::include_proto!(\"habitus.v1\");", false),
        ("engine/src/models/gmm/mod.rs", "use linfa::prelude::Fit;", false),
        ("src/report/mod.rs", "//! Knows nothing of polars.\nlet name = \"polars\";", false),
    ] {
        assert_eq!(!faults(libraries, path, line).is_empty(), bad, "{path}: {line}");
    }
}

#[test]
fn what_the_engine_must_not_touch_is_found() {
    for (line, bad) in [
        ("use std::fs;", true),
        ("use std::{collections::HashMap, net::TcpStream};", true),
        ("let home = std::env::var(name);", true),
        ("use std::time::{Duration, SystemTime};", true),
        ("let start = Instant::now();", true),
        ("let start = std::time::Instant::now();", true),
        ("use std::{collections::HashMap, fmt};", false),
        ("include_str!(\"std::fs\"); // std::env", false),
    ] {
        assert_eq!(!faults(surroundings, "engine/src/domain/x.rs", line).is_empty(), bad, "{line}");
    }
}

#[test]
fn a_panic_a_long_file_and_a_bare_one_are_found() {
    for (text, bad) in [
        ("let x = y.unwrap();", true),
        ("let x = y\n    .expect(\"a reason\");", true),
        ("#[cfg(test)]\nuse a::{b, c};\nfn f() { y.unwrap() }", true),
        ("#[cfg(test)]\nmod tests {\n    fn f() { y.unwrap() }\n}\n", false),
        ("/// let x = y.unwrap();\n#[expect(dead_code)]\nlet x = y.unwrap_or(0);", false),
        ("let (quote, x) = ('\"', r#\"\".unwrap()\"#);", false),
    ] {
        assert_eq!(!faults(panics, "src/x.rs", text).is_empty(), bad, "{text}");
    }
    assert!(faults(length, "src/x.rs", &"\n".repeat(MAX_LINES)).is_empty());
    assert_eq!(faults(length, "src/x.rs", &"\n".repeat(MAX_LINES + 1)).len(), 1);
    assert!(faults(first_line, "src/x.rs", "//! Room.\n").is_empty());
    assert_eq!(faults(first_line, "src/x.rs", "use a::b;\n//! Room.\n").len(), 1);
}
