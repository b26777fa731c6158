"""How much of a planted shift alignment undoes, measured on texts it never saw.

    python benchmarks/planted_shift.py --data DIR [--quick]

DIR holds a folder a task (hotel_sentiment, software_topics) with ``pool.jsonl`` and ``dev.jsonl``
(columns text and label). "Synthetic" text is a biased sample of the pool: its label shares are
moved, long (or, on odd seeds, short) texts are favoured, and 20% of its labels are wrong. Gold
and unlabelled texts are disjoint from it. Rows are drawn with replacement, so that the shift and
not the sample's own noise is measured. Figures, as mean ± standard error over seeds:

label TV     total variation of synthetic label shares from the pool's, before and after
token JS     Jensen-Shannon divergence of words from dev, above what an unbiased sample of the
             same number of pool texts shows ("excess"); "undone" is the share of it that is gone.
             "at ESS" allows the weighted sample the floor of its effective sample size.
true weights the planted tilt taken back exactly, which needs knowledge nobody has: the label
             noise, finite text and its own effective sample size bound what any weights can undo
oracle       the label prior given as the unlabelled texts' true shares: the most that estimating
             it could reach
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from scipy import sparse

from japagen.alignment.alignment import Alignment, align_datasets
from japagen.alignment.counting import measure
from japagen.alignment.distances import jensen_shannon
from japagen.alignment.floors import effective_share
from japagen.examples import Dataset, Example
from japagen.japanese.morphology import default_tagger

TASKS = ("hotel_sentiment", "software_topics")
WRONG_LABELS = 0.2
LENGTH_TILT = 1.0
RANDOM_GOLD = 96
FLOOR_DRAWS = 20
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Pool:
    """A task's pool and dev texts, counted once."""

    def __init__(self, folder: Path) -> None:
        rows, dev = (
            [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]
            for name in ("pool.jsonl", "dev.jsonl")
        )
        self.texts = [row["text"] for row in rows]
        self.labels = [row["label"] for row in rows]
        self.names = sorted(set(self.labels))
        self.codes = np.array([self.names.index(label) for label in self.labels])
        self.shares = np.bincount(self.codes) / len(rows)
        sets = [Dataset.of([Example(r["text"]) for r in part]) for part in (rows, dev)]
        (pool, other), _ = measure(sets, default_tagger())
        self.words: sparse.csr_array = pool.words
        self.dev_words: Floats = other.words.sum(axis=0)
        length = np.log1p(pool.first.lengths)
        self.length = np.clip((length - length.mean()) / length.std(), -2.5, 2.5)
        small = len(rows) < 1000
        self.unlabelled, self.per_label = (100, 8) if small else (500, 16)
        self.synthetic = 400 if small else 1500

    def divergence(self, rows: Ints, weights: Floats) -> float:
        """Jensen-Shannon divergence of the words of weighted pool rows from dev, in bits."""
        return jensen_shannon(self.words[rows].T @ weights, self.dev_words)

    def floor(self, rest: Ints, n: int, rng: np.random.Generator) -> float:
        """Mean divergence of unbiased samples of ``n`` of the pool texts ``rest``."""
        draws = [rng.choice(rest, n) for _ in range(FLOOR_DRAWS)]
        return float(np.mean([self.divergence(rows, np.ones(n)) for rows in draws]))

    def dataset(self, rows: Ints, codes: Ints | None = None) -> Dataset:
        """Pool rows as examples, with labels if ``codes`` are given."""
        labels = [None] * len(rows) if codes is None else [self.names[c] for c in codes]
        pairs = zip(rows, labels, strict=True)
        return Dataset.of(
            [Example(self.texts[r], label, id=f"{i}-{r}") for i, (r, label) in enumerate(pairs)]
        )


def total_variation(a: Floats, b: Floats) -> float:
    return float(np.abs(a - b).sum() / 2)


def plant(pool: Pool, rest: Ints, seed: int) -> tuple[Ints, Ints, Floats]:
    """Draws the biased sample; returns its pool rows, partly wrong labels and true weights."""
    rng = np.random.default_rng([seed, 1])
    k = len(pool.names)
    while True:  # Until the shift is neither trivial nor absurd.
        planted = rng.dirichlet(np.full(k, 2.0))
        if 0.3 <= total_variation(planted, pool.shares) <= 0.5:
            break
    sign = 1.0 if seed % 2 == 0 else -1.0
    tilt = (planted / pool.shares)[pool.codes[rest]]
    tilt = tilt * np.exp(sign * LENGTH_TILT * pool.length[rest])
    n = pool.synthetic
    drawn = rng.choice(len(rest), n, p=tilt / tilt.sum())
    rows = rest[drawn]
    codes = pool.codes[rows].copy()
    wrong = rng.random(n) < WRONG_LABELS
    codes[wrong] = (codes[wrong] + rng.integers(1, k, int(wrong.sum()))) % k
    return rows, codes, 1.0 / tilt[drawn]


