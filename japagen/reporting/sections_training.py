"""Sections of the report on scores, the mix and its worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from japagen.reporting import charts
from japagen.reporting.sections_overview import ChartRows, Rows, bars, label_text, led_by, safe
from japagen.reporting.text import Words, added, not_used, undirected

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


def mix(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """The share with its reason, every source, the curves and the worth."""
    found = metrics.get("mix")
    if not found:
        return None
    return {
        "facts": [
            *_facts(found, words, added(metrics)),
            *_pseudo(metrics.get("pseudo_labels"), words),
        ],
        "sources": _sources(found, words),
        "sentences": _sentences(found, words),
        "worth": worth(metrics, words),
        "chart": _chart(found, words),
        "points": _points(found, words),
    }


def worth(metrics: Mapping[str, Any], words: Words) -> str | None:
    """What the synthetic set is worth in gold, in a sentence; None where it was not measured."""
    curves = (metrics.get("mix") or {}).get("curves")
    if not curves:
        return None
    found = curves["worth"]
    figures = {
        "low": _texts(found["low"], found, words),
        "high": _texts(found["high"], found, words),
        "base": _rounded(found["base"]),
        "limit": _rounded(found["limit"]),
        "synthetic": words.count(curves["synthetic"][-1]["per_label"]),
    }
    if found["texts"] is None:
        return words("worth.beyond", **figures)
    if found["texts"] <= 0:
        return words("worth.none", **figures)
    return words("worth.value", texts=_rounded(found["texts"]), **figures)


def _texts(value: float | None, found: Mapping[str, Any], words: Words) -> str:
    if value is None:
        return words("worth.more", limit=_rounded(found["limit"]))
    return _rounded(value)


def _rounded(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0").replace("-", "−")


def _facts(found: Mapping[str, Any], words: Words, more: str) -> list[tuple[str, str]]:
    facts = [
        (words("mix.share.both" if more == "both" else "mix.share"), words.share(found["share"])),
        (words("mix.why"), words(f"mix.{found['reason']}")),
    ]
    folds = found.get("folds")
    if folds:
        usable = folds["usable"]
        facts.append(
            (
                words("mix.folds"),
                words(
                    "mix.folds_are",
                    folds=len(usable),
                    repeats=folds["repeats"],
                    low=words.count(min(usable)),
                    high=words.count(max(usable)),
                    synthetic=words.count(folds["synthetic"]),
                ),
            )
        )
        facts.append((words("mix.provenance"), words(f"mix.provenance.{found['provenance']}")))
    return facts


def _pseudo(found: Mapping[str, Any] | None, words: Words) -> list[tuple[str, str]]:
    if not found:
        return []
    facts = [
        (words("pseudo"), words.count(found["texts"])),
        (words("pseudo.why"), words(f"pseudo.{found['reason']}")),
    ]
    if "right" in found:
        facts.append((words("pseudo.right"), words.share(found["right"])))
    return facts


def _sources(found: Mapping[str, Any], words: Words) -> Rows:
    """Each source's reliability, what a text of it counts for, and its share of the loss."""
    carried = {n: s["texts"] * s["text_weight"] for n, s in found["sources"].items()}
    total = sum(carried.values())
    return [
        (
            undirected(name),
            words.count(source["texts"]),
            _reliability(source["reliability"], words),
            words.number(source["text_weight"]),
            words.share(found["share"] * carried[name] / total if total else 0.0),
        )
        for name, source in found["sources"].items()
    ]


