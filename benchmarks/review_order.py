"""What it brings to show people the most useful texts first, in place of any texts.

    python benchmarks/review_order.py --data DIR [--tasks A,B] [--draws N] [--json FILE]

DIR holds a folder per task with ``pool.jsonl``, ``dev.jsonl`` and ``strong_llm.jsonl``; the
quickstart needs none. The reviewers are simulated: they give the true label. Two things are put
in order. ``noisy`` are texts of a strong LLM, 30% of whose labels are drawn at random: the label
check and the mix of a run follow, with what people decided on top. ``written`` are texts of the
embedded model, whose labels a strong LLM told without knowing which was asked for
(texts/quickstart_refined.jsonl). ``candidates`` are real texts of the pool that become gold.
Heads on the frozen encoder are scored on real test texts, macro-F1. The figures are in
docs/review.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from decision import Trial, embed, make_source
from lift_tasks import Cell, make_cell
from strong_llm import recorded

from japagen.config.sections import Training
from japagen.data.dataset import Dataset, Example, assign_folds
from japagen.data.files import cache_dir
from japagen.data.labels import Floats, label_indices
from japagen.evaluation.metrics import macro_f1
from japagen.mixing.mix import find_mix
from japagen.review.decisions import Decision, choose, draw_order, text_hash
from japagen.review.feedback import apply_decisions
from japagen.training.trainer import FrozenTraining

TASKS = ("quickstart", "hotel_sentiment")
DECIDED = (20, 40, 80)
CANDIDATES = 300
"""Most real texts that are put in order."""
FOLDS = 5
RANDOM = 5
"""Random orders for each draw of gold."""
ALIKE = 0.6
"""Cosine similarity, the mean vector taken off, from which two texts are near-duplicates."""


def probabilities(
    frozen: FrozenTraining, data: Dataset, others: Dataset, weights: Floats | None = None
) -> Floats:
    """What a head that learnt from a dataset says of other texts, shape (others, labels)."""
    mass = np.ones(len(data)) if weights is None else weights
    targets = label_indices(data, frozen.labels)
    return frozen.probabilities(embed(frozen, data), targets, mass, embed(frozen, others))


def out_of_fold(frozen: FrozenTraining, texts: Dataset, seed: int) -> Floats:
    """What heads that learnt from the other texts say of each text."""
    folds = assign_folds(label_indices(texts, frozen.labels), FOLDS, seed)
    found = np.zeros((len(texts), len(frozen.labels)))
    for fold in range(FOLDS):
        seen, held = (texts.where(mask) for mask in (folds != fold, folds == fold))
        found[folds == fold] = probabilities(frozen, seen, held)
    return found


def divergence(one: Floats, other: Floats) -> Floats:
    """Jensen-Shannon divergence of each row."""
    middle = (one + other) / 2
    found: Floats = sum(
        0.5 * (p * np.log(np.maximum(p, 1e-12) / middle)).sum(axis=1) for p in (one, other)
    )
    return found


def margin(found: Floats) -> Floats:
    """By how much the likeliest label leads, each row."""
    ranked = np.sort(found, axis=1)
    lead: Floats = ranked[:, -1] - ranked[:, -2]
    return lead


def apart(order: Sequence[int], vectors: Floats) -> list[int]:
    """An order in which near-duplicates of what came before come last."""
    unit = vectors - vectors.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    first: list[int] = []
    later: list[int] = []
    for row in order:
        near = first and (unit[first] @ unit[row]).max() >= ALIKE
        (later if near else first).append(row)
    return first + later


def at_random(number: int, seed: int) -> dict[str, list[int]]:
    """Some random orders, whose mean the others are compared with."""
    rng = np.random.default_rng([seed, 1])
    return {f"random {i}": rng.permutation(number).tolist() for i in range(RANDOM)}


def orders_of_texts(trial: Trial) -> dict[str, list[int]]:
    """Every order of the texts of a writer."""
    frozen, texts, seed = trial.frozen, trial.texts, trial.cell.draw
    own = label_indices(texts, trial.labels)
    rows = np.arange(len(texts))
    by_gold = probabilities(frozen, trial.cell.gold, texts)
    by_texts = out_of_fold(frozen, texts, seed)
    both = np.log(np.maximum(by_gold, 1e-9)) + np.log(np.maximum(by_texts, 1e-9))
    verified = trial.verified.dataset
    places = choose(draw_order(verified, seed), len(texts))
    at = {id_: row for row, id_ in enumerate(verified.column("id"))}
    wrong = np.argsort(both[rows, own]).tolist()
    return {
        **at_random(len(texts), seed),
        "page": [at[place.example_id] for place in places],
        "trust": np.argsort(verified.column("weight_label"), kind="stable").tolist(),
        "margin (gold)": np.argsort(margin(by_gold)).tolist(),
        "gold and texts": wrong,
        "gold and texts, apart": apart(wrong, trial.vectors[1]),
        "disagreement": np.argsort(-divergence(by_gold, by_texts)).tolist(),
    }


def decided(texts: Dataset, truth: Sequence[str | None], rows: Sequence[int]) -> Dataset:
    """The texts after people have decided on some."""
    decisions = {}
    for row in rows:
        example, label = texts[row], truth[row]
        verdict = "reject" if label is None else "accept" if label == example.label else "relabel"
        decisions[example.id] = Decision(
            example.id,
            verdict,  # type: ignore[arg-type]
            text_hash(example.text, example.text_pair),
            label=label,
        )
    return apply_decisions(texts, decisions)


def review_texts(trial: Trial, truth: Sequence[str | None]) -> Iterator[dict[str, object]]:
    """Scores of every order and number of decisions, and how many wrong labels were met."""
    verified = trial.verified.dataset
    wrong = np.array([t != str(e.label) for t, e in zip(truth, verified, strict=True)])
    for name, order in {"nothing": [], **orders_of_texts(trial)}.items():
        for number in DECIDED:
            rows = order[:number]
            after = decided(verified, truth, rows)
            mix = find_mix(len(trial.cell.gold), after, trial.verified.reliability)
            score = trial.score(mix.of(after), mix.share)
            yield {"order": name, "decided": number, "score": score, "met": int(wrong[rows].sum())}


def review_candidates(
    cell: Cell, frozen: FrozenTraining, strong: Dataset
) -> Iterator[dict[str, object]]:
    """Scores of every order of real texts that become gold beside the gold there is."""
    gold = set(cell.gold.texts)
    pool = Dataset.of(replace(e, id="") for e in cell.pool.distinct if e.text not in gold)
    chosen = np.random.default_rng(cell.draw).permutation(len(pool))[:CANDIDATES]
    pool = pool.take(np.sort(chosen))
    by_gold, by_texts = (probabilities(frozen, d, pool) for d in (cell.gold, strong))
    least = np.argsort(margin(by_gold)).tolist()
    between = np.argsort(-divergence(by_gold, by_texts)).tolist()
    orders = {
        "nothing": [],
        **at_random(len(pool), cell.draw),
        "margin (gold)": least,
        "margin, apart": apart(least, embed(frozen, pool)),
        "margin (both)": np.argsort(margin(by_gold + by_texts)).tolist(),
        "disagreement": between,
        "disagreement, apart": apart(between, embed(frozen, pool)),
    }
    classes, truth = np.eye(len(frozen.labels)), label_indices(cell.test, frozen.labels)
    for name, order in orders.items():
        for number in DECIDED:
            rows = order[:number]
            for beside in ("", " beside texts"):
                sets = [cell.gold, pool.take(rows)] if rows else [cell.gold]
                weights = np.ones(sum(map(len, sets)))
                if beside:
                    sets.append(strong)
                    weights = np.concatenate([weights, np.full(len(strong), 0.5)])
                data = Dataset.concat([d.only("text", "label") for d in sets])
                found = probabilities(frozen, data, cell.test, weights).argmax(axis=1)
                once = np.ones((1, len(truth)))
                score = float(np.mean(macro_f1(once, classes[truth], classes[found])))
                yield {"what": f"candidates{beside}", "order": name, "decided": number,
                       "score": score, "met": 0}  # fmt: skip


def written() -> tuple[Dataset, list[str | None]]:
    """Texts of the embedded model, and the label that a strong LLM told of each."""
    rows: Sequence[Mapping[str, str]] = recorded("quickstart_refined.jsonl")
    texts = Dataset.of(Example(r["text"], r["label"], source="written") for r in rows)
    return texts, [r["judged"] for r in rows]


def measure(given: argparse.Namespace) -> Iterator[dict[str, object]]:
    """A row for every task, draw, order and number of decisions."""
    for name in given.tasks:
        frozen: FrozenTraining | None = None
        for shots in given.shots:
            for draw in range(given.draws):
                cell = make_cell(name, shots, draw, given.data, given.cache, 100, 600)
                frozen = frozen or FrozenTraining("embedded", cell.task.labels, Training())
                strong = make_source(cell, "strong", given.data)
                noisy = make_source(cell, "strong_30", given.data)
                sets: dict[str, tuple[Dataset, list[str | None]]] = {
                    "noisy": (noisy, list(strong.labels))
                }
                if name == "quickstart":
                    sets["written"] = written()
                head = {"task": name, "shots": shots, "draw": draw}
                for what, (texts, truth) in sets.items():
                    trial = Trial(cell, texts.column("source")[0], texts, frozen, tuned=False)
                    for row in review_texts(trial, truth):
                        yield {**head, "what": what, **row}
                for row in review_candidates(cell, frozen, strong):
                    yield {**head, **row}
                print(name, shots, draw, flush=True)


def show(rows: Sequence[Mapping[str, object]]) -> None:
    """Prints a table: means over draws, and differences from random with their standard error."""
    cells: dict[tuple[object, ...], dict[object, dict[object, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    met: dict[tuple[object, ...], list[float]] = defaultdict(list)
    drawn: dict[tuple[object, ...], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        order = (
            str(row["order"]).partition(" ")[0] if "random" in str(row["order"]) else row["order"]
        )
        place = row["task"], row["shots"], row["what"], order, row["decided"], row["draw"]
        drawn[place].append((float(str(row["score"])), float(str(row["met"]))))
    for (task, shots, what, order, number, _), found in drawn.items():
        score, wrong = np.mean(found, axis=0).tolist()
        for group in ((task, shots, what), ("every task", "and number of shots", what)):
            cells[group][order][number].append(score)
            met[*group, order, number].append(wrong)
    for key, orders in cells.items():
        print(*key)
        for order, scores in orders.items():
            shown = []
            for number, own in scores.items():
                less = np.subtract(own, orders["random"][number])
                error = less.std(ddof=1) / len(less) ** 0.5 if len(less) > 1 else 0.0
                wrong = np.mean(met[(*key, order, number)])
                shown.append(f"{np.mean(own):.3f} {less.mean():+.3f} ± {error:.3f} ({wrong:.0f})")
            print(f"  {order:24}", " | ".join(shown))


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(TASKS))
    parser.add_argument(
        "--shots", type=lambda text: [int(n) for n in text.split(",")], default=[4, 16]
    )
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=cache_dir("review_order"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = list(measure(given))
    if given.json:
        given.json.write_text(json.dumps(rows), encoding="utf-8")
    show(rows)


if __name__ == "__main__":
    main()
