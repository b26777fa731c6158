"""Cards of datasets and models: templates in English, said in the user's language line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from japagen.data.dataset import Dataset
from japagen.data.export import RowSummary
from japagen.data.files import front_matter, to_yaml
from japagen.data.scores import ScoreSummary
from japagen.data.summary import RegisterSummary, RunSummary
from japagen.i18n import Language
from japagen.japanese.registers import OTHER, PRESETS
from japagen.reporting.sections_alignment import distance_rows
from japagen.reporting.sections_overview import SIDES, STEPS, field_rows, until_rows
from japagen.reporting.sections_training import lines, own_models
from japagen.reporting.text import Cells, View, Words, plain, rendered

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_EMBEDDED_BASE = "intfloat/multilingual-e5-small"


def dataset_card(summary: RunSummary, dataset: Dataset, language: Language) -> str:
    """Returns the card of a run's dataset: Markdown with YAML front matter.

    Args:
        summary: What the run measured; parts that are None read "not measured".
        dataset: The examples, rejected ones included.
        language: Of all but the texts and what the task says of them.
    """
    words, counts, scores = Words(language), summary.counts, summary.scores
    front = {
        "language": ["ja"],
        "pretty_name": _one_line(summary.task.name),
        "task_categories": ["text-classification"],
        "tags": ["synthetic", "japanese", "japagen"],
        "size_categories": [next((n for most, n in _SIZES if len(dataset.kept) < most), "n>1M")],
    }
    steps = [(step, counts.at(step)) for step in ("gold", "unlabelled", *STEPS)]
    added = {
        "unlabelled": words.cell("with unlabelled"),
        "both": words.cell("with synthetic and unlabelled"),
    }.get(summary.added, words.cell("with synthetic"))
    view = {
        **_view(summary, front, words),
        "prompts": sorted({p for p in dataset.column("prompt_id") if p}),
        "steps": [(words(f"counts.{step}"), f"{n:,}") for step, n in steps if n is not None],
        "fields": field_rows(summary.text_fields or (), words),
        "until": until_rows(summary.until, words) if summary.until else [],
        "registers": summary.registers and _registers(summary.registers, words),
        "distances": distance_rows(summary.alignment.diagnostics, words)
        if summary.alignment
        else [],
        "added": added,
        "score_rows": _score_rows(scores, words) if scores else [],
    }
    return rendered("reporting/dataset_card.md.j2", view, language)


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
    words, pseudo = Words(language), summary.pseudo_labels
    base, licence = _origin(encoder)
    front = {
        "language": "ja",
        "library_name": "japagen" if bi_encoder else "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["japanese", "japagen"],
        **({"base_model": base} if base else {}),
        "model_name": _one_line(summary.task.name),
    }
    measured = lines(summary, words)
    view = {
        **_view(summary, front, words),
        "mix": summary.mix,
        "unlabelled": pseudo.texts if pseudo else 0,
        "base": base,
        "licence": licence,
        "encoder": encoder,
        # What a reader would try first beside the classifier.
        "baselines": [*measured, *own_models(summary, words)] if measured else [],
        "prefix": prefix,
        "bi_encoder": bi_encoder,
        # In quotes, as a space at the end of a prefix counts.
        "quoted": partial(json.dumps, ensure_ascii=False),
    }
    return rendered("reporting/model_card.md.j2", view, language)


def _view(summary: RunSummary, front: Mapping[str, Any], words: Words) -> View:
    """What both cards are made of."""
    task, generator, scores = summary.task, summary.generator, summary.scores
    writers = [f"{plain(generator.name)} (`{plain(generator.identity)}`)"] if generator else []
    writers += [words.say(f"an unknown model (file {plain(file)})") for file in summary.files]
    comma = "、" if words.language == "ja" else ", "
    return {
        "w": words,
        "front": to_yaml(front),
        "summary": summary,
        "task": task,
        "counts": summary.counts,
        "kind": plain(task.text_type or "文章"),
        "about": words.gap + plain(task.description) if task.description else "",
        "writers": comma.join(writers) or words.say("an unknown model"),
        "files": summary.files,
        "alignment": summary.alignment,
        "scores": scores,
        "metric": _metric(scores.metric) if scores else "",
        "generator": generator,
        "changed": summary.gradient_matching,
    }


def _one_line(name: str) -> str:
    """A name for the front matter, which a line of dashes would end."""
    return " ".join(name.split())


def _metric(name: str) -> str:
    return name.replace("_", "-")


def _registers(found: RegisterSummary, words: Words) -> View:
    sides = [found.side(side) for side in SIDES]
    rows = [
        (
            words.name("register", name),
            *(words.share(side.get(name, 0.0) if side else None) for side in sides),
        )
        for name in (*PRESETS, OTHER)
        if any(name in side for side in sides)
    ]
    heads = (*words.heads("register"), *(words(f"registers.{side}") for side in SIDES))
    return {"heads": heads, "rows": rows}


def _score_rows(found: ScoreSummary, words: Words) -> list[Cells]:
    rows: list[Cells] = []
    for name in (*found.metrics, "mean_absolute_error", "ece"):
        models = (found.gold_only, found.with_synthetic)
        values = [model.score(name) if model else None for model in models]
        if any(value is not None for value in values):
            rows.append((words.name("metric", name, _metric(name)), *map(words.number, values)))
    return rows


def _origin(encoder: str) -> tuple[str | None, str | None]:
    """The Hub name that an encoder goes back to, and its licence, as far as they are known."""
    if encoder == "embedded":
        return _EMBEDDED_BASE, "mit"
    directory = Path(encoder).expanduser()
    if not directory.is_dir():
        return encoder, None
    declared = front_matter(directory / "README.md")
    return declared.get("base_model"), declared.get("license")


def row_card(template: str, summary: RowSummary, front: Mapping[str, Any], **more: Any) -> str:
    """A card of other rows than labelled texts: Markdown with YAML front matter."""
    named = {"language": ["ja"], "pretty_name": _one_line(summary.task), **front}
    view = {"w": Words("en"), "front": to_yaml(named), "summary": summary, **more}
    return rendered(template, view, "en")