def _reliability(found: Mapping[str, Any] | None, words: Words) -> str:
    if found is None:
        return words("not_measured")
    mean, low, high = (words.number(found[name]) for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _sentences(found: Mapping[str, Any], words: Words) -> list[str]:
    """The evidence on every source's labels, in a sentence each."""
    said = []
    for name, source in found["sources"].items():
        known = source["reliability"] or {}
        evidence = known.get("evidence")
        if not evidence:
            continue
        said.append(
            words(
                "mix.evidence",
                name=undirected(name),
                recognized=words.count(evidence["recognized"]),
                gold=words.count(evidence["gold"]),
                agreed=words.count(evidence["agreed"]),
                texts=words.count(evidence["texts"]),
                transferred=words.count(evidence["transferred"]),
                right=words.share(
                    1 / evidence["labels"] + (1 - 1 / evidence["labels"]) * known["mean"]
                ),
                weight=words.number(source["text_weight"]),
            )
        )
    return said


def _chart(found: Mapping[str, Any], words: Words) -> Any:
    curves = found.get("curves")
    if not curves:
        return None
    panels = [
        (
            words(f"curve.{name}"),
            [(p["per_label"], p["loss"], p["low"], p["high"]) for p in curves[name]],
        )
        for name in ("gold", "synthetic")
    ]
    return safe(charts.banded_curves("curves", words("curves.chart"), panels))


def _points(found: Mapping[str, Any], words: Words) -> list[dict[str, Any]]:
    curves = found.get("curves") or {}
    return [
        {
            "title": words(f"curve.{name}"),
            "rows": [
                (
                    words.general(round(p["per_label"], 1)),
                    f"{words.number(p['loss'])} [{words.number(p['low'])}, "
                    f"{words.number(p['high'])}]",
                    words.number(p["macro_f1"]),
                )
                for p in curves[name]
            ],
        }
        for name in ("gold", "synthetic")
        if curves
    ]


_ASSUMED = (
    "yen_per_hour",
    "texts_per_hour",
    "queries_per_month",
    "llm_yen_per_1000",
    "machine_yen_per_hour",
)
_SAVED = ("per_label", "texts", "hours", "yen")


def headline(metrics: Mapping[str, Any], words: Words) -> str | None:
    """The labelling saved, in a sentence; None where none is shown."""
    found = metrics.get("economics")
    if not found or "yen" not in found["labelling"]:
        return None
    labelling, assumed = found["labelling"], found["assumptions"]
    beyond = labelling["state"] == "beyond"
    at = "limit" if beyond else "value"
    figures = {name: _amount(labelling[name][at]) for name in ("texts", "hours", "yen")}
    low, high = (_yen(labelling["yen"], end, words) for end in ("low", "high"))
    said = words(
        "economics.beyond" if beyond else "economics.saved",
        **figures,
        low=low,
        high=high,
        labels=words.count(labelling["labels"]),
        rate=_amount(assumed["yen_per_hour"]),
        speed=_amount(assumed["texts_per_hour"]),
    )
    bottom = labelling["texts"]["low"]
    if bottom is None or bottom > 0:
        return said
    return said + words("economics.uncertain")


def economics(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Labelling saved, the run against a language model for every query, and what was assumed."""
    found = metrics.get("economics")
    if not found:
        return None
    state = found["labelling"]["state"]
    return {
        "said": headline(metrics, words) or words(f"economics.{state}"),
        "saved": _saved(found["labelling"], words),
        "run": _run(found["run"], words),
        "queries": _queries(found, words),
        "break_even": _break_even(found["break_even"], words),
        "notes": _notes(found, words),
        "assumed": [
            (words(f"economics.{name}"), _or_unset(found["assumptions"][name], words))
            for name in _ASSUMED
        ],
    }


def _saved(found: Mapping[str, Any], words: Words) -> Rows:
    if "yen" not in found:
        return []
    return [
        (
            words(f"economics.saved.{name}"),
            *(_bound(found[name], end, words) for end in ("value", "low", "high")),
        )
        for name in _SAVED
    ]


def _run(found: Mapping[str, float | None], words: Words) -> Rows:
    return [
        (words("economics.run.seconds"), _amount(found["seconds"] or 0.0)),
        *(
            (words(f"economics.run.{name}"), _or_unset(found[name], words))
            for name in ("generator_yen", "machine_yen")
        ),
    ]


def _queries(found: Mapping[str, Any], words: Words) -> Rows:
    llm, ours = found["query"]["llm"], found["query"]["classifier"]
    month = found["assumptions"]["queries_per_month"]

    def monthly(yen: float | None) -> str:
        return _or_unset(None if yen is None else yen * month, words)

    return [
        (words("economics.tokens"), _or_missing(llm["tokens"], words), "—"),
        (
            words("economics.seconds"),
            *(_or_missing(side["seconds"], words) for side in (llm, ours)),
        ),
        (words("economics.query_yen"), *(_or_unset(side["yen"], words) for side in (llm, ours))),
        (
            words("economics.month_yen", n=_amount(month)),
            *(monthly(side["yen"]) for side in (llm, ours)),
        ),
    ]


def _break_even(found: Mapping[str, Any], words: Words) -> str:
    if found["state"] != "reached":
        return words(f"economics.break_even.{found['state']}")
    if not found["queries"]:
        return words("economics.break_even.at_once")
    return words(
        "economics.break_even.reached",
        queries=words.count(found["queries"]),
        months=_amount(found["months"]),
    )


def _notes(found: Mapping[str, Any], words: Words) -> list[str]:
    llm = found["query"]["llm"]
    notes = []
    if llm["seconds"] is not None:
        notes.append(words("economics.measured"))
    if llm["price"] == "given":
        notes.append(words("economics.price_given"))
    if found["assumptions"]["machine_yen_per_hour"] is None:
        notes.append(words("economics.no_machine"))
    return notes


def _yen(found: Mapping[str, float | None], end: str, words: Words) -> str:
    value = found[end]
    if value is None:
        return words("economics.more_yen", limit=_amount(found["limit"] or 0))
    return words("economics.yen", amount=_amount(value))


def _bound(found: Mapping[str, float | None], end: str, words: Words) -> str:
    """An end of an interval; past the curve, that it is more than what can be read off."""
    value = found[end]
    if value is None:
        return words("economics.more", limit=_amount(found["limit"] or 0))
    return _amount(value)


def _or_missing(value: float | None, words: Words) -> str:
    return words("not_measured") if value is None else _amount(value)


def _or_unset(value: float | None, words: Words) -> str:
    return words("economics.unset") if value is None else _amount(value)


def _amount(value: float) -> str:
    """At most three places that count: 12,340, 3.1, 0.0245."""
    if abs(value) >= 100:
        shown = f"{value:,.0f}"
    elif abs(value) >= 1:
        shown = f"{value:.1f}".removesuffix(".0")
    else:
        shown = f"{value:.3g}" if abs(value) >= 1e-4 or not value else f"{value:.6f}"
    return shown.replace("-", "−")


def baselines(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """A row a baseline, then the run's own classifiers; None where there are no baselines.

    Returns:
        ``heads``, ``rows``, and ``notes``: what the rows are and why others are left out.
    """
    scores = metrics.get("scores") or {}
    shown = [row for row in scores.get("baselines") or () if row["reason"] is None]
    if not shown:
        return None
    names = led_by(scores)
    gain = words("baselines.gain", metric=words(names[0]))
    rows: Rows = [
        (_title(row, words), *_bounded(row, names, words), _gain(row["gain"], words))
        for row in shown
    ]
    rows += [(title, *_bounded(arm, names, words), "") for title, arm in own_arms(metrics, words)]
    notes = [words("baselines.note")]
    notes += [
        words("baselines.sampled", title=_title(row, words), n=words.count(row["n"]))
        for row in shown
        if row["n"] < scores["n"]
    ]
    return {
        "heads": [words("baselines.classifier"), *map(words, names), gain],
        "rows": rows,
        "notes": [*notes, *left_out(scores, words)],
    }


def own_arms(metrics: Mapping[str, Any], words: Words) -> list[tuple[str, Mapping[str, Any]]]:
    """The run's own classifiers that were measured, as baselines are called."""
    scores = metrics["scores"]
    more = words(f"added.{added(metrics)}")
    if not_used(metrics):
        return [(words("baselines.own_gold"), scores["with_synthetic"])]
    titles = {
        "gold_only": words("baselines.own_gold"),
        "with_synthetic": words("baselines.own_more", added=more),
    }
    return [(title, scores[name]) for name, title in titles.items() if scores.get(name)]


def left_out(scores: Mapping[str, Any], words: Words) -> list[str]:
    """Which baselines were left out, and why; one that nobody wanted is not named."""
    return [
        f"{_title(row, words)}: {words('baselines.without.' + row['reason'])}"
        for row in scores.get("baselines") or ()
        if row["reason"] not in (None, "not_wanted")
    ]


def lines(metrics: Mapping[str, Any], words: Words) -> list[tuple[str, Mapping[str, Any]]]:
    """The baselines that were measured, by title."""
    return [
        (_title(row, words), row)
        for row in (metrics.get("scores") or {}).get("baselines") or ()
        if row["reason"] is None
    ]


def _title(row: Mapping[str, Any], words: Words) -> str:
    return f"{words('baseline.' + row['name'])} / {words('learnt.' + row['learnt'])}"


def _bounded(arm: Mapping[str, Any], names: Sequence[str], words: Words) -> list[str]:
    found = []
    for name in names:
        bounds = arm["intervals"][name]
        low, high = words.number(bounds["low"]), words.number(bounds["high"])
        found.append(f"{words.number(arm[name])} [{low}, {high}]")
    return found


def _gain(gain: Mapping[str, float], words: Words) -> str:
    value, low, high = (words.signed(gain[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
