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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score
from sklearn.model_selection import GroupKFold

from japagen.japanese.morphology import default_tagger, tokenize
from japagen.japanese.register.detector import (
    analyze_register,
    analyze_registers,
    find_register_signs,
)
from japagen.japanese.register.keico import (
    COLUMNS,
    KINDS,
    LENGTH_POWER,
    WEIGHT_SCALE,
    KeicoModel,
    Key,
    name_of,
    register_features,
)
from japagen.japanese.register.rules import Words

Rows = list[dict[str, Any]]
Floats = npt.NDArray[np.float64]
MIN_COUNT = 3
MAX_FEATURES = 9_000
REGULARISATION = 0.5  # scikit-learn's C, the inverse strength
# Macro-F1 counts the rare level 2 as much as the rest; the kinds get thresholds instead.
CLASS_WEIGHTS = {"level": "balanced", "kind": None}
# Where the flags' thresholds are looked for.
GRID = np.arange(0.14, 0.62, 0.02)
FLAGS = ("sonkeigo", "kenjogo")


def features_of(text: str) -> set[Key]:
    words = Words(text, default_tagger())
    return set(register_features(words, *find_register_signs(words)))


def kind_of(row: dict[str, Any]) -> int:
    """Index in KINDS. The few sentences with both flags count as 謙譲語, the rarer one."""
    if row["kenjogo"]:
        return KINDS.index("kenjogo")
    if row["sonkeigo"]:
        return KINDS.index("sonkeigo")
    return KINDS.index("none" if row["level"] == 4 else "teineigo")


def design(features: Sequence[set[Key]], index: dict[Key, int]) -> sparse.csr_matrix:
    """Returns binary rows over the fourth root of their number of features."""
    rows = [sorted(index[f] for f in found if f in index) for found in features]
    indptr = np.cumsum([0, *map(len, rows)])
    values = np.concatenate([np.full(len(r), max(1, len(r)) ** -LENGTH_POWER) for r in rows])
    columns = np.concatenate([np.array(r, dtype=np.int64) for r in rows])
    return sparse.csr_matrix((values, columns, indptr), shape=(len(rows), len(index)))


def fit_columns(x: sparse.csr_matrix, rows: Rows) -> tuple[Floats, Floats]:
    """Returns weights (features, 8) and bias (8,): multinomial regressions of level and kind."""
    targets = {"level": [r["level"] for r in rows], "kind": [kind_of(r) for r in rows]}
    models = [
        LogisticRegression(C=REGULARISATION, max_iter=300, class_weight=weight).fit(
            x, np.array(targets[name])
        )
        for name, weight in CLASS_WEIGHTS.items()
    ]
    weights = np.concatenate([m.coef_ for m in models]).T
    return weights, np.concatenate([m.intercept_ for m in models])


def fit(features: Sequence[set[Key]], rows: Rows) -> KeicoModel:
    """Fits on all frequent features, keeps the heaviest and fits again on those."""
    counts = Counter(f for found in features for f in found)
    names = sorted((f for f, n in counts.items() if n >= MIN_COUNT), key=name_of)
    if len(names) > MAX_FEATURES:
        index = {name: i for i, name in enumerate(names)}
        weights, _ = fit_columns(design(features, index), rows)
        heaviest = np.argsort(-np.abs(weights).max(axis=1), kind="stable")[:MAX_FEATURES]
        names = sorted((names[i] for i in heaviest), key=name_of)
    index = {name: i for i, name in enumerate(names)}
    weights, bias = fit_columns(design(features, index), rows)

    def rounded(values: Floats) -> Floats:
        return np.round(values * WEIGHT_SCALE) / WEIGHT_SCALE

    return KeicoModel(index, rounded(weights), rounded(bias))


def fit_with_thresholds(features: Sequence[set[Key]], rows: Rows, folds: int = 4) -> KeicoModel:
    """Fits, with thresholds that suit fields of the training data held out in turn."""
    guess = held_out(features, rows, folds, fit)
    best = []
    for column, name in enumerate(FLAGS, start=1):
        truth = np.array([bool(r[name]) for r in rows])
        scores = [macro_f1(truth, guess[:, column] > t) for t in GRID]
        # The middle of all thresholds that are nearly as good: the best one alone is luck.
        near = GRID[np.array(scores) >= max(scores) - 0.003]
        best.append(round(float(near.mean()), 2))
    return replace(fit(features, rows), thresholds=(best[0], best[1]))


def held_out(
    features: Sequence[set[Key]],
    rows: Rows,
    folds: int,
    learn: Callable[[Sequence[set[Key]], Rows], KeicoModel],
) -> Floats:
    """Estimates each row by a model of other fields.

    Returns:
        Shape (n, 5): level, P(sonkeigo), P(kenjogo), and the two flags.
    """
    fields = [r["field"] for r in rows]
    out = np.zeros((len(rows), 5))
    for train, test in GroupKFold(folds).split(rows, groups=fields):
        model = learn([features[i] for i in train], [rows[i] for i in train])
        for i in test:
            e = model.estimate(features[i])
            out[i] = e.level, e.sonkeigo, e.kenjogo, e.is_sonkeigo, e.is_kenjogo
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
    guess = held_out(features, rows, folds, fit_with_thresholds)
    fields = [r["field"] for r in rows]
    level, true_level = guess[:, 0].astype(int), np.array([r["level"] for r in rows])
    pairs = {"level": (true_level, level), "polite/casual": (true_level < 4, level < 4)}
    keigo = [analyze_register(r["text"]).keigo for r in rows]
    for name, kinds, column in (
        ("sonkeigo", {"sonkeigo"}, 3),
        ("kenjogo", {"kenjogo1", "kenjogo2"}, 4),
    ):
        truth = np.array([bool(r[name]) for r in rows])
        pairs[name] = (truth, guess[:, column].astype(bool))
        found = np.array([not kinds.isdisjoint(k) for k in keigo])
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
    for _ in analyze_registers(texts):  # fills the tagger's cache
        pass
    # CPU time, so that other work on the machine does not count.
    started = time.process_time()
    for _ in analyze_registers(texts):
        pass
    whole = time.process_time() - started
    started = time.process_time()
    for text in texts:
        tokenize(text)
    tagging = time.process_time() - started
    print(
        f"{len(texts) / whole:,.0f} sentences per CPU second, tagging included "
        f"(tagging alone {len(texts) / tagging:,.0f})"
    )


def write_model(model: KeicoModel, path: Path) -> None:
    names = {name_of(key): row for key, row in model.index.items()}
    scaled = np.round(model.weights * WEIGHT_SCALE).astype(int)
    lines = ",\n".join(
        f"{json.dumps(n, ensure_ascii=False)}:"
        + json.dumps(scaled[names[n]].tolist(), separators=(",", ":"))
        for n in sorted(names)
    )
    head = {
        "attribution": "Fitted to the KeiCO corpus (Liu & Kobayashi 2022), CC BY 4.0",
        "dictionary": default_tagger().identity,
        "columns": list(COLUMNS),
        "thresholds": list(model.thresholds),
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
        write_model(fit_with_thresholds([features_of(r["text"]) for r in rows], rows), args.fit)
    else:
        print_figures(rows, args.folds)
        print_speed([r["text"] for r in rows])


if __name__ == "__main__":
    main()
