"""k-means and Gaussian mixtures: habitus beside scikit-learn, oneDAL and FAISS, in one run.

    pip install numpy scikit-learn threadpoolctl scikit-learn-intelex faiss-cpu
    python benches/peers/clustering.py [kmeans|converge|gmm|predict|init|restarts|all]
        [--rounds 5] [--rows N] [--clusters K ...] [--more]

Each measurement is a process of its own that loads the matrix and times only the work, with as many
threads as the library takes (predict: one). Rounds are interleaved and medians printed; `x habitus`
is a peer's time over ours. Everybody starts from the rows (arange(k) * 7919) % n. oneDAL and FAISS
are left out, with a note, if they cannot be imported. habitus is the command HABITUS_CLUSTERING, by
default `cargo bench` of the engine; it gets one of these and answers with JSON lines:

    kmeans FILE.npy K ITERATIONS ROUNDS     seconds, inertia, n_iter
    kmeans-to FILE.npy K INERTIA            the same, stopping at this inertia or less
    seed FILE.npy K                         seconds, inertia of the start
    gmm FILE.npy K COVARIANCE ITERATIONS    seconds_per_iteration, lower_bound
    predict FILE.npy K                      ns_per_row, on one thread
    predict-one FILE.npy K                  ns_per_row, a line for each "model": kmeans, gmm
    restarts FILE.npy K N_INIT              seconds, inertia of the best

and `peak_bytes_per_row`, beyond the matrix, where known. Peers' inertias are recomputed from their
centroids in f64: scikit-learn sums in f32, and FAISS reports the one before its last step. A lower
bound is scikit-learn's: the mean log-likelihood of a row in the last E step, before the M step that
follows. scikit-learn's seconds per iteration are a fit's over its iterations, with the E step that
ends it. Exits with 1 if inertia after 20 iterations is 1e-5 from scikit-learn's, if `kmeans-to`
misses its target, if a lower bound is 1e-6 from float64's, if the best of ten starts is 1e-3 worse.
"""
import argparse, json, os, shlex, statistics, subprocess, sys, tempfile, time, warnings

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
HABITUS = shlex.split(os.environ.get(
    "HABITUS_CLUSTERING", "cargo bench -q -p habitus-engine --bench clustering --"))
KMEANS = ["lloyd", "elkan", "onedal", "faiss"]
NAMES = {"lloyd": "scikit-learn lloyd", "elkan": "scikit-learn elkan", "onedal": "oneDAL lloyd",
         "faiss": "FAISS", "float64": "scikit-learn float64", "float32": "scikit-learn float32"}
FAILURES, SKIPPED = [], set()


