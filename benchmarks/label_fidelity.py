"""How often generated text has the label it was asked for, before and after the label check.

    python benchmarks/label_fidelity.py --data DIR [--quick] [--tasks A,B] [--seeds N]
        [--strategies A,B] [--voters encoder] [--json FILE] [--minutes M]

DIR holds a folder a task (hotel_sentiment, software_topics) with ``pool.jsonl`` and ``dev.jsonl``
(columns text and label); the quickstart's texts come with the checkout. For each task 16 gold
texts per label are drawn from the pool. Each strategy writes texts until it has spent the same
number of tokens; then the filters of `japagen.curation` run, then the label check. The judge is
the embedded encoder, fine-tuned on the whole pool (for the quickstart on half of the test texts
too) and kept in japagen's cache; its own accuracy is on texts that it has not seen.

agree      share of the texts kept that the judge gives the label they have
worst      the same for the label with the lowest share
kept       texts kept, and for every 1,000 generated tokens
distinct-2 distinct MeCab word pairs over all pairs, on the same number of texts for every row
real       how often each labeler is right on --real texts of dev: it has seen gold only

With --json, what is done is written after every strategy and not done again, so that the same
command goes on after --minutes; the texts stand beside it. The generator's vote takes longer than
its texts: --voters encoder leaves it out, and the same command without it adds it.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from japagen.config.sections import Training
from japagen.config.task import Task
from japagen.config.task_data import TaskData, load_data
from japagen.config.yaml_file import set_key
from japagen.curation.filters import curate
from japagen.curation.label_check import Vote, cross_fitted_vote, fit_pool, settle_labels
from japagen.curation.llm_judge import plan_questions, to_vote, weighing_prompts
from japagen.curation.reliability import unit_vectors
from japagen.data.dataset import Dataset
from japagen.data.files import cache_dir, digest, resource_dir
from japagen.data.formats import read_examples, write_examples
from japagen.data.labels import label_indices
from japagen.generation import planner
from japagen.japanese.morphology import default_tagger
from japagen.llm.backends.embedded import EmbeddedGenerator
from japagen.llm.prompts import PromptLibrary
from japagen.pipeline.context import TaskContext
from japagen.pipeline.steps.generate import plan
from japagen.training.classifier import Classifier
from japagen.training.encoder import text_vectors
from japagen.training.trainer import train

# Dotted keys of the task file; `typical` keeps so many gold texts per label.
STRATEGIES: dict[str, dict[str, Any]] = {
    "default": {},
    "zero-shot": {"generation.strategy": "zero_shot"},
    "low": {"generation.diversity": "low"},
    "high": {"generation.diversity": "high"},
    "typical": {"generation.shots": 8, "typical": 8},
    "attributes": {"generation.attributes": True},
    "low, attributes": {"generation.diversity": "low", "generation.attributes": True},
    "passages": {"generation.corpus": True},
}
# What `attributes` stands for: what texts of a task are about, whatever their label.
TOPICS: dict[str, str] = {
    "hotel_sentiment": "部屋 食事 朝食 風呂 温泉 接客 立地 料金 清掃 設備 駐車場 予約 景色 備品",
    "software_topics": "操作 形式 端末 通信 変換 画面 設定 教育 開発 言語 印刷 検索",
    "quickstart": "靴 家電 本 食品 家具 化粧品 衣類 ギフト 文房具 アプリ 会員登録 ポイント",
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


def load_task(name: str, data: Path, seed: int, how: Mapping[str, Any]) -> Task:
    """The task with 16 gold texts per label; `test` is what nothing but the judge's score reads."""
    keys: dict[str, Any] = {"seed": seed, "generation.per_label": 400}
    keys |= {key: value for key, value in how.items() if key != "typical"}
    if "generation.attributes" in keys:
        keys["generation.attributes"] = {"話題": TOPICS[name].split()}
    if "generation.corpus" in keys:
        keys["generation.corpus"] = {"path": str(corpus_of(name, data))}
    if name == "quickstart":
        return Task.load(resource_dir("configs") / "quickstart_local.yaml", {**keys, "name": name})
    raw = {"name": name, **copy.deepcopy(TASKS[name])}
    raw["gold"] = {"path": str(data / name / "pool.jsonl"), "per_label": 16}
    raw["test"] = {"path": str(data / name / "dev.jsonl")}
    for key, value in keys.items():
        set_key(raw, key, value)
    return Task.parse(raw)


