"""Texts written by gradient matching, beside as many that a strong LLM wrote and that are chosen.

    python benchmarks/gradient_texts.py --data DIR [--tasks A,B] [--gold 5,16,50] [--draws 0,1,…]
        [--texts 100] [--reader gemma3-270m] [--tuned] [--json FILE]

DIR holds a folder per task with ``pool.jsonl``, ``dev.jsonl`` and ``strong_llm.jsonl``. For each
number of gold texts per label and draw of gold, as many texts of the strong LLM are taken at random
and chosen by gold's gradients, and the random ones are rewritten by ADMM with a causal model of
the embedded backend as the reader. Printed is macro-F1 on test texts of heads on the frozen encoder
(``--tuned``: of a tuned encoder), trained on the texts alone and together with gold; means and
standard deviations over draws. A draw is added to the JSON lines of FILE when it is done, and one
that is there is not made again. The figures are in docs/research/gradient_matching.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from decision import embed
from lift_tasks import Cell, make_cell

from japagen.config.curation import Selection
from japagen.config.generation import GeneratorSettings
from japagen.config.sections import Training
from japagen.data.dataset import Dataset
from japagen.data.files import cache_dir
from japagen.data.formats import read_examples
from japagen.data.labels import label_indices
from japagen.evaluation.metrics import macro_f1
from japagen.gradmm.target import select_by_gradient
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.listener import Silent
from japagen.llm.backends.huggingface import Checkpoint, generator_checkpoint
from japagen.pipeline.context import TextEncoder
from japagen.pipeline.steps.synthesis import synthesised_texts
from japagen.training.trainer import FrozenTraining, train

TEST = 600
ARMS = ("random", "chosen", "rewritten")


def arms(
    cell: Cell, size: int, frozen: FrozenTraining, encoder: TextEncoder, reader: Checkpoint
) -> Iterator[tuple[str, Dataset, dict[str, Any]]]:
    """The texts of every arm, and what was done."""
    assert cell.strong is not None
    analyzer = RegisterAnalyzer()
    texts, names = read_examples(cell.strong), list(cell.task.labels)
    reports = analyzer.analyze_all(texts.texts)
    texts = texts.with_registers([report.register for report in reports])
    labels, each = label_indices(texts, names), size // len(names)
    rng = np.random.default_rng(cell.draw)
    rows = [rng.permutation(np.flatnonzero(labels == k))[:each] for k in range(len(names))]
    taken = texts.take(np.concatenate(rows))
    yield "random", taken, {}
    gold = cell.gold
    vectors = embed(frozen, texts), embed(frozen, gold)
    settings = Selection(per_label=each)
    chosen = select_by_gradient(texts, gold, *vectors, names, settings=settings, seed=cell.draw)
    yield "chosen", chosen.kept, {}
    began = time.perf_counter()
    read = encoder.vectors(gold), encoder.vectors(taken)
    children, growth = synthesised_texts(
        cell.task, taken, gold, read, encoder, reader, analyzer, Silent()
    )
    children = children.kept
    replaced = np.isin(taken.column("id"), children.column("parent_id"))
    seconds = time.perf_counter() - began
    grown = np.median([growth[i] for i in children.column("id")]) if len(children) else 1.0
    remark = {
        "new": len(children),
        "of": len(taken),
        "perplexity": float(grown),
        "seconds": seconds,
        "samples": children.texts[:: max(1, len(children) // 5)],
    }
    yield "rewritten", Dataset.concat([taken.where(~replaced), children]), remark


def scores(cell: Cell, texts: Dataset | None, frozen: FrozenTraining, tuned: bool) -> list[float]:
    """Macro-F1 of the texts alone and of their union with gold; of gold where there are none."""
    names = list(cell.task.labels)
    truth = np.eye(len(names))[label_indices(cell.test, names)]
    sets = [cell.gold] if texts is None else [texts, Dataset.concat([cell.gold, texts])]
    found = []
    for data in sets:
        if tuned:
            settings = Training(synthetic_share=0)
            described = cell.task.labels
            classifier = train(
                None,
                data,
                descriptions=described,
                settings=settings,
                seed=cell.draw,
                calibrated=False,
            )
            guess = classifier.probabilities(cell.test.texts, cell.test.column("text_pair"))
        else:
            known = embed(frozen, data), label_indices(data, names), np.ones(len(data))
            guess = frozen.probabilities(*known, embed(frozen, cell.test))
        hot = np.eye(len(names))[guess.argmax(axis=1)]
        found.append(float(np.mean(macro_f1(np.ones((1, len(truth))), truth, hot))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", default="quickstart,hotel_sentiment")
    parser.add_argument("--gold", default="16,5,50", help="gold texts per label")
    parser.add_argument("--draws", default="0,1,2,3,4", help="seeds of gold")
    parser.add_argument("--texts", type=int, default=100, help="texts of each arm")
    parser.add_argument("--reader", default="gemma3-270m", help="model of the embedded backend")
    parser.add_argument("--tuned", action="store_true", help="tune the encoder")
    parser.add_argument("--json", type=Path, default=Path("gradient_texts.jsonl"))
    given = parser.parse_args()
    reader = generator_checkpoint(GeneratorSettings(model=given.reader))
    encoder, cache = TextEncoder(Training()), cache_dir("gradient_texts")
    for name in given.tasks.split(","):
        for shots in map(int, given.gold.split(",")):
            setting = {"task": name, "gold": shots, "texts": given.texts, "tuned": given.tuned}
            setting |= {"reader": given.reader}
            for draw in map(int, given.draws.split(",")):
                if any(row["draw"] == draw for row in recorded(given.json, setting)):
                    continue
                cell = make_cell(name, shots, draw, given.data, cache, given.texts, TEST)
                frozen = FrozenTraining(encoder.loaded, cell.task.labels, Training())
                row: dict[str, Any] = {**setting, "draw": draw}
                row["gold only"] = scores(cell, None, frozen, given.tuned)
                for arm, texts, remark in arms(cell, given.texts, frozen, encoder, reader):
                    row |= {arm: scores(cell, texts, frozen, given.tuned), **remark}
                with given.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                print(row, file=sys.stderr, flush=True)
            show(recorded(given.json, setting))


def recorded(path: Path, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """The draws of a setting that are there."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if setting.items() <= row.items()]


def show(rows: list[dict[str, Any]]) -> None:
    """Prints means and standard deviations, of an arm and of what it gains over random texts."""
    print(f"{rows[0]['task']}, {rows[0]['gold']} per label, {len(rows)} draws, "
          f"new {[row['new'] for row in rows]}")  # fmt: skip
    random = np.array([row["random"] for row in rows])
    for arm in ("gold only", *ARMS):
        found = np.array([row[arm] for row in rows])
        told = [f"{v.mean():.3f} ± {v.std():.3f}" for v in found.T]
        if arm in ARMS[1:]:
            told += [f"{v.mean():+.3f} ± {v.std():.3f}" for v in (found - random).T]
        print(f"  {arm:10} {'  '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
