"""Register detection against KeiCO, on fields that were not trained on.

    python benchmarks/register.py --data DIR              # cross-validated figures
    python benchmarks/register.py --data DIR --fit OUT    # write the coefficients that ship

DIR holds KeiCO (Liu & Kobayashi 2022, CC BY 4.0) as ``dev.jsonl`` with the columns text, level,
sonkeigo, kenjogo and field. Sentences of a field are rewrites of each other, so folds and the
bootstrap draw whole fields.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score
from sklearn.model_selection import GroupKFold

from japagen.japanese.morphology import default_tagger, dictionary_identity, tokenize_many
from japagen.japanese.register_detection import analyze_register, find_register_signs
from japagen.japanese.register_model import (
    COLUMNS,
    LENGTH_POWER,
    WEIGHT_SCALE,
    KeicoModel,
    is_flagged,
    register_features,
)
from japagen.japanese.register_rules import Words

Rows = list[dict[str, Any]]
MIN_COUNT = 3
MAX_FEATURES = 14_000
REGULARISATION = 0.5  # scikit-learn's C, the inverse strength
# Macro-F1 counts the rare level 2 and 謙譲語 (one sentence in ten) as much as the rest.
CLASS_WEIGHTS = {"level": "balanced", "sonkeigo": None, "kenjogo": {0: 1, 1: 5}}


def features_of(text: str) -> set[str]:
    words = Words(text, default_tagger())
    evidence, sentences = find_register_signs(words)
    return register_features(words, evidence, [s.style for s in sentences])


def design(features: Sequence[set[str]], index: dict[str, int]) -> sparse.csr_matrix:
    """Returns binary rows over the fourth root of their number of features."""
    rows = [[index[f] for f in found if f in index] for found in features]
    indptr = np.cumsum([0, *map(len, rows)])
    values = np.concatenate([np.full(len(r), max(1, len(r)) ** -LENGTH_POWER) for r in rows])
    columns = np.concatenate([np.array(r, dtype=np.int64) for r in rows])
    return sparse.csr_matrix((values, columns, indptr), shape=(len(rows), len(index)))


def fit_columns(
    x: sparse.csr_matrix, rows: Rows, c: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns weights (features, 6) and bias (6,): a multinomial and two binary regressions."""

    def regression(name: str) -> LogisticRegression:
        target = np.array([r[name] for r in rows])
        weight = CLASS_WEIGHTS[name]
        return LogisticRegression(C=c, max_iter=300, class_weight=weight).fit(x, target)

    models = [regression(name) for name in CLASS_WEIGHTS]
    weights = np.concatenate([m.coef_ for m in models]).T
    return weights, np.concatenate([m.intercept_ for m in models])


def fit(features: Sequence[set[str]], rows: Rows, c: float = REGULARISATION) -> KeicoModel:
    """Fits on all frequent features, keeps the heaviest and fits again on those."""
    counts = Counter(f for found in features for f in found)
    names = sorted(f for f, n in counts.items() if n >= MIN_COUNT)
    if len(names) > MAX_FEATURES:
        index = {name: i for i, name in enumerate(names)}
        weights, _ = fit_columns(design(features, index), rows, c)
        heaviest = np.argsort(-np.abs(weights).max(axis=1), kind="stable")[:MAX_FEATURES]
        names = sorted(names[i] for i in heaviest)
    index = {name: i for i, name in enumerate(names)}
    weights, bias = fit_columns(design(features, index), rows, c)

    def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.round(values * WEIGHT_SCALE) / WEIGHT_SCALE

    return KeicoModel(index, rounded(weights), rounded(bias))


def held_out_estimates(
    features: Sequence[set[str]], rows: Rows, folds: int, c: float = REGULARISATION
) -> npt.NDArray[np.float64]:
    """Returns (n, 3): level, P(sonkeigo), P(kenjogo), each from fields not trained on."""
    fields = [r["field"] for r in rows]
    out = np.zeros((len(rows), 3))
    for train, test in GroupKFold(folds).split(rows, groups=fields):
        model = fit([features[i] for i in train], [rows[i] for i in train], c)
        for i in test:
            estimate = model.estimate(features[i])
            out[i] = estimate.level, estimate.sonkeigo, estimate.kenjogo
    return out


