"""Cards of datasets and models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from japagen.data.dataset import Dataset
from japagen.data.yaml_text import parse_yaml, to_yaml
from japagen.errors import JapagenError
from japagen.japanese.registers import OTHER, PRESETS
from japagen.reporting import sections_training
from japagen.reporting.sections_overview import files, listed
from japagen.reporting.text import Words, added, not_used

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(metrics: Mapping[str, Any], dataset: Dataset) -> str:
    """Returns the card of a run's dataset: Markdown with YAML front matter.

    Args:
        metrics: What metrics.json holds; parts that are None read "not measured".
        dataset: The examples, rejected ones included.
    """
    task = metrics["task"]
    parts = [
        _front_matter(task, len(dataset.kept)),
        f"# {plain(task['name'])}",
        _introduction(metrics),
        _making(metrics, dataset),
        "## Labels",
        table(
            ("label", "meaning", "gold", "generated", "kept", "share of weight"),
            [
                (
                    label,
                    task["labels"].get(label, ""),
                    row["gold"],
                    row["generated"],
                    row["kept"],
                    share(row["weight_share"]),
                )
                for label, row in metrics["per_label"].items()
            ],
        ),
        "## Registers",
        _registers(metrics.get("registers")),
        "## Rejected texts",
        table(("reason", "texts"), metrics["rejections"].items())
        if metrics["rejections"]
        else "None.",
        "## Alignment",
        _alignment(metrics.get("alignment")),
        "## Scores",
        _scores(metrics),
        "## Terms of the generator's output",
        terms_of(metrics),
        "## Limits",
        _LIMITS,
        "## How to reproduce",
        _reproduction(metrics),
    ]
    return "\n\n".join(parts) + "\n"


_LIMITS = """\
- The texts are synthetic. They describe no real persons or events, and what they claim may be
  false.
- The labels are those that the generator was asked for, or what automatic judges found instead.
  Some texts do not fit theirs.
- Filters are automatic and let some bad texts through. People have checked those alone on which
  a review of the run decided.
