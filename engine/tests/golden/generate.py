"""Writes the golden files beside this script: python3 generate.py

Inputs are drawn from fixed seeds and rounded to short decimals before anything is computed from
them, so that a reader of the JSON starts from the same numbers to the bit.
"""

import json
import platform
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
import sklearn
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, silhouette_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
CDNOW = HERE.parents[2] / "examples" / "cdnow" / "orders.csv"
VERSIONS = {
    "python": platform.python_version(),
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "scikit-learn": sklearn.__version__,
    "pandas": pd.__version__,
}


def plain(value):
    """numpy and pandas values as what json knows; not-a-number becomes null."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(part) for part in value]
    if isinstance(value, (np.integer, np.bool_)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else float(value)
    return value


def lines(value, depth):
    """JSON with one line for each key, and for each object in a list."""
    pad, end = " " * (depth + 1), " " * depth
    if isinstance(value, dict) and depth < 4:
        rows = [f"{pad}{json.dumps(key)}: {lines(part, depth + 1)}" for key, part in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + end + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(pad + lines(part, depth + 1) for part in value) + "\n" + end + "]"
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def write(name, content):
    content = plain({"versions": VERSIONS, **content})
    (HERE / name).write_text(lines(content, 0) + "\n")


# --- metrics.json -------------------------------------------------------------------------------

LOG_LOSS_CLIP = 1e-4
INTERVAL_LEVEL = 0.8


def tie_means(values, keys):
    """Every row of a tie gets the tie's mean value, so that the order of rows does not matter."""
    _, group = np.unique(keys, return_inverse=True)
    return (np.bincount(group, weights=values) / np.bincount(group))[group]


def gini(actual, predicted):
    order = np.argsort(-predicted, kind="stable")
    captured = np.cumsum(tie_means(actual, predicted)[order]) / actual.sum()
    return captured.mean() - (len(actual) + 1) / 2 / len(actual)


def normalised_gini(actual, predicted):
    return gini(actual, predicted) / gini(actual, actual)


def ece(outcome, probability):
    outcome = tie_means(outcome, probability)
    bins = np.array_split(np.argsort(probability, kind="stable"), 10)
    gaps = [len(rows) * abs(outcome[rows].mean() - probability[rows].mean()) for rows in bins]
    return sum(gaps) / len(outcome)


def interval_score(actual, low, high, level):
    alpha = 1 - level
    below, above = np.maximum(low - actual, 0), np.maximum(actual - high, 0)
    return (high - low + 2 / alpha * (below + above)).mean()


# The definitions of the reference table that models are compared with (its bench_reference.py, word
# for word). They break ties by the order of rows.


def reference_gini(y, p):
    o = np.argsort(-p, kind="stable")
    c = np.cumsum(y[o]) / y.sum()
    return c.mean() - (len(y) + 1) / 2 / len(y)


def reference_top_decile(y, p):
    k = len(y) // 10
    return y[np.argsort(-p, kind="stable")[:k]].sum() / y.sum()


def reference_decile_mape(y, p):
    o = np.array_split(np.argsort(p, kind="stable"), 10)
    a = np.array([y[i].mean() for i in o])
    b = np.array([p[i].mean() for i in o])
    k = a > 0
    return np.mean(np.abs(a - b)[k] / a[k])


def reference_ece(c, p):
    o = np.array_split(np.argsort(p, kind="stable"), 10)
    return sum(len(i) * abs(c[i].mean() - p[i].mean()) for i in o) / len(c)


def evened(metric, actual, predicted):
    """The reference metric with every row of a tie counting with the tie's mean."""
    return metric(tie_means(actual, predicted), predicted)


def untied_case(name, n, seed):
    """Where no prediction is tied the reference's numbers are ours, as they are."""
    case = metric_case(name, n, seed, 2, spread=True)
    spend, value = case["spend"], case["value"]
    outcome, probability = case["outcome"], case["probability"]
    assert len(set(value)) == n == len(set(probability))
    reference = {
        "ece": reference_ece(outcome, probability),
        "normalised_gini": reference_gini(spend, value) / reference_gini(spend, spend),
        "top_decile_capture": reference_top_decile(spend, value),
        "decile_mape": reference_decile_mape(spend, value),
    }
    for key, number in reference.items():
        assert abs(case["expected"][key] - number) < 1e-12, key
    case["expected"].update(reference)
    return case


