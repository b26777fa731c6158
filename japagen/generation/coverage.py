"""How far texts cover what the task wants of them, and what they lack relative to gold.

For each label, the share of gold texts that show a trait (a word, a sentence ending, a band of
length) is compared with the share of synthetic texts that do. Gold is small, so a trait counts as
missing only where Fisher's exact test, one-sided, says that texts of one population would differ
by as much with a probability of no more than α; a word of one gold text in sixteen never does.
A trait that is not significant in any single label may still be significant over all labels,
against gold and unlabelled texts together; it is then missing from the labels whose gold shows it.
The target is one standard error below gold's share, since selecting the largest gaps overestimates
them (regression to the mean).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse

from japagen.alignment.counting import measure
from japagen.alignment.diagnostics import jensen_shannon
from japagen.config.generation import Kind, Knowledge
from japagen.config.task import Task
from japagen.data.dataset import Dataset
from japagen.data.labels import Floats
from japagen.data.summary import Covered, LabelCoverage
from japagen.generation.topics import as_item
from japagen.japanese.morphology import Tagger
from japagen.japanese.traits import LengthBands, Terms, Traits, traits_of
from japagen.llm.backend import Request

# With 16 gold texts per label over four labels, 24 other real texts per label were said to lack
# 1.4 traits in all (mean of eight draws) and 18 of a 270M model 6.9. A false one costs a request
# that names a word of gold.
ALPHA = 0.02
_LEAST_GOLD = 2
_KINDS: tuple[Kind, ...] = ("word", "ending", "length_band")
Trait: TypeAlias = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Missing:
    """A trait that is too rare in the synthetic texts of one label.

    Attributes:
        kind: ``word``, ``ending`` or ``length_band``.
        item: The trait as people write it.
        target: Share of the target's texts that show it, one standard error below what was found.
        synthetic: Share of the synthetic texts of the label that show it.
        chance: p-value of the difference.
        gold_ids: The gold texts of the label that show it.
    """

    kind: Kind
    item: str
    target: float
    synthetic: float
    chance: float
    gold_ids: tuple[str, ...]


# How many texts there are, and how many of them show each trait.
_Shown: TypeAlias = tuple[int, Counter[Trait]]


def shortfall(
    synthetic: Dataset,
    gold: Dataset,
    unlabelled: Dataset | None,
    labels: Iterable[str],
    tagger: Tagger,
) -> dict[str, list[Missing]]:
    """Finds the traits that are too rare in each label's synthetic texts.

    Args:
        synthetic: The texts so far; rejected ones are left out.
        gold: Labelled texts to learn from.
        unlabelled: More texts of the target population, or None.
        labels: The labels to compare.
        tagger: The morphological analyser.

    Returns:
        Label to what is missing, the largest gaps first.
    """
    kept = synthetic.kept
    read = {
        "gold": [traits_of(text, tagger) for text in gold.texts],
        "synthetic": [traits_of(text, tagger) for text in kept.texts],
        "unlabelled": [traits_of(text, tagger) for text in unlabelled.texts] if unlabelled else [],
    }
    if not read["gold"] or not read["synthetic"]:
        return {label: [] for label in labels}
    bands = LengthBands([t.length for t in read["gold"]])
    traits = {side: [_traits(t, bands) for t in rows] for side, rows in read.items()}
    common = _count([*traits["gold"], *traits["unlabelled"]]), _count(traits["synthetic"])
    shown = list(zip(gold.column("id"), traits["gold"], gold.labels, strict=True))
    so_far = list(zip(traits["synthetic"], kept.labels, strict=True))
    by_label = {
        label: (
            [(i, t) for i, t, name in shown if name == label],
            [t for t, name in so_far if name == label],
        )
        for label in labels
    }
    everywhere = _lacking(*common)
    _, gold_counts = _count(traits["gold"])
    found = {}
    for label, (wanted, made) in by_label.items():
        target = _count([t for _, t in wanted])
        own = _lacking(target, _count(made))
        spread = {
            trait: _spread(gap, target[1][trait] / gold_counts[trait], len(by_label))
            for trait, gap in everywhere.items()
            if trait not in own and target[1][trait] >= _LEAST_GOLD
        }
        missing = [
            Missing(*trait, *gap, tuple(i for i, shown in wanted if trait in shown))
            for trait, gap in {**own, **spread}.items()
        ]
        found[label] = _without_parts(sorted(missing, key=_order))
    return found


def _traits(read: Traits, bands: LengthBands) -> frozenset[Trait]:
    named: dict[Kind, Sequence[str]] = {
        "word": read.words,
        "ending": read.endings,
        "length_band": [bands.name(read.length)],
    }
    return frozenset((kind, item) for kind in _KINDS for item in named[kind])


def _count(texts: Sequence[frozenset[Trait]]) -> _Shown:
    return len(texts), Counter(trait for text in texts for trait in text)


def _lacking(target: _Shown, made: _Shown) -> dict[Trait, tuple[float, float, float]]:
    """Maps each trait to its target share, its share so far and its p-value."""
    from scipy.stats import hypergeom

    (wanted, shown), (written, synthetic_shown) = target, made
    candidates = [
        trait
        for trait, count in sorted(shown.items())
        if count >= _LEAST_GOLD and written and count / wanted > synthetic_shown[trait] / written
    ]
    if not candidates:
        return {}
    counts, so_far = (
        np.array([side[trait] for trait in candidates]) for side in (shown, synthetic_shown)
    )
    chances = hypergeom.sf(counts - 1, wanted + written, counts + so_far, wanted)
    shares, synthetic = counts / wanted, so_far / written
    asked = shares - np.sqrt(shares * (1 - shares) / wanted)
    return {
        trait: (float(asked[i]), float(synthetic[i]), float(chances[i]))
        for i, trait in enumerate(candidates)
        if chances[i] <= ALPHA and asked[i] > synthetic[i]
    }


def _spread(
    gap: tuple[float, float, float], part: float, labels: int
) -> tuple[float, float, float]:
    """One label's part of a gap over all labels, which have about as many texts each."""
    asked, synthetic, chance = gap
    return min(1.0, synthetic + (asked - synthetic) * part * labels), synthetic, chance


