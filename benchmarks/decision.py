"""What japagen's automatic decision about synthetic text costs against the best that was possible.

    python benchmarks/decision.py --data DIR [--tasks A,B] [--shots 16,4] [--draws N]
        [--sources A,B] [--tuned] [--test N] [--cache DIR] [--json FILE]
    python benchmarks/decision.py --data DIR --speed

DIR holds a folder per task with ``pool.jsonl``, ``dev.jsonl`` and, but for tasks whose texts come
with this folder, ``strong_llm.jsonl``. For each task, number of gold texts per label, draw of gold
and source of synthetic text, classifiers are trained on gold only, on the plain union, on the
texts alone, at fixed shares, and as japagen decides by itself. Regret is the best of the former
less the latter, macro-F1. Heads on the frozen encoder are compared unless ``--tuned`` has the
encoder tuned, which takes a minute or so for each classifier. ``--speed`` has a whole run decide on
640 texts beside 64 of gold instead, and compares the time of the decision with that of training.
docs/research/mixing.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from lift_tasks import Cell, make_cell, strong_texts

import japagen as jg
from japagen.config.sections import Training
from japagen.curation.label_check import VerifiedLabels, cross_fitted_vote, verify_labels
from japagen.data.dataset import Dataset, Example
from japagen.data.files import cache_dir
from japagen.data.formats import read_examples, write_examples
from japagen.data.labels import Floats, label_indices
from japagen.evaluation.metrics import macro_f1
from japagen.mixing.mix import find_mix
from japagen.training.trainer import FrozenTraining, train

TASKS = ("hotel_sentiment", "software_topics", "quickstart", "jnli", "jcola")
SHARES = (0.2, 0.4, 0.6, 0.8, 0.95)
ALONE = 0.999
SOURCES = ("strong", "strong_30", "strong_100", "real", "other_task")
"""Texts of a strong LLM as they are, with 30% and 100% of labels drawn at random; real texts of
the pool, as a perfect writer would give; and texts of another task with labels in turn."""
DECIDING = ("trust", "vectors", "align", "worth")
"""The stages that decide on labels, weights and the share."""
GENERATED = ("embedded", "embedded_curated")
"""Texts of the embedded model, as they came and as curation leaves them; they take minutes."""


@dataclass(frozen=True)
class Trial:
    """One draw of gold beside one source.

    Attributes:
        cell: The draw.
        name: Of the source.
        texts: The source's texts, none rejected.
        frozen: The frozen encoder with the labels' descriptions.
        tuned: Whether classifiers tune the encoder.
    """

    cell: Cell
    name: str
    texts: Dataset
    frozen: FrozenTraining
    tuned: bool

    @property
    def labels(self) -> list[str]:
        """Every label."""
        return list(self.cell.task.labels)

    @cached_property
    def vectors(self) -> tuple[Floats, Floats, Floats]:
        """Of gold, of the source and of the test texts."""
        sets = (self.cell.gold, self.texts, self.cell.test)
        gold, texts, test = (embed(self.frozen, data) for data in sets)
        return gold, texts, test

    @cached_property
    def verified(self) -> VerifiedLabels:
        """What the label check makes of the source, with the encoder as the only labeler."""
        gold, texts, _ = self.vectors
        targets = label_indices(self.cell.gold, self.labels)
        seed = self.cell.draw
        vote = cross_fitted_vote(self.frozen.log_probabilities, gold, targets, texts, seed)
        return verify_labels(
            self.texts,
            targets,
            [vote],
            (gold, texts),
            labels=self.labels,
            priors={self.name: "base_model" if self.name in GENERATED else "writer"},
            miss="relabel",
            least=0.5,
            seed=seed,
        )

    def automatic(self) -> tuple[float, float]:
        """Macro-F1 of what japagen decides, and the share that it decides on."""
        verified = self.verified
        mix = find_mix(len(self.cell.gold), verified.dataset, verified.reliability)
        return self.score(mix.of(verified.dataset), mix.share), mix.share

    def score(self, texts: Dataset | None, share: float) -> float:
        """Macro-F1 on the test texts after training with the texts at a share of the loss."""
        if texts is None:
            share = 0.0
        found = (self._tuned if self.tuned else self._frozen)(texts, share)
        truth = label_indices(self.cell.test, self.labels)
        classes, once = np.eye(len(self.labels)), np.ones((1, len(truth)))
        return float(np.mean(macro_f1(once, classes[truth], classes[found.argmax(axis=1)])))

    def _tuned(self, texts: Dataset | None, share: float) -> Floats:
        classifier = train(
            texts,
            self.cell.gold,
            descriptions=self.cell.task.labels,
            settings=Training(synthetic_share=min(share, ALONE)),
            seed=self.cell.draw,
            calibrated=False,
        )
        test = self.cell.test
        return classifier.probabilities(test.texts, test.column("text_pair"))

    def _frozen(self, texts: Dataset | None, share: float) -> Floats:
        gold, _, test = self.vectors
        vectors, targets = [gold], [label_indices(self.cell.gold, self.labels)]
        weights = [np.ones(len(gold))]
        if texts is not None:
            kept = texts.kept
            vectors.append(embed(self.frozen, kept))
            targets.append(label_indices(kept, self.labels))
            weights.append(kept.weights * (share / (1 - share) * len(gold) / len(kept)))
        return self.frozen.probabilities(
            np.concatenate(vectors), np.concatenate(targets), np.concatenate(weights), test
        )


_VECTORS: dict[tuple[str, str | None], Floats] = {}


def embed(frozen: FrozenTraining, data: Dataset) -> Floats:
    """Vectors of a dataset, each text read once a task."""
    keys = list(zip(data.texts, data.column("text_pair"), strict=True))
    unread = [key for key in dict.fromkeys(keys) if key not in _VECTORS]
    if unread:
        found = frozen.vectors([text for text, _ in unread], [pair for _, pair in unread])
        _VECTORS.update(zip(unread, found, strict=True))
    return np.array([_VECTORS[key] for key in keys])


def make_source(cell: Cell, name: str, data: Path) -> Dataset:
    """The texts of a source for a draw of gold."""
    labels, rng = list(cell.task.labels), random.Random(f"{cell.draw}/{name}")
    strong = _strong(cell.name, data)
    if name in GENERATED:
        until: Literal["curate", "generate"] = (
            "curate" if name == "embedded_curated" else "generate"
        )
        kept = jg.run(cell.task, cell.path / "run", until=until).after(until).kept
        return _from(name, kept, list(kept.labels))
    if name.startswith("strong"):
        noise = int(name.removeprefix("strong").removeprefix("_") or 0) / 100
        drawn = [rng.choice(labels) if rng.random() < noise else str(x) for x in strong.labels]
        return _from(name, strong, drawn)
    if name == "other_task":
        other = "hotel_sentiment" if cell.name != "hotel_sentiment" else "software_topics"
        if strong.is_pair:
            other = cell.name  # Pairs of no other task are at hand: these, torn apart.
        texts = _strong(other, data)
        if strong.is_pair:
            seconds = texts.column("text_pair")
            texts = texts.with_columns(text_pair=rng.sample(seconds, len(seconds)))
        order = sorted(set(map(str, texts.labels)))
        turned = [labels[order.index(str(x)) % len(labels)] for x in texts.labels]
        if strong.is_pair:
            rng.shuffle(turned)
        return _from(name, texts, turned)
    return _real(cell, len(strong) // len(labels), rng)


def _strong(name: str, data: Path) -> Dataset:
    path = strong_texts(name, data)
    if path is None:
        raise SystemExit(f"Expected texts of a strong LLM for {name} in {data}, found none.")
    return read_examples(path)


def _from(name: str, texts: Dataset, labels: Sequence[object]) -> Dataset:
    rows = zip(texts.texts, texts.column("text_pair"), labels, strict=True)
    return Dataset.of(Example(t, str(x), text_pair=p, source=name) for t, p, x in rows)


def _real(cell: Cell, per_label: int, rng: random.Random) -> Dataset:
    """Texts of the pool that are not gold, at most so many per label."""
    own = {(e.text, e.text_pair) for e in cell.gold}
    rows = [e for e in cell.pool if (e.text, e.text_pair) not in own]
    rng.shuffle(rows)
    taken: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        if len(taken[str(row.label)]) < per_label:
            taken[str(row.label)].append(row)
    return Dataset.of(
        replace(e, source="real", split="synthetic", id="") for rows in taken.values() for e in rows
    )


def trials(given: argparse.Namespace) -> Iterator[Trial]:
    """Every draw and source, tasks outermost."""
    for name in given.tasks:
        frozen: FrozenTraining | None = None
        for shots in given.shots:
            for draw in range(given.draws):
                cell = make_cell(name, shots, draw, given.data, given.cache, 100, given.test)
                if frozen is None:
                    frozen = FrozenTraining(
                        "embedded", cell.task.labels, Training(), cell.gold.is_pair
                    )
                for source in given.sources:
                    texts = make_source(cell, source, given.data)
                    if len(texts):
                        yield Trial(cell, source, texts, frozen, given.tuned)
        _VECTORS.clear()


def measure(trial: Trial) -> dict[str, object]:
    """The scores of a trial, its regret, and the seconds that the decision took."""
    _ = trial.vectors
    started = time.monotonic()
    reliability = trial.verified.reliability[trial.name]
    seconds = time.monotonic() - started
    automatic, share = trial.automatic()
    even = len(trial.texts) / (len(trial.texts) + len(trial.cell.gold))
    fixed = {
        "gold only": trial.score(None, 0.0),
        "union": trial.score(trial.texts, even),
        "texts alone": trial.score(trial.texts, ALONE),
        **({f"share {s}": trial.score(trial.texts, s) for s in SHARES} if not trial.tuned else {}),
    }
    return {
        "task": trial.cell.name,
        "shots": trial.cell.shots,
        "draw": trial.cell.draw,
        "source": trial.name,
        **fixed,
        "japagen": automatic,
        "share": share,
        "reliability": reliability.mean,
        "regret": max(fixed.values()) - automatic,
        "seconds": seconds,
    }


def show_speed(data: Path, cache: Path, test: int) -> None:
    """Prints how long a run takes to decide on 640 texts beside 64 of gold, and its memory."""
    cell = make_cell("quickstart", 16, 0, data, cache, 100, test)
    files = {name: cache / "speed" / f"{name}.jsonl" for name in ("strong", "real")}
    for name, path in files.items():
        texts = make_source(cell, name, data)
        write_examples(path, Dataset.of(Example(e.text, e.label) for e in texts))
    with tempfile.TemporaryDirectory() as run:
        seconds = jg.run(cell.task, run, synthetic=list(files.values())).metrics["seconds"]
    decided = {name: seconds[name] for name in DECIDING}
    trained = next(taken for name, taken in seconds.items() if name.startswith("train-synthetic"))
    for name, taken in decided.items():
        print(f"{name:10} {taken:6.1f} s")
    total = sum(decided.values())
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gigabytes = peak / (1e9 if sys.platform == "darwin" else 1e6)
    print(f"decision {total:.1f} s, training {trained:.1f} s: {total / trained:.2f} of it")
    print(f"most memory of the whole run: {gigabytes:.2f} GB")


def show(rows: Sequence[dict[str, object]]) -> None:
    """Prints a row for each task, number of shots and source: means over draws."""
    cells: dict[tuple[object, ...], list[dict[str, object]]] = defaultdict(list)
    for row in rows:
        cells[row["task"], row["shots"], row["source"]].append(row)
    names = ("gold only", "union", "texts alone", "japagen", "share", "reliability", "regret")
    print(f"| task | shots | source | {' | '.join(names)} |")
    print(f"|{'---|' * (len(names) + 3)}")
    regrets = []
    for key, own in cells.items():
        means = [float(np.mean([float(str(row[name])) for row in own])) for name in names]
        regrets.append(means[-1])
        print(f"| {' | '.join(map(str, key))} | {' | '.join(f'{m:.3f}' for m in means)} |")
    print(f"\nmean regret {np.mean(regrets):.4f}, worst cell {max(regrets):.4f}")


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    listed: Callable[[str], list[str]] = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", type=listed, default=list(TASKS))
    parser.add_argument(
        "--shots", type=lambda text: [int(n) for n in text.split(",")], default=[4, 16]
    )
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--sources", type=listed, default=list(SOURCES))
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--test", type=int, default=600)
    parser.add_argument("--cache", type=Path, default=cache_dir("decision"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.speed:
        show_speed(given.data, given.cache, given.test)
        return
    rows = []
    for trial in trials(given):
        rows.append(measure(trial))
        row = rows[-1]
        print(
            row["task"], row["shots"], row["draw"], row["source"],
            *(f"{n} {float(str(row[n])):.3f}" for n in ("gold only", "union", "japagen", "regret")),
            flush=True,
        )  # fmt: skip
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    show(rows)


if __name__ == "__main__":
    main()
