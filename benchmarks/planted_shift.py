"""How much of a planted shift alignment undoes, measured on texts it never saw.

    python benchmarks/planted_shift.py --data DIR [--quick] [--fine-tune]

DIR holds a folder a task (hotel_sentiment, software_topics, jnli) with ``pool.jsonl`` and
``dev.jsonl`` (columns text, label and perhaps text_pair). "Synthetic" text is a biased sample of
the pool: its label shares are moved, long (or, on odd seeds, short) texts are favoured, polite
(or plain) ones too, and 20% of its labels are wrong. Gold and unlabelled texts are disjoint from
it. Rows are drawn with replacement, so that the shift and not the sample's own noise is measured.
All weighting methods and, as "package", data-selection of p-lambda/dsir (as it comes, and fed
MeCab words with spaces between) are compared in two settings. Figures are means ± standard errors
over seeds, ratios of means with jackknife errors:

label TV     share of the total variation of labels from the pool's that is undone
token JS     share undone of the Jensen-Shannon divergence of words from dev, above what an
             unbiased sample of the same number of pool texts shows. "at ESS" allows the weighted
             sample the floor of its effective sample size.
length       share undone of the gap of mean log length from the pool's
register     share undone of the total variation of registers from the pool's
ESS          effective sample size as a share of the rows, and the least within any label
true         the planted tilt taken back exactly, which needs knowledge nobody has: the label
             noise, finite text and its own effective sample size bound what any weights can undo
oracle       entropy balancing with the unlabelled texts' true label shares

More tables have the scores on dev of a logistic head on frozen vectors, trained on gold and the
weighted sample, and their gain over the same sample without weights, paired by draw, with a 95% t
interval: macro-F1, accuracy, and macro-F1 where labels weigh alike in the loss whatever the
weights. --fine-tune adds the encoder fine-tuned for the default method and for none.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from dsir_package import package_weights
from planted_scores import Scored, fine_tuned_score, gold_scores, head_scores
from planted_tables import show, show_scores
from scipy import sparse

from japagen.alignment.counting import measure
from japagen.alignment.diagnostics import jensen_shannon
from japagen.alignment.entropy import effective_share
from japagen.alignment.methods import Material
from japagen.alignment.weights import prepare
from japagen.data.dataset import Dataset, Example
from japagen.data.registry import METHODS
from japagen.japanese.morphology import default_tagger
from japagen.japanese.register.detector import analyze_register
from japagen.training.encoder import embed, load_encoder

TASKS = ("hotel_sentiment", "software_topics", "jnli")
WRONG_LABELS = 0.2
LENGTH_TILT = 1.0
REGISTER_TILT = 0.7
RANDOM_GOLD = 96
FLOOR = 0.3
FLOOR_DRAWS = 20
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Runs = dict[str, dict[str, dict[str, float]]]


class Pool:
    """A task's pool and dev texts, counted once."""

    def __init__(self, folder: Path) -> None:
        rows, dev = (
            [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]
            for name in ("pool.jsonl", "dev.jsonl")
        )
        self.texts = [row["text"] for row in rows]
        self.second = [row.get("text_pair") for row in rows]
        self.labels = [row["label"] for row in rows]
        self.names = sorted(set(self.labels))
        self.codes = np.array([self.names.index(label) for label in self.labels])
        self.shares = np.bincount(self.codes) / len(rows)
        sets = [
            Dataset.of([Example(r["text"], text_pair=r.get("text_pair")) for r in part])
            for part in (rows, dev)
        ]
        (pool, other), _ = measure(sets, default_tagger())
        self.words: sparse.csr_array = pool.words
        self.dev_words: Floats = other.words.sum(axis=0)
        length = np.log1p(pool.first.lengths)
        self.length = np.clip((length - length.mean()) / length.std(), -2.5, 2.5)
        self.seen = [analyze_register(text).register for text in self.texts]
        presets = [register.name for register in self.seen]
        self.registers = np.unique(presets, return_inverse=True)[1]
        self.polite = np.array(
            [(p in ("polite", "honorific")) - (p != "other") / 2 for p in presets]
        )
        self.encoder = load_encoder("embedded")
        self.vectors, dev_vectors = (
            embed(self.encoder, d.texts, d.column("text_pair") if d.is_pair else None) for d in sets
        )
        dev_codes = np.array([self.names.index(row["label"]) for row in dev])
        self.dev = Scored(sets[1], dev_vectors, dev_codes)
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
        made = [
            Example(self.texts[r], label, self.second[r], id=f"{i}-{r}")
            for i, (r, label) in enumerate(pairs)
        ]
        return Dataset.of(made).with_registers([self.seen[r] for r in rows])


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
    longer, politer = (1.0 if seed % 2 == 0 else -1.0), (1.0 if seed % 4 < 2 else -1.0)
    tilt = (planted / pool.shares)[pool.codes[rest]]
    tilt = tilt * np.exp(longer * LENGTH_TILT * pool.length[rest])
    tilt = tilt * np.exp(2 * politer * REGISTER_TILT * pool.polite[rest])
    n = pool.synthetic
    drawn = rng.choice(len(rest), n, p=tilt / tilt.sum())
    rows = rest[drawn]
    codes = pool.codes[rows].copy()
    wrong = rng.random(n) < WRONG_LABELS
    codes[wrong] = (codes[wrong] + rng.integers(1, k, int(wrong.sum()))) % k
    return rows, codes, 1.0 / tilt[drawn]


