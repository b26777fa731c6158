"""Training speed of japagen against the Trainer of transformers with its defaults.

    python benchmarks/training.py --data DIR [--texts N] [--epochs N] [--seeds N] [--threads N]

Both start from the same embedded encoder, read the same texts of ``DIR/pool.jsonl`` for the same
number of passes, and are scored on the same ``DIR/dev.jsonl``. The Trainer is given what its
documentation gives it: a tokenised dataset, a tokenizer for dynamic padding, and a directory;
batch size, schedule and learning rate are its own, and nothing is saved, evaluated or reported on
the way. japagen tunes as `japagen.train` does. They take turns, a seed at a time. Time is that of
the whole call, tokenising and japagen's first head included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score

from japagen.config.sections import Training
from japagen.data.dataset import Dataset
from japagen.data.formats import read_examples
from japagen.training.classifier import Classifier
from japagen.training.encoder import Encoder, load_encoder
from japagen.training.head import classification_model
from japagen.training.trainer import train

Train = Callable[[Encoder, Dataset, list[str], int, int], Classifier]


def by_japagen(
    encoder: Encoder, data: Dataset, labels: list[str], epochs: int, seed: int
) -> Classifier:
    settings = Training(tune="always", epochs=epochs, min_steps=1)
    return train(None, data, encoder=encoder, labels=labels, settings=settings, seed=seed)


def by_transformers(
    encoder: Encoder, data: Dataset, labels: list[str], epochs: int, seed: int
) -> Classifier:
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(seed)
    made = Classifier(
        classification_model(encoder, len(labels)), encoder.tokenizer, labels, prefix=encoder.prefix
    )
    rows = [
        {**row, "labels": labels.index(str(label))}
        for row, label in zip(made.encode(data.texts), data.labels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=epochs,
            seed=seed,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        Trainer(
            made.model, arguments, train_dataset=rows, processing_class=encoder.tokenizer
        ).train()
    return made


ARMS: dict[str, Train] = {"japagen": by_japagen, "Trainer": by_transformers}


def measure(options: argparse.Namespace, encoder: Encoder) -> dict[str, Any]:
    """Trains by both, and scores; one line of the JSON file a seed."""
    pool, dev = (read_examples(options.data / f"{name}.jsonl") for name in ("pool", "dev"))
    labels = sorted(set(map(str, pool.labels)))
    found: dict[str, Any] = {name: [] for name in ARMS}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        chosen = np.random.default_rng(seed).permutation(len(pool))[: options.texts]
        data = pool.take(chosen)
        for name, fit in ARMS.items():
            began, used = time.perf_counter(), time.process_time()
            classifier = fit(encoder, data, labels, options.epochs, seed)
            seconds, used = time.perf_counter() - began, time.process_time() - used
            texts = dev.texts[: options.dev]
            answers = [str(p.label) for p in classifier.predict(texts)]
            score = f1_score(list(map(str, dev.labels[: options.dev])), answers, average="macro")
            seen = len(data) * options.epochs
            row = {
                "seed": seed,
                "examples_per_second": seen / seconds,
                "examples_per_cpu_second": seen / used,
                "macro_f1": float(score),
            }
            found[name].append(row)
            print(name, row, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="holds pool.jsonl and dev.jsonl")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--dev", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure(options, load_encoder("embedded"))
    ratios = [
        [a[key] / b[key] for a, b in zip(*found.values(), strict=True)]
        for key in ("examples_per_second", "examples_per_cpu_second")
    ]
    print(f"{options.threads} thread(s); examples a second, japagen over Trainer:")
    print("  ".join(f"{r:.2f} (processor time {c:.2f})" for r, c in zip(*ratios, strict=True)))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
