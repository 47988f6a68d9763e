"""Writes btyd.json beside this script: python3 btyd_generate.py [FOLDER]

Purchase models by mpmath at 40 digits. Parameters are maximum likelihood by Newton's method on the
logs of the parameters, begun by scipy. The answers for single customers do not use the formulas of
the papers: they integrate over the latent rate and drop-out numerically, from what the models say
about one customer whose rate and drop-out are known. FOLDER, or the environment's BEHAVIOUR_LOGS,
holds cdnow_master.csv and online_retail_uci352.parquet; without it what came from them is kept.
"""

import json
import os
import platform
import sys
from functools import lru_cache
from multiprocessing import Pool
from pathlib import Path

import mpmath
import numpy as np
import pandas as pd
import scipy
from mpmath import mp, mpf
from mpmath.calculus.quadrature import GaussLegendre
from scipy.optimize import minimize
from scipy.special import betaln, gammaln

HERE = Path(__file__).resolve().parent
CDNOW = HERE.parents[2] / "examples" / "cdnow" / "orders.csv"
FOLDER = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BEHAVIOUR_LOGS")
OUT = HERE / "btyd.json"
VERSIONS = {
    "python": platform.python_version(),
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "mpmath": mpmath.__version__,
    "pandas": pd.__version__,
}
mp.dps = 40
INFINITY = mpf("inf")

# --- Integrals ----------------------------------------------------------------------------------


def nodes(ln_f, start, step, offset, cut):
    """Of the trapezoid rule on the whole line: from `start` outwards until f has vanished."""
    found, top = [], -INFINITY
    for sign in (1, -1):
        i = 0 if sign == 1 else 1
        while True:
            w = start + (sign * i + offset) * step
            value = ln_f(w)
            top = max(top, value)
            if value < top - cut:
                break
            found.append((w, value))
            i += 1
    return found


def rate_of(w, shape, rate):
    """A map of the line onto rates whose gamma density vanishes doubly exponentially."""
    return shape / rate * mp.exp(w - mp.exp(-w) + 1)


def rates(shape, rate, step, offset, cut):
    """Nodes (rate, ln weight) of the integral of rate^(shape-1) exp(-rate * own) d own."""

    def ln_f(w):
        own = rate_of(w, shape, rate)
        return shape * mp.log(own) - rate * own + mp.log1p(mp.exp(-w)) + mp.log(step)

    return [(rate_of(w, shape, rate), v) for w, v in nodes(ln_f, mpf(0), step, offset, cut)]


def chances(a, b, step, offset, cut):
    """Nodes (p, ln(1 - p), ln weight) of the integral of p^(a-1) (1-p)^(b-1) dp."""

    def split(w):
        z = 2 * mp.sinh(w / 2)
        return -mp.log1p(mp.exp(-z)), -mp.log1p(mp.exp(z))

    def ln_f(w):
        ln_p, ln_q = split(w)
        return a * ln_p + b * ln_q + mp.log(mp.cosh(w / 2)) + mp.log(step)

    start = 2 * mp.asinh(mp.log(a / b) / 2)
    found = []
    for w, value in nodes(ln_f, start, step, offset, cut):
        ln_p, ln_q = split(w)
        found.append((mp.exp(ln_p), ln_q, value))
    return found


def ln_sum(values):
    top = max(values)
    return top + mp.log(mp.fsum(mp.exp(value - top) for value in values))


def settled(estimate, step, tolerance):
    """Halves the step until the rule and the rule moved by half a step agree."""
    for _ in range(9):
        one, two = estimate(step, mpf(0)), estimate(step, mpf(1) / 2)
        if abs(one - two) <= tolerance * max(abs(one), mpf(10) ** -400):
            return one
        step /= 2
    raise AssertionError("an integral did not settle")


@lru_cache(maxsize=None)
def ln_gamma_integral(shape, rate):
    step = min(mpf(1) / 8, 1 / (3 * mp.sqrt(shape)))
    return settled(
        lambda h, o: ln_sum([v for _, v in rates(shape, rate, h, o, 70)]), step, mpf(10) ** -25
    )


@lru_cache(maxsize=None)
def ln_beta_integral(a, b):
    step = min(mpf(1) / 8, mp.sqrt(1 / a + 1 / b) / 3)
    return settled(
        lambda h, o: ln_sum([v for _, _, v in chances(a, b, h, o, 70)]), step, mpf(10) ** -25
    )


LEGENDRE = GaussLegendre(mp).calc_nodes(5, 150)  # 48 nodes


def legendre(f, points):
    """Gauss and Legendre's rule between neighbouring points."""
    total = []
    for low, high in zip(points, points[1:]):
        middle, half = (low + high) / 2, (high - low) / 2
        total += [half * w * f(middle + half * x) for x, w in LEGENDRE]
    return mp.fsum(total)


def ladder(length, *scales):
    """0 to `length` by factors of two, from far below the smallest scale."""
    low = min(*scales, length) * mpf(2) ** -12
    points = [mpf(0)]
    while low < length:
        points.append(low)
        low *= 2
    return points + [length]


# --- The beta-geometric family, from its definition ---------------------------------------------
# Hidden events come at `rate` while alive; every k-th is a purchase. After each purchase (modified:
# the first as well) the customer leaves with chance p.