def _order(missing: Missing) -> tuple[float, str, str]:
    return (missing.synthetic - missing.target, missing.kind, missing.item)


def _without_parts(missing: Sequence[Missing]) -> list[Missing]:
    """Leaves out words that are part of another missing word of the same gold texts."""
    words = [m for m in missing if m.kind == "word"]

    def is_part(one: Missing) -> bool:
        return any(
            one.item != other.item and one.item in other.item and one.gold_ids == other.gold_ids
            for other in words
        )

    return [m for m in missing if m.kind != "word" or not is_part(m)]


# How far the texts of each round are from the target, measured on equal numbers of texts.
#
# A divergence between counted words falls with the number of texts alone. So every distance is the
# mean over draws of as many texts without replacement, half the number of the smaller set.

_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Distance:
    """A Jensen-Shannon divergence in bits (0 to 1) at a given number of texts.

    Attributes:
        value: Mean over draws of ``texts`` texts.
        error: Its standard error over which texts the model happened to write.
        texts: Texts in each draw.
    """

    value: float
    error: float
    texts: int


def round_distances(
    rounds: Sequence[Dataset], targets: Sequence[Dataset], tagger: Tagger, seed: int
) -> list[dict[str, Distance]]:
    """Measures the texts after each round against gold and unlabelled texts together.

    The standard error comes from the variance of the draws: k of n texts without replacement vary
    by (n − k)/k of the variance that n texts have as a sample.

    Args:
        rounds: The kept texts after each round, earlier rounds included.
        targets: Gold, and unlabelled texts if there are any.
        tagger: The morphological analyser.
        seed: Of the draws.

    Returns:
        A round's distance of ``words`` and of ``pos`` bigrams; empty where there are too few texts.
    """
    size = min(len(r) for r in rounds) // 2
    if size < 2 or not sum(map(len, targets)):
        return [{} for _ in rounds]
    measured, _ = measure([*rounds, *targets], tagger)
    found: list[dict[str, Distance]] = []
    for texts in measured[: len(rounds)]:
        row = {}
        for name in ("words", "pos"):
            goal = np.sum([getattr(m, name).sum(axis=0) for m in measured[len(rounds) :]], axis=0)
            row[name] = _distance(getattr(texts, name), goal, size, seed)
        found.append(row)
    return found


def _distance(
    counts: sparse.csr_array,
    goal: Floats,
    size: int,
    seed: int,
) -> Distance:
    rng = np.random.default_rng(seed)
    n = counts.shape[0]
    draws = []
    for _ in range(_DRAWS):
        chosen = np.zeros(n)
        chosen[rng.permutation(n)[:size]] = 1.0
        draws.append(jensen_shannon(counts.T @ chosen, goal))
    error = float(np.std(draws, ddof=1)) * (size / (n - size)) ** 0.5
    return Distance(float(np.mean(draws)), error, size)


def has_fallen(before: Distance, after: Distance) -> bool:
    """Whether a distance fell by more than the standard error of the difference.

    The texts after a round include those before it, so the two means are correlated: their
    covariance is the variance of the larger set's mean, and the variance of the difference is what
    the smaller set's exceeds it by.
    """
    margin = max(0.0, before.error**2 - after.error**2) ** 0.5
    return bool(before.value - after.value > margin)


