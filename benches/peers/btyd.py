"""BG/NBD and Pareto/NBD: habitus beside lifetimes, in one run.

    pip install numpy scipy pandas lifetimes
    python benches/peers/btyd.py [bg|pareto|all] [--customers N] [--days N] [--file FILE.npy]
        [--rounds 3] [--peer unique|all|none] [--peer-customers N] [--horizon DAYS]

Lifetimes 0.11.3 is from 2020 and runs unchanged on Python 3.11 with numpy 2.4, scipy 1.17, pandas
3.1 and autograd 1.9.

Customers are drawn here from a BG/NBD process, with the parameters of CDNOW in days, and ages that
are spread evenly over `--days`; purchases count by day, as in a log. `--file` takes others instead:
an int32 matrix (customers, 3), in C order, of x (repeat purchase days), t_x (days from the first to
the last purchase) and T (days from the first purchase to the as-of). habitus is the command
HABITUS_BTYD, by default `cargo bench` of the engine. It gets FILE.npy MODEL HORIZON, where MODEL is
`bg` or `pareto` and HORIZON a number of days, and answers with a line of JSON:

    n_customers, n_rows     customers; different rows of (x, t_x, T)
    fit_s                   from the customers in memory to the parameters, finding the rows included
    parameters              {"r", "alpha", "a", "b"} or {"r", "alpha", "s", "beta"}, in days
    ln_likelihood           of all customers
    expect_s                expected purchases within the horizon, of every customer
    expect_peak_bytes       the peak of memory in that, beyond what was there before (may be left out)
    expected_total          their sum

lifetimes fits the different rows with weights, as its documentation advises; its `fit_s` holds the
finding of them. With `--peer all` it fits all rows, which may take minutes for BG/NBD and much
longer for Pareto/NBD; `--peer-customers` fits and scores the first N only (habitus always has all,
and seconds are not scaled). Both expectations are at the parameters that habitus found, so that
sums can be compared. Each measurement of lifetimes is a process of its own. Log-likelihoods are
recomputed here from the parameters of both, over the customers that lifetimes saw.

Exits with 1 if habitus' log-likelihood is not that of its parameters to 1e-9, if lifetimes found
parameters that are better by more than 1e-3 units, or if the sums of expectations differ by 1e-6.
"""
import argparse, json, os, shlex, statistics, subprocess, sys, tempfile, time, warnings

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
HABITUS = shlex.split(os.environ.get(
    "HABITUS_BTYD", "cargo bench -q -p habitus-engine --bench btyd --"))
TITLES = {"bg": "BG/NBD", "pareto": "Pareto/NBD"}
NAMES = {"bg": ["r", "alpha", "a", "b"], "pareto": ["r", "alpha", "s", "beta"]}
FAILURES = []


def generate(n, days, seed=1):
    random = np.random.default_rng(seed)
    age = random.integers(1, days + 1, n)
    rate = np.maximum(random.gamma(0.243, 1 / 30.9, n), 1e-12)
    leave = random.beta(0.793, 2.426, n)
    x, last = np.zeros(n, int), np.zeros(n, int)
    active, now = np.arange(n), np.zeros(n)
    while len(active):
        now = now + random.exponential(1, len(active)) / rate[active]
        alive = now < age[active] + 1
        active, now = active[alive], now[alive]
        day = now.astype(int)
        x[active] += day > last[active]  # Purchases of one day are one.
        last[active] = day
        stays = random.random(len(active)) >= leave[active]
        active, now = active[stays], now[stays]
    return np.column_stack([x, last, age]).astype(np.int32)


def customers(o):
    if o.file:
        return os.path.abspath(o.file)
    path = os.path.join(tempfile.gettempdir(), f"habitus_btyd_{o.customers}_{o.days}.npy")
    if not os.path.exists(path):
        with open(path + ".part", "wb") as file:
            np.save(file, generate(o.customers, o.days))
        os.replace(path + ".part", path)
    return path


def unique(rows):
    """Different rows and how many customers each has."""
    rows = rows.astype(np.int64)
    bases = rows.max(axis=0) + 1
    keys, counts = np.unique(
        (rows[:, 0] * bases[1] + rows[:, 1]) * bases[2] + rows[:, 2], return_counts=True)
    rest, age = np.divmod(keys, bases[2])
    x, last = np.divmod(rest, bases[1])
    return x, last.astype(float), age.astype(float), counts


