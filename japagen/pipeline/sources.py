"""Texts of several sources as one dataset, and what a model may change of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from japagen.curation.register_quota import Rewriter, Rewritten
from japagen.examples import Dataset, Example


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