- The weights fit this task's gold and unlabelled texts, not other uses.
- Registers are read from word forms. Whether honorifics are used correctly is not judged."""


def _front_matter(task: Mapping[str, Any], kept: int) -> str:
    size = next((name for limit, name in _SIZES if kept < limit), "n>1M")
    front = {
        "language": ["ja"],
        # A line of dashes in a name would end the front matter.
        "pretty_name": " ".join(task["name"].split()),
        "task_categories": ["text-classification"],
        "tags": ["synthetic", "japanese", "japagen"],
        "size_categories": [size],
    }
    return f"---\n{to_yaml(front)}---"


def _introduction(metrics: Mapping[str, Any]) -> str:
    task, kept = metrics["task"], f"{metrics['counts']['kept']:,}"
    about = f": {plain(task['description'])}" if task.get("description") else ""
    kind = plain(task.get("text_type") or "文章")
    return (
        f"{kept} synthetic Japanese texts ({kind}) with labels and weights{about}\n\n"
        f"LLM が書いた日本語の合成テキスト {kept} 件です。人による確認はしていません。"
        "利用条件（Terms）と限界（Limits）を必ずお読みください。"
    )


def _making(metrics: Mapping[str, Any], dataset: Dataset) -> str:
    counts = metrics["counts"]
    prompts = sorted({p for p in dataset.column("prompt_id") if p})
    method = (metrics.get("alignment") or {}).get("method", "none")
    weighted = "" if method == "none" else " and weighted towards gold"
    unseen = f" {counts['test']:,} test texts took no part in it." if counts["test"] else ""
    steps = (
        "gold",
        "unlabelled",
        "requested",
        "failed",
        "generated",
        "rewritten",
        "synthesised",
        "rejected",
        "kept",
    )
    return "\n\n".join(
        [
            "## How it was made",
            f"Written by {writers_of(metrics)}, then filtered{weighted} "
            f"by japagen {metrics['japagen']}. "
            f"Prompts: {', '.join(map(plain, prompts)) or 'unknown'}.{unseen}",
            table(("step", "texts"), [(s, f"{counts[s]:,}") for s in steps if s in counts]),
            *_sources(metrics),
        ]
    )


def writers_of(metrics: Mapping[str, Any]) -> str:
    """Who wrote the synthetic texts: the generator, and unknown models that left files."""
    generator, named = metrics.get("generator"), files(metrics)
    own = [f"{plain(generator['name'])} (`{plain(generator['identity'])}`)"] if generator else []
    if named:
        whose = "an unknown model" if len(named) == 1 else "unknown models"
        which = "the file" if len(named) == 1 else "the files"
        own.append(f"{whose}, from {which} {', '.join(map(plain, named))}")
    return ", and ".join(own) or "an unknown model"


def _sources(metrics: Mapping[str, Any]) -> list[str]:
    """The sources side by side, where there is more to say than who the generator is."""
    if not files(metrics):
        return []
    rows = [
        (
            source["name"],
            source["origin"],
            f"{source['texts']:,}",
            f"{source['kept']:,}",
            share(source["label_trust"]),
            number(source["distance"]),
            share(source["value"]["share"]),
        )
        for source in listed(metrics)
    ]
    heads = ("source", "file or model", "texts", "kept", "mean label confidence")
    return [table((*heads, "AUC against gold", "share of the training loss"), rows)]


def _registers(found: Mapping[str, Any] | None) -> str:
    if not found:
        return not_measured()
    sides = ("gold", "asked", "before", "seen")
    rows = [
        (name, *(share(found[side].get(name, 0.0) if found.get(side) else None) for side in sides))
        for name in (*PRESETS, OTHER)
        if any(name in (found.get(side) or {}) for side in sides)
    ]
    match = (
        f"Written in the register asked for: {share(found.get('match_before'))} as generated, "
        f"{share(found.get('match'))} after control."
    )
    return f"{table(('register', *sides), rows)}\n\n{match}"


def _alignment(found: Mapping[str, Any] | None) -> str:
    if not found:
        return not_measured()
    prior, diagnostics = found.get("prior") or {}, found.get("diagnostics") or {}
    size = diagnostics.get("effective_sample_size") or {}
    names = ("label_distance", "word_divergence", "pos_divergence", "two_sample_auc")
    rows = [
        (name.replace("_", " "), *(bounded((diagnostics.get(name) or {}).get(s)) for s in _WHEN))
        for name in names
    ]
    return "\n\n".join(
        [
            f"Method: {found['method']}. Label prior: {prior.get('how', MISSING)}. "
            f"{plain(prior.get('why', ''))}",
            f"Effective sample size: {number(size.get('rows'), '.0f')} "
            f"({share(size.get('share'))} of the kept texts).",
            table(("distance", *_WHEN), rows),
        ]
    )


_WHEN = ("before", "after")


def _scores(metrics: Mapping[str, Any]) -> str:
    found, leakage = metrics.get("scores"), metrics.get("leakage")
    if not found:
        return not_measured()
    arms = [found.get(name) or {} for name in ("gold_only", "with_synthetic")]
    more = {"unlabelled": "unlabelled text", "both": "these and unlabelled texts"}
    said = more.get(added(metrics), "these texts")
    rows = [
        (name.replace("_", "-"), *(number(arm.get(name)) for arm in arms))
        for name in (*found["metrics"], "mean_absolute_error", "ece")
        if any(arm.get(name) is not None for arm in arms)
    ]
    gain = bounded(found.get("gain"), sign="+")
    overlap = share((leakage or {}).get("max_overlap"))
    return "\n\n".join(
        [
            f"A classifier trained with and without {said}, on {found['n']:,} test texts.",
            table(("score", "gold only", f"with {said}"), rows),
            f"Gain in {found['metric'].replace('_', '-')}: {gain}. The interval is a 95% interval "
            "over the test texts. "
            f"Largest share of character 5-grams in common with a test text: {overlap}.",
        ]
    )


def terms_of(metrics: Mapping[str, Any]) -> str:
    """What the terms of the models that wrote the texts allow, or that they must be looked up."""
    generator, changed = metrics.get("generator"), metrics.get("gradient_matching")
    parts = [_terms(generator["terms"])] if generator else []
    if files(metrics) or not generator:
        of_them = f"Those of {plain(', '.join(files(metrics)))}" if generator else "The texts"
        parts.append(f"{of_them} came from a file: check the terms of the model that wrote them.")
    if changed and changed["synthesised"] and changed["model"] != (generator or {}).get("name"):
        parts += [f"{plain(changed['model'])} found words for them:", _terms(changed["terms"])]
    return "\n\n".join(parts)


def _terms(terms: Mapping[str, Any]) -> str:
    answers = {True: "yes", False: "no", None: "check the terms"}
    link = [f"Full terms: {terms['url']}"] if terms.get("url") else []
    return "\n\n".join(
        [
            terms["summary"],
            *link,
            f"- May train another model: {answers[terms.get('may_train')]}\n"
            f"- May be published: {answers[terms.get('may_publish')]}",
        ]
    )


def _reproduction(metrics: Mapping[str, Any]) -> str:
    facts = {
        "seed": metrics["task"]["seed"],
        "encoder": metrics.get("encoder") or MISSING,
        "dictionary": metrics.get("dictionary") or MISSING,
        **(metrics.get("versions") or {}),
    }
    return (
        "```sh\njapagen run task.yaml\n```\n\n"
        "with the run directory's `task.yaml`. A generator need not write the same text twice; "
        "the run directory's ledger keeps what it wrote.\n\n"
        + table(("what", "value"), facts.items())
    )


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
        _model_front_matter(task, base, apart),
        f"# {plain(task['name'])}",
        _model_introduction(metrics),
        "## Labels",
        table(("label", "meaning"), task["labels"].items()),
        "## Training data",
        _training(metrics),
        "## Terms of the generator's output",
        _model_terms(metrics),
        "## Encoder",
        f"{plain(base or encoder)} (`{plain(metrics.get('encoder') or MISSING)}`). "
        f"Licence: {plain(licence or 'see the page of the encoder')}.",
        "## Scores",
        _baselines(metrics) + _model_scores(metrics.get("scores")),
        "## Limits",
        _MODEL_LIMITS,
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
_MODEL_LIMITS = """\
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
    try:
        _, front, _ = card.read_text(encoding="utf-8").split("---\n", 2)
        found = parse_yaml(front, str(card))
    except (OSError, ValueError, JapagenError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _model_front_matter(task: Mapping[str, Any], base: str | None, apart: bool) -> str:
    front = {
        "language": "ja",
        "library_name": "japagen" if apart else "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["japanese", "japagen"],
        **({"base_model": base} if base else {}),
        # A line of dashes in a name would end the front matter.
        "model_name": " ".join(task["name"].split()),
    }
    return f"---\n{to_yaml(front)}---"


def _model_introduction(metrics: Mapping[str, Any]) -> str:
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


def _model_terms(metrics: Mapping[str, Any]) -> str:
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
            *_model_sources(metrics),
        ]
    )


