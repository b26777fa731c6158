"""The card of a classifier: what it is for, what it learnt from, and how well it does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from japagen.exporting.cards import terms_of, writers_of
from japagen.exporting.markdown import MISSING, bounded, number, plain, share, table
from japagen.reporting import baseline_view
from japagen.reporting.learnt import added, not_used
from japagen.reporting.source_view import listed
from japagen.reporting.text import Words

_EMBEDDED_BASE = "intfloat/multilingual-e5-small"
_WHY = {
    "given": "given in the task",
    "reliable": "by the number of texts and the estimated reliability of their labels",
    "unreliable": "their labels can hardly be relied on",
    "prior": "by the reliability that is expected of such a writer, as labels were not checked",
    "no_gold": "there is no gold to weigh them against",
    "no_synthetic": "no synthetic text was kept",
    "labels": "the reliability of labels of this kind cannot be estimated",
}


def model_card(
    metrics: Mapping[str, Any], encoder: str, prefix: str = "", *, apart: bool = False
) -> str:
    """Returns the card of a run's classifier: Markdown with Hugging Face front matter.

    Args:
        metrics: What metrics.json holds; parts that are None read "not measured".
        encoder: ``embedded``, a directory or a Hub name, as the task has it.
        prefix: What the encoder wants before every text.
        apart: Whether the two texts of a pair are read one by one and compared by a head that
            ``transformers`` does not know.
    """
    task = metrics["task"]
    base, licence = _origin(encoder)
    parts = [
        _front_matter(task, base, apart),
        f"# {plain(task['name'])}",
        _introduction(metrics),
        "## Labels",
        table(("label", "meaning"), task["labels"].items()),
        "## Training data",
        _training(metrics),
        "## Terms of the generator's output",
        _terms(metrics),
        "## Encoder",
        f"{plain(base or encoder)} (`{plain(metrics.get('encoder') or MISSING)}`). "
        f"Licence: {plain(licence or 'see the page of the encoder')}.",
        "## Scores",
        _baselines(metrics) + _scores(metrics.get("scores")),
        "## Limits",
        _LIMITS,
        "## How to load it",
        _loading(task, prefix, apart),
        "## Made with",
        table(
            ("what", "value"),
            {
                "japagen": metrics["japagen"],
                "run begun": metrics.get("created") or "unknown",
                "seed": task["seed"],
                **(metrics.get("versions") or {}),
            }.items(),
        ),
    ]
    return "\n\n".join(parts) + "\n"


_UNUSED = "The classifier was trained on gold alone: no generated text is in it."
_LABELLED = "No generated text is in it, but the generator helped to label texts that are."
_LIMITS = """\
- It knows the labels above and no others, and answers every text with what fits best among them.
- The scores hold for texts like the test texts. Other sources, times or registers may do worse.
- What is wrong or lopsided in the gold and in the synthetic texts was learnt with the rest.
- It is not made for decisions about persons. Have a person look at what it is unsure of."""


def _origin(encoder: str) -> tuple[str | None, str | None]:
    """The Hub name that an encoder goes back to, and its licence, as far as they are known."""
    if encoder == "embedded":
        return _EMBEDDED_BASE, "mit"
    directory = Path(encoder).expanduser()
    if not directory.is_dir():
        return encoder, None
    declared = _declared(directory / "README.md")
    return declared.get("base_model"), declared.get("license")


def _declared(card: Path) -> dict[str, str]:
    """The texts of a card's front matter; nothing where there is none that can be read."""
    import yaml

    try:
        _, front, _ = card.read_text(encoding="utf-8").split("---\n", 2)
        found = yaml.safe_load(front)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _front_matter(task: Mapping[str, Any], base: str | None, apart: bool) -> str:
    import yaml

    front = {
        "language": "ja",
        "library_name": "japagen" if apart else "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["japanese", "japagen"],
        **({"base_model": base} if base else {}),
        # A line of dashes in a name would end the front matter.
        "model_name": " ".join(task["name"].split()),
    }
    return f"---\n{yaml.safe_dump(front, allow_unicode=True, sort_keys=False)}---"


def _introduction(metrics: Mapping[str, Any]) -> str:
    task = metrics["task"]
    about = f": {plain(task['description'])}" if task.get("description") else ""
    answer = {
        "multi_label": "any number of the labels below",
        "regression": "a number on the scale below",
    }.get(task.get("kind"), "one of the labels below")
    what = "pairs of Japanese texts" if task.get("pair") else "Japanese texts"
    kind = plain(task.get("text_type") or "文章")
    return (
        f"Gives {what} ({kind}) {answer}{about}\n\n"
        "日本語テキストの分類モデルです。"
        "評価結果（Scores）と限界（Limits）を確認してからお使いください。"
    )


def _terms(metrics: Mapping[str, Any]) -> str:
    if not_used(metrics):
        return _UNUSED
    found = terms_of(metrics)
    return f"{_LABELLED}\n\n{found}" if added(metrics) == "unlabelled" else found


