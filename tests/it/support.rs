//! A small shop, trained once, and the command as a script runs it.

use habitus::ingest::{Memory, Reading};
use habitus::registry::{PRODUCTION, Registry};
use habitus_engine::domain::{AsOf, History, Timestamp};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

/// The settings of the small shop: quick to train, with everything else a default.
pub const CONFIG: &str = "[data.columns]\ncustomer = 'who'\ntime = 'when'\namount = 'paid'\n\
                          [model]\nname = 'shop'\nhorizon_days = 60\n[segments]\nk = 3\nn_init = 2\n";

/// A version of the small shop, and what it was trained from.
pub struct Trained {
    pub models_dir: PathBuf,
    pub orders: PathBuf,
    pub config: PathBuf,
    pub histories: Vec<History>,
    pub as_of: AsOf,
    pub name: String,
    pub version: String,
    _directory: tempfile::TempDir,
}

/// The orders of 300 customers over two years, as CSV lines without the header. Everything follows
/// from the customer's number, so that the log is the same in every run.
pub fn order_lines() -> Vec<String> {
    let mut lines = Vec::new();
    for customer in 0u32..300 {
        let mut state = customer.wrapping_mul(2_654_435_761) | 1;
        let mut next = |below: u32| {
            // Knuth's linear congruential generator; its high bits are good enough for a shop.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let gap = 5 + next(80);
        let mut day = next(120);
        while day < 730 {
            let (year, of_year) = (2020 + day / 365, day % 365);
            let cents = 500 + next(20_000);
            let mut line = String::new();
            let _ = write!(
                line,
                "c{customer:03},{year}-{:02}-{:02},{}.{:02}",
                1 + of_year / 31,
                1 + of_year % 28,
                cents / 100,
                cents % 100
            );
            lines.push(line);
            if next(12) == 0 {
                break;
            }
            day += gap / 2 + next(gap + 1);
        }
    }
    lines
}

/// Writes a log with the header of [`CONFIG`].
pub fn write_log(path: &Path, lines: &[String]) {
    std::fs::write(path, format!("who,when,paid\n{}\n", lines.join("\n"))).unwrap();
}

/// The shop, trained once for all tests of this process.
pub fn trained() -> &'static Trained {
    static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (models_dir, orders, config) =
            (path("models"), path("orders.csv"), path("habitus.toml"));
        write_log(&orders, &order_lines());
        std::fs::write(&config, CONFIG).unwrap();
        let report = Run::new("train")
            .path("--config", &config)
            .path("--events", &orders)
            .path("--models", &models_dir)
            .json();
        let version = report["version"].as_str().unwrap().to_owned();
        let artefact = Registry::open(&models_dir).load("shop", PRODUCTION).unwrap();
        assert_eq!(artefact.manifest.version, version);
        let rules = artefact.version.rules;
        let sources = habitus::ingest::sources(&[orders.display().to_string()]).unwrap();
        let columns = &artefact.manifest.sealed.columns;
        let now = Timestamp(i64::MAX);
        let (memory, rules) = (&Memory::default(), &rules);
        let (as_of, customers, keep_in) = (None, None, None);
        let reading = Reading { columns, rules, now, as_of, memory, customers, keep_in };
        let log = habitus::ingest::read(&sources, &reading, &mut |_| {}).unwrap();
        let as_of = log.default_as_of(&rules.zone).unwrap();
        Trained {
            models_dir,
            orders,
            config,
            histories: log.histories(as_of).unwrap().0,
            as_of,
            name: "shop".to_owned(),
            version,
            _directory: directory,
        }
    });
    &TRAINED
}

/// The status line and the body of a page.
pub fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// One run of the `habitus` command.
pub struct Run(Command);

impl Run {
    pub fn new(subcommand: &str) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_habitus"));
        command.arg(subcommand).arg("--quiet");
        // Settings of whoever runs the tests must not reach them.
        for (variable, _) in environment() {
            command.env_remove(variable);
        }
        Run(command)
    }

    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Run {
        self.0.arg(arg);
        self
    }

    pub fn path(self, flag: &str, path: &Path) -> Run {
        self.arg(flag).arg(path)
    }

    pub fn env(mut self, variable: &str, value: &str) -> Run {
        self.0.env(variable, value);
        self
    }

    pub fn output(mut self) -> Output {
        self.0.output().unwrap()
    }

    /// Runs to the end, which must be good, and reads the one JSON document on stdout.
    pub fn json(self) -> Value {
        let output = self.arg("--format").arg("json").output();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a server on a free port and waits until clients may connect.
    pub fn listening(self) -> Server {
        let Run(mut command) = self.arg("--format").arg("json").arg("--listen").arg("127.0.0.1:0");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut server = Server { child, announced: Value::Null };
        // The document is complete with its closing brace, and by then the port is open.
        let mut document = String::new();
        for line in BufReader::new(stdout).lines().map(Result::unwrap) {
            document += &line;
            if line == "}" {
                break;
            }
        }
        server.announced = serde_json::from_str(&document).unwrap();
        server
    }

    /// Runs to the end, which must have this exit code and name all of `words` on stderr.
    pub fn fails(self, code: i32, words: &[&str]) {
        let output = self.output();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
        }
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// A server as a process of its own. It ends when the test does, however that ends.
pub struct Server {
    pub child: Child,
    /// What it said at the start.
    pub announced: Value,
}

impl Server {
    pub fn address(&self) -> std::net::SocketAddr {
        self.announced["listening"].as_str().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "to remove what the tests must not see")]
fn environment() -> Vec<(String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with("HABITUS_")).collect()
}
