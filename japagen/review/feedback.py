"""What people decided flows back: into the examples, and into what is known of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.data.dataset import EDITED, Dataset, Example, Rejection
from japagen.data.labels import LabelSpace
from japagen.japanese.registers import Register
from japagen.review.decisions import GOOD, Decision, Doubt, Place, text_hash

FILTER = "review"
LEAST_DECISIONS = 20
"""Decisions before which no estimate is shown: it would sway those that are still to come."""
_DRAWS = 20_000
_RESAMPLES = 1000


def apply_decisions(
    dataset: Dataset,
    decisions: Mapping[str, Decision],
    edited_fields: Callable[[Mapping[str, Any], str, str], dict[str, Any]] | None = None,
) -> Dataset:
    """Carries decisions into a dataset; people overrule every filter.

    Accepted and relabelled examples are kept and their labels trusted entirely; the others are
    rejected by the filter "review". An edited text follows behind all rows as a child of the one
    that was read, which "edited" rejects. A decision on a text that has changed since is left out.

    ``edited_fields`` makes the fields of an edited text, of those it had, the text that was read
    and the edited one. An edited text has none where it is not given.
    """
    if not decisions:
        return dataset
    space, rows, edited = LabelSpace.of(dataset), list[Example](), list[Example]()
    for example in dataset:
        decision = decisions.get(example.id)
        if decision is None or decision.text_hash != text_hash(example.text, example.text_pair):
            rows.append(example)
            continue
        found = _decided(example, decision, space)
        if decision.edited and decision.verdict in GOOD:
            child = _edited(found, decision)
            if edited_fields and found.fields is not None:
                child = replace(child, fields=edited_fields(found.fields, found.text, child.text))
            edited.append(child)
            found = replace(example, rejected=Rejection(EDITED, 1, 0, decision.comment))
        rows.append(found)
    return Dataset.of([*rows, *edited])


def _decided(example: Example, decision: Decision, space: LabelSpace) -> Example:
    if decision.register is not None:
        example = replace(example, register_seen=Register.of(decision.register))
    if decision.verdict not in GOOD:
        return replace(example, rejected=Rejection(FILTER, 1, 0, _why(decision)))
    # What was accepted was the label shown, which may have been changed since.
    if decision.label is not None and space.name(example.label or "") != decision.label:
        example = replace(example, label=space.label(decision.label))
    return replace(example, rejected=None, weight_label=1.0)


def _why(decision: Decision) -> str:
    """Why a person does not want a text trained on."""
    fits = {"both": f"{decision.label} fits as well", "neither": "no label fits"}
    return ": ".join(filter(None, [fits.get(decision.verdict), decision.comment]))


def _edited(example: Example, decision: Decision) -> Example:
    """The text as a reviewer has written it; its register is that named, or still to be found."""
    return replace(
        example,
        id=f"{example.id}-e{decision.number}",
        text=decision.text or example.text,
        text_pair=decision.text_pair or example.text_pair,
        register_seen=example.register_seen if decision.register else None,
        parent_id=example.id,
        derived=EDITED,
        scores=None,  # those are of the text that was read
        fields=None,
    )


def human_verified(dataset: Dataset, decisions: Mapping[str, Decision]) -> set[str]:
    """The ids of the examples that a person accepted, relabelled or edited, as they are now."""
    good = {d.example_id: d for d in decisions.values() if d.verdict in GOOD}
    names = ("id", "text", "text_pair", "derived", "parent_id")
    found = set()
    for id_, text, pair, derived, parent in zip(*map(dataset.column, names), strict=True):
        decision = good.get(parent if derived == EDITED else id_)
        if decision is None or decision.edited != (derived == EDITED):
            continue
        if decision.edited or decision.text_hash == text_hash(text, pair):
            found.add(id_)
    return found


def to_gold(dataset: Dataset, decisions: Mapping[str, Decision]) -> Dataset:
    """The accepted, relabelled and edited examples as gold: human-verified texts."""
    # What an earlier run made of decisions is made again of those that count now.
    written = dataset.where(np.array([d != EDITED for d in dataset.column("derived")], dtype=bool))
    decided = apply_decisions(written, decisions)
    good = human_verified(decided, decisions)
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
        kept_but_rejected: Examples that curation kept and people did not want.
        rejected_but_good: Examples that curation rejected and people found good.
        registers_corrected: Decisions that corrected the register.
        edited: Texts that people edited.
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
    edited: int


def summarize(places: Sequence[Place], decisions: Mapping[str, Decision], seed: int = 0) -> Summary:
    """Says what the decisions tell of the whole dataset."""
    doubt = {p.example_id: p.doubt for p in places}
    known = {name: d for name, d in decisions.items() if name in doubt}
    verdicts = {
        verdict: sum(d.verdict == verdict for d in known.values())
        for verdict in ("accept", "relabel", "both", "neither", "reject")
    }
    pairs = [(doubt[n] != "rejected", d.verdict in GOOD) for n, d in known.items()]
    as_it_is = {name: replace(d, verdict="reject") if d.edited else d for name, d in known.items()}
    return Summary(
        reviewed=len(known),
        verdicts=verdicts,
        accuracy=_estimate(
            places, as_it_is, ("accept",), ("relabel", "both", "neither", "reject"), seed
        ),
        label_accuracy=_estimate(places, known, ("accept",), ("relabel", "neither"), seed),
        agreement=sum(a == b for a, b in pairs) / len(pairs) if pairs else None,
        kappa=_kappa(*np.array(pairs, dtype=bool).T) if pairs else None,
        kept_but_rejected=sum(kept and not good for kept, good in pairs),
        rejected_but_good=sum(good and not kept for kept, good in pairs),
        registers_corrected=sum(d.register is not None for d in known.values()),
        edited=sum(d.edited for d in known.values()),
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


@dataclass(frozen=True)
class Agreement:
    """How far a model and the reviewers agree on which texts pass.

    Attributes:
        texts: Texts that both have judged.
        passed: How many the model, and how many the people let pass.
        agreement: Share on which they agree.
        kappa: Cohen's kappa; None where either side always says the same.
        low: Lower end of its 95% interval, over texts drawn with replacement.
        high: Upper end.
    """

    texts: int
    passed: tuple[int, int]
    agreement: float
    kappa: float | None
    low: float | None
    high: float | None


def judge_agreement(
    dataset: Dataset,
    decisions: Mapping[str, Decision],
    bounds: Mapping[str, float],
    seed: int = 0,
) -> Agreement | None:
    """Compares a judge's scores with what people decided; None where there is nothing to compare.

    A text passes with the judge if no score is below its bound, and with people if they accepted
    it as it was: label, register and text.

    Bounds are the least scores that pass, by criterion.
    """
    pairs = []
    for id_, text, pair, scores in zip(
        *map(dataset.column, ("id", "text", "text_pair", "scores")), strict=True
    ):
        decision = decisions.get(id_)
        if scores and decision is not None and decision.text_hash == text_hash(text, pair):
            passed = all(s["score"] >= bounds.get(s["criterion"], 1) for s in scores)
            as_it_is = decision.verdict == "accept" and not decision.edited
            pairs.append((passed, as_it_is and decision.register is None))
    if not pairs:
        return None
    model, people = np.array(pairs, dtype=bool).T
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(_RESAMPLES, len(pairs)))
    kappas = [_kappa(model[rows], people[rows]) for rows in drawn]
    known = [kappa for kappa in kappas if kappa is not None]
    kappa = _kappa(model, people)
    low, high = np.quantile(known, [0.025, 0.975]).tolist() if kappa is not None else (None, None)
    passed_by = int(model.sum()), int(people.sum())
    return Agreement(len(pairs), passed_by, float((model == people).mean()), kappa, low, high)


def _kappa(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float | None:
    """Cohen's kappa (1960) of two sides that say yes or no.

    Written out, since importing a library for it would hold up a person's first answers.
    """
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    first, second = one.mean(), other.mean()
    by_chance = first * second + (1 - first) * (1 - second)
    return float(((one == other).mean() - by_chance) / (1 - by_chance))