def generate(n, d, clusters, seed):
    """Customer-like: a mixture of Gaussians, half of the columns skewed, standardised."""
    random = np.random.default_rng(seed)
    centers = random.normal(0, 2, (clusters, d))
    labels = random.choice(clusters, n, p=random.dirichlet(np.full(clusters, 2.0)))
    shapes = random.normal(0, 0.4, (clusters, d, d)) + np.eye(d) * 0.6
    x = np.empty((n, d), np.float32)
    for k in range(clusters):
        rows = labels == k
        x[rows] = centers[k] + random.standard_normal((rows.sum(), d)) @ shapes[k].T
    skewed = np.expm1(x[:, :d // 2].clip(-3, 6) * 0.5)
    x[:, :d // 2] = np.sign(skewed) * np.log1p(np.abs(skewed))
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def matrix(n, d, clusters=20, seed=1):
    path = os.path.join(tempfile.gettempdir(), f"habitus_clustering_{n}_{d}_{clusters}_{seed}.npy")
    if not os.path.exists(path):
        with open(path + ".part", "wb") as file:
            np.save(file, generate(n, d, clusters, seed))
        os.replace(path + ".part", path)
    return path


# What a peer's own process does.

def start(x, k):
    return x[(np.arange(k) * 7919) % len(x)].copy()


def inertia(path, centroids):
    x, centroids, total = np.load(path, mmap_mode="r"), centroids.astype(float), 0.0
    for first in range(0, len(x), 8192):
        rows = x[first:first + 8192].astype(float)
        nearest = ((centroids ** 2).sum(1) - 2 * rows @ centroids.T).argmin(1)
        total += ((rows - centroids[nearest]) ** 2).sum()
    return total


def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024


def timed(x, work):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # Forgets the peak so far.
    before, begin = memory("VmRSS"), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - begin
    return result, {"seconds": seconds, "peak_bytes_per_row": (memory("VmHWM") - before) / len(x)}


def kmeans_class(peer):
    if peer == "onedal":
        from sklearnex.cluster import KMeans
    else:
        from sklearn.cluster import KMeans
    return KMeans


def run_kmeans(peer, path, k, iterations, tol):
    x, k, iterations = np.load(path), int(k), int(iterations)
    x = x.astype(float) if peer == "exact" else x
    init = start(x, k)
    if peer == "faiss":
        import faiss
        model = faiss.Kmeans(x.shape[1], k, niter=iterations, nredo=1,
                             max_points_per_centroid=10 ** 9)
        _, out = timed(x, lambda: model.train(x, init_centroids=init))
        return out | {"inertia": inertia(path, model.centroids), "n_iter": iterations}
    model = kmeans_class(peer)(
        k, init=init, n_init=1, max_iter=iterations, tol=float(tol), copy_x=False,
        algorithm="elkan" if peer == "elkan" else "lloyd")
    _, out = timed(x, lambda: model.fit(x))
    return out | {"inertia": inertia(path, model.cluster_centers_), "n_iter": int(model.n_iter_)}


def mixture(x, k, covariance, iterations):
    from sklearn.mixture import GaussianMixture
    d = x.shape[1]
    precisions = np.stack([np.eye(d)] * k) if covariance == "full" else np.ones((k, d))
    return GaussianMixture(
        k, covariance_type=covariance, max_iter=iterations, tol=0, means_init=start(x, k),
        weights_init=np.full(k, 1 / k, x.dtype), precisions_init=precisions.astype(x.dtype))


def run_gmm(peer, path, k, covariance, iterations):
    x = np.load(path).astype(peer)
    model = mixture(x, int(k), covariance, int(iterations))
    _, out = timed(x, lambda: model.fit(x))
    return out | {"seconds_per_iteration": out["seconds"] / model.n_iter_,
                  "lower_bound": float(model.lower_bound_), "n_iter": int(model.n_iter_)}


def run_predict(peer, path, k):
    from threadpoolctl import threadpool_limits
    x, k = np.load(path), int(k)
    model = kmeans_class(peer)(k, init=start(x, k), n_init=1, max_iter=1).fit(x)
    with threadpool_limits(1):
        model.predict(x[:1000])
        _, out = timed(x, lambda: model.predict(x))
    return out | {"ns_per_row": out["seconds"] / len(x) * 1e9}


def run_predict_one(peer, path, k, family, calls=1000):
    from threadpoolctl import threadpool_limits
    x, k = np.load(path), int(k)
    model = (mixture(x, k, "full", 1) if family == "gmm" else
             kmeans_class(peer)(k, init=start(x, k), n_init=1, max_iter=1)).fit(x)
    with threadpool_limits(1):
        model.predict(x[:1])
        _, out = timed(x, lambda: [model.predict(x[i:i + 1]) for i in range(calls)])
    return {"ns_per_row": out["seconds"] / calls * 1e9}


def run_init(peer, path, k, seed):
    from sklearn.cluster import kmeans_plusplus
    x = np.load(path)
    (centroids, _), out = timed(x, lambda: kmeans_plusplus(x, int(k), random_state=int(seed)))
    return out | {"inertia": inertia(path, centroids)}


def run_restarts(peer, path, k, n_init):
    """The best of seed 0, and the worst that seeds 1 to 9 call their best."""
    x, KMeans = np.load(path), kmeans_class(peer)

    def best(seed):
        return KMeans(int(k), n_init=int(n_init), random_state=seed).fit(x).cluster_centers_

    centroids, out = timed(x, lambda: best(0))
    others = max(inertia(path, best(seed)) for seed in range(1, 10))
    return out | {"inertia": inertia(path, centroids), "others": others}


def child():
    warnings.filterwarnings("ignore")
    section, arguments = sys.argv[2], sys.argv[3:]
    try:
        if arguments[0] == "faiss":
            import faiss
        out = globals()["run_" + section](*arguments)
    except (ImportError, ValueError) as error:
        out = {"skip": str(error).split(". ")[0], "always": isinstance(error, ImportError)}
    print(json.dumps(out))


# What the parent does.

def lines(command):
    out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]
    if out.returncode or not found:
        sys.exit(f"no answer (exit code {out.returncode}): {shlex.join(command)}")
    return found


def habitus(*arguments):
    return lines(HABITUS + [repr(a) if isinstance(a, float) else str(a) for a in arguments])


def peer(section, name, *arguments):
    if name in SKIPPED:
        return []
    found = lines([sys.executable, __file__, "--run", section, name, *map(str, arguments)])
    if "skip" in found[0]:
        if found[0]["always"]:
            SKIPPED.add(name)
        print(f"note: no {section} by {NAMES[name]}: {found[0]['skip']}")
        return []
    return found


def medians(runs):
    """Of every number in the answers."""
    keys = [key for key, value in runs[0].items() if isinstance(value, (int, float))]
    return {key: statistics.median(run[key] for run in runs) for key in keys}


def interleaved(rounds, contestants):
    """`contestants`: what to call, with the round's number, by name."""
    runs = {name: [] for name in contestants}
    for number in range(rounds):
        for name, call in contestants.items():
            runs[name] += call(number)
    return {name: medians(found) for name, found in runs.items() if found}


def table(title, head, rows):
    columns = [column for column in zip(head, *rows) if any(column[1:])]
    cells = list(zip(*([text or "-" for text in column] for column in columns)))
    cells[0] = ["", *cells[0][1:]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    print("\n" + title)
    for row in cells:
        print("  " + row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:])),
              sep="  ", flush=True)


