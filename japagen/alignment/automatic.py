"""Chooses a weighting method by how its weights fare on target texts that they did not see.

Gold is dealt to four folds label by label, and unlabelled texts to two halves. Each candidate
weights the synthetic rows with a fold of gold and a half of the unlabelled texts left out, and is
scored on what was left out: the mean of three Jensen-Shannon divergences, each over the divergence
that label shares alone leave there,

    words, of weighted synthetic text from the left-out target as a whole
    POS bigrams, likewise
    words within each label, of its weighted synthetic texts from the left-out gold of that label,
        averaged over labels

so that 1 is what bringing labels to their shares does, and less is better. All candidates meet the
same label shares, so these do not tell them apart. Weights that are matched by few texts pay for
it, as the words of few texts are far from any distribution.

Candidates share folds, so what counts is the paired difference: the default, entropy balancing,
is kept unless another is better by more than one standard error over the folds (the rule of
Breiman et al. 1984). Test data are no part of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from japagen.alignment.comparison import Material
from japagen.alignment.counting import Floats, Ints, Mask
from japagen.alignment.distances import jensen_shannon
from japagen.alignment.floors import effective_share
from japagen.alignment.methods import weigh
from japagen.alignment.problem import build_target
from japagen.alignment.sentences import Sentence, as_dict
from japagen.alignment.texts import AlignedTexts

DEFAULT = "entropy"
CANDIDATES = (
    DEFAULT,
    "dsir",
    "kernel_mean",
    "density_ratio",
    "sliced_transport",
    "gradient_matching",
    "labels",
)
_BASELINE = "labels"
_FOLDS = 4
# Enough to rank methods by; the one chosen weights all rows.
_MAX_ROWS = 5_000


@dataclass(frozen=True)
class Score:
    """How a candidate fared on left-out target texts.

    Attributes:
        method: Its name.
        score: Mean over folds; 1 is as good as label shares alone, lower is better.
        error: Standard error over folds of its difference from the default.
        effective_share: Mean effective sample size, as a share of the rows.
    """

    method: str
    score: float
    error: float
    effective_share: float


@dataclass(frozen=True)
class Choice:
    """The method that was chosen.

    Attributes:
        method: Its name.
        why: The grounds, in a sentence.
        scores: Every candidate's score, best first; empty where none could be scored.
    """

    method: str
    why: str
    scores: tuple[Score, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        return {
            "method": self.method,
            "why": str(self.why),
            "reason": as_dict(self.why),
            "scores": [
                {
                    "method": s.method,
                    "score": round(s.score, 4),
                    "error": round(s.error, 4),
                    "effective_share": round(s.effective_share, 3),
                }
                for s in self.scores
            ],
        }


def choose(material: Material, texts: AlignedTexts | None, floor: float) -> Choice:
    """Chooses the method to weight ``material`` with.

    Args:
        material: What to weight against what.
        texts: Its counts, by which candidates are scored; None without target texts.
        floor: Least effective sample size within each label, as a share of its rows.
    """
    if texts is None:
        return _kept("no_targets")
    with_vectors = material.vectors is not None and material.strata.kind == "class"
    names = [c for c in CANDIDATES if c != "gradient_matching" or with_vectors]
    rng = np.random.default_rng(material.seed)
    rows = np.sort(rng.permutation(len(material.base))[:_MAX_ROWS])
    # A label all of whose rows fell out of the draw would have a share and no rows.
    if len(np.unique(material.strata.synthetic[rows])) < len(np.unique(material.strata.synthetic)):
        rows = np.arange(len(material.base))
    sampled = material.with_source(rows)
    found, sizes = [], []
    for gold, unlabelled in _left_out(material, rng):
        judge = _Judge.of(material, texts, rows, gold, unlabelled)
        if judge is None:
            continue
        kept = sampled.with_targets(np.flatnonzero(~gold), np.flatnonzero(~unlabelled))
        weights = {name: kept.normalized(weigh(kept, name, floor).scores) for name in names}
        least = judge.distances(weights[_BASELINE])
        found.append([float(np.mean(judge.distances(weights[n]) / least)) for n in names])
        sizes.append([effective_share(weights[n]) for n in names])
    if len(found) < 2:
        return _kept("few_targets")
    return _decided(names, np.array(found), np.array(sizes).mean(axis=0))


def _kept(code: str) -> Choice:
    return Choice(DEFAULT, Sentence.of(code), ())


def _decided(names: Sequence[str], found: Floats, sizes: Floats) -> Choice:
    """The choice, by scores of shape (folds, candidates)."""
    mean = found.mean(axis=0)
    difference = found - found[:, [names.index(DEFAULT)]]
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(found))
    order = sorted(range(len(names)), key=lambda i: (float(mean[i]), i))
    scores = tuple(Score(names[i], float(mean[i]), float(error[i]), float(sizes[i])) for i in order)
    best, default = order[0], names.index(DEFAULT)
    folds, score = len(found), float(mean[best])
    if best == default:
        return Choice(DEFAULT, Sentence.of("default_best", folds=folds, score=score), scores)
    ahead, by_chance = float(mean[default] - mean[best]), float(error[best])
    said = {"method": names[best], "folds": folds, "ahead": ahead, "error": by_chance}
    if ahead > by_chance:
        return Choice(names[best], Sentence.of("other_best", score=score, **said), scores)
    return Choice(DEFAULT, Sentence.of("other_by_chance", **said), scores)


def _left_out(material: Material, rng: np.random.Generator) -> list[tuple[Mask, Mask]]:
    """For each fold, which gold and which unlabelled texts are left out."""
    labels = material.strata.gold
    fold = np.empty(len(labels), dtype=np.int64)
    for k in np.unique(labels):
        mine = np.flatnonzero(labels == k)
        fold[mine] = (rng.permutation(len(mine)) + rng.integers(_FOLDS)) % _FOLDS
    half = rng.permutation(material.features[2].shape[0]) % 2
    return [(fold == f, half == f % 2) for f in range(_FOLDS)]


@dataclass(frozen=True)
class _Judge:
    """Left-out target texts, and the counts of the synthetic rows to compare with them.

    Attributes:
        whole: Synthetic counts (n, columns) and left-out target counts (columns,), for words
            and for POS bigrams; empty where what was left out cannot stand for the target.
        within: The rows of a label, and the left-out gold's word counts.
        words: Sparse (n, words): synthetic words.
    """

    whole: list[tuple[sparse.csr_array, Floats]]
    within: list[tuple[Ints, Floats]]
    words: sparse.csr_array

    @classmethod
    def of(
        cls,
        material: Material,
        texts: AlignedTexts,
        rows: Ints,
        gold: Mask,
        unlabelled: Mask,
    ) -> _Judge | None:
        out = material.with_targets(np.flatnonzero(gold), np.flatnonzero(unlabelled))
        goal = build_target(out.features[1], out.features[2], out.strata, out.shares).weights
        source, wanted, more = texts.measured
        whole = []
        if goal.sum() > 0:
            for mine, theirs, others in (
                (source.words, wanted.words, more.words),
                (source.pos, wanted.pos, more.pos),
            ):
                left = sparse.vstack([theirs[gold], others[unlabelled]], format="csr")
                whole.append((mine[rows], left.T @ goal))
        labels = material.strata.synthetic[rows]
        within = [
            (np.flatnonzero(labels == k), wanted.words[gold & (material.strata.gold == k)].sum(0))
            for k in range(len(material.shares))
            if material.shares[k] > 0
        ]
        within = [(mine, theirs) for mine, theirs in within if len(mine) and theirs.sum() > 0]
        return cls(whole, within, source.words[rows]) if whole or within else None

    def distances(self, weights: Floats) -> Floats:
        """Up to three distances, none of them 0; their number is the same for all weights."""
        found = [jensen_shannon(mine.T @ weights, theirs) for mine, theirs in self.whole]
        if self.within:
            each = [
                jensen_shannon(self.words[mine].T @ weights[mine], theirs)
                for mine, theirs in self.within
            ]
            found.append(float(np.mean(each)))
        return np.maximum(found, 1e-9)