def metric_case(name, n, seed, decimals, constant=False, spread=False):
    """`decimals` sets how many predictions are tied; probabilities of exactly 0 and 1 occur."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=n)
    probability = np.round(np.clip(0.5 + 0.3 * latent + 0.1 * rng.normal(size=n), 0, 1), decimals)
    outcome = (rng.random(n) < 1 / (1 + np.exp(-1.5 * latent))).astype(int)
    # Most customers spend nothing, as in a holdout.
    spend = np.where(rng.random(n) < 0.6, 0.0, np.round(rng.lognormal(3 - latent, 0.8), 2))
    value = np.round(np.exp(2 - 0.8 * latent + 0.4 * rng.normal(size=n)), max(decimals - 1, 0))
    if constant:
        probability, value = np.full(n, 0.35), np.full(n, 12.5)
    if spread:
        probability = np.round(0.02 + 0.9 * rng.permutation(n) / n, 6)
        value = np.round(value + 0.0001 * rng.permutation(n), 4)
    low, high = np.round(0.2 * value, 2), np.round(2 * value, 2)
    clipped = np.clip(probability, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return {
        "name": name,
        "outcome": outcome,
        "probability": probability,
        "spend": spend,
        "value": value,
        "low": low,
        "high": high,
        "expected": {
            "auc": roc_auc_score(outcome, probability),
            "brier": brier_score_loss(outcome, probability),
            "log_loss": log_loss(outcome, clipped),
            "ece": ece(outcome, probability),
            "normalised_gini": normalised_gini(spend, value),
            "total_ratio": value.sum() / spend.sum(),
            "mae": np.abs(spend - value).mean(),
            "rmse": np.sqrt(((spend - value) ** 2).mean()),
            # Undefined where all predictions are equal.
            "spearman": np.nan if constant else spearmanr(spend, value)[0],
            "top_decile_capture": evened(reference_top_decile, spend, value),
            "decile_mape": evened(reference_decile_mape, spend, value),
            "interval_score": interval_score(spend, low, high, INTERVAL_LEVEL),
            "interval_coverage": ((low <= spend) & (spend <= high)).mean(),
        },
    }


def metrics():
    write(
        "metrics.json",
        {
            "log_loss_clip": LOG_LOSS_CLIP,
            "ece_bins": 10,
            "interval_level": INTERVAL_LEVEL,
            "cases": [
                metric_case("many ties", 40, 11, 1),
                metric_case("some ties", 97, 12, 2),
                metric_case("few ties", 300, 13, 4),
                metric_case("bins of unequal size", 203, 14, 3),
                metric_case("all predictions equal", 75, 15, 2, constant=True),
                untied_case("no ties, as the reference table has it", 241, 16),
            ],
        },
    )


# --- logistic.json and elastic_net.json ---------------------------------------------------------


def logistic():
    rng = np.random.default_rng(21)
    raw = rng.normal(size=(200, 4)) @ np.array(
        [[1, 0.4, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, -0.5], [0, 0, 0, 1]]
    )
    x = np.round((raw - raw.mean(axis=0)) / raw.std(axis=0), 6)
    log_odds = 0.4 + x @ np.array([1.2, -0.7, 0.0, 0.3])
    y = (rng.random(200) < 1 / (1 + np.exp(-log_odds))).astype(int)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=10000, solver="lbfgs").fit(x, y)
    write(
        "logistic.json",
        {
            "c": 1.0,
            "x": x,
            "y": y,
            "coef": model.coef_[0],
            "intercept": model.intercept_[0],
            "probabilities_first_10": model.predict_proba(x[:10])[:, 1],
        },
    )


def elastic_net():
    rng = np.random.default_rng(22)
    means, scales = np.array([5.0, -3.0, 0.5, 12.0, 1.0]), np.array([1.0, 2.0, 0.2, 3.0, 0.5])
    x = np.round(means + scales * rng.normal(size=(150, 5)), 5)
    y = np.round(7.5 + x @ np.array([0.8, -0.4, 0.0, 0.15, 0.0]) + 0.3 * rng.normal(size=150), 5)
    model = ElasticNet(alpha=0.01, l1_ratio=0.5, tol=1e-10, max_iter=100000).fit(x, y)
    write(
        "elastic_net.json",
        {
            "alpha": 0.01,
            "l1_ratio": 0.5,
            "x": x,
            "y": y,
            "coef": model.coef_,
            "intercept": model.intercept_,
        },
    )


# --- kmeans.json and gmm.json -------------------------------------------------------------------


def sixty_fourths(x):
    """Rounded to multiples of 1/64, which f32 holds exactly too."""
    return np.round(x * 64) / 64


def kmeans():
    rng = np.random.default_rng(31)
    centres = np.array([[0, 0, 0], [4, 1, -1], [-2, 3.5, 1], [1, -3, 3]], dtype=float)
    rows = np.repeat(centres, [110, 90, 60, 40], axis=0)
    x = sixty_fourths(rows + 1.1 * rng.normal(size=(300, 3)))
    x = x[rng.permutation(300)]
    # A poor start on purpose, so that several iterations are needed.
    init = x[:4].copy()
    model = KMeans(n_clusters=4, init=init, n_init=1, tol=0, algorithm="lloyd", max_iter=300).fit(x)
    write(
        "kmeans.json",
        {
            "x": x,
            "init_centroids": init,
            "centroids": model.cluster_centers_,
            "labels": model.labels_,
            "n_iter": model.n_iter_,
            "inertia": model.inertia_,
            "silhouette": silhouette_score(x, model.labels_),
        },
    )


def correlated(rng, centres, sizes):
    """Normal rows around each centre, each with a random full covariance, in random order."""
    parts = []
    for centre, size in zip(centres, sizes):
        scales = np.diag(rng.uniform(0.6, 1.2, size=3))
        shape = scales + 0.4 * np.tril(rng.normal(size=(3, 3)), -1)
        parts.append(centre + rng.normal(size=(size, 3)) @ shape.T)
    x = sixty_fourths(np.concatenate(parts))
    return x[rng.permutation(len(x))]


def gmm():
    rng = np.random.default_rng(32)
    centres = np.array([[0, 0, 0], [4, 0.8, -0.7], [-2, 3.3, 1.3], [0.7, -3.3, 3.3]], dtype=float)
    x = correlated(rng, centres, [110, 90, 60, 40])
    model = GaussianMixture(
        n_components=4,
        covariance_type="full",
        reg_covar=1e-6,
        tol=1e-8,
        max_iter=1000,
        random_state=0,
    ).fit(x)
    assert model.converged_
    # More than sixty standard deviations from every component, where the densities underflow.
    outliers = np.array([[150.0, 150.0, -150.0], [-200.0, 40.0, 10.0], [0.0, 0.0, 1000.0]])
    for mean, covariance in zip(model.means_, model.covariances_):
        away = outliers - mean
        assert (np.einsum("ij,jk,ik->i", away, np.linalg.inv(covariance), away) > 60**2).all()
    in_doubt = np.argsort(model.predict_proba(x).max(axis=1), kind="stable")[:20]
    queries = np.concatenate([x[in_doubt], outliers])
    write(
        "gmm.json",
        {
            "n_components": 4,
            "reg_covar": 1e-6,
            "tol": 1e-8,
            "x": x,
            "weights": model.weights_,
            "means": model.means_,
            "covariances": model.covariances_,
            "n_iter": model.n_iter_,
            "queries": queries,
            "score_samples": model.score_samples(queries),
            "predict_proba": model.predict_proba(queries),
            "mean_score": model.score(x),
            "bic": model.bic(x),
        },
    )


# --- gmm_covariances.json -----------------------------------------------------------------------

REG_COVAR = 1e-6
# Iterations and tolerance: a tolerance of 0 never stops a fit.
GMM_STOPS = [(1, 0.0), (10, 0.0), (1000, 1e-8)]
GMM_CENTRES = np.array([[0, 0, 0], [3, 1, -1], [-1.5, 2.5, 1.5]])
# A start is L diag(SCALES) L', with powers of two as scales and a unit triangle of dyadic numbers,
# so that f64 holds both it and its inverse exactly.
LOWER = np.array([[1, 0, 0], [0.5, 1, 0], [-0.25, 0.5, 1]])
SCALES = np.array([[1, 0.5, 2], [2, 1, 0.5], [0.5, 1, 1]])


def gmm_start(kind):
    """The same three components for each type, as far as the type can say them."""
    upper = np.linalg.inv(LOWER).T
    precisions = np.array([LOWER * scales @ LOWER.T for scales in SCALES])
    covariances = np.array([upper / scales @ upper.T for scales in SCALES])
    assert (precisions @ covariances == np.eye(3)).all()
    start = {
        "full": (precisions, covariances),
        "tied": (precisions[0], covariances[0]),
        "diag": (SCALES, 1 / SCALES),
        "spherical": (SCALES[:, 0], 1 / SCALES[:, 0]),
    }[kind]
    return {
        "weights": np.array([0.5, 0.25, 0.25]),
        "means": GMM_CENTRES + [0.5, -0.5, 0.25],
        "precisions": start[0],
        "covariances": start[1],
    }


def gmm_fit(x, kind, start, max_iter, tol):
    model = GaussianMixture(
        n_components=3,
        covariance_type=kind,
        reg_covar=REG_COVAR,
        tol=tol,
        max_iter=max_iter,
        weights_init=start["weights"],
        means_init=start["means"],
        precisions_init=start["precisions"],
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    assert model.converged_ == (tol > 0)
    if tol:
        # The last gain is under the tolerance and the one before above it, beyond any rounding.
        before, last = np.diff(model.lower_bounds_)[-2:]
        assert last < 0.99 * tol < 1.01 * tol < before
    return {
        "max_iter": max_iter,
        "tol": tol,
        "n_iter": model.n_iter_,
        "lower_bound": model.lower_bound_,
        "weights": model.weights_,
        "means": model.means_,
        "covariances": model.covariances_,
        "mean_score": model.score(x),
        "score_samples_first_5": model.score_samples(x[:5]),
        "predict_proba_first_5": model.predict_proba(x[:5]),
        "n_parameters": model._n_parameters(),
        "bic": model.bic(x),
        "aic": model.aic(x),
    }


def gmm_case(x, kind):
    start = gmm_start(kind)
    return {
        "covariance_type": kind,
        "start": start,
        "fits": [gmm_fit(x, kind, start, *stop) for stop in GMM_STOPS],
    }


def gmm_covariances():
    x = correlated(np.random.default_rng(54), GMM_CENTRES, [110, 80, 50])
    kinds = ["full", "tied", "diag", "spherical"]
    write(
        "gmm_covariances.json",
        {
            "n_components": 3,
            "reg_covar": REG_COVAR,
            "x": x,
            "cases": [gmm_case(x, kind) for kind in kinds],
        },
    )


# --- kmeans_iterations.json ---------------------------------------------------------------------

# Iterations and tolerance. On so few rows only the loose one stops before the labels settle.
CONVERGENCE = (300, 1e-4)
LOOSE = (300, 1e-2)


def lloyd(x, init, weights, max_iter, tol):
    k = len(init)
    model = KMeans(k, init=init, n_init=1, tol=tol, max_iter=max_iter, algorithm="lloyd")
    return model.fit(x, sample_weight=weights)


def squared_distances(x, centroids):
    return ((x[:, None, :] - centroids) ** 2).sum(axis=2)


def assert_clear(x, init, weights, n_iter):
    """No row is near a boundary in any iteration, nor is a second row nearly the farthest."""
    steps = [lloyd(x, init, weights, i, 0).cluster_centers_ for i in range(1, n_iter + 1)]
    for centroids in [init, *steps]:
        nearest = np.sort(squared_distances(x, centroids), axis=1)
        assert (nearest[:, 1] - nearest[:, 0]).min() > 1e-3
        farthest = np.sort(nearest[:, 0])
        assert farthest[-1] - farthest[-2] > 1e-3


def lloyd_fit(x, init, weights, max_iter, tol):
    model = lloyd(x, init, weights, max_iter, tol)
    assert (model.n_iter_ < max_iter) == (tol > 0)
    return {
        "max_iter": max_iter,
        "tol": tol,
        "n_iter": model.n_iter_,
        "inertia": model.inertia_,
        "centroids": model.cluster_centers_,
        "labels": model.labels_,
    }


def lloyd_case(name, x, init, stops, weights=None):
    fits = [lloyd_fit(x, init, weights, *stop) for stop in stops]
    assert_clear(x, init, weights, fits[-1]["n_iter"])
    return {"name": name, "init_centroids": init, "sample_weight": weights, "fits": fits}


def far_start(x):
    """The last centroid is nearest to no row, and every other one to some."""
    init = np.concatenate([x[5:9], [[500.0, -500.0, 500.0, 500.0]]])
    assert set(squared_distances(x, init).argmin(axis=1)) == {0, 1, 2, 3}
    return init


def kmeans_iterations():
    rng = np.random.default_rng(61)
    centres = np.array(
        [[0, 0, 0, 0], [3, 1, -1, 2], [-2, 3, 1, -1], [1, -3, 2, 0], [-1, -1, -3, 2]], dtype=float
    )
    rows = np.repeat(centres, [90, 75, 60, 45, 30], axis=0)
    x = sixty_fourths(rows + 1.3 * rng.normal(size=(300, 4)))
    x = x[rng.permutation(300)]
    counted = [(1, 0.0), (2, 0.0), (5, 0.0), LOOSE, CONVERGENCE]
    ends = [(1, 0.0), CONVERGENCE]
    weights = rng.integers(1, 6, size=300).astype(float)
    write(
        "kmeans_iterations.json",
        {
            "n_clusters": 5,
            "x": x,
            "cases": [
                lloyd_case("plain", x, x[:5], counted),
                lloyd_case("empty cluster", x, far_start(x), ends),
                lloyd_case("weighted", x, x[:5], ends, weights),
            ],
        },
    )


# --- kmeans_restarts.json -----------------------------------------------------------------------

# seed, n, d, clusters, spread, k
GENERATED = [
    (1, 100, 2, 3, 192, 3),
    (2, 100, 3, 4, 256, 4),
    (3, 120, 8, 5, 384, 5),
    (4, 150, 2, 5, 320, 4),
    (5, 150, 5, 6, 384, 6),
    (6, 200, 2, 8, 128, 8),
    (7, 200, 4, 3, 512, 5),
    (8, 200, 6, 10, 384, 8),
    (9, 250, 3, 6, 320, 6),
    (10, 250, 7, 4, 512, 4),
    (11, 300, 2, 12, 128, 10),
    (12, 300, 5, 8, 384, 8),
    (13, 350, 4, 7, 320, 9),
    (14, 400, 2, 6, 256, 6),
    (15, 400, 8, 12, 512, 12),
    (16, 450, 3, 9, 256, 7),
    (17, 500, 6, 5, 640, 5),
    (18, 500, 2, 4, 512, 6),
    (19, 550, 4, 12, 256, 12),
    (20, 600, 7, 8, 512, 6),
    (21, 650, 3, 10, 192, 10),
    (22, 700, 5, 3, 768, 3),
    (23, 750, 2, 9, 192, 9),
    (24, 800, 8, 7, 512, 7),
]
U64 = 2**64 - 1


def splitmix64(seed):
    """An endless stream of u64, in arithmetic that wraps."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) & U64
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & U64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & U64
        yield z ^ (z >> 31)


