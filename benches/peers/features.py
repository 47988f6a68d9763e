"""Thirteen indicators of an order log in Parquet: habitus beside DuckDB and polars, in one run.

    pip install duckdb polars numpy
    python benches/peers/features.py [CUSTOMERS] [EVENTS_PER_CUSTOMER] [ROUNDS]

Each contestant is a process of its own, reading included; habitus also writes its file. Rounds are
interleaved and medians printed. Values must agree to 1e-9 relative. Days are calendar days in UTC,
the as-of is the end of 2021-12-30, and 90 days are that day and the 89 before it.
"""
import os, resource, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
HABITUS = os.environ.get("HABITUS", os.path.join(HERE, "../../target/release/habitus"))
AS_OF = "2021-12-30"
SQL = """
with e as (
  select customer_id, "at", cast("at" as date) as day, amount, category
  from '{path}' where cast("at" as date) <= date '{as_of}'),
g as (
  select *, date_diff('day', day, date '{as_of}') as age,
    date_diff('day', lag(day) over (partition by customer_id order by "at"), day) as gap
  from e),
c as (
  select customer_id, max(n) as top
  from (select customer_id, category, count(*) as n from e group by 1, 2) group by 1)
select g.customer_id, min(age) as days_since_last, max(age) as days_since_first,
  count(*) as purchases, sum(amount) as spend, avg(amount) as mean_order,
  stddev_samp(amount) as sd_order, avg(gap) as gap_mean,
  stddev_samp(gap) / nullif(avg(gap), 0) as gap_cv,
  count(*) filter (age < 90) as purchases_90d,
  coalesce(sum(amount) filter (age < 90), 0) as spend_90d,
  count(*) filter (age < 30) / nullif(count(*) filter (age < 90), 0)::double as trend,
  count(distinct category) as categories, any_value(c.top) / count(*)::double as top_share
from g join c using (customer_id) group by 1"""


def make(path, customers, events):
    import numpy as np, polars as pl
    random = np.random.default_rng(0)
    counts = random.poisson(events, customers).clip(1)
    ids = np.repeat(np.arange(customers), counts)
    n = len(ids)
    at = 1_577_836_800_000 + random.integers(0, 729 * 86_400, n) * 1000  # from 2020-01-01
    order = random.permutation(n)
    frame = pl.DataFrame({
        "customer_id": ids[order], "at": at[order],
        "amount": np.round(np.exp(random.normal(3, 1, n)), 2),
        "category": random.integers(0, 40, n).astype(np.int32)})
    frame.with_columns(pl.from_epoch("at", "ms")).write_parquet(path)


def duckdb(path, out):
    import duckdb
    duckdb.sql(SQL.format(path=path, as_of=AS_OF)).write_parquet(out)


def polars(path, out):
    import polars as pl
    as_of = pl.lit(AS_OF).str.to_date()
    events = pl.scan_parquet(path).with_columns(day=pl.col("at").dt.date())
    events = events.filter(pl.col("day") <= as_of).sort("customer_id", "at").with_columns(
        gap=(pl.col("day") - pl.col("day").shift(1)).over("customer_id").dt.total_days()
            .cast(pl.Float64),
        age=(as_of - pl.col("day")).dt.total_days())
    top = events.group_by("customer_id", "category").len()
    top = top.group_by("customer_id").agg(top=pl.col("len").max())
    rows = events.group_by("customer_id").agg(
        days_since_last=pl.col("age").min(), days_since_first=pl.col("age").max(),
        purchases=pl.len(), spend=pl.col("amount").sum(), mean_order=pl.col("amount").mean(),
        sd_order=pl.col("amount").std(), gap_mean=pl.col("gap").mean(), sd=pl.col("gap").std(),
        purchases_90d=(pl.col("age") < 90).sum(),
        spend_90d=pl.col("amount").filter(pl.col("age") < 90).sum(),
        recent=(pl.col("age") < 30).sum(), categories=pl.col("category").n_unique())
    rows.join(top, on="customer_id").with_columns(
        gap_cv=pl.when(pl.col("gap_mean") != 0).then(pl.col("sd") / pl.col("gap_mean")),
        trend=pl.when(pl.col("purchases_90d") > 0).then(pl.col("recent") / pl.col("purchases_90d")),
        top_share=pl.col("top") / pl.col("purchases"),
    ).drop("sd", "recent", "top").collect().write_parquet(out)


def command(name, path, out):
    if name == "habitus":
        return [HABITUS, "features", "--quiet", "--config", os.path.join(HERE, "thirteen.toml"),
                "--events", path, "--as-of", AS_OF, "--out", out, "--memory-mb", "1000"]
    return [sys.executable, __file__, "--run", name, path, out]


def timed(arguments):
    """Seconds by the clock, CPU seconds and megabytes of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    seconds = time.perf_counter() - start
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    customers, events, rounds = (list(map(int, sys.argv[1:])) + [500_000, 20, 5][len(sys.argv) - 1:])
    folder = tempfile.gettempdir()
    path = os.path.join(folder, f"habitus_peers_{customers}_{events}.parquet")
    if not os.path.exists(path):
        make(path, customers, events)
    names = ["habitus", "duckdb", "polars"]
    outs = {name: os.path.join(folder, f"habitus_peers_{name}.parquet") for name in names}
    runs = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(timed(command(name, path, outs[name])))
    print(f"{customers} customers x {events} events, medians of {rounds} interleaved rounds")
    for name in names:
        seconds, cpu, memory = (statistics.median(column) for column in zip(*runs[name]))
        print(f"{name:8s} {seconds:6.2f} s  {cpu:6.2f} CPU s  {memory:6.0f} MB")
    agree(outs)


def agree(outs):
    import polars as pl
    frames = {}
    for name, out in outs.items():
        frame = pl.read_parquet(out).with_columns(pl.col("customer_id").cast(pl.Int64))
        frames[name] = frame.sort("customer_id")
    ours = frames["habitus"]
    for name in ("duckdb", "polars"):
        for column in ours.columns:
            a, b = (frame[column].cast(pl.Float64).to_numpy() for frame in (ours, frames[name]))
            import numpy as np
            undefined = np.isnan(a) & np.isnan(b)
            close = np.abs(a - b) <= 1e-9 * np.maximum(1, np.abs(b))
            assert (undefined | close).all(), (name, column)
    print("all three agree to 1e-9 on", len(ours.columns) - 1, "columns")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        {"duckdb": duckdb, "polars": polars}[sys.argv[2]](*sys.argv[3:])
    else:
        main()
