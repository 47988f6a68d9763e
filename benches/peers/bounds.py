"""What share of rows k-means looks at under several bounds, emulated: the numbers of decision 0015.

    pip install numpy
    python benches/peers/bounds.py MATRIX.npy [ROWS]

`lead` is one number a row, as habitus keeps it; `gap` adds half the distance to the nearest other
centroid; `groups` keeps a lower bound for each ten centroids (two groups at k = 8). Twenty iterations
from rows (arange(k) * 7919) % n; benches/peers/clustering.py leaves its matrices in the temporary
directory.
"""
import sys

import numpy as np


def distances(rows, centroids):
    squares = (rows**2).sum(1)[:, None] + (centroids**2).sum(1) - 2 * rows @ centroids.T
    return np.sqrt(np.maximum(squares, 0))


def without_own(values, own):
    others = values.copy()
    others[np.arange(len(values)), own] = np.inf
    return others


def looked_at(rows, k, bound, iterations=20):
    n = len(rows)
    centroids = rows[(np.arange(k) * 7919) % n].copy()
    group = np.arange(k) % max(2, -(-k // 10))
    n_groups = group.max() + 1 if bound == "groups" else 1
    group = group if bound == "groups" else np.zeros(k, int)
    shares = []
    for iteration in range(iterations):
        all_distances = distances(rows, centroids)
        nearest = all_distances.argmin(1)
        own = all_distances[np.arange(n), nearest]
        others = without_own(all_distances, nearest)
        lowest = np.stack([others[:, group == g].min(1) for g in range(n_groups)], 1)
        if iteration == 0:
            look = np.ones(n, bool)
            labels, upper, lower = nearest, own, lowest
        else:
            upper = upper + drift[labels]
            if bound == "groups":
                lower = lower - np.array([drift[group == g].max() for g in range(n_groups)])
            else:
                most = drift.argmax()
                rest = np.where(np.arange(k) == most, np.partition(drift, -2)[-2], drift[most])
                lower = lower - rest[labels][:, None]
            keep = lower.min(1) > upper
            if bound == "gap":
                apart = distances(centroids, centroids)
                np.fill_diagonal(apart, np.inf)
                keep |= apart.min(1)[labels] / 2 > upper
            look = ~keep
            labels = np.where(look, nearest, labels)
            upper = np.where(look, own, upper)
            lower = np.where(look[:, None], lowest, lower)
        shares.append(look.mean())
        moved = np.stack([
            rows[nearest == c].mean(0) if (nearest == c).any() else centroids[c] for c in range(k)])
        drift = np.sqrt(((moved - centroids) ** 2).sum(1))
        centroids = moved
    return np.mean(shares)


def main():
    rows = np.load(sys.argv[1])[: int(sys.argv[2]) if len(sys.argv) > 2 else 100_000]
    rows = rows.astype(np.float64)
    for k in (8, 16, 64):
        shares = {bound: looked_at(rows, k, bound) for bound in ("lead", "gap", "groups")}
        print(k, "  ".join(f"{bound} {share:.3f}" for bound, share in shares.items()))


if __name__ == "__main__":
    main()
