"""What people decided flows back: into the examples, and into what is known of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.labels import LabelSpace
from japagen.japanese.registers import Register
from japagen.review.decisions import Decision, Doubt, Place, text_hash

FILTER = "review"
_DRAWS = 20_000


def apply_decisions(dataset: Dataset, decisions: Mapping[str, Decision]) -> Dataset:
    """Carries decisions into a dataset; people overrule every filter.

    Accepted and relabelled examples are kept and their labels trusted entirely; rejected ones
    are rejected by the filter "review". A decision on a text that has changed since is left
    out.

    Args:
        dataset: Examples, rejected ones included.
        decisions: Example id to decision.
    """
    if not decisions:
        return dataset
    space = LabelSpace.of(dataset)
    return Dataset.of(_decided(e, decisions.get(e.id), space) for e in dataset)


def _decided(example: Example, decision: Decision | None, space: LabelSpace) -> Example:
    if decision is None or decision.text_hash != text_hash(example.text, example.text_pair):
        return example
    if decision.register is not None:
        example = replace(example, register_seen=Register.of(decision.register))
    if decision.verdict == "reject":
        return replace(example, rejected=Rejection(FILTER, 1, 0, decision.comment))
    # What was accepted was the label shown, which may have been changed since.
    if decision.label is not None and space.name(example.label or "") != decision.label:
        example = replace(example, label=space.label(decision.label))
    return replace(example, rejected=None, weight_label=1.0)


def human_verified(dataset: Dataset, decisions: Mapping[str, Decision]) -> set[str]:
    """The ids of the examples that a person accepted or relabelled as they are now."""
    good = {d.example_id: d for d in decisions.values() if d.verdict in ("accept", "relabel")}
    rows = zip(*(dataset.column(name) for name in ("id", "text", "text_pair")), strict=True)
    return {
        id_
        for id_, text, pair in rows
        if id_ in good and good[id_].text_hash == text_hash(text, pair)
    }


def to_gold(dataset: Dataset, decisions: Mapping[str, Decision]) -> Dataset:
    """The accepted and relabelled examples as gold: human-verified texts."""
    good = human_verified(dataset, decisions)
    decided = apply_decisions(dataset, decisions)
    return Dataset.of(
        Example(e.text, e.label, e.text_pair, id=e.id, split="train", source=FILTER)
        for e in decided
        if e.id in good
    )


@dataclass(frozen=True)
class Estimate:
    """A share of the dataset estimated from a stratified sample.

    Attributes:
        value: The estimate, 0 to 1.
        low: Lower end of its 95% interval.
        high: Upper end.
        covers: Share of the kept examples in strata of which at least one was read; the
            estimate says nothing of the others.
    """

    value: float
    low: float
    high: float
    covers: float


@dataclass(frozen=True)
class Summary:
    """What a review found.

    Attributes:
        reviewed: Number of examples decided on.
        verdicts: Verdict to count.
        accuracy: Share of the kept examples that people would accept as they are.
        label_accuracy: The same for the label alone, of kept texts that are any good.
        agreement: Share of decisions in which people and filters agree to keep or to reject,
            None without any.
        kappa: Cohen's kappa of the same; None where either side always says the same.
        kept_but_rejected: Examples that curation kept and people rejected.
        rejected_but_good: Examples that curation rejected and people found good.
        registers_corrected: Decisions that corrected the register.
    """

    reviewed: int
    verdicts: dict[str, int]
    accuracy: Estimate | None
    label_accuracy: Estimate | None
    agreement: float | None
    kappa: float | None
    kept_but_rejected: int
    rejected_but_good: int
    registers_corrected: int

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        return asdict(self)


def summarize(places: Sequence[Place], decisions: Mapping[str, Decision], seed: int = 0) -> Summary:
    """Says what the decisions tell of the whole dataset.

    Args:
        places: The order of review, which knows the size of every stratum.
        decisions: Example id to decision.
        seed: Of the intervals.
    """
    doubt = {p.example_id: p.doubt for p in places}
    known = {name: d for name, d in decisions.items() if name in doubt}
    verdicts = {
        verdict: sum(d.verdict == verdict for d in known.values())
        for verdict in ("accept", "relabel", "reject")
    }
    pairs = [(doubt[n] != "rejected", d.verdict != "reject") for n, d in known.items()]
    return Summary(
        reviewed=len(known),
        verdicts=verdicts,
        accuracy=_estimate(places, known, ("accept",), ("relabel", "reject"), seed),
        label_accuracy=_estimate(places, known, ("accept",), ("relabel",), seed),
        agreement=sum(a == b for a, b in pairs) / len(pairs) if pairs else None,
        kappa=_kappa(pairs),
        kept_but_rejected=sum(kept and not good for kept, good in pairs),
        rejected_but_good=sum(good and not kept for kept, good in pairs),
        registers_corrected=sum(d.register is not None for d in known.values()),
    )


def _estimate(
    places: Sequence[Place],
    decisions: Mapping[str, Decision],
    right: Sequence[str],
    wrong: Sequence[str],
    seed: int,
) -> Estimate | None:
    """A stratified share with its posterior interval.

    Each stratum's share has the Jeffreys posterior Beta(right + 1/2, wrong + 1/2), which gives
    sound intervals for a handful of decisions (Brown, Cai & DasGupta 2001); the sum weighted by
    the strata's sizes is drawn from them.
    """
    sizes: dict[tuple[str, Doubt], int] = defaultdict(int)
    counts: dict[tuple[str, Doubt], list[int]] = defaultdict(lambda: [0, 0])
    for place in places:
        if place.doubt == "rejected":
            continue
        sizes[place.stratum] += 1
        decision = decisions.get(place.example_id)
        if decision is not None:
            counts[place.stratum][0] += decision.verdict in right
            counts[place.stratum][1] += decision.verdict in wrong
    read = [stratum for stratum, found in counts.items() if sum(found)]
    if not read:
        return None
    share = np.array([sizes[s] for s in read], dtype=float)
    yes, no = np.array([counts[s] for s in read], dtype=float).T
    rng = np.random.default_rng(seed)
    drawn = rng.beta(yes + 0.5, no + 0.5, size=(_DRAWS, len(read))) @ (share / share.sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = float((yes / (yes + no)) @ share / share.sum())
    covers = float(share.sum() / sum(sizes.values()))
    return Estimate(value, float(min(low, value)), float(max(high, value)), covers)


def _kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa (1960) of two sides that say yes or no.

    Written out, since importing a library for it would hold up a person's first answers.
    """
    if not pairs:
        return None
    kept, good = np.array(pairs, dtype=float).T
    if len(set(kept)) < 2 or len(set(good)) < 2:
        return None
    by_chance = kept.mean() * good.mean() + (1 - kept.mean()) * (1 - good.mean())
    return float(((kept == good).mean() - by_chance) / (1 - by_chance))