def generated(seed, n, d, clusters, spread):
    stream = splitmix64(seed)

    def draw(below):
        return (next(stream) >> 32) % below

    def near(centre):
        return centre + sum(draw(spread) for _ in range(4)) - 2 * (spread - 1)

    def row():
        # The smaller of two draws: the first clusters are the largest.
        centre = centres[min(draw(clusters), draw(clusters))]
        return [near(value) for value in centre]

    centres = [[draw(2048) for _ in range(d)] for _ in range(clusters)]
    return np.array([row() for _ in range(n)]) / 256


def best_of_ten(x, k):
    model = KMeans(
        k, init="k-means++", n_init=10, random_state=0, tol=1e-4, max_iter=300, algorithm="lloyd"
    )
    return model.fit(x).inertia_


def generated_case(seed, n, d, clusters, spread, k):
    return {
        "seed": seed,
        "n": n,
        "d": d,
        "clusters": clusters,
        "spread": spread,
        "k": k,
        "inertia": best_of_ten(generated(seed, n, d, clusters, spread), k),
    }


def cdnow():
    """Orders, spend and days since the last order of the first 500 customers by id."""
    log = pd.read_csv(CDNOW, parse_dates=["date"])
    by_customer = log.groupby("customer_id")
    recency = (log.date.max() - by_customer.date.max()).dt.days
    table = pd.concat([by_customer.size(), by_customer.amount.sum(), recency], axis=1)
    return table.sort_index().head(500).to_numpy(dtype=float)