def number(value, form):
    return None if value is None else format(value, form)


def compare(title, results, clock, quality, reference):
    """Prints the table of a case: time, time over ours, distance to the reference, memory."""
    ours, exact = results["habitus"], results[reference].get(quality)
    rows = []
    for name, r in results.items():
        difference = (r[quality] - exact) / abs(exact) if exact is not None else None
        rows.append([NAMES.get(name, name), f"{r[clock]:.4g}", f"{r[clock] / ours[clock]:.2f}",
                     number(r.get(quality), ".8g"), number(difference, "+.1e"),
                     number(r.get("n_iter"), "g"), number(r.get("peak_bytes_per_row"), ".0f")])
    table(title, ["", clock, "x habitus", quality, "relative", "n_iter", "bytes/row"], rows)


def goal(label, value, goal):
    print(f"  {label}: {value:.3g}  goal: {goal}")


def fastest(results, clock="seconds", allowed=lambda r: True):
    peers = {n: r for n, r in results.items() if n != "habitus" and allowed(r)}
    name = min(peers, key=lambda n: peers[n][clock])
    return NAMES[name], peers[name][clock] / results["habitus"][clock]


def check(label, difference, limit):
    if not difference <= limit:
        FAILURES.append(f"{label}: {difference:.2e} is more than {limit:g}")


def away(results, quality, reference):
    exact = results[reference][quality]
    return (results["habitus"][quality] - exact) / abs(exact)


def shape(path):
    n, d = np.load(path, mmap_mode="r").shape
    return f"{n} x {d}"


