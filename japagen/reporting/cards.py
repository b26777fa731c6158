"""Cards of datasets and models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from japagen.data.dataset import Dataset
from japagen.data.summary import (
    AlignmentSummary,
    Change,
    RegisterSummary,
    RunSummary,
    ScoreSummary,
    TaskSummary,
    TermsSummary,
)
from japagen.data.yaml_text import front_matter, to_yaml
from japagen.i18n import localized
from japagen.japanese.registers import OTHER, PRESETS
from japagen.reporting.sections_overview import SIDES, STEPS, field_rows, until_rows
from japagen.reporting.sections_training import lines, own_models
from japagen.reporting.text import Words

_WORDS = Words("en")
MISSING = "not measured"
_NOT_MEASURED = f"{MISSING.capitalize()}."
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(summary: RunSummary, dataset: Dataset) -> str:
    """Returns the card of a run's dataset: Markdown with YAML front matter.

    Args:
        summary: What the run measured; parts that are None read "not measured".
        dataset: The examples, rejected ones included.
    """
    task, kept = summary.task, f"{summary.counts.kept:,}"
    rejections = table(("reason", "texts"), summary.rejections.items())
    kind = plain(task.text_type or "文章")
    size = next((name for limit, name in _SIZES if len(dataset.kept) < limit), "n>1M")
    front = {
        "language": ["ja"],
        "pretty_name": _one_line(task.name),
        "task_categories": ["text-classification"],
        "tags": ["synthetic", "japanese", "japagen"],
        "size_categories": [size],
    }
    parts = [
        f"---\n{to_yaml(front)}---",
        f"# {plain(task.name)}",
        f"{kept} synthetic Japanese texts ({kind}) with labels and weights{_about(task)}",
        localized(
            f"{kept} Japanese texts that a language model wrote and no human has checked. "
            "Read the terms of use (Terms) and the limits (Limits).",
            "ja",
        ),
        _making(summary, dataset),
        "## Labels",
        table(
            ("label", "meaning", "gold", "generated", "kept", "share of weight"),
            [
                (
                    label,
                    task.labels.get(label, ""),
                    row.gold,
                    row.generated,
                    row.kept,
                    _WORDS.share(row.weight_share),
                )
                for label, row in summary.per_label.items()
            ],
        ),
        *_until(summary),
        "## Registers",
        _registers(summary.registers) if summary.registers else _NOT_MEASURED,
        "## Rejected texts",
        rejections if summary.rejections else "None.",
        "## Alignment",
        _alignment(summary.alignment) if summary.alignment else _NOT_MEASURED,
        "## Scores",
        _scores(summary, summary.scores) if summary.scores else _NOT_MEASURED,
        "## Terms of the generator's output",
        terms_of(summary),
        "## Limits",
        _LIMITS,
        "## How to reproduce",
        _reproduction(summary),
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


def _one_line(name: str) -> str:
    """A name for the front matter, which a line of dashes would end."""
    return " ".join(name.split())


def _about(task: TaskSummary) -> str:
    return f": {plain(task.description)}" if task.description else ""


def _making(summary: RunSummary, dataset: Dataset) -> str:
    counts = summary.counts
    prompts = sorted({p for p in dataset.column("prompt_id") if p})
    unweighted = summary.alignment is None or summary.alignment.method == "none"
    weighted = "" if unweighted else " and weighted towards gold"
    unseen = f" {counts.test:,} test texts took no part in it." if counts.test else ""
    steps = [(step, counts.at(step)) for step in ("gold", "unlabelled", *STEPS)]
    return "\n\n".join(
        [
            "## How it was made",
            f"Written by {writers_of(summary)}, then filtered{weighted} "
            f"by japagen {summary.japagen}. "
            f"Prompts: {', '.join(map(plain, prompts)) or 'unknown'}.{unseen}",
            *_seed(summary),
            *_fields(summary),
            table(("step", "texts"), [(s, f"{n:,}") for s, n in steps if n is not None]),
            *_sources(summary),
        ]
    )


def _until(summary: RunSummary) -> list[str]:
    """How each label came by its texts, where they were asked for until enough were kept."""
    found = summary.until
    if found is None:
        return []
    rows = until_rows(found, _WORDS)
    return [
        f"Each label was asked for until filters and register control kept {found.wanted:,} texts "
        "of it; the label check came afterwards.",
        table(("label", "asked for", "kept then", "why no more were asked for"), rows),
    ]


def _seed(summary: RunSummary) -> list[str]:
    found = summary.seed_rows
    if found is None:
        return []
    told = f"{found.used:,} of its {found.rows:,} rows were used (order: {found.order})"
    return [f"Prompts told of the rows of {plain(found.file)}, one for each text; {told}."]


def _fields(summary: RunSummary) -> list[str]:
    """What each text consists of, and how often a field is in the register asked of it."""
    if not summary.text_fields:
        return []
    rows = field_rows(summary.text_fields, _WORDS)
    heads = ("field", "type", "filled", "values", "register", "in it")
    return [
        "Each text consists of fields; the column `text` is made of some of them.",
        table(heads, rows),
    ]


def writers_of(summary: RunSummary) -> str:
    """Who wrote the synthetic texts: the generator, and unknown models that left files."""
    generator, files = summary.generator, summary.files
    own = [f"{plain(generator.name)} (`{plain(generator.identity)}`)"] if generator else []
    if files:
        whose = "an unknown model" if len(files) == 1 else "unknown models"
        which = "the file" if len(files) == 1 else "the files"
        own.append(f"{whose}, from {which} {', '.join(map(plain, files))}")
    return ", and ".join(own) or "an unknown model"


def _sources(summary: RunSummary) -> list[str]:
    """The sources side by side, where there is more to say than who the generator is."""
    if not summary.files:
        return []
    rows = [
        (
            source.name,
            source.origin,
            f"{source.texts:,}",
            f"{source.kept:,}",
            _WORDS.share(source.label_trust),
            _WORDS.number(source.distance),
            _WORDS.share(source.value.share),
        )
        for source in summary.sources
    ]
    heads = ("source", "file or model", "texts", "kept", "mean label confidence")
    return [table((*heads, "AUC against gold", "share of the training loss"), rows)]


def _registers(found: RegisterSummary) -> str:
    sides = [found.side(side) for side in SIDES]
    rows = [
        (name, *(_WORDS.share(side.get(name, 0.0) if side else None) for side in sides))
        for name in (*PRESETS, OTHER)
        if any(name in side for side in sides)
    ]
    match = (
        f"Written in the register asked for: {_WORDS.share(found.match_before)} as generated, "
        f"{_WORDS.share(found.match)} after control."
    )
    return f"{table(('register', *SIDES), rows)}\n\n{match}"


def _alignment(found: AlignmentSummary) -> str:
    prior, diagnostics = found.prior, found.diagnostics
    size, unknown = diagnostics.effective_sample_size, Change(None, None)
    changes = {
        "label distance": diagnostics.label_distance,
        "word divergence": diagnostics.word_divergence or unknown,
        "pos divergence": diagnostics.pos_divergence or unknown,
        "two sample auc": diagnostics.two_sample_auc,
    }
    rows = [
        (name, _WORDS.interval(change.before), _WORDS.interval(change.after))
        for name, change in changes.items()
    ]
    return "\n\n".join(
        [
            f"Method: {found.method}. Label prior: {prior.how}. {plain(prior.why)}",
            f"Effective sample size: {_WORDS.count(size.rows)} "
            f"({_WORDS.share(size.share)} of the kept texts).",
            table(("distance", "before", "after"), rows),
        ]
    )


def _scores(summary: RunSummary, found: ScoreSummary) -> str:
    more = {"unlabelled": "unlabelled text", "both": "these and unlabelled texts"}
    said = more.get(summary.added, "these texts")
    rows = []
    for name in (*found.metrics, "mean_absolute_error", "ece"):
        models = (found.gold_only, found.with_synthetic)
        values = [model.score(name) if model else None for model in models]
        if any(value is not None for value in values):
            rows.append((_metric(name), *map(_WORDS.number, values)))
    overlap = _WORDS.share(summary.leakage.max_overlap if summary.leakage else None)
    return "\n\n".join(
        [
            f"A classifier trained with and without {said}, on {found.n:,} test texts.",
            table(("score", "gold only", f"with {said}"), rows),
            f"Gain in {_metric(found.metric)}: {_WORDS.interval(found.gain, signed=True)}. "
            "The interval is a 95% interval over the test texts. "
            f"Largest share of character 5-grams in common with a test text: {overlap}.",
        ]
    )


def _metric(name: str) -> str:
    return name.replace("_", "-")


def terms_of(summary: RunSummary) -> str:
    """What the terms of the models that wrote the texts allow, or that they must be looked up."""
    generator, changed = summary.generator, summary.gradient_matching
    parts = [_terms(generator.terms)] if generator else []
    if summary.files or not generator:
        of_them = f"Those of {plain(', '.join(summary.files))}" if generator else "The texts"
        parts.append(f"{of_them} came from a file: check the terms of the model that wrote them.")
    if changed and changed.synthesised and not (generator and changed.model == generator.name):
        parts += [f"{plain(changed.model)} found words for them:", _terms(changed.terms)]
    return "\n\n".join(parts)


def _terms(terms: TermsSummary) -> str:
    answers = {True: "yes", False: "no", None: "check the terms"}
    return "\n\n".join(
        [
            terms.summary,
            *([f"Full terms: {terms.url}"] if terms.url else []),
            f"- May train another model: {answers[terms.may_train]}\n"
            f"- May be published: {answers[terms.may_publish]}",
        ]
    )


def _reproduction(summary: RunSummary) -> str:
    facts = {
        "seed": summary.task.seed,
        "encoder": summary.encoder or MISSING,
        "dictionary": summary.dictionary or MISSING,
        **summary.versions,
    }
    return (
        "```sh\njapagen run task.yaml\n```\n\n"
        "with the run directory's `task.yaml`. A generator need not write the same text twice; "
        "the run directory's ledger keeps what it wrote.\n\n"
        + table(("what", "value"), facts.items())
    )


_EMBEDDED_BASE = "intfloat/multilingual-e5-small"


def model_card(
    summary: RunSummary, encoder: str, prefix: str = "", *, bi_encoder: bool = False
) -> str:
    """Returns the card of a run's classifier: Markdown with Hugging Face front matter.

    Args:
        summary: What the run measured; parts that are None read "not measured".
        encoder: ``embedded``, a directory or a Hub name, as the task has it.
        prefix: What the encoder wants before every text.
        bi_encoder: Whether the two texts of a pair are read one by one and compared by a head that
            ``transformers`` does not know.
    """
    task = summary.task
    base, licence = _origin(encoder)
    front = {
        "language": "ja",
        "library_name": "japagen" if bi_encoder else "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["japanese", "japagen"],
        **({"base_model": base} if base else {}),
        "model_name": _one_line(task.name),
    }
    made_with = {
        "japagen": summary.japagen,
        "run begun": summary.created or "unknown",
        "seed": task.seed,
        **summary.versions,
    }
    parts = [
        f"---\n{to_yaml(front)}---",
        f"# {plain(task.name)}",
        _model_introduction(task),
        "## Labels",
        table(("label", "meaning"), task.labels.items()),
        "## Training data",
        _training(summary),
        "## Terms of the generator's output",
        _model_terms(summary),
        "## Encoder",
        f"{plain(base or encoder)} (`{plain(summary.encoder or MISSING)}`). "
        f"Licence: {plain(licence or 'see the page of the encoder')}.",
        "## Scores",
        _baselines(summary) + _model_scores(summary.scores),
        "## Limits",
        _MODEL_LIMITS,
        "## How to load it",
        _loading(task, prefix, bi_encoder),
        "## Made with",
        table(("what", "value"), made_with.items()),
    ]
    return "\n\n".join(parts) + "\n"


_UNUSED = "The classifier was trained on gold only: no generated text is in it."
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
    declared = front_matter(directory / "README.md")
    return declared.get("base_model"), declared.get("license")


def _model_introduction(task: TaskSummary) -> str:
    answer = {
        "multi_label": "any number of the labels below",
        "regression": "a number on the scale below",
    }.get(task.kind, "one of the labels below")
    what = "pairs of Japanese texts" if task.pair else "Japanese texts"
    kind = plain(task.text_type or "文章")
    japanese = localized(
        "A classifier of Japanese texts. Read its scores (Scores) and limits (Limits) first.", "ja"
    )
    return f"Gives {what} ({kind}) {answer}{_about(task)}\n\n{japanese}"


def _model_terms(summary: RunSummary) -> str:
    if summary.not_used:
        return _UNUSED
    found = terms_of(summary)
    return f"{_LABELLED}\n\n{found}" if summary.added == "unlabelled" else found


def _training(summary: RunSummary) -> str:
    mix, counts = summary.mix, summary.counts
    unlabelled = summary.pseudo_labels.texts if summary.pseudo_labels else 0
    voted = (
        f", and {unlabelled:,} unlabelled texts with the labels that the generator and the "
        "encoder gave them"
        if unlabelled
        else ""
    )
    rows = [(label, row.gold, row.kept) for label, row in summary.per_label.items()]
    used = f"Synthetic share of the training loss: {MISSING}."
    if mix:
        why = _WORDS.name("mix", mix.reason)
        uncounted = ", unlabelled texts not counted" if unlabelled and mix.share else ""
        share = _WORDS.share(mix.share)
        used = f"Synthetic share of the training loss{uncounted}: {share}. {why}"
    return "\n\n".join(
        [
            f"{counts.gold:,} gold texts, and {counts.kept:,} synthetic texts that "
            f"filters kept{voted}.",
            table(("label", "gold", "synthetic kept"), rows),
            used,
            f"Synthetic texts written by {writers_of(summary)}.",
            *_model_sources(summary),
        ]
    )


def _baselines(summary: RunSummary) -> str:
    """What a reader would try first beside the classifier; nothing where it was not measured."""
    scores, measured = summary.scores, lines(summary, _WORDS)
    if scores is None or not measured:
        return ""
    rows = [
        (title, _WORDS.interval(model.measured(scores.metric)))
        for title, model in (*measured, *own_models(summary, _WORDS))
    ]
    heads = ("classifier / learnt from", _metric(scores.metric))
    return f"Beside what a reader would try first:\n\n{table(heads, rows)}\n\n"


def _model_sources(summary: RunSummary) -> list[str]:
    """What each source gave to training, where there are several."""
    if len(summary.sources) < 2:
        return []
    rows = [(s.name, s.origin, s.kept, _WORDS.share(s.value.share)) for s in summary.sources]
    return [table(("source", "file or model", "kept", "share of the training loss"), rows)]


def _model_scores(found: ScoreSummary | None) -> str:
    if found is None:
        return f"{MISSING.capitalize()}: there were no labelled test texts."
    model = found.with_synthetic
    rows = [(_metric(name), _WORDS.interval(model.measured(name))) for name in found.metrics]
    if model.mean_absolute_error is not None:
        rows.append(("mean absolute error", _WORDS.number(model.mean_absolute_error)))
    rows.append(("expected calibration error (ECE)", _WORDS.number(model.ece)))
    seeds = len(model.seeds)
    trained = f" Means of {seeds} trainings; this is the first of them." if seeds > 1 else ""
    gain = (
        f"\n\nAgainst the gold-only baseline: {_WORDS.interval(found.gain, signed=True)} "
        f"in {_metric(found.metric)}."
        if found.gain
        else ""
    )
    return (
        f"On {found.n:,} test texts that took no part in training, with 95% intervals over "
        f"which texts were drawn.{trained}\n\n{table(('score', 'value'), rows)}{gain}"
    )


def _loading(task: TaskSummary, prefix: str, bi_encoder: bool) -> str:
    text = json.dumps(prefix + "ここに文章を入れます。", ensure_ascii=False)
    second = json.dumps(prefix + "ここに二つ目の文章を入れます。", ensure_ascii=False)
    pair = bool(task.pair)
    given = f'{{"text": {text}, "text_pair": {second}}}' if pair else text
    own = '["文章"], ["二つ目の文章"]' if pair else '["文章"]'
    options = ", top_k=None" if task.kind == "multi_label" else ""
    notes = []
    if prefix:
        # In quotes, as the space at its end counts.
        quoted = json.dumps(prefix, ensure_ascii=False)
        notes.append(
            f"The encoder wants `{plain(quoted)}` before every text; japagen puts it there."
        )
    if task.kind == "regression":
        notes.append("japagen also keeps the number on the scale.")
    loading = (
        "```python\nfrom japagen import Classifier\n\n"
        f'Classifier.load("DIRECTORY").predict({own})\n```'
    )
    if bi_encoder:
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


Cells = Sequence[object]


def table(heads: Cells, rows: Iterable[Cells]) -> str:
    """A table; its cells cannot break it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(plain(str(cell)) for cell in row) + " |" for row in lines)


def plain(text: str) -> str:
    """One line without Markdown tables or HTML in it."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("|", "\\|")