def real_case(name, raw, k):
    x = np.round((raw - raw.mean(axis=0)) / raw.std(axis=0) * 1024) / 1024
    return {"name": name, "k": k, "x": x, "inertia": best_of_ten(x, k)}


def kmeans_restarts():
    table = cdnow()
    write(
        "kmeans_restarts.json",
        {
            "n_init": 10,
            "tol": 1e-4,
            "max_iter": 300,
            "generated": [generated_case(*parameters) for parameters in GENERATED],
            "real": [
                real_case("cdnow", table, 5),
                real_case("cdnow, log(1 + value)", np.log1p(table), 6),
            ],
        },
    )


# --- features.json ------------------------------------------------------------------------------

AS_OFS = ["2020-12-31", "2021-06-30"]

# The cases that random orders would miss: customer, time (UTC), amount in cents.
FIXED_ORDERS = [
    # One order only, on the as-of day's last second, and so within the first as-of.
    ("c01", "2020-12-31T23:59:59Z", 4999),
    # The same, one second later: unknown at the first as-of.
    ("c02", "2021-01-01T00:00:00Z", 1250),
    # Two orders on one day and nothing else: a spread of amounts, but no gap.
    ("c03", "2020-03-10T08:15:00Z", 1999),
    ("c03", "2020-03-10T19:40:00Z", 701),
    # Two days: one gap, so a mean of gaps and no variation.
    ("c04", "2020-02-01T00:00:00Z", 3000),
    ("c04", "2020-02-29T12:00:00Z", 3000),
    # The edges of the last 90 days: the day 90 days before each as-of is out, the next one is in.
    ("c05", "2020-10-02T23:59:59Z", 1000),
    ("c05", "2020-10-03T00:00:00Z", 2500),
    ("c05", "2021-04-01T12:00:00Z", 777),
    ("c05", "2021-04-02T12:00:00Z", 888),
    # Gaps all equal: the variation is 0. One amount is 0.
    ("c06", "2020-06-01T10:00:00Z", 1500),
    ("c06", "2020-06-08T10:00:00Z", 0),
    ("c06", "2020-06-15T09:00:00Z", 1500),
    ("c06", "2020-06-15T21:00:00Z", 250),
    ("c06", "2020-06-22T10:00:00Z", 1501),
]