def corpus_of(name: str, data: Path) -> Path:
    """Unlabelled texts of a task as material: its pool, of which gold is a part."""
    if name == "quickstart":
        return resource_dir("configs") / "quickstart" / "pool.jsonl"
    return data / name / "pool.jsonl"


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
        self._unseen = unseen

    @cached_property
    def accuracy(self) -> float:
        """How often it is right on texts that it has not seen."""
        return float(np.mean(self.labels(self._unseen.texts) == np.array(self._unseen.labels)))

    def labels(self, texts: Sequence[str]) -> npt.NDArray[np.str_]:
        """The likeliest label of every text."""
        names = np.array(self.model.labels, dtype=np.str_)
        likeliest: npt.NDArray[np.str_] = names[
            self.model.probabilities(list(texts)).argmax(axis=1)
        ]
        return likeliest


def generate(
    task: Task, data: TaskData, generator: EmbeddedGenerator, tokens: int
) -> tuple[Dataset, int]:
    """Writes in turn for every label until the tokens are spent; returns what they were, too."""
    requests = plan(TaskContext.open(task, data), generator.info)
    answers, spent = {}, 0
    for answer in generator.stream(iter(requests)):
        answers[answer.request_id] = answer
        spent += answer.completion_tokens
        if spent >= tokens:
            break
    asked = [r for r in requests if r.id in answers]
    made = planner.to_dataset(asked, answers, {}, generator.info.name)
    # Nobody can judge an empty line.
    return made.where(np.array([bool(text) for text in made.texts])), spent


def written(
    name: str,
    given: argparse.Namespace,
    task: Task,
    data: TaskData,
    generator: EmbeddedGenerator,
) -> tuple[Dataset, int]:
    """As `generate`, or what it wrote before."""
    path = given.json and given.json.with_suffix("") / f"{name}-{given.tokens}.jsonl"
    if path and path.exists():
        rows = read_examples(path, split="synthetic")
        return rows, int(path.with_suffix(".tokens").read_text())
    raw, spent = generate(task, data, generator, given.tokens)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".tokens").write_text(str(spent))
        write_examples(path, raw.kept)
    return raw, spent


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


def encoder_vote(gold: np.ndarray, targets: np.ndarray, texts: np.ndarray, seed: int = 0) -> Vote:
    """Log-probabilities of a logistic regression on frozen vectors, cross-fitted on gold."""
    on_gold, on_texts = unit_vectors(gold), unit_vectors(texts)
    centre = on_gold.mean(axis=0)

    def fit(seen: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=30.0, max_iter=2000).fit(seen, own)
        return model.predict_log_proba(others) if len(others) else np.zeros((0, own.max() + 1))

    return cross_fitted_vote(fit, on_gold - centre, targets, on_texts - centre, seed)


def voters(
    task: Task, data: TaskData, generator: EmbeddedGenerator | None, texts: Dataset
) -> dict[str, Vote]:
    """The encoder's vote on texts and, if it is asked, the generator's."""
    gold = data.gold
    assert gold is not None
    targets = label_indices(gold, list(task.labels))
    on_gold, on_texts = text_vectors([gold, texts])
    votes = {"encoder": encoder_vote(on_gold, targets, on_texts, task.seed)}
    if generator is None:
        return votes
    questions = plan_questions(texts, gold, task.seed)
    names = list(task.labels)
    prompts = weighing_prompts(questions, task, PromptLibrary(), names)
    scores = dict(generator.choose(prompts, names))
    rows = [scores[i] for i in range(len(questions))]
    votes["generator"] = to_vote(questions, rows, len(gold), len(texts))
    return votes