def one_seed(
    pool: Pool, seed: int, methods: Sequence[str], packaged: bool, fine_tune: bool
) -> Runs:
    """Figures of every method, and of the package if wanted, in both settings."""
    rng = np.random.default_rng([seed, 0])
    order = rng.permutation(len(pool.texts))
    unlabelled, rest = order[: pool.unlabelled], order[pool.unlabelled :]
    few = np.concatenate(
        [rest[pool.codes[rest] == k][: pool.per_label] for k in range(len(pool.names))]
    )
    true = np.bincount(pool.codes[unlabelled], minlength=len(pool.names)) / len(unlabelled)
    oracle = dict(zip(pool.names, true.tolist(), strict=True))
    found: Runs = {}
    settings: list[tuple[str, Ints, str]] = [
        (f"{pool.per_label} gold a label + {pool.unlabelled} unlabelled", few, "auto"),
        (f"{RANDOM_GOLD} random gold + {pool.unlabelled} unlabelled", rest[:RANDOM_GOLD], "gold"),
    ]
    for name, gold, prior in settings:
        left = np.setdiff1d(rest, gold)
        rows, codes, ideal = plant(pool, left, seed)
        data = pool.dataset(rows, codes), pool.dataset(gold, pool.codes[gold])
        more = pool.dataset(unlabelled)
        learnt = Scored(data[1], pool.vectors[gold], pool.codes[gold])
        shown = Judge(pool, left, rows, Scored(data[0], pool.vectors[rows], codes), learnt, rng)
        ready = prepare(*data, more, prior, seed, default_tagger())
        figures = found.setdefault(name, {})

        def weights(method: str, ready: Material = ready) -> tuple[Floats, float]:
            solution = METHODS[method](ready, FLOOR)
            out = np.zeros(len(ready.positions))
            out[ready.positions] = ready.normalized(solution.scores)
            return out, np.nan if solution.tolerance is None else solution.tolerance

        for method in methods:
            start = time.perf_counter()
            got, tolerance = (np.ones(len(rows)), np.nan) if method == "none" else weights(method)
            figures[method] = shown.figures(got) | {
                "seconds": time.perf_counter() - start,
                "tolerance": tolerance,
            }
            if fine_tune and prior == "auto" and method in ("entropy", "none"):
                figures[method]["fine-tuned F1"] = shown.fine_tuned(got, seed)
        known = prepare(*data, more, oracle, seed, default_tagger())
        figures["entropy, oracle prior"] = shown.figures(weights("entropy", known)[0])
        figures["true weights"] = shown.figures(ideal / ideal.mean())
        if packaged:
            figures |= packages(pool, rows, np.concatenate([gold, unlabelled]), shown)
    return found


