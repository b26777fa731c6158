"""Text chosen, edited or written so that its gradients are gold's, beside LLM text at random.

    python benchmarks/gradient_matching.py --data DIR --cache DIR [--quick] [--tasks A,B]
        [--arms A,B] [--sizes 20,100] [--seeds N] [--show N] [--json FILE]

DIR holds a folder a task (hotel_sentiment, software_topics) with ``pool.jsonl`` and ``dev.jsonl``
(columns text and label). LLM text is made once by the embedded model, or read from NAME.parquet in
the cache; its labels are those asked for. A draw takes sixteen gold texts a label that no prompt
has shown. Every set of texts made is kept in the cache: an interrupted run goes on where it was.

alone      macro-F1 on dev of a linear head on the frozen encoder, trained on the texts alone
+ gold     the same, trained on gold too, which carries 60% of the loss
n-gram     macro-F1 on dev of logistic regression on character n-grams, trained on the texts alone:
           how far what one encoder chose serves a model of another family
cos gold   cosine of the texts' mean gradient with gold's, mean over labels and checkpoints
cos held   the same with the mean gradient of real texts that nothing has read
ppl        median perplexity under the embedded language model
unknown    share of words that are in neither UniDic nor gold
distinct-2 distinct MeCab word pairs over all pairs
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from gradient_data import TASKS, draw, llm_pool
from label_fidelity import distinct2
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from japagen.alignment.alignment import align_datasets
from japagen.curation.label_check import encoder_vote, label_indices
from japagen.examples import Dataset
from japagen.gradients.filtering import keep_best
from japagen.gradients.matching import Matcher, losses_of
from japagen.gradients.reader import Reader
from japagen.gradients.selection import choose
from japagen.gradients.target import gradient_target
from japagen.gradients.words import WholeWords
from japagen.japanese.morphology import default_tagger
from japagen.storage.files import digest
from japagen.storage.formats import read_examples
from japagen.training.encoders import embed, load_encoder, supports_bf16
from japagen.training.probing import Labelled, fit_head

ARMS = ("random", "confident", "weights", "pursuit", "selected", "edited", "admm", "admm-noise")
_SHARE = 0.4
_SPARE = 1.2


class Models:
    """The encoder and the language model, loaded when needed, and what they said of texts."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, Any] = {}

    @cached_property
    def encoder(self) -> Any:
        """The embedded encoder."""
        return load_encoder("embedded")

    @cached_property
    def language_model(self) -> tuple[Any, Any]:
        """The embedded generator's model, in transformers, and its tokenizer."""
        import torch

        from japagen.generators.checkpoint import find_checkpoint
        from japagen.generators.weights import GEMMA, find_weights

        checkpoint = find_checkpoint(str(find_weights(GEMMA, True).file()))
        precise = torch.bfloat16 if supports_bf16() else torch.float32
        return checkpoint.load().to(precise), checkpoint.tokenizer

    def reader(self, task: str) -> Reader:
        """Reads texts of a task."""
        return Reader(*self.language_model, TASKS[task]["text_type"] + "\n")

    def _remembered(self, name: str, texts: list[str], make: Callable[[list[str]], Any]) -> Any:
        file = self._cache / f"{name}.npz"
        if name not in self._known:
            stored = np.load(file, allow_pickle=False) if file.exists() else None
            self._known[name] = (
                dict(zip(stored["keys"].tolist(), stored["values"], strict=True)) if stored else {}
            )
        known, keys = self._known[name], [digest(text) for text in texts]
        new = {k: text for k, text in zip(keys, texts, strict=True) if k not in known}
        if new:
            known.update(zip(new, make(list(new.values())), strict=True))
            np.savez(file, keys=np.array(list(known)), values=np.stack(list(known.values())))
        return np.stack([known[key] for key in keys])

    def vectors(self, texts: list[str]) -> Any:
        """Encoder vectors, shape (n, width)."""
        found = self._remembered("vectors", texts, lambda new: embed(self.encoder, new))
        return found.astype(np.float64)

    def perplexities(self, task: str, texts: list[str]) -> Any:
        """Perplexity of each text, shape (n,)."""
        return self._remembered(
            f"perplexity-{task}", texts, lambda new: self.reader(task).perplexities(new)
        )


