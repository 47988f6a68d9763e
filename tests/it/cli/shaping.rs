//! How rows of a log become events: orders of several lines, refunds, repeats, and an account in
//! which every row is found again.

use crate::support::{CONFIG, Run, trained};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

const HEADER: &str = "who,when,paid,units,order,event,item,money";

/// The columns of [`HEADER`], and features that show what became of the rows.
const REST: &str = "
[data.columns]
customer = 'who'
time = 'when'
amount = 'paid'
quantity = 'units'
order_id = 'order'
event_id = 'event'
item = 'item'
currency = 'money'
[features]
pack = 'none'
list = [
    { name = 'purchases', aggregate = 'count' },
    { name = 'spend', aggregate = 'sum', of = 'amount' },
    { name = 'units', aggregate = 'sum', of = 'quantity' },
    { name = 'items', aggregate = 'distinct', of = 'item' },
    { name = 'refunds', kinds = ['refund'], aggregate = 'count' },
    { name = 'refunded', kinds = ['refund'], aggregate = 'sum', of = 'amount' },
]
";

/// Unit prices, postage that is left out, and two ways in which a shop may write a refund.
const RULES: &str = "amount_is = 'unit_price'
kind_rules = [
    { field = 'item', is = { one_of = ['POST'] }, kind = 'ignore' },
    { field = 'order_id', is = { starts_with = 'C' }, kind = 'refund' },
    { field = 'quantity', is = 'negative', kind = 'refund' },
]";

/// A log with settings of its own, and where its features are written.
struct Shop {
    directory: tempfile::TempDir,
}

impl Shop {
    /// `data` are further settings of the section of that name.
    fn new(data: &str, lines: &[&str]) -> Shop {
        let shop = Shop { directory: tempfile::tempdir().unwrap() };
        shop.set(data);
        std::fs::write(shop.path("log.csv"), format!("{HEADER}\n{}\n", lines.join("\n"))).unwrap();
        shop
    }

    fn set(&self, data: &str) {
        std::fs::write(self.path("habitus.toml"), format!("[data]\n{data}\n{REST}")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, as_of: &str) -> Run {
        Run::new("features")
            .path("--config", &self.path("habitus.toml"))
            .path("--events", &self.path("log.csv"))
            .path("--out", &self.path("features.ndjson"))
            .arg("--as-of")
            .arg(as_of)
    }

    /// The features by customer, and the account of the rows.
    fn features(&self, as_of: &str) -> (BTreeMap<String, Value>, Value) {
        let counts = self.run(as_of).json()["rows"]["counts"].clone();
        let text = std::fs::read_to_string(self.path("features.ndjson")).unwrap();
        let rows = text.lines().map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            (row["customer_id"].as_str().unwrap().to_owned(), row)
        });
        (rows.collect(), counts)
    }
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap()
}

fn pair(row: &Value, names: [&str; 2]) -> (f64, f64) {
    (number(row, names[0]), number(row, names[1]))
}

#[test]
fn lines_with_one_order_id_are_one_purchase() {
    let lines = [
        "a,2021-01-01T10:00:00Z,2.50,1,o1,,apple,",
        "a,2021-01-01T10:00:00Z,1.25,2,o1,,pear,",
        "a,2021-01-03T10:00:00Z,5,1,o2,,apple,",
        // Another customer's order of the same number is another order.
        "b,2021-01-03T10:00:00Z,7,1,o1,,apple,",
    ];
    let shop = Shop::new("", &lines);
    let (rows, counts) = shop.features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (2.0, 8.75));
    assert_eq!(pair(&rows["a"], ["units", "items"]), (4.0, 2.0));
    assert_eq!(pair(&rows["b"], ["purchases", "spend"]), (1.0, 7.0));
    assert_eq!((&counts["orders"], &counts["order_lines"]), (&1.into(), &2.into()));
    assert_eq!(counts["accepted"], 4);
    let told = shop.run("2021-01-31").output().stdout;
    assert!(
        String::from_utf8_lossy(&told)
            .contains("2  accepted rows are lines of orders with several: 1 orders")
    );

    let apart = Shop::new("merge_orders = false", &lines);
    let (rows, counts) = apart.features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (3.0, 8.75));
    assert_eq!(counts["orders"], 0);
}

#[test]
fn an_order_of_two_instants_is_what_was_known_of_it_in_between() {
    let lines = [
        "a,2021-01-02T09:00:00Z,3,1,o1,,apple,",
        "a,2021-01-02T11:00:00Z,4,1,o1,,pear,",
        "a,2021-01-05T11:00:00Z,5,1,o1,,plum,",
    ];
    let shop = Shop::new("", &lines);
    for (as_of, spend, known) in
        [("2021-01-02T10:00:00Z", 3.0, 1), ("2021-01-02", 7.0, 2), ("2021-01-05", 12.0, 3)]
    {
        let (rows, counts) = shop.features(as_of);
        assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (1.0, spend), "{as_of}");
        assert_eq!(number(&rows["a"], "items"), f64::from(known), "{as_of}");
        assert_eq!(counts["accepted"], known, "{as_of}");
        assert_eq!(counts["after_as_of"], 3 - known, "{as_of}");
        let alone = Shop::new("", &lines[..usize::try_from(known).unwrap()]);
        assert_eq!(alone.features(as_of).0, rows, "{as_of}");
    }
}

