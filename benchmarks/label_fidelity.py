"""How often generated text has the label it was asked for, before and after the label check.

    python benchmarks/label_fidelity.py --data DIR [--quick] [--tasks A,B] [--seeds N] [--json FILE]

DIR holds a folder a task (hotel_sentiment, software_topics) with ``pool.jsonl`` and ``dev.jsonl``
(columns text and label); the quickstart's texts come with the checkout. For each task 16 gold
texts a label are drawn from the pool. Each strategy writes texts until it has spent the same
number of tokens; then the filters of `japagen.curation` run, then the label check. The judge is
the embedded encoder, fine-tuned on the whole pool (for the quickstart on half of the test texts
too) and kept in japagen's cache; its own accuracy is on texts that it has not seen.

agree      share of the texts kept that the judge gives the label they have
worst      the same for the label with the lowest share
kept       texts kept, and for every 1,000 generated tokens
distinct-2 distinct MeCab word pairs over all pairs, on the same number of texts for every row
real       how often each voter is right on 200 texts of dev: it has seen the gold alone
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from japagen import generation
from japagen.cache import cache_dir
from japagen.curation.filters import curate
from japagen.curation.label_check import (
    Vote,
    encoder_vote,
    fit_pool,
    label_indices,
    settle_labels,
)
from japagen.curation.label_judge import documents, plan_questions, to_vote
from japagen.data import TaskData, load_data
from japagen.examples import Dataset
from japagen.files import digest
from japagen.formats import read_examples
from japagen.generators.embedded import EmbeddedGenerator
from japagen.japanese.morphology import default_tagger
from japagen.planning import plan
from japagen.prompts import PromptLibrary
from japagen.resources import resource_dir
from japagen.settings import Training
from japagen.tasks import Task
from japagen.text_vectors import text_vectors
from japagen.training.classifier import Classifier
from japagen.training.fitting import train

STRATEGIES: dict[str, dict[str, Any]] = {
    "10 shots, t 0.8 (default)": {},
    "6 shots, t 1.0": {"shots": 6, "temperature": 1.0},
    "12 shots, t 0.7": {"shots": 12, "temperature": 0.7},
    "8 most typical, t 0.8": {"shots": 8, "typical": 8},
}
TASKS: dict[str, dict[str, Any]] = {
    "hotel_sentiment": {
        "text_type": "口コミの一文",
        "domain": "旅館やホテルの口コミ",
        "labels": {
            "positive": "宿に満足した、良かった、また泊まりたいなど、肯定的な評価",
            "negative": "不満、がっかりした、改善してほしいなど、否定的な評価",
            "neutral": "良いとも悪いとも言わない、事実や予定や状況の説明",
        },
    },
    "software_topics": {
        "text_type": "ソフトウェアの説明文",
        "domain": "Linux のパッケージ",
        "labels": {
            "game": "ゲーム",
            "sound": "音楽や音声を扱うソフトウェア",
            "graphics": "画像や図形を扱うソフトウェア",
            "mail": "電子メールを扱うソフトウェア",
            "font": "フォント",
        },
    },
}
REAL = 200


def load_task(name: str, data: Path, seed: int) -> Task:
    """The task with 16 gold texts a label; `test` is what nothing but the judge's score reads."""
    if name == "quickstart":
        return Task.load(resource_dir("configs") / "quickstart.yaml", {"seed": seed})
    files = {"gold": {"path": str(data / name / "pool.jsonl"), "per_label": 16}}
    files["test"] = {"path": str(data / name / "dev.jsonl")}
    return Task.parse({"name": name, "seed": seed, **TASKS[name], **files})


