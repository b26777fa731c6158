"""What texts chosen by one frozen encoder are worth to classifiers whose encoder is trained.

    python benchmarks/gradient_transfer.py --data DIR --cache DIR [--quick] [--tasks A,B]
        [--arms A,B] [--sizes 20] [--seeds N] [--students scratch,tuned,gold] [--inits N]

The texts are those of benchmarks/gradient_matching.py: what it has made is read from the cache,
the rest is made. Scores are kept there too, so that an interrupted run goes on where it was.

scratch    a ModernBERT of two layers of 128 with random weights and the embedded encoder's
           tokenizer, trained on the texts alone; mean over --inits draws of its weights
tuned      the embedded encoder, fine-tuned on the texts alone
gold       the embedded encoder, fine-tuned on gold and the texts

All are trained by `japagen.training`, which leaves input embeddings as they are: scratch reads
random ones. The score is macro-F1 on dev, mean and standard deviation over the draws of gold.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from gradient_arms import Draw, Made
from gradient_data import llm_pool
from gradient_matching import make
from gradient_models import Models
from gradient_scores import macro_f1

from japagen.curation.label_check import label_indices
from japagen.examples import Dataset, Example
from japagen.storage.files import digest, write_text
from japagen.storage.formats import read_examples
from japagen.tasks.settings import Training
from japagen.training.encoders import Encoder
from japagen.training.fitting import train

STUDENTS = ("scratch", "tuned", "gold")
_TUNED = Training(tune="always")
# Nothing is known before: more steps than a trained encoder needs, and longer ones.
_SCRATCH = Training(tune="always", learning_rate=5e-4, min_steps=300)


def random_encoder(like: Encoder, seed: int) -> Encoder:
    """A small ModernBERT with random weights that reads the same tokens."""
    from transformers import ModernBertConfig, ModernBertModel

    tokens: Any = like.tokenizer
    config = ModernBertConfig(
        vocab_size=len(tokens),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=tokens.pad_token_id,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        cls_token_id=tokens.cls_token_id,
        sep_token_id=tokens.sep_token_id,
    )
    torch.manual_seed(seed)
    model: Any = ModernBertModel(config)
    return replace(like, model=model.eval(), identity=f"random:{seed}", prefix="")


def examples_of(found: Draw, made: Made) -> Dataset:
    """The texts with the labels that they were asked to have."""
    rows = zip(made.texts, made.labels.tolist(), made.weights.tolist(), strict=True)
    return Dataset.of(
        Example(text, found.labels[label], weight_label=weight)
        for text, label, weight in rows
        if weight > 0
    )


def learn(student: str, found: Draw, made: Made, test: Dataset, inits: int) -> float:
    """Macro-F1 of one student on one draw."""
    true = label_indices(test, found.labels)
    like, scores = found.models.encoder, []
    for seed in range(inits if student == "scratch" else 1):
        classifier = train(
            examples_of(found, made),
            found.texts.gold if student == "gold" else None,
            encoder=random_encoder(like, seed) if student == "scratch" else like,
            labels=found.labels,
            settings=_SCRATCH if student == "scratch" else _TUNED,
            seed=100 * found.seed + seed,
        )
        scores.append(macro_f1(true, classifier.probabilities(test.texts).argmax(axis=1)))
    return float(np.mean(scores))


def main() -> None:
    """Reads the command line and trains the students."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder a task")
    parser.add_argument("--cache", type=Path, required=True, help="where texts and scores are kept")
    parser.add_argument("--tasks", default="hotel_sentiment")
    parser.add_argument("--arms", default="random,selected")
    parser.add_argument("--sizes", default="20", help="texts a label")
    parser.add_argument("--students", default=",".join(STUDENTS))
    parser.add_argument("--seeds", type=int, default=5, help="draws of gold")
    parser.add_argument("--inits", type=int, default=3, help="draws of random weights")
    parser.add_argument("--per-label", type=int, default=150, help="LLM texts asked for a label")
    parser.add_argument("--quick", action="store_true", help="one draw, 5 texts, scratch alone")
    given = parser.parse_args()
    sizes, seeds, students = given.sizes.split(","), given.seeds, given.students.split(",")
    if given.quick:
        sizes, seeds, students, given.inits = ["5"], 1, ["scratch"], 1
    models, file = Models(given.cache), given.cache / "transfer.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in given.tasks.split(","):
        pool = llm_pool(name, given.data, given.cache, given.per_label)
        test = read_examples(given.data / name / "dev.jsonl", split="test", require_label=True)
        draws = [Draw(name, given.data, pool, seed, models) for seed in range(seeds)]
        for student in students:
            for size in map(int, sizes):
                for arm in given.arms.split(","):
                    scores = []
                    for found in draws:
                        made, _ = make(found, arm, size, given.cache)
                        key = f"{name} {student} {given.inits} {arm} {size} {found.seed} "
                        key += digest(made.texts)[:12]
                        if key not in known:
                            known[key] = learn(student, found, made, test, given.inits)
                            write_text(file, json.dumps(known, indent=1))
                        scores.append(known[key])
                    spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
                    print(
                        f"{name:16} {student:8} {arm:9} {size:3} ({len(scores)} draws)"
                        f" {np.mean(scores):.3f}±{spread:.3f}"
                        f" {' '.join(f'{score:.3f}' for score in scores)}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