def macro_f1(truth: npt.NDArray[Any], guess: npt.NDArray[Any]) -> float:
    return float(f1_score(truth, guess, average="macro"))


def interval(
    truth: npt.NDArray[Any], guess: npt.NDArray[Any], fields: Sequence[str], draws: int = 500
) -> tuple[float, float]:
    """95% bootstrap interval of the macro-F1, drawing whole fields."""
    rng = np.random.default_rng(0)
    names = sorted(set(fields))
    members = [np.flatnonzero(np.array(fields) == name) for name in names]
    scores = []
    for _ in range(draws):
        drawn = np.concatenate([members[i] for i in rng.integers(len(names), size=len(names))])
        scores.append(macro_f1(truth[drawn], guess[drawn]))
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def print_figures(rows: Rows, folds: int) -> None:
    features = [features_of(r["text"]) for r in rows]
    guess = held_out_estimates(features, rows, folds)
    fields = [r["field"] for r in rows]
    level, true_level = guess[:, 0].astype(int), np.array([r["level"] for r in rows])
    pairs = {"level": (true_level, level), "polite/casual": (true_level < 4, level < 4)}
    keigo = [analyze_register(r["text"]).keigo for r in rows]
    for name, kinds, column in (
        ("sonkeigo", {"sonkeigo"}, 1),
        ("kenjogo", {"kenjogo1", "kenjogo2"}, 2),
    ):
        truth = np.array([bool(r[name]) for r in rows])
        found = np.array([not kinds.isdisjoint(k) for k in keigo])
        flags = [is_flagged(f, p) for f, p in zip(found, guess[:, column], strict=True)]
        pairs[name] = (truth, np.array(flags))
        pairs[f"{name}, model alone"] = (truth, guess[:, column] > 0.5)
        pairs[f"{name}, rules alone"] = (truth, found)
    print(f"{len(rows)} sentences, {len(set(fields))} fields, {folds} folds by field")
    for name, (true, found) in pairs.items():
        low, high = interval(true, found, fields)
        print(f"{name:24} macro-F1 {macro_f1(true, found):.3f}  [{low:.3f}, {high:.3f}]")
    kappa = cohen_kappa_score(true_level, level, weights="quadratic")
    print(f"level, quadratic-weighted kappa {kappa:.3f}")
    print("confusion (rows: true level 1-4, columns: found)")
    print(confusion_matrix(true_level, level))


def print_speed(texts: Sequence[str]) -> None:
    for text in texts:  # fills the tagger's cache
        analyze_register(text)
    # CPU time, so that other work on the machine does not count.
    started = time.process_time()
    for text in texts:
        analyze_register(text)
    whole = time.process_time() - started
    started = time.process_time()
    for _ in tokenize_many(texts):
        pass
    tagging = time.process_time() - started
    print(
        f"{len(texts) / whole:,.0f} sentences per CPU second, tagging included "
        f"(tagging alone {len(texts) / tagging:,.0f})"
    )


def write_model(model: KeicoModel, path: Path) -> None:
    names = sorted(model.index)
    scaled = np.round(model.weights * WEIGHT_SCALE).astype(int)
    lines = ",\n".join(
        f"{json.dumps(n, ensure_ascii=False)}:"
        + json.dumps(scaled[model.index[n]].tolist(), separators=(",", ":"))
        for n in names
    )
    head = {
        "attribution": "Fitted to the KeiCO corpus (Liu & Kobayashi 2022), CC BY 4.0",
        "dictionary": dictionary_identity(),
        "columns": list(COLUMNS),
        "bias": np.round(model.bias * WEIGHT_SCALE).astype(int).tolist(),
    }
    body = json.dumps(head, ensure_ascii=False)[:-1]
    path.write_text(f'{body},\n"weights": {{\n{lines}\n}}}}\n', encoding="utf-8")
    print(f"{path}: {len(names)} features, {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with dev.jsonl")
    parser.add_argument("--fit", type=Path, metavar="OUT", help="write the coefficients here")
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args()
    with (args.data / "dev.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    if args.fit:
        write_model(fit([features_of(r["text"]) for r in rows], rows), args.fit)
    else:
        print_figures(rows, args.folds)
        print_speed([r["text"] for r in rows])


if __name__ == "__main__":
    main()