def orders():
    rng = np.random.default_rng(41)
    rows = list(FIXED_ORDERS)
    for customer in range(7, 13):
        start = int(rng.integers(0, 250))
        for _ in range(int(rng.integers(6, 10))):
            day = min(start + int(rng.integers(0, 480)), 545)
            second = int(rng.integers(0, 86400))
            time = pd.Timestamp("2020-01-01") + pd.Timedelta(days=day, seconds=second)
            cents = int(np.round(np.exp(rng.normal(7.8, 0.7))))
            rows.append((f"c{customer:02}", time.strftime("%Y-%m-%dT%H:%M:%SZ"), cents))
    return sorted(rows)


def features_of(own, as_of_day):
    """One customer's orders up to the as-of -> what the tests expect."""
    amounts = own.cents.astype(float)
    days = own.day.drop_duplicates().sort_values()
    gaps = days.diff().dropna().dt.days.astype(float)

    def window(n_days):
        return own[own.day > as_of_day - pd.Timedelta(days=n_days)]

    def ratio(above, below):
        return above / below if below else None

    per_day = own.groupby("day").cents.sum()
    return {
        "count": len(own),
        "sum_cents": own.cents.sum(),
        "mean_cents": amounts.mean(),
        "max_cents": own.cents.max(),
        "std_cents": amounts.std(ddof=1),
        "days_since_last": (as_of_day - days.iloc[-1]).days,
        "days_since_first": (as_of_day - days.iloc[0]).days,
        "gap_mean_days": gaps.mean(),
        "gap_variation": gaps.std(ddof=1) / gaps.mean() if len(gaps) >= 2 else None,
        "count_30": len(window(30)),
        "count_90": len(window(90)),
        "sum_90_cents": window(90).cents.sum(),
        "ratio_count_90_all": ratio(len(window(90)), len(own)),
        "ratio_count_30_90": ratio(len(window(30)), len(window(90))),
        "frequency": len(days) - 1,
        "recency_days": (days.iloc[-1] - days.iloc[0]).days,
        "age_days": (as_of_day - days.iloc[0]).days,
        "monetary_value_cents": per_day.iloc[1:].mean() if len(days) > 1 else 0.0,
    }


def features():
    rows = orders()
    log = pd.DataFrame(rows, columns=["customer", "time", "cents"])
    log["day"] = pd.to_datetime(log.time).dt.tz_localize(None).dt.normalize()
    answers = []
    for as_of in AS_OFS:
        as_of_day = pd.Timestamp(as_of)
        # The end of the day is what the as-of means.
        seen = log[log.day <= as_of_day]
        customers = {name: features_of(own, as_of_day) for name, own in seen.groupby("customer")}
        answers.append({"as_of": as_of, "customers": customers})
    write(
        "features.json",
        {
            "zone": "UTC",
            "currency_digits": 2,
            "order_columns": ["customer", "time", "cents"],
            "orders": rows,
            "answers": answers,
        },
    )


if __name__ == "__main__":
    with threadpool_limits(1):
        metrics()
        logistic()
        elastic_net()
        kmeans()
        gmm()
        gmm_covariances()
        kmeans_iterations()
        kmeans_restarts()
        features()
