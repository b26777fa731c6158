"""How varied texts are with a row of a seed table in their prompts, and without.

python benchmarks/seed_rows.py [FILE.jsonl …] reads `benchmarks/texts/seed_rows.jsonl` by default: a
text a line with its `arm`. Every measure is taken on random halves of each arm, cut to equally many
words, and the mean over 200 halves is printed with their standard deviation.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from japagen.data.dataset import Dataset, Example
from japagen.evaluation.diversity import dispersion, distinct_share, self_bleu
from japagen.japanese.morphology import default_tagger
from japagen.training.encoder import load_encoder, text_vectors

HALVES = 200


def effective_number(vectors: np.ndarray) -> float:
    """Vendi score (Friedman & Dieng 2023): e to the entropy of the similarities' eigenvalues."""
    shares = np.linalg.eigvalsh(vectors @ vectors.T / len(vectors))
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def cut(texts: Sequence[Sequence[str]], words: int) -> list[Sequence[str]]:
    """The first texts, as far as so many words reach."""
    found, left = [], words
    for text in texts:
        found.append(text[:left])
        left -= len(found[-1])
        if not left:
            break
    return found


def main(path: Path) -> None:
    """Prints a row for each arm of a file."""
    arms: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        arms[row["arm"]].append(row["text"])
    tagger, encoder = default_tagger(), load_encoder("embedded")
    tokens = {
        arm: [[m.surface for m in tagger.tokenize(text)] for text in texts]
        for arm, texts in arms.items()
    }
    vectors = {}
    for arm, texts in arms.items():
        (found,) = text_vectors([Dataset.of(Example(text) for text in texts)], encoder)
        vectors[arm] = found / np.linalg.norm(found, axis=1, keepdims=True)
    # As is usual for e5, whose vectors all point alike: the mean of all texts is taken off.
    mean = np.concatenate(list(vectors.values())).mean(axis=0)
    centred = {arm: v - mean for arm, v in vectors.items()}
    half = min(map(len, arms.values())) // 2
    rng = np.random.default_rng(0)
    halves = {
        arm: [rng.choice(len(texts), half, replace=False) for _ in range(HALVES)]
        for arm, texts in arms.items()
    }
    words = min(sum(len(tokens[a][i]) for i in rows) for a in arms for rows in halves[a])
    print(f"{path.name}: halves of {half} texts; distinct-n on {words} words")
    print("arm | words a text | distinct-1 | distinct-2 | self-BLEU | cosine distance | Vendi")
    for arm in arms:
        measured = []
        for rows in halves[arm]:
            half_tokens = [tokens[arm][i] for i in rows]
            unit = centred[arm][rows]
            unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
            measured.append(
                (
                    sum(map(len, half_tokens)) / half,
                    distinct_share(cut(half_tokens, words), 1),
                    distinct_share(cut(half_tokens, words), 2),
                    self_bleu(half_tokens),
                    dispersion(vectors[arm][rows]),
                    effective_number(unit),
                )
            )
        values = np.array(measured)
        shown = zip(values.mean(axis=0), values.std(axis=0), strict=True)
        print(arm, *(f"{mean:.3f} ± {spread:.3f}" for mean, spread in shown), sep=" | ")


if __name__ == "__main__":
    default = Path(__file__).parent / "texts" / "seed_rows.jsonl"
    for path in map(Path, sys.argv[1:]) if len(sys.argv) > 1 else [default]:
        main(path)
