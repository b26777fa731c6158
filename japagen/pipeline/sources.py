"""Sources of synthetic text: read as one dataset, reported side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from japagen.config.sections import SourceEntry
from japagen.curation.register_control import Rewriter, Rewritten
from japagen.data.dataset import Dataset, Example
from japagen.mixing.mix import Mix

if TYPE_CHECKING:
    from japagen.pipeline.summary import Parts


def join_sources(written: Mapping[str, Dataset]) -> Dataset:
    """Puts the texts of all sources one behind the other, each with the name of its source.

    An id that a source before has taken gets the name before it, so that ids stay unique and
    those of earlier sources stay what they are when a source is added at the end.

    Args:
        written: Source to its texts, in the task's order.
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

    Args:
        source: Whose texts the model may rewrite.
        rewriter: Asks the model.
    """

    def rewrite(wanted: Sequence[tuple[Example, str]]) -> list[Rewritten]:
        own = [(example, register) for example, register in wanted if example.source == source]
        made = iter(rewriter(own))
        refused = Rewritten(refused="the model rewrites its own texts alone")
        return [next(made) if e.source == source else refused for e, _ in wanted]

    return rewrite


@dataclass(frozen=True)
class SourceValue:
    """What a source's texts are worth to the classifier.

    Attributes:
        used: Whether any of them were trained on.
        share: Share of the loss mass that they carried in training, 0 to 1.
        texts_worth: Gold texts per label that they are worth; None where that was not measured.
        low: Lower end of its 95% interval; None likewise.
        high: Upper end; None likewise, or beyond what could be measured.
        reason: Code of the reason, which `value.CODE` or `mix.CODE` of the report's strings says.
    """

    used: bool
    share: float
    texts_worth: float | None
    low: float | None
    high: float | None
    reason: str


@dataclass(frozen=True)
class SourceReport:
    """What a source wrote, and what became of it.

    Attributes:
        name: Its name in the task.
        kind: ``file`` or ``generator``.
        origin: Name of the file or of the model.
        texts: Texts that it wrote, those derived from them and failed requests apart.
        kept: Texts that passed every check, those derived from its texts among them.
        rejected: Filter to the number of texts that it rejected, most first.
        relabelled: Kept texts whose label is another than the one asked for.
        distinct_2: Share of different word bigrams among all, with its 95% interval (``value``,
            ``low``, ``high``), measured on equally many words of each source of 16 texts or
            more; None for smaller ones.
        label_trust: Mean confidence in the labels of the kept texts; None where none were checked.
        distance: AUC of telling the kept texts from gold, 0.5 where they cannot be told apart;
            None without gold or with fewer than five texts.
        yen: What the texts have cost; None where that is not known.
        tokens: Tokens read and written for them, rewriting and the label check included; None for
            files.
        seconds: Time that writing them took; None for files.
        value: What they are worth.
    """

    name: str
    kind: Literal["file", "generator"]
    origin: str
    texts: int
    kept: int
    rejected: dict[str, int]
    relabelled: int
    distinct_2: dict[str, float] | None
    label_trust: float | None
    distance: float | None
    yen: float | None
    tokens: int | None
    seconds: float | None
    value: SourceValue

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        return asdict(self)


def report_sources(dataset: Dataset, parts: Parts) -> list[SourceReport]:
    """Says what came of each source, in the task's order.

    Args:
        dataset: The synthetic examples as the last stage left them, rejected ones included.
        parts: What the stages handed over.
    """
    trust = np.array(dataset.column("weight_label"), dtype=np.float64)
    checked = bool((trust[dataset.kept_mask] != 1.0).any())
    sources = np.array(dataset.column("source"), dtype=object)
    return [
        _report(
            entry,
            dataset.where(np.asarray(sources == entry.name, dtype=bool)),
            parts,
            checked=checked,
        )
        for entry in parts.task.sources
    ]


def _report(entry: SourceEntry, rows: Dataset, parts: Parts, *, checked: bool) -> SourceReport:
    kept, found = rows.kept, Counter(r["filter"] for r in rows.column("rejected") if r)
    failed = found.pop("failed", 0)
    asked = zip(kept.labels, kept.column("label_asked"), strict=True)
    trusted = kept.column("weight_label")
    cost = (parts.cost or {}) if entry.generator else {}
    generator = parts.generator.name if parts.generator else ""
    return SourceReport(
        name=entry.name,
        kind="generator" if entry.generator else "file",
        origin=entry.path.name if entry.path else generator,
        texts=sum(how is None for how in rows.column("derived")) - failed,
        kept=len(kept),
        rejected=dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))),
        relabelled=sum(before is not None and label != before for label, before in asked),
        distinct_2=_distinct_2(entry.name, parts),
        label_trust=float(np.mean(trusted)) if checked and trusted else None,
        distance=_distance(entry.name, parts),
        yen=cost.get("yen") if entry.yen is None else entry.yen,
        tokens=int(cost["prompt_tokens"] + cost["completion_tokens"]) if cost else None,
        seconds=parts.seconds.get("generate") if entry.generator else None,
        value=parts.values.get(entry.name)
        or SourceValue(False, 0.0, None, None, None, "not_measured" if kept else "nothing_kept"),
    )


def value_of(name: str, mix: Mix, worth: Mapping[str, Any] | None) -> SourceValue:
    """What a source's texts give to the classifier.

    Args:
        name: Of the source.
        mix: How much each source weighs.
        worth: What `Weighting.worth` found.
    """
    source, share = mix.sources[name], mix.source_share(name)
    if not source.texts:
        return SourceValue(False, 0.0, 0.0, 0.0, 0.0, "nothing_kept")
    found = ((worth or {}).get("curves") or {}).get("sources", {}).get(name)
    bounds = (found["texts"], found["low"], found["high"]) if found else (None, None, None)
    texts_worth, low, high = bounds
    return SourceValue(share > 0, share, texts_worth, low, high, source.reason)


def _distinct_2(name: str, parts: Parts) -> dict[str, float] | None:
    found = parts.diversity or {}
    if len(parts.task.sources) == 1:
        group = found["against_gold"]["groups"]["synthetic"] if found else {}
    else:
        group = ((found.get("sources") or {}).get("groups") or {}).get(name) or {}
    measured: dict[str, float] | None = (group.get("measures") or {}).get("distinct_2")
    return measured


def _distance(name: str, parts: Parts) -> float | None:
    if len(parts.task.sources) > 1:
        return parts.distances.get(name)
    # Measured on the only source there is by alignment already.
    diagnostics = (parts.alignment or {}).get("diagnostics") or {}
    before: float | None = (diagnostics.get("two_sample_auc") or {}).get("before")
    return before