def bg_future(k, stage, p, ln_q, t):
    """A function of the rate: purchases within t and the chance to be alive then, from a stage."""
    if k == 1:
        return lambda rate: (-mp.expm1(-rate * p * t) / p, mp.exp(-rate * p * t))
    # The generator is a circulant matrix but for powers of `root`; `away` are its eigenvalues, and
    # of two that are conjugate one stands for both.
    root, gap = mp.exp(ln_q / k), -mp.expm1(ln_q / k)  # 1 - root
    terms = []
    for i in range(k // 2 + 1):
        turn = mp.expjpi(mpf(2 * i) / k) if 2 * i != k else mpf(-1)
        away, both = (gap, mpf(1)) if i == 0 else (1 - root * turn, mpf(1 if 2 * i == k else 2))
        last = both * (root * turn) ** (stage - k + 1) / (k * away)
        some = both * mp.fsum((root * turn) ** (stage - m) for m in range(k)) / k
        terms.append((-t * away, last, some))

    def future(rate):
        bought, alive = mpf(0), mpf(0)
        for away, last, some in terms:
            power = rate * away
            bought -= (last * mp.expm1(power)).real
            alive += (some * mp.exp(power)).real
        return bought, alive

    return future


def bg_answers(k, modified, parameters, customer, horizons):
    r, alpha, a, b = map(mpf, parameters)
    x, t_x, age, ln_gaps = customer[0], mpf(customer[1]), mpf(customer[2]), mpf(customer[3])
    d = 1 if modified else 0
    n = r + k * x
    prior = ln_gamma_integral(r, alpha) + ln_beta_integral(a, b)

    def silent(until):
        """ln of the integrals of: alive, at stage j, no purchase since t_x."""
        out = []
        for j in range(k):
            since = until - t_x
            if j and since == 0:
                out.append(-INFINITY)
                continue
            part = ln_gamma_integral(n + j, alpha + until) + ln_beta_integral(a, b + x + d)
            out.append(part + (j * mp.log(since) if j else 0) - mp.loggamma(j + 1))
        return out

    stages = silent(age)
    alive = ln_sum(stages)
    # Survived every trial but the last one.
    gone = -INFINITY
    if x or modified:
        gone = ln_gamma_integral(n, alpha + t_x) + ln_beta_integral(a + 1, b + x + d - 1)
    data = ln_sum([alive, gone])
    density = (k - 1) * ln_gaps - x * mp.loggamma(k)
    answer = {
        "ln_likelihood": data - prior + density,
        "p_alive": mp.exp(alive - data),
        "futures": [],
    }
    weights = [mp.exp(stage - data) for stage in stages]
    for t in horizons:
        t = mpf(t)
        no_purchase = mp.exp(ln_sum(silent(age + t) + [gone]) - data)
        # Of two integrals the same nodes: (purchases, alive) for each stage with weight.
        totals = []
        for j, weight in enumerate(weights):
            if weight == 0 or t == 0:
                totals.append((mpf(0), mpf(1)))
                continue
            totals.append(bg_double(k, n + j, alpha + age, a, b + x + d, j, t))
        answer["futures"].append(
            {
                "t": t,
                "p_no_purchase": no_purchase,
                "expected_purchases": mp.fsum(w * e for w, (e, _) in zip(weights, totals)),
                "p_alive_after": mp.fsum(w * s for w, (_, s) in zip(weights, totals)),
            }
        )
    return answer


@lru_cache(maxsize=None)
def bg_double(k, shape, rate, a, b, stage, t):
    """Means over both the rate and the chance to leave."""
    step = min(mpf(1) / 6, 1 / (3 * mp.sqrt(shape)))
    p_step = min(mpf(1) / 16, mp.sqrt(1 / a + 1 / b) / 3)
    with mp.workdps(28 if k == 1 else 40):
        for _ in range(6):
            estimates = []
            for offset in (mpf(0), mpf(1) / 2):
                own = rates(shape, rate, step, offset, 80)
                leave = chances(a, b, p_step, offset, 80)
                top = max(v for _, v in own)
                own = [(value, mp.exp(v - top)) for value, v in own]
                top = max(v for _, _, v in leave)
                leave = [(p, ln_q, mp.exp(v - top)) for p, ln_q, v in leave]
                bought, alive = mpf(0), mpf(0)
                for p, ln_q, w in leave:
                    future = bg_future(k, stage, p, ln_q, t)
                    for value, u in own:
                        weight = w * u
                        # Unlikely ones may be all that is left of a probability.
                        if weight > 1e-34:
                            e, s = future(value)
                            bought += weight * e
                            alive += weight * s
                mass = mp.fsum(u for _, u in own) * mp.fsum(w for _, _, w in leave)
                estimates.append((bought / mass, alive / mass))
            (one, two), (three, four) = estimates
            # Of their mean the error is about the square of what they differ by.
            if abs(one - three) <= 3e-9 * one and abs(two - four) <= 3e-9 * two:
                return (one + three) / 2, (two + four) / 2
            step, p_step = step / 2, p_step / 2
    raise AssertionError(f"not settled: {k} {shape} {rate} {a} {b} {stage} {t}")


def bg_counts(k, modified, parameters, customer, t, size):
    """P(X = i) for i < size: bands of Poisson counts, averaged over the rate."""
    r, alpha, a, b = map(mpf, parameters)
    x, t_x, age = customer[0], mpf(customer[1]), mpf(customer[2])
    d, n, t = (1 if modified else 0), r + k * x, mpf(t)
    ln_alive = [
        ln_gamma_integral(n + j, alpha + age)
        + ln_beta_integral(a, b + x + d)
        + (j * mp.log(age - t_x) if j else 0)
        - mp.loggamma(j + 1)
        for j in range(k)
    ]
    gone = -INFINITY
    if x or modified:
        gone = ln_gamma_integral(n, alpha + t_x) + ln_beta_integral(a + 1, b + x + d - 1)
    data = ln_sum(ln_alive + [gone])
    out = [mpf(0)] * size
    out[0] = mp.exp(gone - data)
    for j in range(k):
        weight = mp.exp(ln_alive[j] - data)
        whole = ln_gamma_integral(n + j, alpha + age)
        # The Poisson probability of m hidden events, averaged: rate^m exp(-rate t) t^m / m!.
        hidden = [
            mp.exp(
                ln_gamma_integral(n + j + m, alpha + age + t)
                - whole
                + m * mp.log(t)
                - mp.loggamma(m + 1)
            )
            for m in range(k * (size + 1))
        ]

        def stays(i):
            return mp.exp(ln_beta_integral(a, b + x + d + i) - ln_beta_integral(a, b + x + d))

        for i in range(size):
            first, end = max(i * k - j, 0), (i + 1) * k - j
            out[i] += weight * stays(i) * mp.fsum(hidden[first:end])
            if i:
                at_least = 1 - mp.fsum(hidden[:first])
                out[i] += weight * (stays(i - 1) - stays(i)) * at_least
    return out


# --- Pareto/NBD, from its definition ------------------------------------------------------------
# Purchases come at `rate` until the customer leaves at an exponential time whose own rate is gamma
# distributed (s, beta). Averages over the two rates are elementary for a known time of leaving;
# the time of leaving is integrated over numerically.


def pareto_ln_data(r, alpha, s, beta, x, t_x, until):
    """ln of (alive and silent until then) and of (left before), with the prior's constants."""
    constant = mp.loggamma(r + x) - mp.loggamma(r) + r * mp.log(alpha) + s * mp.log(beta)
    ln_alive = -(r + x) * mp.log(alpha + until) - s * mp.log(beta + until)
    if until == t_x:
        return constant + ln_alive, -INFINITY
    ln_top = -(r + x) * mp.log(alpha + t_x) - (s + 1) * mp.log(beta + t_x)

    def f(u):
        return mp.exp(
            -(r + x) * mp.log(alpha + t_x + u) - (s + 1) * mp.log(beta + t_x + u) - ln_top
        )

    scale = (alpha + t_x) / (r + x)
    points = ladder(until - t_x, scale, alpha + t_x, beta + t_x)
    # Beyond 300 scales nothing is left of many purchases.
    points = [u for u in points if x < 100 or u < 300 * scale or u == points[-1]]
    return constant + ln_alive, constant + ln_top + mp.log(s * legendre(f, points))


def pareto_answers(parameters, customer, horizons):
    r, alpha, s, beta = map(mpf, parameters)
    x, t_x, age = customer[0], mpf(customer[1]), mpf(customer[2])
    alive, gone = pareto_ln_data(r, alpha, s, beta, x, t_x, age)
    data = ln_sum([alive, gone])
    p_alive = mp.exp(alive - data)
    answer = {"ln_likelihood": data, "p_alive": p_alive, "futures": []}
    for t in map(mpf, horizons):
        later = ln_sum(list(pareto_ln_data(r, alpha, s, beta, x, t_x, age + t)))

        def stays(v):
            return mp.exp(s * mp.log((beta + age) / (beta + age + v)))

        time_alive = legendre(stays, ladder(t, beta + age)) if t else mpf(0)
        answer["futures"].append(
            {
                "t": t,
                "p_no_purchase": mp.exp(later - data),
                "expected_purchases": p_alive * (r + x) / (alpha + age) * time_alive,
                "p_alive_after": p_alive * stays(t),
            }
        )
    return answer


def pareto_counts(parameters, customer, t, size):
    r, alpha, s, beta = map(mpf, parameters)
    x, t_x, age = customer[0], mpf(customer[1]), mpf(customer[2])
    alive, gone = pareto_ln_data(r, alpha, s, beta, x, t_x, age)
    p_alive, t, shape, rate = mp.exp(alive - ln_sum([alive, gone])), mpf(t), r + x, alpha + age

    def count(i, v):
        """P(i purchases in v), averaged over the rate."""
        if v == 0:
            return mpf(i == 0)
        ways = mp.loggamma(shape + i) - mp.loggamma(shape) - mp.loggamma(i + 1)
        return mp.exp(ways + shape * mp.log(rate / (rate + v)) + i * mp.log(v / (rate + v)))

    def leaves(v):
        return s * mp.exp(s * mp.log(beta + age) - (s + 1) * mp.log(beta + age + v))

    points = ladder(t, rate / shape, rate, beta + age)
    stays = mp.exp(s * mp.log((beta + age) / (beta + age + t)))
    return [
        (1 - p_alive) * (i == 0)
        + p_alive
        * (stays * count(i, t) + legendre(lambda v: leaves(v) * count(i, v), points))
        for i in range(size)
    ]


def pareto_double(parameters, customer):
    """The likelihood as an integral over both rates, to check the one above."""
    r, alpha, s, beta = map(mpf, parameters)
    x, t_x, age = customer[0], mpf(customer[1]), mpf(customer[2])

    def estimate(step, offset):
        total = mpf(0)
        leave = [(own, mp.exp(v)) for own, v in rates(s, beta, step, offset, 45)]
        for own, v in rates(r + x, alpha + t_x, step, offset, 45):
            for mu, w in leave:
                both, span = own + mu, age - t_x
                since = (mu * mp.exp(-mu * t_x) + own * mp.exp(-both * span - mu * t_x)) / both
                total += mp.exp(v) * w * since
        return total

    with mp.workdps(25):
        total = settled(estimate, mpf(1) / 4, mpf(10) ** -15)
    return mp.log(total) - ln_gamma_integral(r, alpha) - ln_gamma_integral(s, beta)


# --- NBD, BG/BB and Gamma-Gamma, from their definitions -----------------------------------------


def nbd_answers(parameters, customer, horizons):
    r, alpha = map(mpf, parameters)
    x, age = customer[0], mpf(customer[2])
    data, prior = ln_gamma_integral(r + x, alpha + age), ln_gamma_integral(r, alpha)
    mean = mp.exp(ln_gamma_integral(r + x + 1, alpha + age) - data)
    return {
        "ln_likelihood": data - prior,
        "p_alive": mpf(1),
        "futures": [
            {
                "t": mpf(t),
                "p_no_purchase": mp.exp(ln_gamma_integral(r + x, alpha + age + mpf(t)) - data),
                "expected_purchases": mean * mpf(t),
                "p_alive_after": mpf(1),
            }
            for t in horizons
        ],
    }


def bgbb_answers(parameters, customer, horizons):
    alpha, beta, gamma, delta = map(mpf, parameters)
    x, t_x, n = customer
    prior = ln_beta_integral(alpha, beta) + ln_beta_integral(gamma, delta)

    def buys(until):
        return ln_beta_integral(alpha + x, beta + until - x)

    def alive(until, after):
        """Alive in period `after`, and silent from t_x until `until`."""
        return buys(until) + ln_beta_integral(gamma, delta + after)

    def data(until):
        gone = [buys(i) + ln_beta_integral(gamma + 1, delta + i) for i in range(t_x, until)]
        return ln_sum(gone + [alive(until, until)])

    total = data(n)
    # Until n + 1, and there with a purchase.
    buys_again = ln_beta_integral(alpha + x + 1, beta + n - x)
    return {
        "ln_likelihood": total - prior,
        "p_alive": mp.exp(alive(n, n) - total),
        "p_alive_next": mp.exp(alive(n, n + 1) - total),
        "futures": [
            {
                "t": t,
                "p_no_purchase": mp.exp(data(n + t) - total),
                "expected_purchases": mp.fsum(
                    mp.exp(buys_again + ln_beta_integral(gamma, delta + n + i) - total)
                    for i in range(1, t + 1)
                ),
                "p_alive_after": mp.exp(alive(n, n + t) - total),
            }
            for t in horizons
        ],
    }


def spend_answers(parameters, x, mean):
    """z of one order is gamma (p, rate), and the rate is gamma (q, v)."""
    p, q, v = map(mpf, parameters)
    mean = mpf(mean)
    shape, rate = q + p * x, v + x * mean
    data, prior = ln_gamma_integral(shape, rate), ln_gamma_integral(q, v)
    expected = p * mp.exp(ln_gamma_integral(shape - 1, rate) - data)  # p / rate, averaged
    if x == 0:
        return {"x": x, "mean": mean, "ln_likelihood": mpf(0), "expected_spend": expected}
    # The mean of x orders is gamma (p x, x rate).
    density = p * x * mp.log(x) + (p * x - 1) * mp.log(mean) - mp.loggamma(p * x)
    ln_likelihood = data - prior + density
    return {"x": x, "mean": mean, "ln_likelihood": ln_likelihood, "expected_spend": expected}


# --- Maximum likelihood -------------------------------------------------------------------------
# `rows`: x, t_x, T and the number of customers. `lib` is numpy for the start, mpmath for the end.


def bg_fit_ll(k, modified):
    d = 1 if modified else 0

    def start(theta, x, t_x, age, weight, ln_gaps):
        r, alpha, a, b = np.exp(theta)
        n = r + k * x
        ll = gammaln(n) - gammaln(r) + r * np.log(alpha) - n * np.log(alpha + age)
        ll += betaln(a, b + x + d) - betaln(a, b) - x * gammaln(k)
        q, stages, term = (age - t_x) / (alpha + age), np.ones_like(age), np.ones_like(age)
        for j in range(1, k):
            term = term * (n + j - 1) / j * q
            stages = stages + term
        gone = np.log(a) - np.log(np.maximum(b + x - 1 + d, 1e-300))
        gone = gone + n * np.log((alpha + age) / (alpha + t_x))
        gone = np.where((x > 0) | modified, gone, -np.inf)
        return weight @ (ll + np.logaddexp(gone, np.log(stages))) + (k - 1) * ln_gaps

    def exact(theta, rows, ln_gaps):
        r, alpha, a, b = map(mp.exp, theta)
        top = max(row[0] for row in rows)
        ln_rising, ln_stays = [mpf(0)], [mpf(0)]
        for i in range(k * top):
            ln_rising.append(ln_rising[-1] + mp.log(r + i))
        for i in range(top + d):
            ln_stays.append(ln_stays[-1] + mp.log(b + i) - mp.log(a + b + i))
        total = []
        for x, t_x, age, weight in rows:
            n, t_x, age = r + k * x, mpf(t_x), mpf(age)
            ll = ln_rising[k * x] + r * mp.log(alpha) + ln_stays[x + d] - n * mp.log(alpha + age)
            q, stages, term = (age - t_x) / (alpha + age), mpf(1), mpf(1)
            for j in range(1, k):
                term *= (n + j - 1) / j * q
                stages += term
            if x or modified:
                stages += a / (b + x + d - 1) * ((alpha + age) / (alpha + t_x)) ** n
            total.append(weight * (ll + mp.log(stages) - x * mp.loggamma(k)))
        return mp.fsum(total) + (k - 1) * ln_gaps

    return start, exact


def pareto_fit_ll():
    points, point_weights = np.polynomial.legendre.leggauss(80)

    def start(theta, x, t_x, age, weight, ln_gaps):
        r, alpha, s, beta = np.exp(theta)
        low, high = np.log(alpha + t_x), np.log(alpha + age)
        z = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * points
        u = np.exp(z) - alpha
        ln_f = (1 - r - x)[:, None] * z - (s + 1) * np.log(beta + u)
        top = ln_f.max(axis=1)
        gone = (np.exp(ln_f - top[:, None]) @ point_weights) * (high - low) / 2
        gone = np.where(age > t_x, top + np.log(s * np.maximum(gone, 1e-300)), -np.inf)
        alive = -(r + x) * np.log(alpha + age) - s * np.log(beta + age)
        ll = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + s * np.log(beta)
        return weight @ (ll + np.logaddexp(alive, gone))

    def exact(theta, rows, ln_gaps):
        """Fader and Hardie's form (2005), with the hypergeometric function."""
        r, alpha, s, beta = map(mp.exp, theta)
        top, low = max(alpha, beta), min(alpha, beta)

        @lru_cache(maxsize=None)
        def part(x, t):
            n, second = r + s + x, s + 1 if alpha >= beta else r + x
            z = (top - low) / (top + t)
            return mp.hyp2f1(n, second, n + 1, z) * (top + t) ** -n

        total = []
        for x, t_x, age, weight in rows:
            t_x, age = mpf(t_x), mpf(age)
            data = (alpha + age) ** -(r + x) * (beta + age) ** -s
            data += s / (r + s + x) * (part(x, t_x) - part(x, age))
            ll = mp.log(mp.rf(r, x)) + r * mp.log(alpha) + s * mp.log(beta)
            total.append(weight * (ll + mp.log(data)))
        return mp.fsum(total)

    return start, exact


def nbd_fit_ll():
    def start(theta, x, t_x, age, weight, ln_gaps):
        r, alpha = np.exp(theta)
        ll = gammaln(r + x) - gammaln(r) + r * np.log(alpha) - (r + x) * np.log(alpha + age)
        return weight @ ll

    def exact(theta, rows, ln_gaps):
        r, alpha = map(mp.exp, theta)
        return mp.fsum(
            w * (mp.log(mp.rf(r, x)) + r * mp.log(alpha) - (r + x) * mp.log(alpha + mpf(age)))
            for x, _, age, w in rows
        )

    return start, exact


def bgbb_fit_ll():
    def start(theta, x, t_x, n, weight, ln_gaps):
        alpha, beta, gamma, delta = np.exp(theta)
        alive = betaln(alpha + x, beta + n - x) + betaln(gamma, delta + n)
        terms = [alive]
        for i in range(int(n.max())):
            term = betaln(alpha + x, np.maximum(beta + i - x, 1e-9)) + betaln(gamma + 1, delta + i)
            terms.append(np.where((i >= t_x) & (i < n), term, -np.inf))
        ll = np.logaddexp.reduce(terms) - betaln(alpha, beta) - betaln(gamma, delta)
        return weight @ ll

    def exact(theta, rows, ln_gaps):
        alpha, beta, gamma, delta = map(mp.exp, theta)
        total = []
        for x, t_x, n, weight in rows:
            data = mp.beta(alpha + x, beta + n - x) * mp.beta(gamma, delta + n)
            for i in range(t_x, n):
                data += mp.beta(alpha + x, beta + i - x) * mp.beta(gamma + 1, delta + i)
            total.append(weight * mp.log(data / mp.beta(alpha, beta) / mp.beta(gamma, delta)))
        return mp.fsum(total)

    return start, exact


def spend_fit_ll():
    def start(theta, x, mean, _, weight, ln_gaps):
        p, q, v = np.exp(theta)
        ll = gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * np.log(v)
        ll += (p * x - 1) * np.log(mean) + p * x * np.log(x)
        return weight @ (ll - (p * x + q) * np.log(x * mean + v))

    def exact(theta, rows, ln_gaps):
        p, q, v = map(mp.exp, theta)
        total = []
        for x, mean, _, weight in rows:
            mean, px = mpf(mean), p * x
            ll = mp.loggamma(px + q) - mp.loggamma(px) - mp.loggamma(q) + q * mp.log(v)
            ll += (px - 1) * mp.log(mean) + px * mp.log(x) - (px + q) * mp.log(x * mean + v)
            total.append(weight * ll)
        return mp.fsum(total)

    return start, exact


MODELS = {
    "NBD": (["r", "alpha"], nbd_fit_ll()),
    "BG/NBD": (["r", "alpha", "a", "b"], bg_fit_ll(1, False)),
    "MBG/NBD": (["r", "alpha", "a", "b"], bg_fit_ll(1, True)),
    "BG/CNBD-2": (["r", "alpha", "a", "b"], bg_fit_ll(2, False)),
    "MBG/CNBD-2": (["r", "alpha", "a", "b"], bg_fit_ll(2, True)),
    "MBG/CNBD-3": (["r", "alpha", "a", "b"], bg_fit_ll(3, True)),
    "Pareto/NBD": (["r", "alpha", "s", "beta"], pareto_fit_ll()),
    "BG/BB": (["alpha", "beta", "gamma", "delta"], bgbb_fit_ll()),
    "Gamma-Gamma": (["p", "q", "v"], spend_fit_ll()),
}


def slopes(f, theta, second):
    """Gradient and, where wanted, Hessian by central differences at 40 digits."""
    step, n = mpf(10) ** -10, len(theta)

    def at(*moves):
        point = list(theta)
        for i, sign in moves:
            point[i] += sign * step
        return f(point)

    ups, downs = [at((i, 1)) for i in range(n)], [at((i, -1)) for i in range(n)]
    gradient = mp.matrix([(up - down) / (2 * step) for up, down in zip(ups, downs)])
    if not second:
        return gradient, None
    middle, hessian = f(theta), mp.matrix(n)
    for i in range(n):
        hessian[i, i] = (ups[i] - 2 * middle + downs[i]) / step**2
        for j in range(i):
            both = at((i, 1), (j, 1)) + at((i, -1), (j, -1))
            mixed = at((i, 1), (j, -1)) + at((i, -1), (j, 1))
            hessian[i, j] = hessian[j, i] = (both - mixed) / (4 * step**2)
    return gradient, hessian


def fit(job):
    data, model, rows, ln_gaps = job
    names, (start, exact) = MODELS[model]
    columns = [np.array(column, dtype=float) for column in zip(*rows)]
    # alpha, beta and v are times or amounts; elsewhere 1 is a fair guess.
    scale = np.log(np.average(columns[2] if model != "Gamma-Gamma" else columns[1],
                              weights=columns[3]) / 4)
    theta = [0.0 if model == "BG/BB" or name not in ("alpha", "beta", "v") else scale
             for name in names]

    def objective(theta):
        if np.abs(theta).max() > 15:
            return 1e15
        with np.errstate(all="ignore"):
            value = start(theta, *columns, float(ln_gaps))
        return -value if np.isfinite(value) else 1e15

    for _ in range(3):
        theta = minimize(objective, theta, method="Nelder-Mead",
                         options={"maxiter": 4000, "maxfev": 4000, "xatol": 1e-9, "fatol": 1e-9}).x
    theta = [mpf(value) for value in theta]

    def f(point):
        return exact(point, rows, ln_gaps)

    gradient, hessian = slopes(f, theta, True)
    for _ in range(12):
        move = mp.lu_solve(hessian, gradient)
        theta = [value - move[i] for i, value in enumerate(theta)]
        if mp.norm(move) < mpf(10) ** -17:
            break
        gradient, _ = slopes(f, theta, False)
    else:
        raise AssertionError(f"{model} on {data} did not converge")
    # The Hessian is that of scipy's end, some 1e-8 away.
    errors = mp.inverse(-hessian)
    values = mp.eigsy(-hessian, eigvals_only=True)
    assert min(values) > 0
    result = {
        "data": data,
        "model": model,
        "parameters": {name: mp.exp(value) for name, value in zip(names, theta)},
        "ln_likelihood": f(theta),
        "ln_standard_errors": [mp.sqrt(errors[i, i]) for i in range(len(names))],
        "condition_number": max(values) / min(values),
    }
    print(data, model, *(mp.nstr(mp.exp(v), 8) for v in theta),
          mp.nstr(result["ln_likelihood"], 12), file=sys.stderr, flush=True)
    return result


# --- Data ---------------------------------------------------------------------------------------


def histories(log, cut):
    """Per customer: T in days, then the gaps between days with a purchase; and cents a day."""
    cut = pd.Timestamp(cut)
    daily = log[log.date <= cut].groupby(["customer_id", "date"]).cents.sum().reset_index()
    found, spend = [], []
    for _, own in daily.groupby("customer_id"):
        gaps = own.date.diff().dt.days.iloc[1:].astype(int).tolist()
        found.append([int((cut - own.date.iloc[0]).days)] + gaps)
        x, total = len(gaps), int(own.cents.iloc[1:].sum())
        if x and total:
            spend.append([x, (2 * total + x) // (2 * x)])  # The mean in whole cents, half upwards.
    return found, spend


def unique_rows(found, unit=None):
    rows = {}
    for age, *gaps in found:
        row = (len(gaps), sum(gaps), age)
        rows[row] = rows.get(row, 0) + 1
    if unit == "weeks":
        # As published: two decimals.
        return [(x, f"{t / 7:.2f}", f"{age / 7:.2f}", n) for (x, t, age), n in sorted(rows.items())]
    return [(*row, n) for row, n in sorted(rows.items())]


def ln_gaps(found):
    return mp.fsum(mp.log(gap) for _, *gaps in found for gap in gaps)


def read_orders(path):
    log = pd.read_csv(path, parse_dates=["date"])
    return log.assign(cents=(log.amount * 100).round().astype(int))


def read_retail(path):
    log = pd.read_parquet(path)
    log = log[log.CustomerID.notna() & (log.Quantity > 0) & (log.UnitPrice > 0)]
    log = log[~log.InvoiceNo.astype(str).str.startswith("C")]
    date = pd.to_datetime(log.InvoiceDate).dt.normalize()
    return pd.DataFrame({"customer_id": log.CustomerID, "date": date, "cents": 1})


DONATIONS = """6 6 1203,5 6 728,4 6 512,3 6 357,2 6 234,1 6 129,5 5 335,4 5 284,3 5 225,2 5 173,
1 5 119,4 4 240,3 4 181,2 4 155,1 4 78,3 3 322,2 3 255,1 3 129,2 2 613,1 2 277,1 1 1091,0 0 3464"""
DONATIONS = [[int(part) for part in cell.split()] for cell in DONATIONS.split(",")]
DAYS = ["NBD", "BG/NBD", "MBG/NBD", "BG/CNBD-2", "MBG/CNBD-2", "MBG/CNBD-3", "Pareto/NBD"]


NO_DROP_OUT = ["BG/NBD", "MBG/NBD", "Pareto/NBD"]


def fit_jobs(found, spend, retail):
    jobs = []
    weeks, days = unique_rows(found, "weeks"), unique_rows(found)
    for model in ("Pareto/NBD", "NBD", "BG/NBD", "MBG/NBD"):
        jobs.append(("cdnow, weeks", model, weeks, 0))
    jobs += [("cdnow, days", model, days, ln_gaps(found)) for model in DAYS]
    money = [(x, f"{cents // 100}.{cents % 100:02}", 0, 1) for x, cents in spend]
    jobs.append(("cdnow, spend", "Gamma-Gamma", money, 0))
    jobs.append(("donations", "BG/BB", [(x, t_x, 6, n) for x, t_x, n in DONATIONS], 0))
    if FOLDER:
        master, _ = histories(read_orders(Path(FOLDER) / "cdnow_master.csv"), "1997-09-30")
        rows, logs = unique_rows(master), ln_gaps(master)
        for model in DAYS[:3] + DAYS[4:5] + DAYS[6:]:
            jobs.append(("cdnow_master, days", model, rows, logs))
        rows, logs = unique_rows(retail), ln_gaps(retail)
        for model in ("NBD", "MBG/CNBD-2"):
            jobs.append(("online_retail, days", model, rows, logs))
    return jobs


def without_drop_out(retail, nbd):
    """Models that NBD is the best case of: on the way to it, from either side of a start."""
    columns = [np.array(column, dtype=float) for column in zip(*unique_rows(retail))]
    for model in NO_DROP_OUT:
        start, _ = MODELS[model][1]

        def objective(theta):
            if np.abs(theta).max() > 15:
                return 1e15
            with np.errstate(all="ignore"):
                value = start(theta, *columns, 0.0)
            return -value if np.isfinite(value) else 1e15

        for theta in ([-0.3, 4.2, -3, 1], [-0.3, 4.2, -1, 5]):
            for _ in range(3):
                end = minimize(objective, theta, method="Nelder-Mead",
                               options={"maxiter": 2000, "maxfev": 2000, "xatol": 1e-8,
                                        "fatol": 1e-9})
                theta = end.x
            assert abs(-end.fun - nbd) < 1e-5 and theta[2] < -14, (model, theta, end.fun)


# --- Which answers ------------------------------------------------------------------------------
# Every input is an f64 and stands in the file as such; the answers are those of that f64.

CUSTOMERS = ["0 0 1", "1 .05 1", "1 1 1", "3 .4 1", "12 .97 1", "40 .6 1"]
BIG = ["0 0 1", "10000 .9999 1", "10000 1 1", "2000 .995 1", "400 .2 1"]
# Name, unit of time, parameters of the beta-geometric family (alpha in units), customers.
BG_CASES = [
    ("cdnow", "38.86", ".24259 4.41353 .79289 2.42575", None),
    ("a = 1", "50", "1.3 10 1 2", CUSTOMERS),
    ("a just over 1", "1", ".9 .3 1.000000001 2.5", CUSTOMERS[:4]),
    ("a just under 1", "1", ".9 .3 .999999999999 2.5", CUSTOMERS[:4]),
    ("a and b small", "10", ".5 4 .02 .05", CUSTOMERS[:4]),
    ("hardly any drop-out", "250", ".8 75 .0001 10000", CUSTOMERS[:5]),
    ("rates alike", "365", "50 900 3 .2", CUSTOMERS[:5]),
    ("thousandths", ".001", ".25 .0001 .8 2.4", CUSTOMERS),
    ("thousands, r small", "1000", ".01 20 .5 1.5", CUSTOMERS[:5]),
    ("alpha far over T", "1", "2 10000 1.5 4", CUSTOMERS[:4]),
    ("many purchases", "1000", "2 .5 1.5 40", BIG),
]
PARETO_CASES = [
    ("cdnow", "38.86", ".55328 10.57761 .60621 11.66791", None),
    ("s = 1", "50", "1.3 10 1 20", CUSTOMERS),
    ("s just over 1", "1", ".9 .3 1.000000001 2.5", CUSTOMERS[:4]),
    ("alpha = beta", "10", ".7 5 .4 5", CUSTOMERS),
    ("alpha far under beta", "1", ".4 .001 .8 1000", CUSTOMERS),
    ("beta far under alpha", "1", ".4 1000 .8 .001", CUSTOMERS),
    ("both far under T", "1", "2 .0001 .05 .0003", CUSTOMERS),
    ("both far over T", "1", "3 10000 2 7000", CUSTOMERS[:4]),
    ("r and s small", "100", ".01 20 .01 30", CUSTOMERS),
    ("r and s large", "365", "50 900 50 20000", CUSTOMERS),
    ("thousandths", ".001", ".55 .0003 .6 .0004", CUSTOMERS),
    ("thousands", "1000", ".55 300 .6 400", CUSTOMERS),
    ("many purchases", "1000", "2 .5 1.5 40", BIG),
    ("many purchases, s large", "1000", ".3 50 20 .1", BIG),
]
CDNOW_CUSTOMERS = ["2 30.43 38.86", "0 0 38.86", "29 37 38.86", "26 30.86 31", "7 5 38.86",
                   "0 0 0", "1 .14 31.14"]
HORIZONS = ["0", ".01", "1", "100"]
FAMILY = [("BG/NBD", 1, False), ("MBG/NBD", 1, True), ("BG/CNBD-2", 2, False),
          ("MBG/CNBD-2", 2, True), ("MBG/CNBD-3", 3, True)]
COUNTED = {"cdnow": 10, "thousandths": 10, "alpha far under beta": 10, "a = 1": 10, "s = 1": 10}


def scaled(text, unit):
    """"x t_x T" in units of `unit`, as the f64 that the file will show."""
    x, t_x, age = text.split()
    t_x, age = (float(f"{float(part) * float(unit):.10g}") for part in (t_x, age))
    return int(x), t_x, age


def answer_jobs():
    for name, unit, parameters, texts in BG_CASES:
        for model, k, modified in FAMILY:
            if k > 1 and name not in ("cdnow", "a = 1", "rates alike", "thousandths",
                                      "hardly any drop-out", "many purchases"):
                continue
            yield model, k, modified, name, unit, parameters, texts
    for name, unit, parameters, texts in PARETO_CASES:
        yield "Pareto/NBD", 1, False, name, unit, parameters, texts
    for name, unit, parameters, texts in BG_CASES:
        if name in ("cdnow", "rates alike", "thousands, r small", "many purchases"):
            short = " ".join(parameters.split()[:2])
            yield "NBD", 1, False, name, unit, short, texts


def answers(job):
    model, k, modified, name, unit, parameters, texts = job
    parameters = [float(part) for part in parameters.split()]
    horizons = [float(f"{float(part) * float(unit):.10g}") for part in HORIZONS]
    if texts is None:
        texts, unit, horizons = CDNOW_CUSTOMERS, "1", [0.0, 1.0, 39.0, 5000.0]
    if name == "many purchases" and k > 1:
        texts = texts[:2] + texts[3:4]
    found = []
    for i, text in enumerate(texts):
        x, t_x, age = scaled(text, unit)
        # Even gaps but for a first one of half their length.
        gaps = [2 * t_x / (2 * x - 1)] * x if x else []
        gaps[:1] = [gap / 2 for gap in gaps[:1]]
        # Summed in f64: what the file says is what the likelihood is of.
        logs = float(np.log(gaps).sum()) if x and k > 1 else 0.0
        some = ((1, 3), (0, 2), (2, 3))[i % 3]
        own = horizons if name == "cdnow" else [horizons[j] for j in some]
        customer = (x, t_x, age, logs)
        if model == "Pareto/NBD":
            answer = pareto_answers(parameters, customer, own)
            if x <= 40 and name in ("cdnow", "alpha far under beta", "beta far under alpha"):
                both = pareto_double(parameters, customer)
                assert abs(both - answer["ln_likelihood"]) < mpf(10) ** -13, (name, text)
        elif model == "NBD":
            answer = nbd_answers(parameters, customer, own)
        else:
            answer = bg_answers(k, modified, parameters, customer, own)
        row = {"x": x, "t_x": t_x, "T": age, **({"ln_gaps": logs} if k > 1 else {}), **answer}
        size = COUNTED.get(name, 0)
        if model != "NBD" and size and i in (0, 3, 4) and x <= 40:
            t = own[-1] if name != "cdnow" else 39.0
            args = parameters, customer, t, size
            pareto = model == "Pareto/NBD"
            counts = pareto_counts(*args) if pareto else bg_counts(k, modified, *args)
            row["counts"] = {"t": t, "p": counts}
            zero = next(f["p_no_purchase"] for f in answer["futures"] if f["t"] == t)
            assert abs(counts[0] - zero) < mpf(10) ** -18, (model, name, text)
        found.append(row)
    names, _ = MODELS[model]
    print(model, name, file=sys.stderr, flush=True)
    return {"model": model, "case": name, "parameters": dict(zip(names, parameters)),
            "customers": found}


def bgbb_cases():
    for name, parameters, extra in [
        ("donations", [1.204, 0.75, 0.657, 2.783], []),
        ("a long time", [0.3, 2.5, 0.05, 3.0], [[0, 0, 400], [1, 1, 400], [350, 399, 400]]),
        ("hardly any drop-out", [5.0, 0.01, 0.001, 1000.0], [[6, 6, 6], [2, 5, 6]]),
    ]:
        cells = extra or [[x, t_x, 6] for x, t_x, _ in DONATIONS] + [[0, 0, 0]]
        rows = [{"x": x, "t_x": t_x, "n": n, **bgbb_answers(parameters, (x, t_x, n), [1, 5, 60])}
                for x, t_x, n in cells]
        yield {"model": "BG/BB", "case": name,
               "parameters": dict(zip(MODELS["BG/BB"][0], parameters)), "customers": rows}


def spend_cases():
    for parameters, customers in [
        ([6.2488, 3.7446, 15.4477], [(0, 0.0), (1, 11.77), (2, 22.35), (29, 0.01), (7, 1000.0)]),
        ([0.05, 1.0001, 1e-3], [(0, 0.0), (1, 1e-4), (10000, 5e3)]),
        ([2e3, 30.0, 400.0], [(0, 0.0), (1, 27.0), (10000, 5e3)]),
        ([3.0, 0.9, 10.0], [(1, 20.0), (5, 20.0)]),
    ]:
        yield {"model": "Gamma-Gamma", "parameters": dict(zip("pqv", parameters)),
               "customers": [spend_answers(parameters, *customer) for customer in customers]}


# --- The file -----------------------------------------------------------------------------------


def plain(value):
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, mpf):
        return float(value)
    return value


def lines(value, depth=0):
    """JSON with one line for each key, and for each object in a list."""
    pad, end = " " * (depth + 1), " " * depth
    if isinstance(value, dict) and depth < 1:
        rows = [f"{pad}{json.dumps(key)}: {lines(part, depth + 1)}" for key, part in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + end + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict) and depth < 4:
        return "[\n" + ",\n".join(pad + lines(part, depth + 1) for part in value) + "\n" + end + "]"
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def main():
    found, spend = histories(read_orders(CDNOW), "1997-09-30")
    kept = json.loads(OUT.read_text()) if not FOLDER else {}
    retail = kept.get("online_retail_days")
    if FOLDER:
        path = Path(FOLDER) / "online_retail_uci352.parquet"
        retail, _ = histories(read_retail(path), "2011-08-31")
    with Pool() as pool:
        # The slow ones first.
        jobs = sorted(fit_jobs(found, spend, retail), key=lambda job: job[1] != "Pareto/NBD")
        fits = pool.map(fit, jobs, chunksize=1)
        cases = pool.map(answers, list(answer_jobs()), chunksize=1)
    write(found, spend, retail, fits, cases, kept)


def write(found, spend, retail, fits, cases, kept):
    fits = plain(fits)
    known = {(one["data"], one["model"]) for one in fits}
    fits += [one for one in kept.get("fits", []) if (one["data"], one["model"]) not in known]
    fits.sort(key=lambda one: (one["data"], list(MODELS).index(one["model"])))
    nbd = next(one for one in fits if (one["data"], one["model"]) == ("online_retail, days", "NBD"))
    without_drop_out(retail, nbd["ln_likelihood"])
    content = {
        "versions": VERSIONS,
        "cdnow_days": found,
        "cdnow_spend_cents": spend,
        "online_retail_days": retail,
        "donations": DONATIONS,
        "fits": fits,
        "no_drop_out": {"data": "online_retail, days", "models": NO_DROP_OUT},
        "answers": cases,
        "bgbb_answers": list(bgbb_cases()),
        "spend_answers": list(spend_cases()),
    }
    OUT.write_text(lines(plain(content)) + "\n")


if __name__ == "__main__":
    main()
