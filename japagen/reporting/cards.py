"""Cards of datasets and models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from japagen.data.dataset import Dataset
from japagen.data.export import RowSummary
from japagen.data.files import front_matter, to_yaml
from japagen.data.scores import ScoreSummary
from japagen.data.summary import (
    AlignmentSummary,
    RegisterSummary,
    RunSummary,
    TaskSummary,
    TermsSummary,
)
from japagen.i18n import Language
from japagen.japanese.registers import OTHER, PRESETS
from japagen.reporting.sections_alignment import distance_rows
from japagen.reporting.sections_overview import SIDES, STEPS, field_rows, until_rows
from japagen.reporting.sections_training import lines, own_models
from japagen.reporting.text import Words

Cells = Sequence[object]
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(summary: RunSummary, dataset: Dataset, language: Language) -> str:
    """Returns the card of a run's dataset: Markdown with YAML front matter.

    Args:
        summary: What the run measured; parts that are None read "not measured".
        dataset: The examples, rejected ones included.
        language: Of all but the texts and what the task says of them.
    """
    words = Words(language)
    missing = words.say("Not measured.")
    task, kept = summary.task, f"{summary.counts.kept:,}"
    reasons = [(words.name("filter", name), n) for name, n in summary.rejections.items()]
    rejections = table(words.heads("reason", "texts"), reasons)
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
        words.say(f"{kept} synthetic Japanese texts ({kind}) with labels and weights.")
        + _about(task, words),
        words.say(
            "A language model wrote them, and no human has checked them all. Read the terms and "
            "the limits below."
        ),
        words.say("## How it was made"),
        *_making(summary, dataset, words),
        words.say("## Labels given"),
        table(
            words.heads("label", "meaning", "gold", "generated", "kept", "share of weight"),
            [
                (
                    label,
                    task.labels.get(label, ""),
                    row.gold,
                    row.generated,
                    row.kept,
                    words.share(row.weight_share),
                )
                for label, row in summary.per_label.items()
            ],
        ),
        *_until(summary, words),
        words.say("## Registers of the texts"),
        _registers(summary.registers, words) if summary.registers else missing,
        words.say("## Rejected texts"),
        rejections if summary.rejections else words.say("None were rejected."),
        words.say("## Alignment with gold"),
        _alignment(summary.alignment, words) if summary.alignment else missing,
        words.say("## Scores with and without it"),
        _scores(summary, summary.scores, words) if summary.scores else missing,
        words.say("## Terms of the generator's output"),
        terms_of(summary, words),
        words.say("## Limits of the texts"),
        "\n".join(f"- {words.say(limit)}" for limit in _LIMITS),
        words.say("## How to reproduce it"),
        _reproduction(summary, words),
    ]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    "The texts are synthetic. They describe no real persons or events, and what they claim may be "
    "false.",
    "The labels are those that the generator was asked for, or what automatic judges found "
    "instead. Some texts do not fit theirs.",
    "Filters are automatic and let some bad texts through. People have checked only those on "
    "which a review of the run decided.",
    "The weights fit this task's gold and unlabelled texts, not other uses.",
    "Registers are read from word forms. Whether honorifics are used correctly is not judged.",
)


def _one_line(name: str) -> str:
    """A name for the front matter, which a line of dashes would end."""
    return " ".join(name.split())


def _about(task: TaskSummary, words: Words) -> str:
    return words.gap + plain(task.description) if task.description else ""


def _making(summary: RunSummary, dataset: Dataset, words: Words) -> list[str]:
    counts = summary.counts
    prompts = sorted({p for p in dataset.column("prompt_id") if p})
    steps = [(step, counts.at(step)) for step in ("gold", "unlabelled", *STEPS)]
    rows = [(words(f"counts.{step}"), f"{n:,}") for step, n in steps if n is not None]
    said = [
        words.say(f"Written by {writers_of(summary, words)}."),
        words.say(f"Filtered by japagen {summary.japagen}."),
    ]
    if summary.alignment is not None and summary.alignment.method != "none":
        said.append(words.say("Weighted towards gold."))
    said.append(words.say(f"Prompts: {', '.join(map(plain, prompts)) or '-'}."))
    if counts.test:
        said.append(words.say(f"{counts.test:,} test texts took no part in it."))
    return [
        _run_on(said, words),
        *_seed(summary, words),
        *_fields(summary, words),
        table(words.heads("step", "texts"), rows),
        *_sources(summary, words),
    ]


def _run_on(sentences: Sequence[str], words: Words) -> str:
    return words.gap.join(sentences)


def _until(summary: RunSummary, words: Words) -> list[str]:
    """How each label came by its texts, where they were asked for until enough were kept."""
    found = summary.until
    if found is None:
        return []
    heads = words.heads("label", "asked for", "kept then", "why no more were asked for")
    return [
        words.say(
            f"Each label was asked for until filters and register control kept {found.wanted:,} "
            "texts of it; the label check came afterwards."
        ),
        table(heads, until_rows(found, words)),
    ]


def _seed(summary: RunSummary, words: Words) -> list[str]:
    found = summary.seed_rows
    if found is None:
        return []
    return [
        words.say(
            f"Prompts told of the rows of {plain(found.file)}, one for each text; {found.used:,} "
            f"of its {found.rows:,} rows were used (order: {found.order})."
        )
    ]


def _fields(summary: RunSummary, words: Words) -> list[str]:
    """What each text consists of, and how often a field is in the register asked of it."""
    if not summary.text_fields:
        return []
    return [
        words.say("Each text consists of fields; the column `text` is made of some of them."),
        table(
            words.heads("field", "type", "filled", "values", "register", "in it"),
            field_rows(summary.text_fields, words),
        ),
    ]


def writers_of(summary: RunSummary, words: Words) -> str:
    """Who wrote the synthetic texts: the generator, and unknown models that left files."""
    generator, files = summary.generator, summary.files
    own = [f"{plain(generator.name)} (`{plain(generator.identity)}`)"] if generator else []
    own += [words.say(f"an unknown model (file {plain(file)})") for file in files]
    return ("、" if words.language == "ja" else ", ").join(own) or words.say("an unknown model")


def _sources(summary: RunSummary, words: Words) -> list[str]:
    """The sources side by side, where there is more to say than who the generator is."""
    if not summary.files:
        return []
    rows = [
        (
            source.name,
            source.origin,
            f"{source.texts:,}",
            f"{source.kept:,}",
            words.share(source.label_trust),
            words.number(source.distance),
            words.share(source.value.share),
        )
        for source in summary.sources
    ]
    heads = words.heads(
        "source",
        "file or model",
        "texts",
        "kept",
        "mean label confidence",
        "AUC against gold",
        "share of the training loss",
    )
    return [table(heads, rows)]


def _registers(found: RegisterSummary, words: Words) -> str:
    sides = [found.side(side) for side in SIDES]
    rows = [
        (
            words.name("register", name),
            *(words.share(side.get(name, 0.0) if side else None) for side in sides),
        )
        for name in (*PRESETS, OTHER)
        if any(name in side for side in sides)
    ]
    match = words.say(
        f"Written in the register asked for: {words.share(found.match_before)} as generated, "
        f"{words.share(found.match)} after control."
    )
    heads = (*words.heads("register"), *(words(f"registers.{side}") for side in SIDES))
    return f"{table(heads, rows)}\n\n{match}"


def _alignment(found: AlignmentSummary, words: Words) -> str:
    prior, diagnostics = found.prior, found.diagnostics
    size = diagnostics.effective_sample_size
    said = [
        words.say(f"Method: {words.name('method', found.method)}."),
        words.say(f"Label prior: {words.name('prior', prior.how)}."),
        words.say(plain(prior.why)),
    ]
    return "\n\n".join(
        [
            _run_on(said, words),
            words.say(
                f"Effective sample size: {words.count(size.rows)} ({words.share(size.share)} of "
                "the kept texts)."
            ),
            table(words.heads("measure", "before", "after"), distance_rows(diagnostics, words)),
        ]
    )


def _scores(summary: RunSummary, found: ScoreSummary, words: Words) -> str:
    rows = []
    for name in (*found.metrics, "mean_absolute_error", "ece"):
        models = (found.gold_only, found.with_synthetic)
        values = [model.score(name) if model else None for model in models]
        if any(value is not None for value in values):
            rows.append((words.name("metric", name, _metric(name)), *map(words.number, values)))
    overlap = words.share(summary.leakage.max_overlap if summary.leakage else None)
    added = {
        "unlabelled": words.cell("with unlabelled"),
        "both": words.cell("with synthetic and unlabelled"),
    }.get(summary.added, words.cell("with synthetic"))
    gain = words.say(
        f"Gain in {_metric(found.metric)}: {words.interval(found.gain, signed=True)}, with a 95% "
        "interval over the test texts."
    )
    return "\n\n".join(
        [
            words.say(f"A classifier trained with and without, on {found.n:,} test texts."),
            table((*words.heads("score", "gold only"), added), rows),
            *([gain] if found.gain else []),
            words.say(f"Largest share of character 5-grams in common with a test text: {overlap}."),
        ]
    )


def _metric(name: str) -> str:
    return name.replace("_", "-")


def terms_of(summary: RunSummary, words: Words) -> str:
    """What the terms of the models that wrote the texts allow, or that they must be looked up."""
    generator, changed = summary.generator, summary.gradient_matching
    parts = [_terms(generator.terms, words)] if generator else []
    if files := plain(", ".join(summary.files)):
        parts.append(words.say(f"Texts of {files}: check the terms of the model that wrote them."))
    elif not generator:
        parts.append(words.say("Check the terms of the model that wrote the texts."))
    if changed and changed.synthesised and not (generator and changed.model == generator.name):
        found = words.say(f"{plain(changed.model)} found words for them:")
        parts += [found, _terms(changed.terms, words)]
    return "\n\n".join(parts)


def _terms(terms: TermsSummary, words: Words) -> str:
    answers = {True: words("yes"), False: words("no"), None: words("check")}
    return "\n\n".join(
        [
            words.say(terms.summary),
            *([words.say(f"Full terms: {terms.url}")] if terms.url else []),
            words.say(f"- May train another model: {answers[terms.may_train]}")
            + "\n"
            + words.say(f"- May be published: {answers[terms.may_publish]}"),
        ]
    )


def _reproduction(summary: RunSummary, words: Words) -> str:
    facts = {
        "seed": summary.task.seed,
        "encoder": summary.encoder or words("not_measured"),
        "dictionary": summary.dictionary or words("not_measured"),
        **summary.versions,
    }
    how = words.say(
        "Use the task.yaml of the run directory. A generator need not write the same text twice; "
        "the run directory's ledger keeps what it wrote."
    )
    rows = [(words.cell(name), value) for name, value in facts.items()]
    return f"```sh\njapagen run task.yaml\n```\n\n{how}\n\n{_facts(rows, words)}"


def _facts(rows: Iterable[Cells], words: Words) -> str:
    return table(words.heads("what", "value"), rows)


_EMBEDDED_BASE = "intfloat/multilingual-e5-small"


def model_card(
    summary: RunSummary,
    encoder: str,
    prefix: str = "",
    *,
    bi_encoder: bool = False,
    language: Language,
) -> str:
    """Returns the card of a run's classifier: Markdown with Hugging Face front matter.

    Args:
        summary: What the run measured; parts that are None read "not measured".
        encoder: ``embedded``, a directory or a Hub name, as the task has it.
        prefix: What the encoder wants before every text.
        bi_encoder: Whether the two texts of a pair are read one by one and compared by a head that
            ``transformers`` does not know.
        language: Of all but what the task says of its texts.
    """
    task, words = summary.task, Words(language)
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
        words.cell("run begun"): summary.created or "-",
        words.cell("seed"): task.seed,
        **summary.versions,
    }
    parts = [
        f"---\n{to_yaml(front)}---",
        f"# {plain(task.name)}",
        _model_introduction(task, words),
        words.say("## Labels given"),
        table(words.heads("label", "meaning"), task.labels.items()),
        words.say("## Training data"),
        _training(summary, words),
        words.say("## Terms of the generator's output"),
        _model_terms(summary, words),
        words.say("## Encoder behind it"),
        f"{plain(base or encoder)} (`{plain(summary.encoder or words('not_measured'))}`)",
        words.say(f"Licence: {plain(licence)}.")
        if licence
        else words.say("Licence: see the page of the encoder."),
        words.say("## Scores on held-out texts"),
        _baselines(summary, words) + _model_scores(summary.scores, words),
        words.say("## Limits of the classifier"),
        "\n".join(f"- {words.say(limit)}" for limit in _MODEL_LIMITS),
        words.say("## How to load it"),
        _loading(task, prefix, words, bi_encoder=bi_encoder),
        words.say("## Made with japagen"),
        _facts(made_with.items(), words),
    ]
    return "\n\n".join(parts) + "\n"


_MODEL_LIMITS = (
    "It knows the labels above and no others, and answers every text with what fits best among "
    "them.",
    "The scores hold for texts like the test texts. Other sources, times or registers may do "
    "worse.",
    "What is wrong or lopsided in the gold and in the synthetic texts was learnt with the rest.",
    "It is not made for decisions about persons. Have a person look at what it is unsure of.",
)


def _origin(encoder: str) -> tuple[str | None, str | None]:
    """The Hub name that an encoder goes back to, and its licence, as far as they are known."""
    if encoder == "embedded":
        return _EMBEDDED_BASE, "mit"
    directory = Path(encoder).expanduser()
    if not directory.is_dir():
        return encoder, None
    declared = front_matter(directory / "README.md")
    return declared.get("base_model"), declared.get("license")


def _model_introduction(task: TaskSummary, words: Words) -> str:
    kind = plain(task.text_type or "文章")
    answer = {
        "multi_label": words.say(f"Gives Japanese texts ({kind}) any number of the labels below."),
        "regression": words.say(f"Gives Japanese texts ({kind}) a number on the scale below."),
    }.get(task.kind, words.say(f"Gives Japanese texts ({kind}) one of the labels below."))
    said = [answer, *([words.say("It reads pairs of texts.")] if task.pair else [])]
    said.append(words.say("Read its scores and limits first."))
    return _run_on(said, words) + _about(task, words)


def _model_terms(summary: RunSummary, words: Words) -> str:
    if summary.not_used:
        return words.say("The classifier was trained on gold only: no generated text is in it.")
    found = terms_of(summary, words)
    if summary.added != "unlabelled":
        return found
    labelled = words.say(
        "No generated text is in it, but the generator helped to label texts that are."
    )
    return f"{labelled}\n\n{found}"


def _training(summary: RunSummary, words: Words) -> str:
    mix, counts = summary.mix, summary.counts
    unlabelled = summary.pseudo_labels.texts if summary.pseudo_labels else 0
    said = [
        words.say(
            f"{counts.gold:,} gold texts, and {counts.kept:,} synthetic texts that filters kept."
        )
    ]
    if unlabelled:
        said.append(
            words.say(
                f"{unlabelled:,} unlabelled texts have the labels that the generator and the "
                "encoder gave them."
            )
        )
    rows = [(label, row.gold, row.kept) for label, row in summary.per_label.items()]
    used = [
        words.say(
            f"Synthetic share of the training loss: {words.share(mix.share if mix else None)}."
        )
    ]
    if mix and unlabelled and mix.share:
        used.append(words.say("Unlabelled texts are not counted in it."))
    used += [words.name("mix", mix.reason)] if mix else []
    return "\n\n".join(
        [
            _run_on(said, words),
            table(words.heads("label", "gold", "synthetic kept"), rows),
            _run_on(used, words),
            words.say(f"Synthetic texts written by {writers_of(summary, words)}."),
            *_model_sources(summary, words),
        ]
    )


def _baselines(summary: RunSummary, words: Words) -> str:
    """What a reader would try first beside the classifier; nothing where it was not measured."""
    scores, measured = summary.scores, lines(summary, words)
    if scores is None or not measured:
        return ""
    rows = [
        (title, words.interval(model.measured(scores.metric)))
        for title, model in (*measured, *own_models(summary, words))
    ]
    heads = (*words.heads("classifier / learnt from"), _metric(scores.metric))
    return f"{words.say('Beside what a reader would try first:')}\n\n{table(heads, rows)}\n\n"


def _model_sources(summary: RunSummary, words: Words) -> list[str]:
    """What each source gave to training, where there are several."""
    if len(summary.sources) < 2:
        return []
    rows = [(s.name, s.origin, s.kept, words.share(s.value.share)) for s in summary.sources]
    heads = words.heads("source", "file or model", "kept", "share of the training loss")
    return [table(heads, rows)]


def _model_scores(found: ScoreSummary | None, words: Words) -> str:
    if found is None:
        return words.say("Not measured: there were no labelled test texts.")
    model = found.with_synthetic
    rows = [
        (words.name("metric", name, _metric(name)), words.interval(model.measured(name)))
        for name in found.metrics
    ]
    if model.mean_absolute_error is not None:
        rows.append((words.cell("mean absolute error"), words.number(model.mean_absolute_error)))
    rows.append((words.cell("expected calibration error (ECE)"), words.number(model.ece)))
    said = [
        words.say(
            f"On {found.n:,} test texts that took no part in training, with 95% intervals over "
            "which texts were drawn."
        )
    ]
    if len(model.seeds) > 1:
        said.append(words.say(f"Means of {len(model.seeds)} trainings; this is the first of them."))
    gain = words.say(
        f"Against the gold-only baseline: {words.interval(found.gain, signed=True)} in "
        f"{_metric(found.metric)}."
    )
    scores = table(words.heads("score", "value"), rows)
    return "\n\n".join([_run_on(said, words), scores, *([gain] if found.gain else [])])


def _loading(task: TaskSummary, prefix: str, words: Words, *, bi_encoder: bool) -> str:
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
            words.say(
                f"The encoder wants `{plain(quoted)}` before every text; japagen puts it there."
            )
        )
    if task.kind == "regression":
        notes.append(words.say("japagen also keeps the number on the scale."))
    loading = (
        "```python\nfrom japagen import Classifier\n\n"
        f'Classifier.load("DIRECTORY").predict({own})\n```'
    )
    if bi_encoder:
        why = words.say(
            "The texts of a pair are read one by one and then compared. transformers loads the "
            "encoder alone, with AutoModel: it does not know the head."
        )
        return f"{loading}\n\n{why}"
    return "\n\n".join(
        [
            loading,
            "```python\nfrom transformers import pipeline\n\n"
            f'pipeline("text-classification", model="DIRECTORY")({given}{options})\n```',
            *notes,
        ]
    )


def row_card(summary: RowSummary, front: Mapping[str, Any], parts: Iterable[str]) -> str:
    """A card of other rows than labelled texts: Markdown with YAML front matter.

    Args:
        summary: What the run came to.
        front: What the front matter has beside the name; the language is Japanese.
        parts: What stands before the terms, and last the limits.
    """
    *said, limits = parts
    named = {"language": ["ja"], "pretty_name": " ".join(summary.task.split()), **front}
    blocks = [
        f"---\n{to_yaml(named)}---",
        f"# {plain(summary.task)}",
        *said,
        "## Terms of the generator's output",
        plain(summary.terms),
        "## Limits",
        limits,
    ]
    return "\n\n".join(blocks) + "\n"


def table(heads: Cells, rows: Iterable[Cells]) -> str:
    """A table; its cells cannot break it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(plain(str(cell)) for cell in row) + " |" for row in lines)


def plain(text: str) -> str:
    """One line without Markdown tables or HTML in it."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("|", "\\|")
