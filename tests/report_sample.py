"""A run's metrics and examples without the hours of a run: real texts, made-up predictions."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.curation.audit import audit
from japagen.curation.reliability import Evidence, estimate_reliability
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.scores import Interval
from japagen.data.summary import (
    Change,
    Curves,
    Diagnostics,
    EffectiveSize,
    LabelPrior,
    Point,
    RunSummary,
    SourceReport,
    SourceValue,
    WordShift,
    Worth,
)
from japagen.evaluation.diversity import measure_diversity
from japagen.japanese.morphology import default_tagger
from japagen.japanese.registers import Register
from japagen.llm.backend import GeneratorInfo, OutputTerms
from japagen.mixing.mix import Mix, SourceMix
from japagen.pipeline import summary
from japagen.pipeline.steps.train import Baseline, errors_of

_QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart"
LABELS = {
    "請求・支払い": "請求額、明細、領収書、支払い方法",
    "解約・返品": "定期便や会員の解約、商品の返品や交換",
    "技術トラブル": "アプリやサイトや機器が動かない",
    "配送": "届く日、追跡、不在と再配達",
}
_FLAWS = (
    ("gold_copy", 0.83, 0.6, "返品の受付は土日も動いているのか。"),
    ("duplicate", 1, 0, "s-0003"),
    ("too_short", 4, 8, ""),
    ("prompt_echo", 1, 0, "分類:"),
    ("repetitive", 6, 3, "届かない"),
    ("truncated", 120, 120, "cut off at the token limit"),
)


def sample_run(generated: int = 160, seed: int = 7) -> tuple[dict[str, Any], Dataset]:
    """Metrics and dataset of a run whose classifier gained a little from synthetic text."""
    tests, rows = _rows("test.jsonl"), _rows("pool.jsonl")
    tests, rows = tests[:300], rows + tests[300:]
    task = Task.parse(
        {
            "name": "お客様問い合わせの仕分け",
            "description": "家電・生活雑貨の通販サイトに届いたお客様からの問い合わせ",
            "text_type": "問い合わせ",
            "labels": LABELS,
            "seed": seed,
            "economics": {"llm_yen_per_1000": 80, "machine_yen_per_hour": 60},
        }
    )
    gold = [row for label in LABELS for row in [r for r in rows if r["label"] == label][:16]]
    pool = [row for row in rows if row not in gold][:generated]
    dataset = Dataset.of(_synthetic(number, row) for number, row in enumerate(pool))
    parts = summary.Parts(
        task=task,
        data=TaskData(_dataset(gold, "train"), _dataset(tests, "test"), None),
        gold=_dataset(gold, "train"),
        dataset=dataset,
        generator=GeneratorInfo(
            "gemma3-270m",
            "gguf:1f2e3d4c5b6a+llama.cpp-b4567",
            "document",
            True,
            OutputTerms(
                "Google claims no rights in the text; see the terms on models trained on it.",
                "https://ai.google.dev/gemma/terms",
                None,
                True,
            ),
        ),
        cost={
            "attempts": 164,
            "answers": 160,
            "prompt_tokens": 41_236,
            "completion_tokens": 5_871,
            "request_seconds": 312.4,
            "wall_seconds": 46.2,
        },
        with_synthetic=[(s, _predictions(tests, 0.84, s)) for s in (7, 8, 9)],
        gold_only=[(s, _predictions(tests, 0.77, s + 1)) for s in (7, 8, 9)],
        baselines=[
            Baseline("tfidf", "gold", [(seed, _predictions(tests, 0.45, seed))]),
            Baseline("tfidf", "union", [(seed, _predictions(tests, 0.6, seed))]),
            Baseline("plain", "gold", [(s, _predictions(tests, 0.66, s)) for s in (7, 8, 9)]),
            Baseline("plain", "union", [(s, _predictions(tests, 0.78, s)) for s in (7, 8, 9)]),
            Baseline("zero_shot", "nothing", reason="slow"),
        ],
        latency=0.0123,
        seconds={
            "generate": 46.2,
            "curate": 1.3,
            "align": 4.8,
            "train-synthetic-7": 61.0,
            "train-gold-7": 33.9,
        },
    )
    parts.reported |= {
        "alignment": _alignment(dataset),
        "audit": audit(dataset, dataset, _dataset(gold, "train"), list(LABELS), "flag").summary,
        "diversity": _diversity(dataset, _dataset(gold, "train")),
        "mix": _mix(dataset),
        "errors": errors_of(task, parts.data, parts.with_synthetic),
    }
    found = summary.collect(parts).to_dict() | {
        "created": "2026-11-24T09:30:00+0900",
        "dictionary": "unidic-lite 1.0.8 (UniDic 2.1.2)",
        "encoder": "multilingual-e5-small, Japanese rows (sha256 0f1e2d3c4b5a)",
    }
    return found, dataset


def _rows(name: str) -> list[dict[str, str]]:
    lines = (_QUICKSTART / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _dataset(rows: list[dict[str, str]], split: Any) -> Dataset:
    return Dataset.of(
        Example(r["text"], r["label"], split=split, register_seen=Register.of(r["register"]))
        for r in rows
    )


def _synthetic(number: int, row: dict[str, str]) -> Example:
    rng = random.Random(number)
    flaw = _FLAWS[number % len(_FLAWS)] if number % 7 == 0 else None
    asked = row["register"] if rng.random() < 0.7 else "polite"
    return Example(
        row["text"],
        row["label"],
        id=f"s-{number:04d}",
        source="generator",
        label_asked=row["label"],
        register_asked=Register.of(asked),
        register_seen=Register.of(row["register"]),
        request_id=f"r-{number:04d}",
        generator="gemma3-270m",
        prompt_id="few_shot@0a1b2c3d4e5f",
        seed=number,
        weight_distribution=0.0 if flaw else round(rng.lognormvariate(0, 0.5), 4),
        rejected=Rejection(*flaw) if flaw else None,
    )


def from_file(name: str) -> list[dict[str, Any]]:
    """What metrics.json says of a file in place of the generator."""
    report = SourceReport(
        name="他社",
        kind="file",
        origin=name,
        texts=165,
        kept=150,
        rejected={"duplicate": 12, "too_short": 3},
        relabelled=7,
        distinct_2=Interval(0.61, 0.58, 0.64),
        label_trust=0.82,
        distance=0.913,
        yen=1_250.0,
        tokens=None,
        seconds=None,
        value=SourceValue(used=True, share=0.4, texts_worth=3.2, low=-0.4, reason="reliable"),
    )
    return [report.model_dump()]


def small_summary(**changed: Any) -> RunSummary:
    """A run of which little is known, and what is changed of it."""
    counts = {"gold": 2, "test": 0, "kept": 3, "generated": 4}
    task = {"name": "small", "labels": {}, "seed": 0}
    known = {"japagen": "0.1", "task": task, "counts": counts, "per_label": {}}
    return RunSummary.model_validate(known | changed)


def _predictions(tests: list[dict[str, str]], right: float, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    names = list(LABELS)
    logits = rng.gumbel(size=(len(tests), len(names)))
    hit = rng.random(len(tests)) < right
    for index, row in enumerate(tests):
        if hit[index]:
            logits[index, names.index(row["label"])] += 5
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def _diversity(dataset: Dataset, gold: Dataset) -> dict[str, Any] | None:
    """Real figures of two made-up rounds; vectors are made up too."""
    rng = np.random.default_rng(0)
    rounds = dataset.with_columns(round=[i % 2 for i in range(len(dataset))])
    vectors = rng.normal(size=(len(dataset), 8)), rng.normal(size=(len(gold), 8))
    found = measure_diversity(rounds, gold, default_tagger(), vectors)
    return found and asdict(found)


def _mix(dataset: Dataset) -> dict[str, Any]:
    """What two in three of the labels agreeing makes of the texts; made-up curves."""
    gold = ((2, 0.98), (4, 0.87), (8, 0.74), (14, 0.67))
    synthetic = ((0, 0.67), (8, 0.66), (16, 0.65), (32, 0.63))
    points = {
        name: [
            Point(place, loss, loss - 0.08, loss + 0.09, 0.95 - loss / 3) for place, loss in curve
        ]
        for name, curve in (("gold", gold), ("synthetic", synthetic))
    }
    worth = Worth(4.7, -1.2, None, 14.0, 14.0, True)
    texts = len(dataset.kept)
    known = estimate_reliability(
        Evidence(len(LABELS), texts, texts * 2 // 3, texts * 4 // 5, 64, 53, 45), "base_model"
    )
    source = SourceMix(texts, known.text_weight, "reliable", known)
    return {
        **asdict(Mix(0.4, "reliable", {"generator": source})),
        "provenance": "known",
        "folds": {"repeats": 2, "usable": [52, 61], "synthetic": 160, "train": 56, "gold": 64},
        "curves": asdict(
            Curves(tuple(points["gold"]), tuple(points["synthetic"]), worth, {"generator": worth})
        ),
    }


def _alignment(dataset: Dataset) -> dict[str, Any]:
    kept = dataset.weights[dataset.kept_mask]
    rows = float(kept.sum() ** 2 / (kept**2).sum())
    diagnostics = Diagnostics(
        effective_sample_size=EffectiveSize(
            rows, rows / len(kept), dict(zip(LABELS, (0.81, 0.74, 0.69, 0.77), strict=True))
        ),
        label_distance=Change(0.214, 0.031),
        word_divergence=Change(Interval(0.312, 0.287, 0.334), Interval(0.243, 0.221, 0.268)),
        pos_divergence=Change(Interval(0.121, 0.108, 0.137), Interval(0.079, 0.068, 0.091)),
        mean_discrepancy=Change(Interval(0.092, 0.071, 0.114), Interval(0.031, 0.019, 0.045)),
        two_sample_auc=Change(0.873, 0.761),
        overused=(
            WordShift("商品", 8.214, 21.53, 1.39, 0.52),
            WordShift("届く", 6.071, 13.92, 1.197, 0.338),
        ),
        underused=(
            WordShift("明細", 4.102, 0.61, -2.75, -1.204),
            WordShift("ログイン", 3.915, 0.98, -1.998, -0.71),
        ),
        tolerance=1.25,
        tempered={"配送": 0.82},
        notes=(),
    )
    prior = LabelPrior(
        dict(zip(LABELS, (0.31, 0.19, 0.22, 0.28), strict=True)),
        "gold",
        "Gold's own shares of 64 texts, as asked.",
    )
    return {
        "method": "entropy",
        "prior": asdict(prior),
        "diagnostics": asdict(diagnostics),
        "dictionary": "unidic-lite 1.0.8",
    }