class Draw:
    """One draw of gold of one task, and every way to come by texts."""

    def __init__(self, name: str, data: Path, pool: Dataset, seed: int, models: Models) -> None:
        self.name, self.pool, self.seed, self.models = name, pool, seed, models
        self.labels = list(TASKS[name]["labels"])
        self.texts = draw(name, data, pool, seed)
        self.asked = label_indices(pool, self.labels)
        self.gold = models.vectors(self.texts.gold.texts)
        self.true = label_indices(self.texts.gold, self.labels)
        self.vectors = models.vectors(pool.texts)
        names = len(self.labels)
        self.target = gradient_target(self.gold, self.true, self.vectors, names, seed=seed)

    def _each(self, size: int, order: Callable[[Any, int], Any]) -> Any:
        rows = [np.flatnonzero(self.asked == k) for k in range(len(self.labels))]
        return np.concatenate([order(mine, k)[:size] for k, mine in enumerate(rows)])

    def make(self, arm: str, size: int) -> tuple[list[str], Any, Any]:
        """Texts, label indices and weights."""
        if arm in ("edited", "admm", "admm-noise"):
            return self._written(arm, size)
        weights = None
        if arm == "random":
            rng = np.random.default_rng([2, self.seed])
            rows = self._each(size, lambda mine, _: rng.permutation(mine))
        elif arm == "confident":
            sure = encoder_vote(self.gold, self.true, self.vectors, self.seed).texts
            rows = self._each(size, lambda mine, k: mine[np.argsort(-sure[mine, k])])
        elif arm == "weights":
            found = align_datasets(
                self.pool,
                self.texts.gold,
                method="gradient_matching",
                label_prior="uniform",
                vectors=(self.gold, self.vectors),
                seed=self.seed,
            ).weights
            rows = self._each(size, lambda mine, _: mine[np.argsort(-found[mine])])
        else:
            method = "matching_pursuit" if arm == "pursuit" else "greedy"
            choice = choose(self.target, self.vectors, self.asked, size, method=method)
            rows, weights = choice.rows, choice.weights
        texts = [self.pool.texts[row] for row in rows]
        return texts, self.asked[rows], np.ones(len(rows)) if weights is None else weights

    def _written(self, arm: str, size: int) -> tuple[list[str], Any, Any]:
        from japagen.gradients.editing import edit
        from japagen.gradients.synthesis import Admm, Lexicon, synthesise

        encoder, reader = self.models.encoder, self.models.reader(self.name)
        matcher = Matcher(
            *(encoder.model, encoder.tokenizer, self.target, encoder.prefix),
            *(encoder.pooling, encoder.max_length),
        )
        words = WholeWords(default_tagger(), self.texts.gold.texts)
        start = "selected" if arm == "edited" else "random"
        texts, labels, _ = self.make(start, int(size * _SPARE))
        if arm == "edited":
            made = [found.text for found in edit(texts, labels, matcher, reader, words)]
        else:
            known = [*self.pool.texts, *self.texts.gold.texts]
            lexicon = Lexicon.of(known, matcher, reader, words)
            settings = Admm(start="noise" if arm == "admm-noise" else "text")
            made = []
            for k in range(len(self.labels)):
                own = [text for text, label in zip(texts, labels, strict=True) if label == k]
                made += synthesise(own, k, matcher, reader, lexicon, settings, seed=self.seed)
        vectors = self.models.vectors(made)
        vote = encoder_vote(self.gold, self.true, vectors, self.seed).texts
        losses = np.zeros(len(made))
        for k in range(len(self.labels)):
            losses[labels == k] = losses_of(self.target, vectors[labels == k], k)
        kept = keep_best(labels, vote, losses, size)
        return [made[row] for row in kept], labels[kept], np.ones(len(kept))

    def score(self, texts: list[str], own: Any, weights: Any, test: Dataset) -> dict[str, float]:
        """The figures of one set of texts."""
        vectors, true = self.models.vectors(texts), label_indices(test, self.labels)
        unseen, heads = self.models.vectors(test.texts), {}
        used = weights > 0
        mass = np.concatenate(
            [
                np.full(len(self.true), (1 - _SHARE) / _SHARE * weights.sum() / len(self.true)),
                weights[used],
            ]
        )
        mass = mass / mass[0]
        heads["alone"] = (vectors[used], own[used], weights[used])
        heads["gold"] = (
            np.concatenate([self.gold, vectors[used]]),
            np.concatenate([self.true, own[used]]),
            mass,
        )
        found = {key: self._f1(*parts, unseen, true) for key, parts in heads.items()}
        found["ngram"] = self._ngram_f1(texts, own, weights, test.texts, true)
        held = self.models.vectors(self.texts.held.texts)
        beyond = gradient_target(
            held, label_indices(self.texts.held, self.labels), self.vectors, len(self.labels)
        )
        found["cos_gold"] = float(np.nanmean(self.target.cosines(vectors, own)))
        found["cos_held"] = float(np.nanmean(beyond.cosines(vectors, own)))
        words = WholeWords(default_tagger(), self.texts.gold.texts)
        found["unknown"] = words.unknown_share(texts)
        found["distinct2"] = distinct2(texts, len(texts))
        return found

    def _f1(self, vectors: Any, own: Any, mass: Any, unseen: Any, true: Any) -> float:
        names = len(self.labels)
        none = np.zeros((0, vectors.shape[1]))
        rows = Labelled([{}] * len(vectors), np.eye(names)[own], mass, [], np.zeros(0, np.int64))
        said = fit_head(rows, vectors, none).logits(unseen).argmax(axis=1)
        return float(f1_score(true, said, average="macro"))

    def _ngram_f1(self, texts: list[str], own: Any, mass: Any, others: list[str], true: Any) -> Any:
        counts = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
        seen = counts.fit_transform(texts)
        model = LogisticRegression(C=10.0, max_iter=500).fit(seen, own, sample_weight=mass)
        return float(f1_score(true, model.predict(counts.transform(others)), average="macro"))