def one_seed(pool: Pool, seed: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng([seed, 0])
    order = rng.permutation(len(pool.texts))
    unlabelled, rest = order[: pool.unlabelled], order[pool.unlabelled :]
    few = np.concatenate(
        [rest[pool.codes[rest] == k][: pool.per_label] for k in range(len(pool.names))]
    )
    true_shares = np.bincount(pool.codes[unlabelled], minlength=len(pool.names)) / len(unlabelled)
    oracle = dict(zip(pool.names, true_shares.tolist(), strict=True))
    found = {}
    settings: list[tuple[str, Ints, bool, str | Mapping[str, float]]] = [
        ("few gold + unlabelled", few, True, "auto"),
        ("few gold + unlabelled, oracle", few, True, oracle),
        ("few gold", few, False, "auto"),
        (f"random gold {RANDOM_GOLD}", rest[:RANDOM_GOLD], False, "gold"),
        (f"random gold {RANDOM_GOLD} + unlabelled", rest[:RANDOM_GOLD], True, "gold"),
    ]
    for name, gold, with_unlabelled, prior in settings:
        left = np.setdiff1d(rest, gold)
        rows, codes, ideal = plant(pool, left, seed)
        start = time.perf_counter()
        alignment = align_datasets(
            pool.dataset(rows, codes),
            pool.dataset(gold, pool.codes[gold]),
            pool.dataset(unlabelled) if with_unlabelled else None,
            label_prior=prior,
            seed=seed,
        )
        seconds = time.perf_counter() - start
        figures = score(pool, left, rows, codes, alignment, rng)
        figures["JS under true weights"] = pool.divergence(rows, ideal)
        figures["ESS share of true weights"] = effective_share(ideal)
        found[name] = figures | {"seconds": seconds}
    return found


def score(
    pool: Pool,
    left: Ints,
    rows: Ints,
    codes: Ints,
    alignment: Alignment,
    rng: np.random.Generator,
) -> dict[str, float]:
    n, k = len(rows), len(pool.names)
    size = alignment.diagnostics.effective_sample_size.rows
    floor, floor_at_size = pool.floor(left, n, rng), pool.floor(left, max(1, round(size)), rng)
    shares = [
        np.bincount(codes, weights=w, minlength=k) / n for w in (np.ones(n), alignment.weights)
    ]
    return {
        "label TV before": total_variation(shares[0], pool.shares),
        "label TV after": total_variation(shares[1], pool.shares),
        "JS floor": floor,
        "JS floor at ESS": floor_at_size,
        "JS before": pool.divergence(rows, np.ones(n)),
        "JS after": pool.divergence(rows, alignment.weights),
        "ESS share": size / n,
        "tolerance found": float(alignment.diagnostics.tolerance is not None),
        "AUC before": alignment.diagnostics.two_sample_auc.before or float("nan"),
        "AUC after": alignment.diagnostics.two_sample_auc.after or float("nan"),
    }


def summary(runs: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard error of every figure; ratios are of means, with jackknife errors."""
    values = {key: np.array([run[key] for run in runs]) for key in runs[0]}
    out = {
        key: (float(v.mean()), float(v.std(ddof=1) / np.sqrt(len(v)))) for key, v in values.items()
    }
    before, after = values["label TV before"], values["label TV after"]
    out["label TV undone"] = undone(before, after)
    excess = values["JS before"] - values["JS floor"]
    out["JS excess undone"] = undone(excess, values["JS after"] - values["JS floor"])
    out["JS excess undone at ESS"] = undone(excess, values["JS after"] - values["JS floor at ESS"])
    ideal = values["JS under true weights"] - values["JS floor"]
    out["JS excess undone by true weights"] = undone(excess, ideal)
    return out


def undone(before: Floats, after: Floats) -> tuple[float, float]:
    def share(keep: npt.NDArray[np.bool_]) -> float:
        return 1 - float(after[keep].sum() / before[keep].sum())

    n = len(before)
    parts = np.array([share(np.arange(n) != i) for i in range(n)])
    error = float(np.sqrt((n - 1) / n * ((parts - parts.mean()) ** 2).sum()))
    return share(np.ones(n, dtype=bool)), error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="3 seeds instead of 10")
    parser.add_argument("--task", choices=TASKS, help="only this one")
    parser.add_argument("--json", type=Path, help="where to write every seed's figures")
    arguments = parser.parse_args()
    everything = {}
    for task in [arguments.task] if arguments.task else TASKS:
        pool = Pool(arguments.data / task)
        runs = [one_seed(pool, seed) for seed in range(3 if arguments.quick else 10)]
        everything[task] = runs
        print(f"\n{task}: labels {dict(Counter(pool.labels))}, few gold = {pool.per_label} a label")
        for name in runs[0]:
            print(f"  {name}")
            for key, (mean, error) in summary([run[name] for run in runs]).items():
                print(f"    {key:33s} {mean:7.3f} ± {error:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