# What lifetimes' own process does.

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024


def timed(work):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # Forgets the peak so far.
    before, begin = memory("VmRSS"), time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin, memory("VmHWM") - before


def fitter(model):
    import lifetimes
    return lifetimes.BetaGeoFitter() if model == "bg" else lifetimes.ParetoNBDFitter()


def run_fit(model, path, size, rows):
    data = np.load(path)[:int(size)]

    def work():
        x, last, age, counts = unique(data) if rows == "unique" else (*data.T, None)
        return len(x), fitter(model).fit(x, last, age, weights=counts)

    fitter(model)  # Imports.
    (n_rows, fitted), seconds, peak = timed(work)
    return {"n_rows": n_rows, "fit_s": seconds, "fit_peak_bytes": peak,
            "parameters": {name: float(fitted.params_[name]) for name in NAMES[model]}}


def run_expect(model, path, size, horizon, parameters):
    import pandas as pd
    x, last, age = np.load(path)[:int(size)].astype(float).T
    fitted = fitter(model)
    fitted.params_ = pd.Series(json.loads(parameters))
    expect = fitted.conditional_expected_number_of_purchases_up_to_time
    answers, seconds, peak = timed(lambda: np.asarray(expect(float(horizon), x, last, age)))
    right = np.isfinite(answers) & (answers >= 0)
    return {"expect_s": seconds, "expect_peak_bytes": peak, "unusable": int((~right).sum()),
            "expected_total": float(answers[right].sum())}


def child():
    warnings.filterwarnings("ignore")
    np.seterr(all="ignore")
    try:
        out = {"fit": run_fit, "expect": run_expect}[sys.argv[2]](*sys.argv[3:])
    except Exception as error:  # lifetimes raises many kinds where a fit fails.
        out = {"skip": f"{type(error).__name__}: {str(error).strip().splitlines()[0:1]}"}
    print(json.dumps(out))


# What the parent does.

def line(command):
    out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = [json.loads(text) for text in out.stdout.splitlines() if text.startswith("{")]
    if out.returncode or not found:
        sys.exit(f"no answer (exit code {out.returncode}): {shlex.join(command)}")
    return found[-1]


def lifetimes(section, *arguments):
    found = line([sys.executable, os.path.abspath(__file__), "--run", section, *map(str, arguments)])
    if "skip" in found:
        print(f"note: no {section} by lifetimes: {found['skip']}")
        return None
    return found


def ln_likelihood(model, rows, parameters):
    from scipy.special import betaln, gammaln
    nodes, weights = np.polynomial.legendre.leggauss(64)
    total, (r, alpha, third, fourth) = 0.0, (parameters[name] for name in NAMES[model])
    for first in range(0, len(rows[0]), 20_000):
        x, last, age, counts = (column[first:first + 20_000] for column in rows)
        n = r + x
        ll = gammaln(n) - gammaln(r) + r * np.log(alpha)
        if model == "bg":
            ll += betaln(third, fourth + x) - betaln(third, fourth) - n * np.log(alpha + age)
            gone = np.log(third) - np.log(fourth + np.maximum(x, 1) - 1)
            gone = gone + n * np.log((alpha + age) / (alpha + last))
            ll += np.logaddexp(0, np.where(x > 0, gone, -np.inf))
        else:
            # The time of leaving, by Gauss and Legendre in ln(alpha + u).
            low, high = np.log(alpha + last), np.log(alpha + age)
            z = ((low + high)[:, None] + (high - low)[:, None] * nodes) / 2
            inner = -third - 1, np.log(np.exp(z) - alpha + fourth)
            exponent = (1 - n)[:, None] * z + inner[0] * inner[1]
            top = exponent.max(axis=1)
            part = np.exp(exponent - top[:, None]) @ weights * (high - low) / 2 * third
            with np.errstate(divide="ignore"):
                gone = top + np.log(part)
            alive = -n * np.log(alpha + age) - third * np.log(fourth + age)
            ll += third * np.log(fourth) + np.logaddexp(alive, gone)
        total += counts @ ll
    return total


def medians(runs):
    numbers = [key for key, value in runs[0].items() if isinstance(value, (int, float))]
    return runs[0] | {key: statistics.median(run[key] for run in runs) for key in numbers}


