"""Sources of synthetic text: read as one dataset, reported side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.config.sources import SourceEntry
from japagen.curation.register_control import Rewriter, Rewritten
from japagen.data.dataset import Dataset, Example
from japagen.data.scores import Interval
from japagen.data.summary import RunSummary, SourceReport, SourceValue
from japagen.mixing.mix import Mix

if TYPE_CHECKING:
    from japagen.pipeline.summary import Parts


def join_sources(written: Mapping[str, Dataset]) -> Dataset:
    """Puts the texts of all sources one behind the other, each with the name of its source.

    An id that a source before has taken gets the name before it, so that ids stay unique and
    those of earlier sources stay what they are when a source is added at the end.
    """
    taken: set[str] = set()
    parts = []
    for name, dataset in written.items():
        ids = dataset.column("id")
        own, renamed = set(ids), {}
        for id_ in ids:
            if id_ in taken:
                other = f"{name}-{id_}"
                while other in taken or other in own:
                    other = f"{name}-{other}"
                own.add(other)
                renamed[id_] = other
        # A file may be the export of another run, where texts were derived from each other.
        columns: dict[str, list[str | None]] = {
            "source": [name] * len(ids),
            "derived": [None] * len(ids),
        }
        if renamed:
            columns["id"] = [renamed.get(id_, id_) for id_ in ids]
            columns["parent_id"] = [renamed.get(p, p) for p in dataset.column("parent_id")]
        joined = dataset.with_columns(**columns)
        taken.update(joined.column("id"))
        parts.append(joined)
    return Dataset.concat(parts)


def only_of(source: str | None, rewriter: Rewriter) -> Rewriter:
    """Has a model rewrite the texts of one source alone.

    What another LLM wrote would else count for it, and carry this model's manner.
    """

    def rewrite(wanted: Sequence[tuple[Example, str]]) -> list[Rewritten]:
        own = [(example, register) for example, register in wanted if example.source == source]
        made = iter(rewriter(own))
        refused = Rewritten(refused="the model rewrites its own texts alone")
        return [next(made) if e.source == source else refused for e, _ in wanted]

    return rewrite


def report_sources(dataset: Dataset, parts: Parts, summary: RunSummary) -> list[SourceReport]:
    """Says what came of each source, in the task's order."""
    trust = np.array(dataset.column("weight_label"), dtype=np.float64)
    checked = bool((trust[dataset.kept_mask] != 1.0).any())
    sources = np.array(dataset.column("source"), dtype=object)
    return [
        _report(
            entry,
            dataset.where(np.asarray(sources == entry.name, dtype=bool)),
            parts,
            summary,
            checked=checked,
        )
        for entry in parts.task.sources
    ]


def _report(
    entry: SourceEntry, rows: Dataset, parts: Parts, summary: RunSummary, *, checked: bool
) -> SourceReport:
    kept, found = rows.kept, Counter(r["filter"] for r in rows.column("rejected") if r)
    failed = found.pop("failed", 0)
    asked = zip(kept.labels, kept.column("label_asked"), strict=True)
    trusted = kept.column("weight_label")
    cost = (parts.cost or {}) if entry.generator else {}
    generator = parts.generator.name if parts.generator else ""
    alone = len(parts.task.sources) == 1
    distance = parts.distances.get(entry.name)
    if alone and summary.alignment:
        # Measured on the only source there is by alignment already.
        before = summary.alignment.diagnostics.two_sample_auc.before
        distance = before if isinstance(before, float) else None
    return SourceReport(
        name=entry.name,
        kind="generator" if entry.generator else "file",
        origin=entry.path.name if entry.path else generator,
        texts=sum(how is None for how in rows.column("derived")) - failed,
        kept=len(kept),
        rejected=dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))),
        relabelled=sum(before is not None and label != before for label, before in asked),
        distinct_2=_distinct_2(entry.name, summary, alone=alone),
        label_trust=float(np.mean(trusted)) if checked and trusted else None,
        distance=distance,
        yen=cost.get("yen") if entry.yen is None else entry.yen,
        tokens=int(cost["prompt_tokens"] + cost["completion_tokens"]) if cost else None,
        seconds=parts.seconds.get("generate") if entry.generator else None,
        value=parts.values.get(entry.name)
        or SourceValue(reason="not_measured" if kept else "nothing_kept"),
    )


def value_of(name: str, mix: Mix, worth: Mapping[str, Any] | None) -> SourceValue:
    """What a source's texts give to the classifier."""
    source, share = mix.sources[name], mix.source_share(name)
    if not source.texts:
        return SourceValue(texts_worth=0.0, low=0.0, high=0.0, reason="nothing_kept")
    found = worth["curves"]["sources"].get(name) if worth else None
    return SourceValue(
        used=share > 0,
        share=share,
        texts_worth=found and found["texts"],
        low=found and found["low"],
        high=found and found["high"],
        reason=source.reason,
    )


def _distinct_2(name: str, summary: RunSummary, *, alone: bool) -> Interval | None:
    found = summary.diversity
    if found is None:
        return None
    compared, name = (found.against_gold, "synthetic") if alone else (found.sources, name)
    group = compared.groups.get(name) if compared else None
    return group.measures.get("distinct_2") if group else None