def packages(pool: Pool, rows: Ints, target: Ints, shown: Judge) -> dict[str, dict[str, float]]:
    found = {}
    for name in ("package, as it comes", "package, MeCab words"):
        texts = pool.texts
        if "MeCab" in name:
            words = ([m.surface for m in default_tagger().tokenize(text)] for text in texts)
            texts = [" ".join(line) for line in words]
        start = time.perf_counter()
        weights, kept = package_weights([texts[r] for r in rows], [texts[r] for r in target])
        found[name] = shown.figures(weights) | {
            "seconds": time.perf_counter() - start,
            "kept by its length filter": kept,
        }
    return found


class Judge:
    """Measures weights of one biased sample against the pool and dev."""

    def __init__(
        self,
        pool: Pool,
        left: Ints,
        rows: Ints,
        planted: Scored,
        gold: Scored,
        rng: np.random.Generator,
    ) -> None:
        self.pool, self.left, self.rows, self.rng = pool, left, rows, rng
        self.planted, self.codes, self.gold = planted, planted.codes, gold
        self.base_floor = pool.floor(left, len(rows), rng)
        self.before = self._distances(np.ones(len(rows)))
        self.alone = gold_scores(gold, pool.dev)

    def _distances(self, weights: Floats) -> dict[str, float]:
        pool, share = self.pool, weights / weights.sum()
        k, r = len(pool.names), int(pool.registers.max()) + 1
        labels = np.bincount(self.codes, weights=share, minlength=k).astype(np.float64)
        registers = np.bincount(pool.registers[self.rows], weights=share, minlength=r).astype(float)
        goal = np.bincount(pool.registers, minlength=r) / len(pool.registers)
        return {
            "label": total_variation(labels, pool.shares),
            "token": pool.divergence(self.rows, weights),
            "length": abs(float(share @ pool.length[self.rows] - pool.length.mean())),
            "register": total_variation(registers, goal),
        }

    def figures(self, weights: Floats) -> dict[str, float]:
        """Distances before and after, the floors of the divergence, and effective sizes."""
        size = effective_share(weights)
        floor = self.pool.floor(self.left, max(1, round(size * len(self.rows))), self.rng)
        labels = [weights[self.codes == k] for k in np.unique(self.codes)]
        return {
            **{f"{key} before": value for key, value in self.before.items()},
            **{f"{key} after": value for key, value in self._distances(weights).items()},
            "token floor": self.base_floor,
            "token floor at ESS": floor,
            "ESS": size,
            "least ESS of a label": min(effective_share(w) for w in labels),
            **head_scores(self.gold, self.planted, weights, self.pool.dev),
            **self.alone,
        }

    def fine_tuned(self, weights: Floats, seed: int) -> float:
        """Macro-F1 of the encoder fine-tuned on gold and the weighted sample."""
        pool = self.pool
        encoder, names = pool.encoder, pool.names
        return fine_tuned_score(self.gold, self.planted, weights, pool.dev, encoder, names, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="3 seeds instead of 10")
    parser.add_argument("--seeds", type=int, help="this many")
    parser.add_argument("--fine-tune", action="store_true", help="fine-tune the encoder as well")
    parser.add_argument("--task", choices=TASKS, help="only this one")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, help="only these, without the package"
    )
    parser.add_argument("--json", type=Path, help="where to write every seed's figures")
    arguments = parser.parse_args()
    methods = list(dict.fromkeys(["entropy", "none", *(arguments.methods or METHODS)]))
    everything: dict[str, list[Runs]] = {}
    for task in [arguments.task] if arguments.task else TASKS:
        pool = Pool(arguments.data / task)
        done = []
        for seed in range(arguments.seeds or (3 if arguments.quick else 10)):
            done.append(one_seed(pool, seed, methods, not arguments.methods, arguments.fine_tune))
            print(f"{task}: seed {seed} done", file=sys.stderr, flush=True)
            everything[task] = done
            if arguments.json:
                arguments.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
        runs = everything[task]
        print(f"\n{task}: labels {dict(Counter(pool.labels))}")
        for setting in runs[0]:
            show(runs, setting)
            for key in ("F1", "accuracy", "F1, labels balanced", "fine-tuned F1"):
                show_scores(runs, setting, key)
        if arguments.methods:
            continue
        filtered = np.mean(
            [
                f["package, as it comes"]["kept by its length filter"]
                for r in runs
                for f in r.values()
            ]
        )
        print(f"  the package's own length filter would keep {filtered:.1%} of the texts")


if __name__ == "__main__":
    main()
