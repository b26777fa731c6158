"""Speed of the classifier in torch and in ONNX, and of the LLM prompting that it replaces.

    python benchmarks/inference.py --data DIR [--texts N] [--llm-texts N] [--threads N]

``DIR/pool.jsonl`` gives 16 gold texts per label, on which a classifier is trained from the embedded
encoder as `japagen.train` does by default; ``--tune`` tunes the encoder on the whole pool instead.
Texts of ``DIR/dev.jsonl`` are classified by torch in float32, ONNX in float32, ONNX in int8, and
by the embedded Gemma, which is shown the gold in one prompt and weighs the labels: its best case,
as the prompt's prefix is read once and nothing is written. Arms take turns, so that other work on
the machine falls on all; compare ratios, not seconds. All arms have the same number of threads.

    batch      texts per second, 32 at a time (the LLM: all at once, in parallel slots)
    p50, p99   milliseconds for one text at a time
    cpu        processor seconds for a text in a batch, relative to torch; other work on the
               machine moves it least
    same       share of texts with torch's label
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from japagen.config.sections import Training
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.curation.llm_judge import letters, plan_questions, weighing_prompts
from japagen.data.dataset import Dataset, Example
from japagen.data.formats import read_examples
from japagen.llm.backend import AmbiguousOptionsError
from japagen.llm.backends.embedded import EmbeddedGenerator
from japagen.llm.prompts import PromptLibrary
from japagen.training.classifier import Classifier
from japagen.training.onnx import export_onnx
from japagen.training.trainer import train

ROUNDS = 3
Label = Callable[[Sequence[str]], list[str]]


@dataclass
class Arm:
    """One way to label texts, and what it took."""

    name: str
    label: Label
    texts: Sequence[str]
    singles: Sequence[str]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def round(self) -> None:
        """Labels all texts at once, and then some of them one at a time."""
        began, used = time.perf_counter(), time.process_time()
        self.found = self.label(self.texts)
        self.seconds.append((time.perf_counter() - began) / len(self.texts))
        self.cpu.append((time.process_time() - used) / len(self.texts))
        for text in self.singles:
            began = time.perf_counter()
            self.label([text])
            self.latencies.append(time.perf_counter() - began)

    def row(self, torch_arm: Arm, right: Sequence[str]) -> dict[str, Any]:
        """What is printed."""
        p50, p99 = 1e3 * np.percentile(self.latencies, [50, 99])
        seconds = float(np.median(self.seconds))
        size = len(self.found)
        return {
            "arm": self.name,
            "batch": 1 / seconds,
            "times_torch": float(np.median(torch_arm.seconds)) / seconds,
            "cpu": float(np.median(torch_arm.cpu) / np.median(self.cpu)),
            "p50_ms": p50,
            "p99_ms": p99,
            "same": float(np.mean(np.array(self.found) == np.array(torch_arm.found[:size]))),
            "accuracy": float(np.mean(np.array(self.found) == np.array(right[:size]))),
            "texts": size,
        }


def _classifier_arm(name: str, made: Classifier, texts: Sequence[str], singles: int) -> Arm:
    def label(given: Sequence[str]) -> list[str]:
        return [str(p.label) for p in made.predict(given)]

    return Arm(name, label, texts, texts[:singles])


def _llm_arm(
    llm: EmbeddedGenerator, task: Task, gold: Dataset, texts: Sequence[str], singles: int
) -> Arm:
    library = PromptLibrary()
    names = list(task.labels)

    def ask(given: Sequence[str], options: list[str]) -> list[str]:
        plan = plan_questions(Dataset.of(Example(t) for t in given), gold, 0)
        one_prompt = [q for q in plan if q.fold == 0 and not q.gold]
        scores = dict(llm.choose(weighing_prompts(one_prompt, task, library, options), options))
        return [names[int(np.argmax(scores[i]))] for i in range(len(given))]

    try:
        ask(texts[:1], names)
        options = names
    except AmbiguousOptionsError:
        options = letters(names)
    return Arm("LLM prompting", lambda given: ask(given, options), texts, texts[:singles])


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Trains, exports, and lets the arms take turns."""
    pool, dev = (read_examples(options.data / f"{name}.jsonl") for name in ("pool", "dev"))
    names = sorted(set(map(str, pool.labels)))
    gold_file = {"path": str(options.data / "pool.jsonl"), "per_label": 16}
    test = {"path": str(options.data / "dev.jsonl")}
    task = Task.parse(
        {"name": "speed", "labels": dict.fromkeys(names, ""), "gold": gold_file, "test": test}
    )
    gold = load_data(task).gold
    assert gold is not None
    if options.tune:
        classifier = train(None, pool, labels=names, settings=Training(tune="always"))
    else:
        classifier = train(None, gold, labels=names)
    texts, right = dev.texts[: options.texts], list(map(str, dev.labels))
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(EmbeddedGenerator(threads=options.threads)) as llm,
    ):
        plain, int8 = (
            export_onnx(classifier, Path(scratch) / name, int8=name == "int8", texts=gold.texts)
            for name in ("float", "int8")
        )
        singles = options.singles
        arms = [
            _classifier_arm("torch float32", classifier, texts, singles),
            _classifier_arm("ONNX float32", plain, texts, singles),
            _classifier_arm("ONNX int8", int8, texts, singles),
        ]
        if options.llm_texts:
            shown = texts[: options.llm_texts]
            arms.append(_llm_arm(llm, task, gold, shown, min(singles, len(shown))))
        for number in range(ROUNDS):
            for arm in arms:
                if number == 0:
                    arm.label(arm.texts[:8])
                arm.round()
    return [arm.row(arms[0], right) for arm in arms]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="holds pool.jsonl and dev.jsonl")
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--singles", type=int, default=40)
    parser.add_argument("--llm-texts", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # what onnxruntime goes by here
    rows = measure(options)
    print(f"{options.threads} thread(s)")
    for row in rows:
        print("  ".join(f"{k} {v:.3f}" if isinstance(v, float) else str(v) for k, v in row.items()))
    if options.json:
        options.json.write_text(json.dumps(rows, ensure_ascii=False, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