def kmeans(o):
    main = o.rows or 1_000_000
    cases = [(main, 12, k) for k in o.clusters or [8, 16, 64] + [256] * o.more]
    if o.more:
        cases += [(n, d, k) for n, d in ((main, 4), (min(main, 200_000), 64))
                  for k in o.clusters or [8, 16, 64]]
    for n, d, k in cases:
        path = matrix(n, d)
        results = interleaved(o.rounds, {
            "habitus": lambda _: habitus("kmeans", path, k, 20, 1),
            **{p: lambda _, p=p: peer("kmeans", p, path, k, 20, 0) for p in KMEANS}})
        title = f"k-means, 20 iterations, {shape(path)}, k = {k}"
        compare(title, results, "seconds", "inertia", "lloyd")
        name, ratio = fastest(results)
        goal(f"fastest peer ({name}) / habitus", ratio, 5)
        difference = abs(away(results, "inertia", "lloyd"))
        check(f"{title}, inertia", difference, 1e-5)
        if difference > 1e-5:  # On few rows it may be scikit-learn whose f32 tipped a row over.
            results["exact"] = peer("kmeans", "exact", path, k, 20, 0)[0]
            for name in ("habitus", "lloyd"):
                print(f"  {name} from scikit-learn in f64: "
                      f"{results[name]['inertia'] / results['exact']['inertia'] - 1:+.1e}")


def converge(o):
    path = matrix(o.rows or 1_000_000, 12)
    for k in o.clusters or [16]:
        title = f"k-means, to scikit-learn's inertia at tol 1e-4, {shape(path)}, k = {k}"
        target = peer("kmeans", "lloyd", path, k, 300, 1e-4)[0]["inertia"] * (1 + 1e-5)
        results = interleaved(o.rounds, {
            "habitus": lambda _: habitus("kmeans-to", path, k, target),
            **{p: lambda _, p=p: peer("kmeans", p, path, k, 300, 1e-4) for p in KMEANS[:3]}})
        compare(title, results, "seconds", "inertia", "lloyd")
        name, ratio = fastest(results, allowed=lambda r: r["inertia"] <= target)
        goal(f"fastest peer that gets there ({name}) / habitus", ratio, 8)
        check(f"{title}, above it", away(results, "inertia", "lloyd"), 1.001e-5)


def gmm(o):
    path = matrix(o.rows or 100_000, 12)
    for k in o.clusters or [8, 16]:
        for covariance, wanted in (("full", 30), ("diag", 10)):
            results = interleaved(o.rounds, {
                "habitus": lambda _: habitus("gmm", path, k, covariance, 10),
                **{p: lambda _, p=p: peer("gmm", p, path, k, covariance, 10)
                   for p in ("float64", "float32")}})
            title = f"Gaussian mixture, {covariance}, 10 iterations, {shape(path)}, k = {k}"
            clock = "seconds_per_iteration"
            compare(title, results, clock, "lower_bound", "float64")
            right = results["float64"]["lower_bound"]
            name, ratio = fastest(
                results, clock, lambda r: abs(r["lower_bound"] - right) <= 1e-4 * abs(right))
            print(f"  fastest peer within 1e-4 ({name}) / habitus: {ratio:.3g}")
            exact = results["float64"][clock] / results["habitus"][clock]
            goal("scikit-learn float64 / habitus", exact, wanted)
            check(f"{title}, lower bound", abs(away(results, "lower_bound", "float64")), 1e-6)