class Judge:
    """An encoder that has seen all there is, and how often it is right on what it has not."""

    def __init__(self, task: Task) -> None:
        assert task.gold
        assert task.test
        seen = read_examples(task.gold.path, split="train")
        unseen = read_examples(task.test.path, split="test")
        if task.name == "quickstart":
            half = np.random.default_rng(0).permutation(len(unseen))
            seen = Dataset.concat([seen, unseen.take(np.sort(half[: len(half) // 2]))])
            unseen = unseen.take(np.sort(half[len(half) // 2 :]))
        path = cache_dir("judges") / f"{task.name}-{digest(seen.fingerprint)[:16]}"
        if path.exists():
            self.model = Classifier.load(path)
        else:
            print(f"training the judge of {task.name}", file=sys.stderr)
            labels = list(task.labels)
            self.model = train(None, seen, labels=labels, settings=Training(epochs=4), seed=0)
            self.model.save(path)
        self.accuracy = float(np.mean(self.labels(unseen.texts) == np.array(unseen.labels)))

    def labels(self, texts: Sequence[str]) -> npt.NDArray[np.str_]:
        """The likeliest label of every text."""
        return np.array(self.model.labels)[self.model.probabilities(list(texts)).argmax(axis=1)]


def generate(
    task: Task, data: TaskData, generator: EmbeddedGenerator, tokens: int, how: Mapping[str, Any]
) -> tuple[Dataset, int]:
    """Writes in turn for every label until the tokens are spent; returns what they were, too."""
    settings = {key: value for key, value in how.items() if key != "typical"}
    changed = task.generation.model_copy(update={"per_label": 400, **settings})
    if "typical" in how:
        data = TaskData(most_typical(task, data, how["typical"]), data.test, data.unlabelled)
    requests = plan(task.model_copy(update={"generation": changed}), data, generator.info)
    answers, spent = {}, 0
    for answer in generator.stream(iter(requests)):
        answers[answer.request_id] = answer
        spent += answer.completion_tokens
        if spent >= tokens:
            break
    asked = [r for r in requests if r.id in answers]
    return generation.to_dataset(asked, answers, {}, generator.info.name), spent


def most_typical(task: Task, data: TaskData, count: int) -> Dataset:
    """The gold of each label that a classifier from the rest of the gold is surest of."""
    gold = data.gold
    assert gold is not None
    targets = label_indices(gold, list(task.labels))
    (vectors,) = text_vectors([gold])
    sure = encoder_vote(vectors, targets, vectors[:0]).gold[np.arange(len(gold)), targets]
    chosen = [np.flatnonzero(targets == k) for k in range(len(task.labels))]
    best = [rows[np.argsort(-sure[rows])[:count]] for rows in chosen]
    return gold.take(np.sort(np.concatenate(best)))


def voters(
    task: Task, data: TaskData, generator: EmbeddedGenerator, texts: Dataset
) -> dict[str, Vote]:
    """The encoder's and the generator's vote on texts."""
    gold = data.gold
    assert gold is not None
    targets = label_indices(gold, list(task.labels))
    on_gold, on_texts = text_vectors([gold, texts])
    questions = plan_questions(texts, gold, task.seed)
    names = list(task.labels)
    scores = dict(generator.choose(documents(questions, task, PromptLibrary(), names), names))
    rows = [scores[i] for i in range(len(questions))]
    return {
        "encoder": encoder_vote(on_gold, targets, on_texts, task.seed),
        "generator": to_vote(questions, rows, len(gold), len(texts)),
    }


def posteriors(
    task: Task, gold: Dataset, votes: Mapping[str, Vote]
) -> dict[str, npt.NDArray[np.float64]]:
    """What each voter says alone, calibrated on gold, and what they say together."""
    targets = label_indices(gold, list(task.labels))
    groups = {name: [vote] for name, vote in votes.items()} | {"pool": list(votes.values())}
    return {
        name: fit_pool([v.gold for v in group], targets).posterior([v.texts for v in group])
        for name, group in groups.items()
    }


def distinct2(texts: Sequence[str], size: int, seed: int = 0) -> float:
    """Distinct word pairs over all, on ``size`` of the texts."""
    tagger = default_tagger()
    chosen = random.Random(seed).sample(list(texts), min(size, len(texts)))
    pairs = []
    for text in chosen:
        words = [m.surface for m in tagger.tokenize(text)]
        pairs += list(itertools.pairwise(words))
    return len(set(pairs)) / max(len(pairs), 1)


def row(data: Dataset, judge: Judge, spent: int, size: int) -> dict[str, float]:
    """The figures of one line of the table."""
    kept = data.kept
    if not len(kept):
        return dict.fromkeys(("agree", "worst", "distinct2"), float("nan")) | {
            "kept": 0,
            "per_1000": 0.0,
        }
    labels = np.array([str(label) for label in kept.labels])
    right = judge.labels(kept.texts) == labels
    return {
        "agree": float(right.mean()),
        "worst": min(float(right[labels == label].mean()) for label in set(labels.tolist())),
        "kept": len(kept),
        "per_1000": 1000 * len(kept) / spent,
        "distinct2": distinct2(kept.texts, size),
    }


def run(name: str, data_dir: Path, seed: int, tokens: int, strategies: Sequence[str]) -> Any:
    """All strategies of one task and one draw of gold."""
    task = load_task(name, data_dir, seed)
    data, judge = load_data(task), Judge(task)
    assert data.gold is not None
    assert data.test is not None
    found: dict[str, Any] = {"judge": judge.accuracy, "rows": {}}
    generator = EmbeddedGenerator()
    labels = list(task.labels)
    size = tokens // 40
    some = np.random.default_rng(seed).permutation(len(data.test))[: min(REAL, tokens // 10)]
    real = data.test.take(np.sort(some))
    truth = label_indices(real, labels)
    said = posteriors(task, data.gold, voters(task, data, generator, real))
    found["real"] = {who: float((p.argmax(1) == truth).mean()) for who, p in said.items()}
    for strategy in strategies:
        raw, spent = generate(task, data, generator, tokens, STRATEGIES[strategy])
        phrases = PromptLibrary().phrases
        curated = curate(raw, task.curation, data.gold, phrases).kept
        said = posteriors(task, data.gold, voters(task, data, generator, curated))
        rows = {"filters": curated}
        for who, posterior in said.items():
            for miss in ("reject", "relabel"):
                rows[f"{who}, {miss}"] = settle_labels(curated, labels, posterior, miss, 0.5)
        for what, dataset in rows.items():
            line = row(dataset, judge, spent, size)
            found["rows"][f"{strategy}: {what}"] = line
            show(name, seed, f"{strategy}: {what}", line)
    generator.close()
    real_line = ", ".join(f"{who} {right:.3f}" for who, right in found["real"].items())
    print(f"{name} seed {seed}: judge {found['judge']:.3f} on unseen texts; real: {real_line}")
    return found


def show(name: str, seed: int, what: str, line: Mapping[str, float]) -> None:
    """Prints one line of the table."""
    print(
        f"{name:16} {seed} {what:48} agree {line['agree']:.3f} worst {line['worst']:.3f}"
        f" kept {line['kept']:4.0f} ({line['per_1000']:.1f} / 1,000 tokens)"
        f" distinct-2 {line['distinct2']:.3f}",
        flush=True,
    )


def main() -> None:
    """Reads the command line and runs the tasks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder a task")
    parser.add_argument("--tasks", default="quickstart,hotel_sentiment,software_topics")
    parser.add_argument("--seeds", type=int, default=1, help="draws of gold")
    parser.add_argument("--tokens", type=int, default=6000, help="generated tokens a strategy")
    parser.add_argument("--quick", action="store_true", help="the default strategy, few tokens")
    parser.add_argument("--json", type=Path, help="write all figures there")
    given = parser.parse_args()
    strategies = list(STRATEGIES)[:1] if given.quick else list(STRATEGIES)
    tokens = min(given.tokens, 1500) if given.quick else given.tokens
    found = {
        f"{name}/{seed}": run(name, given.data, seed, tokens, strategies)
        for name in given.tasks.split(",")
        for seed in range(given.seeds)
    }
    if given.json:
        given.json.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