def _baselines(metrics: Mapping[str, Any]) -> str:
    """What a reader would try first beside the classifier; nothing where it was not measured."""
    words, scores = Words("en"), metrics.get("scores") or {}
    measured = sections_training.lines(metrics, words)
    if not measured:
        return ""
    lead = scores["metric"]
    rows = [
        (title, bounded(arm["intervals"][lead]))
        for title, arm in (*measured, *sections_training.own_arms(metrics, words))
    ]
    heads = ("classifier / learnt from", lead.replace("_", "-"))
    return f"Beside what a reader would try first:\n\n{table(heads, rows)}\n\n"


def _model_sources(metrics: Mapping[str, Any]) -> list[str]:
    """What each source gave to training, where there are several."""
    found = listed(metrics)
    if len(found) < 2:
        return []
    rows = [(s["name"], s["origin"], s["kept"], share(s["value"]["share"])) for s in found]
    return [table(("source", "file or model", "kept", "share of the training loss"), rows)]


def _model_scores(found: Mapping[str, Any] | None) -> str:
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


MISSING = "not measured"
Cells = Sequence[object]


def table(heads: Cells, rows: Iterable[Cells]) -> str:
    """A table; its cells cannot break it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(plain(str(cell)) for cell in row) + " |" for row in lines)


def plain(text: str) -> str:
    """One line without Markdown tables or HTML in it."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("|", "\\|")


def number(value: float | None, form: str = ".3f") -> str:
    """A number, or that it was not measured."""
    return MISSING if value is None else format(value, form)


def share(value: float | None) -> str:
    """A percentage with one decimal."""
    return number(value, ".1%")


def bounded(value: float | Mapping[str, float] | None, sign: str = "") -> str:
    """A number, with its interval where it has one."""
    if not isinstance(value, Mapping):
        return number(value)
    shown, low, high = (format(value[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return f"{shown} [{low}, {high}]"


def not_measured() -> str:
    """The sentence in place of a section."""
    return f"{MISSING.capitalize()}."