def _synthetic_share(metrics: Mapping[str, Any]) -> float | None:
    found = (metrics.get("mix") or {}).get("share")
    return None if found is None else float(found)


def _training(metrics: Mapping[str, Any]) -> str:
    mix, counts = metrics.get("mix") or {}, metrics["counts"]
    used = _synthetic_share(metrics)
    rows = [(label, row["gold"], row["kept"]) for label, row in metrics["per_label"].items()]
    why = _WHY.get(mix.get("reason", ""), "no reason recorded")
    unlabelled = (metrics.get("pseudo_labels") or {}).get("texts", 0)
    voted = (
        f", and {unlabelled:,} unlabelled texts with the labels that the generator and the "
        "encoder gave them"
        if unlabelled
        else ""
    )
    apart = ", unlabelled texts apart" if unlabelled and used else ""
    return "\n\n".join(
        [
            f"{counts['gold']:,} gold texts, and {counts['kept']:,} synthetic texts that "
            f"filters kept{voted}.",
            table(("label", "gold", "synthetic kept"), rows),
            f"Synthetic share of the training loss{apart}: {share(used)} ({why})."
            if used is not None
            else f"Synthetic share of the training loss: {MISSING}.",
            f"Synthetic texts written by {writers_of(metrics)}.",
            *_sources(metrics),
        ]
    )


def _baselines(metrics: Mapping[str, Any]) -> str:
    """What a reader would try first beside the classifier; nothing where it was not measured."""
    words, scores = Words("en"), metrics.get("scores") or {}
    measured = baseline_view.lines(metrics, words)
    if not measured:
        return ""
    lead = scores["metric"]
    rows = [
        (title, bounded(arm["intervals"][lead]))
        for title, arm in (*measured, *baseline_view.own_arms(metrics, words))
    ]
    heads = ("classifier / learnt from", lead.replace("_", "-"))
    return f"Beside what a reader would try first:\n\n{table(heads, rows)}\n\n"


def _sources(metrics: Mapping[str, Any]) -> list[str]:
    """What each source gave to training, where there are several."""
    found = listed(metrics)
    if len(found) < 2:
        return []
    rows = [(s["name"], s["origin"], s["kept"], share(s["value"]["share"])) for s in found]
    return [table(("source", "file or model", "kept", "share of the training loss"), rows)]


def _scores(found: Mapping[str, Any] | None) -> str:
    arm = (found or {}).get("with_synthetic")
    if not found or not arm:
        return f"{MISSING.capitalize()}: there were no labelled test texts."
    intervals = arm.get("intervals") or {}
    rows = [
        (name.replace("_", "-"), bounded(intervals.get(name) or arm[name]))
        for name in found["metrics"]
    ]
    error = arm.get("mean_absolute_error")
    rows += [("mean absolute error", number(error))] if error is not None else []
    rows.append(("expected calibration error (ECE)", number(arm.get("ece"))))
    seeds = len(arm.get("seeds") or ())
    trained = f" Means of {seeds} trainings; this is the first of them." if seeds > 1 else ""
    gain = (
        f"\n\nAgainst gold alone: {bounded(found['gain'], '+')} "
        f"in {found['metric'].replace('_', '-')}."
        if found.get("gain")
        else ""
    )
    return (
        f"On {found['n']:,} test texts that took no part in training, with 95% intervals over "
        f"which texts were drawn.{trained}\n\n{table(('score', 'value'), rows)}{gain}"
    )


def _loading(task: Mapping[str, Any], prefix: str, apart: bool) -> str:
    text = json.dumps(prefix + "ここに文章を入れます。", ensure_ascii=False)
    second = json.dumps(prefix + "ここに二つ目の文章を入れます。", ensure_ascii=False)
    pair = bool(task.get("pair"))
    given = f'{{"text": {text}, "text_pair": {second}}}' if pair else text
    own = '["文章"], ["二つ目の文章"]' if pair else '["文章"]'
    options = ", top_k=None" if task.get("kind") == "multi_label" else ""
    notes = []
    if prefix:
        # In quotes, as the space at its end counts.
        quoted = json.dumps(prefix, ensure_ascii=False)
        notes.append(
            f"The encoder wants `{plain(quoted)}` before every text; japagen puts it there."
        )
    if task.get("kind") == "regression":
        notes.append("japagen also keeps the number on the scale.")
    loading = (
        "```python\nfrom japagen import Classifier\n\n"
        f'Classifier.load("DIRECTORY").predict({own})\n```'
    )
    if apart:
        return (
            f"{loading}\n\nThe texts of a pair are read one by one and then compared. "
            "transformers loads the encoder alone, with AutoModel: it does not know the head."
        )
    return "\n\n".join(
        [
            loading,
            "```python\nfrom transformers import pipeline\n\n"
            f'pipeline("text-classification", model="DIRECTORY")({given}{options})\n```',
            *notes,
        ]
    )