Knowledges: TypeAlias = Mapping[str, tuple[Knowledge, ...]]


def named_in(requests: Sequence[Request]) -> dict[str, tuple[Knowledge, ...]]:
    """Id of each text that was asked for to what it was to name."""
    return {
        text: tuple(map(Knowledge.parse, named))
        for r in requests
        for text, named in zip(r.text_ids(), r.each or [r.knowledge], strict=True)
    }


def passages_in(requests: Sequence[Request]) -> list[str]:
    """The passages that any request named, each once."""
    named = (known for knowns in named_in(requests).values() for known in knowns)
    return sorted({known.item for known in named if known.kind == "passage"})


def wants_coverage(task: Task) -> bool:
    """Whether a task says what its texts are to cover."""
    generation = task.generation
    return any(
        task.wanted_shares(label) or generation.grid(label) or generation.topics(label)
        for label in task.labels
    )


def measure_coverage(
    task: Task, dataset: Dataset, named: Knowledges, tagger: Tagger
) -> dict[str, LabelCoverage]:
    """Looks for what the task wants in the kept texts of each label.

    Args:
        task: The task.
        dataset: Synthetic texts; a rewritten one counts for the request of its original.
        named: Id of a text that was asked for to what it was to name; empty for texts from a file.
        tagger: The morphological analyser.
    """
    rows: dict[str, list[tuple[str, tuple[Knowledge, ...]]]] = {name: [] for name in task.labels}
    asked: dict[str, Counter[Knowledge]] = {label: Counter() for label in task.labels}
    written = Counter[str]()
    columns = ("label", "label_asked", "text", "id", "parent_id", "rejected")
    for label, wanted, text, own_id, parent, rejected in zip(
        *map(dataset.column, columns), strict=True
    ):
        if not parent:
            own = label if wanted is None else wanted
            written[own] += 1
            asked[own].update(named.get(own_id, ()))
        if not rejected:
            rows[label].append((text, named.get(_origin(parent or own_id), ())))
    found = {}
    for label, kept in rows.items():
        shares = task.wanted_shares(label)
        concepts = Terms([k.item for k in shares if k.kind == "concept"], tagger)
        seen = [(concepts.found(text), names) for text, names in kept]
        shares |= _wanted_values(task, label, asked[label], written[label])
        covered = [_covered(known, share, seen, asked[label]) for known, share in shares.items()]
        found[label] = LabelCoverage(kept=len(kept), covered=covered)
    return found


def _origin(text: str) -> str:
    """The id of the text that a request asked for, from that of one that was made of it."""
    return "-".join(text.split("-")[:2])


def _wanted_values(
    task: Task, label: str, asked: Counter[Knowledge], written: int
) -> dict[Knowledge, float]:
    """Attributes' values and topics that requests named, with the share that each should have."""
    wanted: dict[Knowledge, float] = {}
    groups = [
        [Knowledge("attribute", as_item([(name, value)])) for value in values]
        for name, values in task.generation.grid(label).items()
    ]
    groups.append([Knowledge("knowledge", topic) for topic in task.generation.topics(label)])
    for known in groups:
        total = sum(asked[each] for each in known)
        if total:
            wanted |= dict.fromkeys(known, total / len(known) / written)
    return wanted


def _covered(
    known: Knowledge,
    wanted: float,
    found: Sequence[tuple[frozenset[str], tuple[Knowledge, ...]]],
    asked: Counter[Knowledge],
) -> Covered:
    answered = [seen for seen, names in found if known in names]
    if known.kind == "concept":
        met = sum(known.item in seen for seen in answered)
        number = sum(known.item in seen for seen, _ in found)
    else:
        met, number = None, len(answered)
    share = number / len(found) if found else 0.0
    return Covered(known.kind, known.item, wanted, asked[known], len(answered), met, number, share)


def due(coverage: LabelCoverage, size: int) -> dict[Knowledge, float]:
    """Requests of the next round that each wanted thing is still due, by a label's coverage.

    A concept that is found as often as wanted, whoever asked for it, is due nothing. Of an
    attribute, the values that are too rare are due what brings them up to the most frequent one.

    Args:
        coverage: What the label's texts so far cover.
        size: Requests of the next round.
    """
    total = coverage.kept + size
    # Attributes and topics are named by what is left over, evenly by themselves.
    wants = {
        Knowledge.parse(f"{c.kind}:{c.item}"): max(0.0, c.wanted * total - c.found)
        for c in coverage.covered
        if c.kind not in ("attribute", "knowledge")
    }
    return {known: number for known, number in wants.items() if number > 0}
