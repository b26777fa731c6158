"""How the report shows scores and errors, whatever the kind of task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from japagen.reporting.learnt import added, not_used
from japagen.reporting.text import Words
from japagen.reporting.views import ChartRows, Rows, bars, label_text, led_by

ARMS = ("gold_only", "with_synthetic")
# Shown for each class, tag or anchor; the last but one is drawn, the last is a count.
_CLASS_COLUMNS = ("precision", "recall", "f1", "support")
_NUMBER_COLUMNS = ("mean_predicted", "mean_absolute_error", "support")
_OTHER_SCORES = ("mean_absolute_error", "ece")


def scores(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Both arms side by side, then each arm's labels and confusion matrix."""
    found = metrics.get("scores")
    if not found:
        return None
    # Where nothing was added to gold, both arms are one classifier.
    shown = ARMS[1:] if not_used(metrics) else ARMS
    more = words(f"added.{added(metrics)}")
    titles = [
        words("arm.gold_only" if not_used(metrics) else f"arm.{name}", added=more) for name in shown
    ]
    arms: list[Mapping[str, Any]] = [found.get(name) or {} for name in shown]
    measured = [(title, arm) for title, arm in zip(titles, arms, strict=True) if arm]
    last = arms[-1]
    numbers = "mean_absolute_error" in last
    detail = _NUMBER_COLUMNS if numbers else _CLASS_COLUMNS
    f1: ChartRows = [
        (label, [arm["per_label"][label][detail[-2]] if arm else None for arm in arms])
        for label in last["labels"]
    ]
    names = led_by(found)
    return {
        "titles": titles,
        "note": words(
            "scores.note" if len(last["seeds"]) > 1 else "scores.note_once",
            n=words.count(found["n"]),
            seeds=len(last["seeds"]),
        ),
        "rows": _score_rows(arms, names, words),
        "seeds": _by_seed(arms, names, words),
        "seed_heads": [f"{title} {words(name)}" for title in titles for name in names],
        "chart": bars("f1", words("per_anchor" if numbers else "f1.chart"), f1, words.number),
        "detail": words("per_anchor" if numbers else "f1.chart"),
        "heads": [words("anchor" if numbers else "label"), *map(words, detail)],
        "arms": [
            {
                "title": title,
                "labels": arm["labels"],
                "per_label": [
                    (
                        label,
                        *(words.number(row[key]) for key in detail[:-1]),
                        words.count(row[detail[-1]]),
                    )
                    for label, row in arm["per_label"].items()
                ],
                "confusion": _confusion(arm, words) if "confusion" in arm else None,
            }
            for title, arm in measured
        ],
    }


def _score_rows(
    arms: Sequence[Mapping[str, Any]], names: Sequence[str], words: Words
) -> list[tuple[str, ...]]:
    """Every metric with its interval; the leading one's deviation; what else is known."""

    def bounded(arm: Mapping[str, Any], name: str) -> str:
        found = (arm.get("intervals") or {}).get(name)
        shown = words.number(arm.get(name))
        return (
            f"{shown} [{words.number(found['low'])}, {words.number(found['high'])}]"
            if found
            else shown
        )

    rows = [(words(name), *(bounded(arm, name) for arm in arms)) for name in names]
    deviation = words("deviation", metric=words(names[0]))
    others = [(deviation, f"{names[0]}_sd"), *((words(name), name) for name in _OTHER_SCORES)]
    for title, name in others:
        if any(name in arm for arm in arms) and (name != "ece" or arms[-1].get(name) is not None):
            rows.append((title, *(words.number(arm.get(name)) for arm in arms)))
    return rows


def _by_seed(arms: Sequence[Mapping[str, Any]], names: Sequence[str], words: Words) -> Rows:
    rows = [{row["seed"]: row for row in arm.get("seeds", ())} for arm in arms]
    return [
        (
            str(seed),
            *(words.number(side.get(seed, {}).get(key)) for side in rows for key in names),
        )
        for seed in rows[-1]
    ]


def _confusion(arm: Mapping[str, Any], words: Words) -> list[tuple[str, list[dict[str, str]]]]:
    """Rows of cells; the depth of a cell's shade is its share of the row."""
    return [
        (
            label,
            [{"shown": words.count(n), "depth": f"{n / max(sum(counts), 1):.3f}"} for n in counts],
        )
        for label, counts in zip(arm["labels"], arm["confusion"], strict=True)
    ]


def errors(metrics: Mapping[str, Any], words: Words) -> list[dict[str, Any]]:
    """Texts that the run's classifier got wrong, with the training texts nearest to them."""
    return [
        {
            **row,
            "true": label_text(row["true"]),
            "predicted": label_text(row["predicted"]),
            "nearest": [
                {
                    **near,
                    "about": f"{label_text(near['label'])} / {words('nearest.' + near['source'])}",
                }
                for near in row.get("nearest") or ()
            ],
            "probability": "—" if row["probability"] is None else words.number(row["probability"]),
        }
        for row in metrics.get("errors") or ()
    ]