def posteriors(
    task: Task, gold: Dataset, votes: Mapping[str, Vote]
) -> dict[str, npt.NDArray[np.float64]]:
    """What each voter says alone, calibrated on gold, and what they say together."""
    targets = label_indices(gold, list(task.labels))
    groups = {name: [vote] for name, vote in votes.items()}
    if len(votes) > 1:
        groups["pool"] = list(votes.values())
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


def measure(
    name: str, given: argparse.Namespace, seed: int, strategy: str, generator: EmbeddedGenerator
) -> dict[str, Any]:
    """One strategy on one draw of gold: a row for each way to treat its texts."""
    how = STRATEGIES[strategy]
    task = load_task(name, given.data, seed, how)
    data, judge = load_data(task), Judge(task)
    if "typical" in how:
        data = TaskData(most_typical(task, data, how["typical"]), data.test, data.unlabelled)
    gold = data.gold
    assert gold is not None
    raw, spent = written(f"{name}-{seed}-{strategy}", given, task, data, generator)
    curated = curate(raw, task.curation, gold, PromptLibrary().phrases).kept
    votes = voters(task, data, generator if "generator" in given.voters else None, curated)
    said = posteriors(task, gold, votes)
    rows = {"as asked": raw, "filters": curated}
    for who, posterior in said.items():
        for miss in ("reject", "relabel"):
            rows[f"{who}, {miss}"] = settle_labels(
                curated, list(task.labels), posterior, miss, task.curation.label_confidence
            )
    found = {}
    for what, dataset in rows.items():
        found[what] = row(dataset, judge, spent, given.tokens // 20)
        show(name, seed, f"{strategy}: {what}", found[what])
    return found


def measure_real(
    name: str, given: argparse.Namespace, seed: int, generator: EmbeddedGenerator
) -> dict[str, float]:
    """How often each voter, and the judge, is right on real texts."""
    task = load_task(name, given.data, seed, {})
    data, judge = load_data(task), Judge(task)
    assert data.gold is not None
    assert data.test is not None
    some = np.random.default_rng(seed).permutation(len(data.test))[: given.real]
    real = data.test.take(np.sort(some))
    truth = label_indices(real, list(task.labels))
    said = posteriors(task, data.gold, voters(task, data, generator, real))
    found = {who: float((p.argmax(1) == truth).mean()) for who, p in said.items()}
    found["judge, all unseen texts"] = judge.accuracy
    print(name, seed, "real:", ", ".join(f"{who} {right:.3f}" for who, right in found.items()))
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
    """Reads the command line and runs what is not done yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder a task")
    parser.add_argument("--tasks", default="quickstart,hotel_sentiment,software_topics")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=1, help="draws of gold")
    parser.add_argument("--voters", default="encoder,generator")
    parser.add_argument("--tokens", type=int, default=6000, help="generated tokens a strategy")
    parser.add_argument("--real", type=int, default=200, help="real texts for voters; 0 for none")
    parser.add_argument("--threads", type=int, help="of the generator; the cores when absent")
    parser.add_argument("--quick", action="store_true", help="the default strategy, few tokens")
    parser.add_argument("--json", type=Path, help="write all figures there, and go on from there")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after")
    given = parser.parse_args()
    if given.quick:
        given.strategies, given.tokens, given.real = "default", 1500, min(given.real, 100)
    found: dict[str, Any] = {}
    if given.json and given.json.exists():
        found = json.loads(given.json.read_text(encoding="utf-8"))
    began = time.monotonic()
    generator = EmbeddedGenerator(threads=given.threads)
    wanted = [*given.strategies.split(","), *(["real"] if given.real else [])]
    for seed, name, what in itertools.product(range(given.seeds), given.tasks.split(","), wanted):
        place = found.setdefault(f"{name}/{seed}", {})
        voter = "pool" if "generator" in given.voters else "encoder"
        done = what in place and (what == "real" or f"{voter}, relabel" in place[what])
        if done or time.monotonic() - began > 60 * given.minutes:
            continue
        place[what] = (
            measure_real(name, given, seed, generator)
            if what == "real"
            else measure(name, given, seed, what, generator)
        )
        if given.json:
            given.json.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
    generator.close()


if __name__ == "__main__":
    main()