def table(title, rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print("\n" + title)
    for row in rows:
        print("  " + row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:])),
              sep="  ", flush=True)


def megabytes(found, key):
    return f"{found[key] / 1e6:.1f}" if key in found else "-"


def compare(o, model, path):
    data = np.load(path)
    seen = min(o.peer_customers or len(data), len(data))
    ours = medians([line(HABITUS + [path, model, str(o.horizon)]) for _ in range(o.rounds)])
    print(f"\n{TITLES[model]}: {ours['n_customers']:,.0f} customers, {ours['n_rows']:,.0f} rows")
    all_rows = unique(data)
    if ours["n_rows"] != len(all_rows[0]):
        FAILURES.append(f"{TITLES[model]}: {ours['n_rows']} rows, {len(all_rows[0])} expected")
    recomputed = ln_likelihood(model, all_rows, ours["parameters"])
    if abs(recomputed - ours["ln_likelihood"]) > 1e-9 * abs(recomputed):
        FAILURES.append(f"{TITLES[model]}: log-likelihood {ours['ln_likelihood']!r} is not that "
                        f"of its parameters, {recomputed!r}")
    results = {"habitus": ours}
    if o.peer != "none":
        fitted = lifetimes("fit", model, path, seen, o.peer)
        scored = lifetimes("expect", model, path, seen, o.horizon, json.dumps(ours["parameters"]))
        if fitted or scored:
            results["lifetimes"] = (fitted or {}) | (scored or {})
    rows = unique(data[:seen])
    lls = {name: ln_likelihood(model, rows, found["parameters"])
           for name, found in results.items() if "parameters" in found}
    names = NAMES[model]
    cells = [["fit", "seconds", "x habitus", *names, f"ln L of {seen:,}"]]
    for name in lls:
        found = results[name]
        cells.append([name, f"{found['fit_s']:.3g}", f"{found['fit_s'] / ours['fit_s']:.1f}",
                      *(f"{found['parameters'][key]:.5g}" for key in names), f"{lls[name]:.4f}"])
    table(f"{TITLES[model]}, fit", cells)
    cells = [["expectation", "seconds", "x habitus", "peak MB", "sum", "unusable"]]
    for name, found in results.items():
        if "expect_s" in found:
            cells.append([name, f"{found['expect_s']:.3g}",
                          f"{found['expect_s'] / ours['expect_s']:.1f}",
                          megabytes(found, "expect_peak_bytes"), f"{found['expected_total']:.6g}",
                          str(found.get("unusable", 0))])
    table(f"{TITLES[model]}, expected purchases within {o.horizon} days", cells)
    theirs = results.get("lifetimes", {})
    if seen < len(data):
        print(f"  lifetimes saw {seen:,} of {len(data):,} customers")
        return
    if "lifetimes" in lls and lls["lifetimes"] > lls["habitus"] + 1e-3:
        FAILURES.append(f"{TITLES[model]}: lifetimes found {lls['lifetimes'] - lls['habitus']:.3g} "
                        "more units of ln L")
    if theirs.get("unusable") == 0:
        difference = abs(ours["expected_total"] / theirs["expected_total"] - 1)
        if difference > 1e-6:
            FAILURES.append(f"{TITLES[model]}: sums of expectations differ by {difference:.1e}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="all", choices=["bg", "pareto", "all"])
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=728, help="the oldest customer's age")
    parser.add_argument("--file", help="customers from elsewhere")
    parser.add_argument("--rounds", type=int, default=3, help="of habitus; lifetimes has one")
    parser.add_argument("--peer", choices=["unique", "all", "none"], default="unique")
    parser.add_argument("--peer-customers", type=int, help="the first N, for lifetimes only")
    parser.add_argument("--horizon", type=int, default=90, help="days")
    o = parser.parse_args()
    path = customers(o)
    print(f"medians of {o.rounds} rounds of habitus, {os.cpu_count()} processors")
    for model in ("bg", "pareto"):
        if o.model in (model, "all"):
            compare(o, model, path)
    for failure in FAILURES:
        print("FAILED", failure)
    sys.exit(bool(FAILURES))


if __name__ == "__main__":
    child() if sys.argv[1:2] == ["--run"] else main()
