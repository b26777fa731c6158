"""The ways to come by texts that benchmarks/gradient_matching.py compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gradient_checkpoints import tuned_choice
from gradient_data import GOLD, draw
from gradient_models import Models
from label_fidelity import TASKS

from japagen.alignment.alignment import align_datasets
from japagen.curation.label_check import encoder_vote, label_indices
from japagen.examples import Dataset
from japagen.gradients.editing import edit
from japagen.gradients.filtering import keep_best
from japagen.gradients.matching import Matcher, losses_of
from japagen.gradients.privacy import private_target
from japagen.gradients.selection import Method, choose
from japagen.gradients.synthesis import Admm, Lexicon, synthesise
from japagen.gradients.target import Floats, GradientTarget, Ints, gradient_target
from japagen.gradients.words import WholeWords
from japagen.japanese.morphology import default_tagger

CHOSEN = ("random", "confident", "weights", "pursuit", "selected")
FILTERED = ("filtered-random", "filtered", "edited")
"""`keep_best` of a random and of the greedy choice, and of edits of the latter."""
ADMM = {
    "admm": ("random", Admm()),
    "admm-chosen": ("selected", Admm()),
    "admm-free": ("random", Admm(perplexity=float("inf"))),
    "admm-noise": ("random", Admm(perplexity=float("inf"), start="noise")),
}
"""Arms of ADMM: the arm whose texts they start from (of noise only their lengths) and how."""
PRIVATE = {"private-8": 8.0, "private-1": 1.0}
"""Arms of a private choice, and their epsilon."""
TUNED = "selected-tuned"
"""The arm that takes gradients at checkpoints of real fine-tuning: minutes a draw."""
_DELTA = 1e-5
_SPARE = 1.2


@dataclass(frozen=True)
class Made:
    """The texts of one arm.

    Attributes:
        texts: The texts.
        labels: Their label indices, shape (n,).
        weights: What each weighs in training, shape (n,).
    """

    texts: list[str]
    labels: Ints
    weights: Floats

    def take(self, rows: Ints) -> Made:
        """Returns some of the texts."""
        return Made([self.texts[row] for row in rows], self.labels[rows], self.weights[rows])


class Draw:
    """One draw of gold of one task, and every way to come by texts."""

    def __init__(
        self, name: str, data: Path, pool: Dataset, seed: int, models: Models, gold: int = GOLD
    ) -> None:
        self.name, self.pool, self.seed, self.models = name, pool, seed, models
        self.labels = list(TASKS[name]["labels"])
        self.texts = draw(name, data, pool, seed, gold)
        self.asked = label_indices(pool, self.labels)
        self.gold = models.vectors(self.texts.gold.texts)
        self.true = label_indices(self.texts.gold, self.labels)
        self.vectors = models.vectors(pool.texts)
        names = len(self.labels)
        self.target = gradient_target(self.gold, self.true, self.vectors, names, seed=seed)

    def make(self, arm: str, size: int) -> Made:
        """Comes by texts, ``size`` a label; arms that filter may leave fewer."""
        if arm in CHOSEN:
            return self._chosen(arm, size)
        if arm == TUNED:
            rows = tuned_choice(
                *(self.models.encoder, self.texts.gold, self.true, self.pool.texts, self.asked),
                *(self.labels, size, self.seed),
            )
            return self._rows(rows, np.ones(len(rows)))
        if arm in PRIVATE:
            return self._greedy(self._private(PRIVATE[arm]), size)
        spare = int(size * _SPARE)
        if arm.startswith("filtered"):
            before = self._chosen("random" if arm.endswith("random") else "selected", spare)
        else:
            before = self._written(arm, spare)
        return self._keep_best(before, size)

    def _chosen(self, arm: str, size: int) -> Made:
        if arm == "selected":
            return self._greedy(self.target, size)
        if arm == "pursuit":
            return self._greedy(self.target, size, "matching_pursuit")
        if arm == "random":
            rng = np.random.default_rng([2, self.seed])
            return self._each(size, lambda mine, _: rng.permutation(mine))
        if arm == "confident":
            sure = encoder_vote(self.gold, self.true, self.vectors, self.seed).texts
            return self._each(size, lambda mine, k: mine[np.argsort(-sure[mine, k])])
        found = align_datasets(
            self.pool,
            self.texts.gold,
            method="gradient_matching",
            label_prior="uniform",
            vectors=(self.gold, self.vectors),
            seed=self.seed,
        ).weights
        return self._each(size, lambda mine, _: mine[np.argsort(-found[mine])])

    def _each(self, size: int, order: Callable[[Ints, int], Ints]) -> Made:
        rows = [np.flatnonzero(self.asked == k) for k in range(len(self.labels))]
        chosen = np.concatenate([order(mine, k)[:size] for k, mine in enumerate(rows)])
        return self._rows(chosen, np.ones(len(chosen)))

    def _rows(self, rows: Ints, weights: Floats) -> Made:
        return Made([self.pool.texts[row] for row in rows], self.asked[rows], weights)

    def _greedy(self, target: GradientTarget, size: int, method: Method = "greedy") -> Made:
        choice = choose(target, self.vectors, self.asked, size, method=method)
        return self._rows(choice.rows, choice.weights)

    def _private(self, epsilon: float) -> GradientTarget:
        return private_target(
            *(self.gold, self.true, self.vectors, self.asked, len(self.labels)),
            epsilon=epsilon,
            delta=_DELTA,
            seed=self.seed,
        )

    def _written(self, arm: str, size: int) -> Made:
        encoder, reader = self.models.encoder, self.models.reader(self.name)
        matcher = Matcher(
            *(encoder.model, encoder.tokenizer, self.target, encoder.prefix),
            *(encoder.pooling, encoder.max_length),
        )
        words = WholeWords(default_tagger(), self.texts.gold.texts)
        begin, settings = ADMM.get(arm, ("selected", None))
        start = self._chosen(begin, size)
        if arm == "edited":
            texts = [
                found.text for found in edit(start.texts, start.labels, matcher, reader, words)
            ]
            return Made(texts, start.labels, start.weights)
        known = [*self.pool.texts, *self.texts.gold.texts]
        lexicon = Lexicon.of(known, matcher, reader, words)
        texts = []
        for k in range(len(self.labels)):
            own = [start.texts[row] for row in np.flatnonzero(start.labels == k)]
            texts += synthesise(own, k, matcher, reader, lexicon, settings, seed=self.seed)
        return Made(texts, start.labels, start.weights)

    def _keep_best(self, made: Made, size: int) -> Made:
        vectors = self.models.vectors(made.texts)
        vote = encoder_vote(self.gold, self.true, vectors, self.seed).texts
        losses = np.zeros(len(made.texts))
        for k in range(len(self.labels)):
            mine = made.labels == k
            losses[mine] = losses_of(self.target, vectors[mine], k)
        return made.take(keep_best(made.labels, vote, losses, size))