def predict(o):
    path = matrix(o.rows or 1_000_000, 12)
    small = matrix(min(o.rows or 100_000, 100_000), 12)

    def one(family, k):
        found = habitus("predict-one", small, k)
        return [line for line in found if line.get("model", "kmeans") == family]

    for k in o.clusters or [8, 16] + [64] * o.more:
        results = interleaved(o.rounds, {
            "habitus": lambda _: habitus("predict", path, k),
            "lloyd": lambda _: peer("predict", "lloyd", path, k)})
        compare(f"k-means predict, one thread, {shape(path)}, k = {k}", results, "ns_per_row",
                None, "lloyd")
        goal("habitus, ns per row", results["habitus"]["ns_per_row"], "10 or less")
        for family, wanted in (("kmeans", 300), ("gmm", 2000)):
            results = interleaved(o.rounds, {
                "habitus": lambda _: one(family, k),
                "lloyd": lambda _: peer("predict_one", "lloyd", small, k, family)})
            title = f"predict of one row, {family}, {shape(small)}, k = {k}"
            if "habitus" not in results:
                FAILURES.append(f"{title}: no line with this model")
                continue
            compare(title, results, "ns_per_row", None, "lloyd")
            goal("habitus, ns per row", results["habitus"]["ns_per_row"], f"{wanted} or less")


def init(o):
    path = matrix(o.rows or 1_000_000, 12)
    for k in o.clusters or [8, 16, 64] + [256] * o.more:
        results = interleaved(o.rounds, {
            "habitus": lambda _: habitus("seed", path, k),
            "lloyd": lambda number: peer("init", "lloyd", path, k, number)})
        title = f"k-means++ start (scikit-learn: a seed a round), {shape(path)}, k = {k}"
        compare(title, results, "seconds", "inertia", "lloyd")
        print(f"  fastest peer / habitus: {fastest(results)[1]:.3g}")


def restarts(o):
    """Best of ten starts, on 24 matrices and those of --matrix; nine other seeds of scikit-learn are the yardstick."""
    drawn = [(d, k) for d in (2, 4, 8, 12, 24, 64) for k in (3, 5, 8, 12)]
    cases = [(matrix(min(o.rows or 2_000, 2_000), d, clusters=k, seed=seed), k)
             for seed, (d, k) in enumerate(drawn, 1)]
    cases += [(path, k) for path in o.matrix for k in (3, 5, 8, 12)]
    rows, worst, others, seconds = [], -np.inf, -np.inf, []
    for path, k in cases:
        ours = habitus("restarts", path, k, 10)[0]
        theirs = peer("restarts", "lloyd", path, k, 10)[0]
        exact = theirs["inertia"]
        difference, other = ours["inertia"] / exact - 1, theirs["others"] / exact - 1
        worst, others = max(worst, difference), max(others, other)
        seconds.append((ours["seconds"], theirs["seconds"]))
        rows.append([shape(path), str(k), f"{ours['inertia']:.8g}", f"{exact:.8g}",
                     f"{difference:+.1e}", f"{other:+.1e}"])
        check(f"best of ten, {shape(path)}, k = {k}", difference, 1e-3)
    table(f"k-means, best of ten starts, {len(cases)} matrices",
          ["", "k", "habitus", "scikit-learn", "relative", "its other seeds"], rows)
    ours, theirs = (statistics.median(column) for column in zip(*seconds))
    print(f"  median seconds: habitus {ours:.4g}, scikit-learn {theirs:.4g}; "
          f"scikit-learn / habitus: {theirs / ours:.3g}")
    print(f"  worst relative difference: {worst:+.1e}  goal: 1e-3 or less")
    print(f"  worst of scikit-learn's own other seeds: {others:+.1e}")


def main():
    sections = [kmeans, converge, gmm, predict, init, restarts]
    names = [section.__name__ for section in sections]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", default="all", choices=names + ["all"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="of every matrix, for a quick look")
    parser.add_argument("--clusters", type=int, nargs="+", help="instead of a section's own")
    parser.add_argument("--matrix", nargs="+", default=[], help="further .npy files for restarts")
    parser.add_argument("--more", action="store_true", help="k = 256, and 4 and 64 columns")
    options = parser.parse_args()
    print(f"medians of {options.rounds} interleaved rounds, {os.cpu_count()} processors")
    for section in sections:
        if options.section in (section.__name__, "all"):
            section(options)
    for failure in FAILURES:
        print("FAILED", failure)
    sys.exit(bool(FAILURES))


if __name__ == "__main__":
    child() if sys.argv[1:2] == ["--run"] else main()