#[test]
fn refunds_are_told_by_rule_and_have_no_sign() {
    let shop = Shop::new(
        RULES,
        &[
            "a,2021-01-01,2.50,4,o1,,apple,",
            "a,2021-01-02,2.50,-1,o1,,apple,",
            "a,2021-01-03,2.50,2,C1,,apple,",
        ],
    );
    let (rows, counts) = shop.features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (1.0, 10.0));
    assert_eq!(pair(&rows["a"], ["refunds", "refunded"]), (2.0, 7.5));
    assert_eq!((&counts["accepted"], &counts["orders"]), (&3.into(), &0.into()));
}

#[test]
fn a_unit_price_is_multiplied_before_it_is_rounded() {
    let shop = Shop::new(
        &format!("max_rejected_share = 0.5\n{RULES}"),
        &[
            "a,2021-01-01,0.125,3,o1,,apple,",
            "a,2021-01-01,0.004,1000,o2,,nail,",
            "a,2021-01-01,1.99,,o3,,apple,",
            "a,2021-01-01,1.99,many,o4,,apple,",
        ],
    );
    let (rows, counts) = shop.features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (2.0, 4.38));
    assert_eq!(counts["rejected"]["missing_quantity"], 2);
    assert_eq!(counts["repaired"]["amount_rounded"], 1);
}

#[test]
fn what_a_rule_leaves_out_is_counted_and_is_no_fault() {
    let lines = [
        "a,2021-01-01,3.00,1,o1,,apple,",
        "a,2021-01-01,18.00,1,o1,,POST,",
        "a,2021-01-02,18.00,-1,o1,,POST,",
    ];
    let shop = Shop::new(&format!("max_rejected_share = 0.0\n{RULES}"), &lines);
    let (rows, counts) = shop.features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["spend", "refunds"]), (3.0, 0.0));
    assert_eq!((&counts["accepted"], &counts["rejected"]["ignored"]), (&1.into(), &2.into()));
}

#[test]
fn another_currency_is_rejected_and_shown() {
    let shop = Shop::new(
        "max_rejected_share = 0.5",
        &["a,2021-01-01,3,1,,,,USD", "a,2021-01-02,4,1,,,,", "a,2021-01-03,5,1,,,,EUR"],
    );
    let (rows, counts) = shop.features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (2.0, 7.0));
    assert_eq!(counts["rejected"]["other_currency"], 1);
    let examples = shop.run("2021-01-31").json()["rows"]["rejected_examples"].clone();
    assert_eq!(examples["other_currency"][0]["line"], 4);
}

#[test]
fn an_event_id_that_comes_again_is_dropped_wherever_it_stands() {
    let lines = [
        "a,2021-01-09,99,1,,e1,,",
        "a,2021-01-01,3,1,,e1,,",
        "a,2021-01-05,4,1,,e2,,",
        "a,2021-01-05,4,1,,e2,,",
    ];
    let shop = Shop::new("", &lines);
    let (rows, counts) = shop.features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (2.0, 7.0));
    assert_eq!((&counts["accepted"], &counts["repeated_ids_dropped"]), (&2.into(), &2.into()));
    assert_eq!(counts["exact_duplicates_kept"], 0, "what has an id is told by it");
    // Seen from before it, the repetition is a later row like any other.
    let (_, counts) = shop.features("2021-01-08");
    assert_eq!((&counts["repeated_ids_dropped"], &counts["after_as_of"]), (&1.into(), &1.into()));
}

#[test]
fn equal_rows_are_counted_and_kept_unless_they_are_to_be_dropped() {
    let lines = ["a,2021-01-01,3,1,,,pear,"; 3];
    let (rows, counts) = Shop::new("", &lines).features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (3.0, 9.0));
    assert_eq!((&counts["accepted"], &counts["exact_duplicates_kept"]), (&3.into(), &2.into()));
    let (rows, counts) = Shop::new("duplicates = 'drop'", &lines).features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (1.0, 3.0));
    assert_eq!((&counts["accepted"], &counts["exact_duplicates_dropped"]), (&1.into(), &2.into()));
    assert_eq!(counts["exact_duplicates_kept"], 0);
}

#[test]
fn a_price_of_zero_is_taken_and_told() {
    let shop = Shop::new("", &["a,2021-01-01,0,1,,,gift,", "a,2021-01-02,3,1,,,pear,"]);
    let (rows, counts) = shop.features("2021-01-31");
    assert_eq!(pair(&rows["a"], ["purchases", "spend"]), (2.0, 3.0));
    assert_eq!((&counts["accepted"], &counts["repaired"]["zero_amount"]), (&2.into(), &1.into()));
}

