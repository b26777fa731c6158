"""Replays what a strong LLM answered: rounds with feedback, self-refinement, labels of real texts.

    python benchmarks/strong_llm.py rounds
    python benchmarks/strong_llm.py refinement
    python benchmarks/strong_llm.py labels [--data DIR]

The answers are in texts/ (README.md there says how they were made). Nobody is asked: what the
package made of the answers is done again, and heads on the frozen encoder are trained with the
result and scored on real test texts, for several draws of gold. DIR holds ``hotel_sentiment``
with ``pool.jsonl`` and ``dev.jsonl``; without it only the quickstart is measured. The figures are
in docs/closed_loop.md, docs/strategies.md and docs/research/pseudo_labels.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from decision import embed
from lift_tasks import Cell, make_cell

from japagen.config.sections import Training
from japagen.curation.filters import curate
from japagen.curation.naturalness import count_signs
from japagen.curation.refinement import refine
from japagen.data.dataset import Dataset, Example
from japagen.data.files import cache_dir
from japagen.data.labels import Floats, label_indices
from japagen.evaluation.diversity import distinct_share, measure_diversity
from japagen.evaluation.metrics import macro_f1
from japagen.generation.coverage import round_distances, shortfall
from japagen.japanese.morphology import Tagger
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import Register
from japagen.japanese.traits import LengthBands, traits_of
from japagen.pipeline.steps.curate import label_scorer
from japagen.training.trainer import FrozenTraining

TEXTS = Path(__file__).parent / "texts"
SHOTS = (4, 16)
TEXT_WEIGHT = 0.5
"""Gold texts that a synthetic text counts for: what japagen expects of a writer unknown to it."""
_SUBSETS = 50
_REPLICATES = 20


class Draws:
    """Draws of gold for a task, and heads trained on them.

    Args:
        name: The task.
        data: Folder with a folder per task; the quickstart needs none.
        draws: How many draws of gold.
    """

    def __init__(self, name: str, data: Path, draws: int) -> None:
        cache = cache_dir("strong_llm")
        self.cells = {
            shots: [make_cell(name, shots, draw, data, cache, 100, 600) for draw in range(draws)]
            for shots in SHOTS
        }

    @property
    def first(self) -> Cell:
        """The draw that the writer was shown."""
        return self.cells[16][0]

    @cached_property
    def frozen(self) -> FrozenTraining:
        """The encoder of every head."""
        return FrozenTraining("embedded", self.first.task.labels, Training())

    def probabilities(self, gold: Dataset, added: Dataset, weight: float, test: Dataset) -> Floats:
        """What a head of gold and other texts says of the test texts."""
        sets = [gold, added] if len(added) else [gold]
        labels = self.frozen.labels
        return self.frozen.probabilities(
            np.concatenate([embed(self.frozen, data) for data in sets]),
            np.concatenate([label_indices(data, labels) for data in sets]),
            np.repeat([1.0, weight], [len(gold), len(added)]),
            embed(self.frozen, test),
        )

    def score(
        self, cell: Cell, added: Dataset, weight: float, times: Floats | None = None
    ) -> float:
        """Macro-F1 after training on a draw of gold and other texts, test texts counting once.

        Args:
            cell: The draw.
            added: The other texts.
            weight: Gold texts that each of these counts for.
            times: How often each test text counts instead.
        """
        found = self.probabilities(cell.gold, added, weight, cell.test)
        truth = label_indices(cell.test, self.frozen.labels)
        classes = np.eye(len(self.frozen.labels))
        counts = np.ones(len(truth)) if times is None else times
        scored = macro_f1(counts[None], classes[truth], classes[found.argmax(axis=1)])
        return float(np.mean(scored))

    def show_error(self, shared: Dataset, sets: tuple[Dataset, Dataset], *, paired: bool) -> None:
        """Prints the error of a difference over texts that might have been written and tested on.

        Both sets and the test texts are drawn with replacement, three draws of gold each time.

        Args:
            shared: What is trained on beside either set.
            sets: The two that are compared.
            paired: Whether texts at the same place belong together.
        """
        for shots, cells in self.cells.items():
            rng, found = np.random.default_rng(0), []
            for _ in range(_REPLICATES):
                rows = [rng.integers(len(one), size=len(one)) for one in sets]
                if paired:
                    rows[1] = rows[0]
                tested = len(cells[0].test)
                times = rng.multinomial(tested, np.full(tested, 1 / tested)).astype(np.float64)
                scores = [
                    np.mean(
                        [
                            self.score(
                                c, Dataset.concat([shared, one.take(at)]), TEXT_WEIGHT, times
                            )
                            for c in cells[:3]
                        ]
                    )
                    for one, at in zip(sets, rows, strict=True)
                ]
                found.append(scores[0] - scores[1])
            print(f"  {shots} gold texts per label: ± {np.std(found, ddof=1):.4f}")


def show_scores(scores: Mapping[str, Sequence[float]], against: str) -> None:
    """Prints means, differences from one of the rows with their standard errors, and draw 0.

    Draw 0 is the gold that the writer was shown; of the other draws it has seen a part by chance.
    """
    for name, own in scores.items():
        difference = np.subtract(own, scores[against])
        error = difference.std(ddof=1) / len(own) ** 0.5
        known = "" if name == against else f" {difference.mean():+.4f} ± {error:.4f}"
        print(f"  {name:24} {np.mean(own):.4f}{known}; draw 0 {own[0]:.4f}")


def show_writing(draws: Draws, sets: Mapping[str, Dataset], tagger: Tagger) -> None:
    """Prints signs of unnatural writing, variety beside gold, and what raises an alarm."""
    gold = draws.first.gold
    print("texts with a sign of unnatural writing; distinct-2, self-BLEU, dispersion; alarms")
    for name, texts in sets.items():
        signs = sum(bool(count_signs(text)) for text in texts.texts)
        vectors = embed(draws.frozen, texts), embed(draws.frozen, gold)
        found = measure_diversity(texts, gold, tagger, vectors)
        assert found is not None
        measures = found.against_gold.groups["synthetic"].measures
        shown = ", ".join(
            f"{measures[key].value:.3f} ({measures[key].low:.3f} to {measures[key].high:.3f})"
            for key in ("distinct_2", "self_bleu", "dispersion")
        )
        alarms = [f"{a.kind} {a.group} {a.measure} {a.change:+.0%}" for a in found.alarms]
        print(f"  {name:24} {signs} of {len(texts)}; {shown}; {alarms or 'none'}")


def recorded(name: str) -> list[dict[str, str]]:
    """The lines of a file of answers."""
    lines = (TEXTS / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def synthetic(rows: Sequence[Mapping[str, str]], name: str) -> Dataset:
    """Examples of answers."""
    return Dataset.of(
        Example(
            row["text"],
            row["label"],
            id=f"{name}-{place}",
            split="synthetic",
            register_asked=Register.of(row.get("register", "other")),
        )
        for place, row in enumerate(rows)
    )


def show_rounds(draws: Draws) -> None:
    """Prints what asking for what is missing changes."""
    cell, tagger = draws.first, Tagger()
    answers = recorded("quickstart_rounds.jsonl")
    before = synthetic(_lines(cell.strong), "before")
    rounds = {
        arm: synthetic([row for row in answers if row["asked"] == arm], arm)
        for arm in ("ordinary", "feedback")
    }

    def kept(*parts: Dataset) -> Dataset:
        return curate(Dataset.concat(parts), cell.task.curation, cell.gold, tagger=tagger).kept

    arms = {
        "before": kept(before),
        **{f"before + {arm}": kept(before, texts) for arm, texts in rounds.items()},
        **{arm: kept(texts) for arm, texts in rounds.items()},
    }
    labels = list(cell.task.labels)
    print("texts kept, traits missing, word distance to gold and to test texts, distinct-2")
    for group in (("before", "before + ordinary", "before + feedback"), tuple(rounds)):
        own = [arms[name] for name in group]
        near, far = (round_distances(own, [d], tagger, 0) for d in (cell.gold, cell.test))
        size = min(map(len, own)) // 2
        for name, texts, to_gold, to_test in zip(group, own, near, far, strict=True):
            lacking = sum(map(len, shortfall(texts, cell.gold, None, labels, tagger).values()))
            words = " ".join(
                f"{d['words'].value:.4f} ± {d['words'].error:.4f}" for d in (to_gold, to_test)
            )
            print(
                f"  {name:24} {len(texts)} {lacking} {words} {_distinct(texts, size, tagger):.4f}"
            )
    later = {
        f"before + {arm}": Dataset.concat(
            [
                part.with_columns(round=[number] * len(part))
                for number, part in ((1, arms["before"]), (2, kept(texts)))
            ]
        )
        for arm, texts in rounds.items()
    }
    show_writing(draws, {**arms, **later}, tagger)
    _show_named(answers, cell.gold, tagger)
    _show_missing(draws, rounds["ordinary"], tagger)
    for shots, cells in draws.cells.items():
        scores = {"gold": [draws.score(c, before.take([]), TEXT_WEIGHT) for c in cells]}
        for name, texts in arms.items():
            scores[name] = [draws.score(c, texts, TEXT_WEIGHT) for c in cells]
        print(f"{shots} gold texts per label, macro-F1, difference from ordinary requests")
        show_scores({k: v for k, v in scores.items() if "before" in k}, "before + ordinary")
        show_scores({k: v for k, v in scores.items() if "before" not in k}, "ordinary")
    for shared in (before, before.take([])):
        print(f"feedback less ordinary beside {len(shared)} texts, error over texts and test texts")
        draws.show_error(shared, (rounds["feedback"], rounds["ordinary"]), paired=False)


def _lines(path: Path | None) -> list[dict[str, str]]:
    assert path is not None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _distinct(texts: Dataset, size: int, tagger: Tagger) -> float:
    """Mean share of distinct word pairs of random subsets of one size."""
    words = [[m.surface for m in tagger.tokenize(text)] for text in texts.texts]
    rng = random.Random(0)
    return float(np.mean([distinct_share(rng.sample(words, size), 2) for _ in range(_SUBSETS)]))


def _show_named(answers: Sequence[Mapping[str, str]], gold: Dataset, tagger: Tagger) -> None:
    """Prints how many texts show what they were to name, and how many do so unasked."""
    bands = LengthBands([traits_of(text, tagger).length for text in gold.texts])

    def shows(row: Mapping[str, str], kind: str, item: str) -> bool:
        read = traits_of(row["text"], tagger)
        if kind == "length_band":
            return bands.name(read.length) == item
        return item in (read.words if kind == "word" else read.endings)

    for kind in ("word", "ending", "length_band"):
        asked = [row for row in answers if row.get("named", "").startswith(f"{kind}:")]
        items = [row["named"].split(":", 1)[1] for row in asked]
        met = sum(shows(row, kind, item) for row, item in zip(asked, items, strict=True))
        unasked = [
            np.mean([shows(row, kind, item) for row in answers if row["asked"] == "ordinary"])
            for item in items
        ]
        print(f"  named {kind}: {met} of {len(asked)} show it, {np.mean(unasked):.0%} unasked")


def _show_missing(draws: Draws, texts: Dataset, tagger: Tagger) -> None:
    """Prints how much other draws of gold miss, in these texts and in real ones."""
    labels = list(draws.first.task.labels)
    for cell in draws.cells[16]:
        own = set(cell.gold.texts)
        real = Dataset.of(e for e in cell.pool if e.text not in own)
        counts = [
            sum(map(len, shortfall(d, cell.gold, None, labels, tagger).values()))
            for d in (texts, real)
        ]
        print(f"  draw {cell.draw}: {len(texts)} texts lack {counts[0]}, "
              f"{len(real)} other real ones {counts[1]}")  # fmt: skip


def show_refinement(draws: Draws) -> None:
    """Prints what rewriting the doubtful texts of the embedded model changes."""
    cell, analyzer = draws.first, RegisterAnalyzer()
    answers = recorded("quickstart_refined.jsonl")
    texts = synthetic(answers, "text")
    rewrites = {row["text"]: row["rewrite"] for row in answers if "rewrite" in row}
    score = label_scorer(cell.gold, draws.frozen, cell.task.seed)
    assert score is not None

    def rewrite(rows: Sequence[Example], number: int) -> list[Example | None]:
        return [
            Example(
                rewrites[row.text],
                row.label,
                id=f"{row.id}-f{number}",
                split="synthetic",
                parent_id=row.id,
                register_asked=row.register_asked,
                derived="rewritten",
            )
            if row.text in rewrites
            else None
            for row in rows
        ]

    refined = refine(
        texts,
        1,
        cell.task.refinement.doubt,
        score,
        rewrite,
        lambda rows, _: curate(rows, cell.task.curation, cell.gold, tagger=analyzer.tagger),
        analyzer,
    )
    parents = texts.take([i for i, row in enumerate(answers) if "rewrite" in row])
    children = Dataset.of(e for e in refined if e.parent_id)
    reasons = [e.rejected.filter if e.rejected else "better" for e in children]
    print({name: reasons.count(name) for name in dict.fromkeys(reasons)})
    judged = [row["judged"] == row["label"] for row in answers]
    doubtful = [row["judged"] == row["label"] for row in answers if "rewrite" in row]
    print(f"the LLM tells the label asked for in {sum(judged)} of {len(judged)} texts, "
          f"{sum(doubtful)} of the {len(doubtful)} in doubt")  # fmt: skip
    real = Dataset.concat([cell.pool, cell.test])
    better = children.kept
    replaced = Dataset.of(e for e in texts if e.id in set(better.column("parent_id")))
    sets = {
        "all texts": texts,
        "in doubt": parents,
        "their rewrites": children,
        "replaced": replaced,
        "by better ones": better,
    }
    for name, rows in sets.items():
        truth = label_indices(rows, draws.frozen.labels)
        nothing = real.take([])
        found = draws.probabilities(real, nothing, 1.0, rows).argmax(axis=1)
        print(
            f"  {name:24} {len(rows)} a head of {len(real)} real texts agrees with "
            f"{np.mean(found == truth):.1%}, mean of the score {score(rows).mean():.3f}"
        )
    writing = {**sets, "refined": refined.kept}
    show_writing(draws, writing, analyzer.tagger)
    for name in ("naturalness", "naturalness_after"):
        marks = [int(row[name]) for row in answers if name in row]
        print(f"  {name}: mean {np.mean(marks):.2f}, {sum(m >= 4 for m in marks)} with 4 or 5")
    dropped = Dataset.of(e for e in texts if e.text not in rewrites)
    arms = {
        "gold": texts.take([]),
        "as curated": texts,
        "without those in doubt": dropped,
        "refined": refined.kept,
        "all rewrites": Dataset.concat([dropped, children]),
        "new texts in place": Dataset.concat([dropped, _as_many(children)]),
    }
    for shots, cells in draws.cells.items():
        scores = {name: [draws.score(c, d, TEXT_WEIGHT) for c in cells] for name, d in arms.items()}
        print(f"{shots} gold texts per label, macro-F1, difference from texts as curated")
        show_scores(scores, "as curated")
    print("replaced texts less better ones, error over texts and test texts")
    draws.show_error(
        Dataset.of(e for e in texts if e.id not in set(replaced.column("id"))),
        (replaced, better),
        paired=True,
    )


def _as_many(like: Dataset) -> Dataset:
    """Texts that the LLM wrote when asked for texts, as many per label."""
    answers = recorded("quickstart_rounds.jsonl")
    ordinary = synthetic([row for row in answers if row["asked"] == "ordinary"], "new")
    rows: list[int] = []
    for label, count in like.label_counts().items():
        rows += [i for i, name in enumerate(ordinary.labels) if name == label][:count]
    return ordinary.take(rows)


def show_labels(name: str, draws: Draws) -> None:
    """Prints how often the LLM names the label of a real text, and what its labels teach."""
    pool = draws.first.pool
    answers = [row for row in recorded("judged.jsonl") if row["task"] == name]
    told = {int(row["row"]): row["label"] for row in answers}
    right = np.array([pool[row].label == label for row, label in told.items()])
    error = (right.mean() * (1 - right.mean()) / len(right)) ** 0.5
    print(f"{name}: {right.sum()} of {len(right)} right, {right.mean():.3f} ± {error:.3f}")
    for shots, cells in draws.cells.items():
        scores: dict[str, list[float]] = {"gold": [], "labels of the head": [], "of the LLM": []}
        scores["true labels"] = []
        for cell in cells:
            own = set(cell.gold.texts)
            rows = [row for row in told if pool[row].text not in own]
            texts = Dataset.of(
                Example(pool[row].text, told[row], id=f"u-{row}", split="synthetic") for row in rows
            )
            found = draws.probabilities(cell.gold, texts.take([]), 1.0, texts).argmax(axis=1)
            given = {
                "labels of the head": [draws.frozen.labels[at] for at in found],
                "of the LLM": texts.labels,
                "true labels": [pool[row].label for row in rows],
            }
            scores["gold"].append(draws.score(cell, texts.take([]), 1.0))
            for who, labels in given.items():
                scores[who].append(draws.score(cell, texts.with_columns(label=list(labels)), 1.0))
        print(f"{shots} gold texts per label and up to {len(told)} others, macro-F1")
        show_scores(scores, "gold")


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["rounds", "refinement", "labels"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    given = parser.parse_args()
    draws = Draws("quickstart", given.data or Path(), given.draws)
    if given.what == "rounds":
        show_rounds(draws)
    elif given.what == "refinement":
        show_refinement(draws)
    else:
        show_labels("quickstart", draws)
        if given.data:
            show_labels("hotel_sentiment", Draws("hotel_sentiment", given.data, given.draws))


if __name__ == "__main__":
    main()