def one(found: Draw, arm: str, size: int, cache: Path, test: Dataset, perplexity: bool) -> Any:
    """One line for one draw; what was made is kept."""
    key = digest([found.pool.fingerprint, found.texts.gold.fingerprint])[:12]
    file = cache / "made" / f"{found.name}-{found.seed}-{arm}-{size}-{key}.json"
    if not file.exists():
        began = time.perf_counter()
        texts, labels, weights = found.make(arm, size)
        made = {
            "texts": texts,
            "labels": labels.tolist(),
            "weights": weights.tolist(),
            "seconds": time.perf_counter() - began,
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
    made = json.loads(file.read_text(encoding="utf-8"))
    own, weights = np.array(made["labels"]), np.array(made["weights"])
    line = found.score(made["texts"], own, weights, test) | {
        "texts": len(own),
        "seconds": made["seconds"],
        "megabytes": made["megabytes"],
    }
    if perplexity:
        line["ppl"] = float(np.median(found.models.perplexities(found.name, made["texts"])))
    return line, made


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
        f" cos gold {value('cos_gold')} held {value('cos_held')} ppl {value('ppl', 0)}"
        f" unknown {value('unknown')} distinct-2 {value('distinct2')}"
        f" {value('seconds', 1)} s {value('megabytes', 0)} MB",
        flush=True,
    )


def main() -> None:
    """Reads the command line and runs the tasks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder a task")
    parser.add_argument("--cache", type=Path, required=True, help="where texts are kept")
    parser.add_argument("--tasks", default="hotel_sentiment,software_topics")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--sizes", default="20,100", help="texts a label")
    parser.add_argument("--seeds", type=int, default=5, help="draws of gold")
    parser.add_argument("--per-label", type=int, default=150, help="LLM texts asked for a label")
    parser.add_argument("--perplexity", action="store_true", help="read all texts with the LLM")
    parser.add_argument("--show", type=int, default=0, help="print so many texts, unpicked")
    parser.add_argument("--quick", action="store_true", help="one draw, 5 texts, no ADMM")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    sizes, seeds = [int(s) for s in given.sizes.split(",")], given.seeds
    arms = given.arms.split(",")
    if given.quick:
        sizes, seeds, arms = [5], 1, [a for a in arms if not a.startswith("admm")]
    models, results = Models(given.cache), {}
    for name in given.tasks.split(","):
        pool = llm_pool(name, given.data, given.cache, given.per_label)
        test = read_examples(given.data / name / "dev.jsonl", split="test", require_label=True)
        draws = [Draw(name, given.data, pool, seed, models) for seed in range(seeds)]
        for size in sizes:
            for arm in arms:
                pairs = [one(d, arm, size, given.cache, test, given.perplexity) for d in draws]
                lines = [line for line, _ in pairs]
                results[f"{name} {arm} {size}"] = lines
                show(name, arm, size, lines)
                rng = np.random.default_rng(0)
                texts = pairs[0][1]["texts"]
                for row in rng.permutation(len(texts))[: given.show]:
                    label = draws[0].labels[pairs[0][1]["labels"][row]]
                    print(f"    {label}: {texts[row]}", file=sys.stdout)
    if given.json:
        given.json.write_text(json.dumps(results, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
