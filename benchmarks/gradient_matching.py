"""Text chosen, edited or written so that its gradients are gold's, beside LLM text at random.

    python benchmarks/gradient_matching.py --data DIR --cache DIR [--quick] [--tasks A,B]
        [--arms A,B] [--sizes 20,100] [--seeds N] [--gold 16] [--perplexity] [--show N]
        [--json FILE]

DIR holds a folder a task (hotel_sentiment, software_topics) with ``pool.jsonl`` and ``dev.jsonl``
(columns text and label). LLM text is made once by the embedded model, or read from NAME.parquet in
the cache; its labels are those asked for. A draw takes sixteen gold texts a label, or --gold, that
no prompt has shown. Every set of texts made is kept in the cache: an interrupted run goes on where
it was. The arms private-8 and private-1 choose with differential privacy, epsilon 8 and 1; they
need dp-accounting. The arm selected-tuned takes gradients at checkpoints of real fine-tuning. None
of the three is part of the default.

alone      macro-F1 on dev of a linear head on the frozen encoder, trained on the texts alone
+ gold     the same, trained on gold too, which carries 60% of the loss
n-gram     macro-F1 on dev of logistic regression on character n-grams, trained on the texts alone:
           how far what one encoder chose serves a model of another family
cos gold   cosine of the texts' mean gradient with gold's, mean over labels and checkpoints
cos held   the same with the mean gradient of real texts that nothing has read
ppl        median perplexity under the embedded language model
unknown    share of words that are in neither UniDic nor gold
distinct-2 distinct MeCab word pairs over all pairs
new        share of texts that are not in the pool
member     area under the curve of two guesses at which real texts were gold: by the loss of the
           head trained on the texts alone, and by the likeness to the nearest text
overlap    mean and largest share of a text's character 5-grams in one gold text, the longest run
           of characters copied from gold, and how many texts copy 15 or more
s, MB      seconds of one processor to make the texts; the most memory the process has taken so far
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from gradient_arms import ADMM, CHOSEN, FILTERED, Draw, Made
from gradient_data import GOLD, llm_pool
from gradient_models import Models
from gradient_scores import score

from japagen.examples import Dataset
from japagen.storage.files import digest, write_text
from japagen.storage.formats import read_examples


def make(found: Draw, arm: str, size: int, cache: Path) -> tuple[Made, dict[str, float]]:
    """The texts of one arm, and what they cost; what was made is kept."""
    key = digest([found.pool.fingerprint, found.texts.gold.fingerprint])[:12]
    file = cache / "made" / f"{found.name}-{found.seed}-{arm}-{size}-{key}.json"
    if not file.exists():
        began = time.process_time()
        made = found.make(arm, size)
        kept: dict[str, Any] = {
            "texts": made.texts,
            "labels": made.labels.tolist(),
            "weights": made.weights.tolist(),
            "seconds": time.process_time() - began,
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(kept, ensure_ascii=False))
    kept = json.loads(file.read_text(encoding="utf-8"))
    cost = {"seconds": kept["seconds"], "megabytes": kept["megabytes"], "texts": len(kept["texts"])}
    return Made(kept["texts"], np.array(kept["labels"]), np.array(kept["weights"])), cost


def show(name: str, arm: str, size: int, lines: list[dict[str, float]]) -> None:
    """One line of the table: means over the draws, with the standard deviation of scores."""

    def value(key: str, digits: int = 3) -> str:
        values = [line[key] for line in lines if key in line]
        return f"{np.mean(values):.{digits}f}" if values else "-"

    def spread(key: str) -> str:
        values = [line[key] for line in lines]
        return f"{np.mean(values):.3f}±{np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"

    print(
        f"{name:16} {arm:11} {size:3} ({value('texts', 0)} texts, {len(lines)} draws)"
        f" alone {spread('alone')} + gold {spread('gold')} n-gram {spread('ngram')}"
        f" cos gold {value('cos_gold')} held {value('cos_held')} ppl {value('ppl', 1)}"
        f" unknown {value('unknown')} distinct-2 {value('distinct2')} new {value('new', 2)}"
        f" member {spread('member_loss')} {spread('member_near')}"
        f" overlap {value('mean_overlap')} {value('max_overlap')}"
        f" {value('longest_copied', 1)} {value('long_copies', 1)}"
        f" {value('seconds', 1)} s {value('megabytes', 0)} MB",
        flush=True,
    )


def show_texts(found: Draw, made: Made, number: int) -> None:
    """Some texts, drawn at random."""
    for row in np.random.default_rng(0).permutation(len(made.texts))[:number]:
        print(f"    {found.labels[made.labels[row]]}: {made.texts[row]}", flush=True)


def run(draws: list[Draw], arm: str, size: int, given: argparse.Namespace, test: Dataset) -> Any:
    """The lines of one arm, one for each draw."""
    lines = []
    for found in draws:
        made, cost = make(found, arm, size, given.cache)
        line = score(found, made, test) | cost
        if given.perplexity:
            line["ppl"] = float(np.median(found.models.perplexities(found.name, made.texts)))
        lines.append(line)
    show(draws[0].name, arm, size, lines)
    if given.show:
        show_texts(draws[0], make(draws[0], arm, size, given.cache)[0], given.show)
    return lines


def main() -> None:
    """Reads the command line and runs the tasks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder a task")
    parser.add_argument("--cache", type=Path, required=True, help="where texts are kept")
    parser.add_argument("--tasks", default="hotel_sentiment,software_topics")
    parser.add_argument("--arms", default=",".join((*CHOSEN, *FILTERED, *ADMM)))
    parser.add_argument("--sizes", default="20,100", help="texts a label")
    parser.add_argument("--seeds", type=int, default=5, help="draws of gold")
    parser.add_argument("--gold", type=int, default=GOLD, help="gold texts a label")
    parser.add_argument("--per-label", type=int, default=150, help="LLM texts asked for a label")
    parser.add_argument("--perplexity", action="store_true", help="read all texts with the LLM")
    parser.add_argument("--show", type=int, default=0, help="print so many texts, unpicked")
    parser.add_argument("--quick", action="store_true", help="one draw, 5 texts, no ADMM")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    sizes, seeds = [int(s) for s in given.sizes.split(",")], given.seeds
    arms = given.arms.split(",")
    if given.quick:
        sizes, seeds, arms = [5], 1, [arm for arm in arms if arm not in ADMM]
    models, results = Models(given.cache), {}
    for name in given.tasks.split(","):
        pool = llm_pool(name, given.data, given.cache, given.per_label)
        test = read_examples(given.data / name / "dev.jsonl", split="test", require_label=True)
        draws = [Draw(name, given.data, pool, s, models, given.gold) for s in range(seeds)]
        for size in sizes:
            for arm in arms:
                results[f"{name} {arm} {size}"] = run(draws, arm, size, given, test)
    if given.json:
        write_text(given.json, json.dumps(results, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