#[test]
fn the_account_adds_up_whatever_the_as_of() {
    let lines = [
        "a,2021-01-01,2,1,o1,e1,apple,USD",
        "a,2021-01-03,2,1,o1,e2,apple,USD",
        "a,2021-01-05,2,1,o1,e2,apple,USD",
        "b,2021-01-01,2,1,,,pear,",
        "b,2021-01-01,2,1,,,pear,",
        "b,2021-01-06,2,1,,,pear,",
        "b,2021-01-06,2,1,,,pear,",
        "b,2021-01-04,2,1,,,pear,EUR",
        "b,2021-01-02,2,1,,,POST,",
        "b,2021-01-06,two,1,,,pear,",
        "b,someday,2,1,,,pear,",
        "b",
    ];
    for duplicates in ["keep", "drop"] {
        let data = format!("max_rejected_share = 0.9\nduplicates = '{duplicates}'\n{RULES}");
        let shop = Shop::new(&data, &lines);
        for day in 1..8 {
            let (_, counts) = shop.features(&format!("2021-01-0{day}"));
            let count = |name: &str| counts[name].as_u64().unwrap();
            let rejected = counts["rejected"].as_object().unwrap().values();
            let rejected: u64 = rejected.map(|count| count.as_u64().unwrap()).sum();
            let dropped = count("repeated_ids_dropped") + count("exact_duplicates_dropped");
            let all = count("accepted") + dropped + count("after_as_of") + rejected;
            assert_eq!((count("rows"), all), (lines.len() as u64, lines.len() as u64), "{counts}");
            assert!(rejected >= 2, "what has no time is seen from everywhere: {counts}");
        }
        let (_, last) = shop.features("2021-01-07");
        assert_eq!((&last["after_as_of"], &last["orders"]), (&0.into(), &1.into()), "{last}");
    }
}

#[test]
fn a_log_with_too_many_faults_is_refused_with_its_account() {
    let lines =
        ["a,2021-01-01,3,1,,,,", "a,2021-01-02,x,1,,,,", "a,2021-01-03,4,1,,,,", "b,never,1,1,,,,"];
    let shop = Shop::new("max_rejected_share = 0.49", &lines);
    let words = ["50.0 %", "max_rejected_share", "4  rows read", "line 3", "line 5"];
    shop.run("2021-01-31").fails(3, &words);
    assert!(!shop.path("features.ndjson").exists());
    shop.set("max_rejected_share = 0.5");
    assert_eq!(shop.features("2021-01-31").1["accepted"], 2);
}

#[test]
fn lines_in_csv_and_ndjson_give_the_same_features() {
    let lines = [
        "a,2021-01-01,2.50,4,o1,e1,apple,USD",
        "a,2021-01-01,1.25,2,o1,e2,pear,USD",
        "a,2021-01-03,5.00,-1,o2,e3,apple,",
        "b,2021-01-02,18.00,1,o3,e4,POST,",
        "b,2021-01-02,0,1,o3,e5,pear,",
        "b,2021-01-04,7.10,1,,,pear,EUR",
    ];
    let shop = Shop::new(&format!("max_rejected_share = 0.5\n{RULES}"), &lines);
    let csv = shop.features("2021-01-31");
    let names: Vec<&str> = HEADER.split(',').collect();
    let object = |line: &&str| {
        let field = |(name, cell): (&&str, &str)| match *name {
            // Numbers as numbers, where the other fields are texts.
            "paid" | "units" => format!("\"{name}\":{cell}"),
            _ => format!("\"{name}\":\"{cell}\""),
        };
        let fields = names.iter().zip(line.split(',')).filter(|(_, cell)| !cell.is_empty());
        format!("{{{}}}\n", fields.map(field).collect::<Vec<_>>().join(","))
    };
    let ndjson: String = lines.iter().map(object).collect();
    std::fs::remove_file(shop.path("log.csv")).unwrap();
    std::fs::write(shop.path("log.ndjson"), ndjson).unwrap();
    let run = Run::new("features")
        .path("--config", &shop.path("habitus.toml"))
        .path("--events", &shop.path("log.ndjson"))
        .path("--out", &shop.path("other.ndjson"))
        .arg("--as-of")
        .arg("2021-01-31");
    assert_eq!(run.json()["rows"]["counts"], csv.1);
    let written = |name: &str| std::fs::read(shop.path(name)).unwrap();
    assert_eq!(written("other.ndjson"), written("features.ndjson"));
}

#[test]
fn other_rules_than_the_versions_are_refused() {
    let version = trained();
    let directory = tempfile::tempdir().unwrap();
    let (config, out) = (directory.path().join("habitus.toml"), directory.path().join("s.csv"));
    for (key, value) in [
        ("kind_rules", "[{ field = 'amount', is = 'zero', kind = 'ignore' }]"),
        ("merge_orders", "false"),
        ("duplicates", "'drop'"),
    ] {
        std::fs::write(&config, format!("[data]\n{key} = {value}\n{CONFIG}")).unwrap();
        Run::new("score")
            .path("--config", &config)
            .path("--events", &version.orders)
            .path("--models", &version.models_dir)
            .path("--out", &out)
            .fails(2, &[&format!("data.{key}")]);
        assert!(!out.exists());
    }
}
