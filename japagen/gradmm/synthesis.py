r"""Writes texts whose gradients match gold's: ADMM between embeddings and readable words.

X are continuous input embeddings, one for each word of each text; Z are words of a lexicon of
whole dictionary words (and gold's own), with the mean embedding of their tokens. With Λ the dual,
n texts and p the causal language model behind the words chosen before,

    X-step   minimise  loss(X) + ρ/2n ‖X − Z + Λ/ρ‖²         by Adam;
    Z-step   minimise  ρ/2n ‖X − Z + Λ/ρ‖² − μ/n log p(Z)    word by word, among the k nearest
             words that MeCab still cuts as a word there;
    Λ-step   Λ += ρ (X − Z).

ρ is in units in which the embeddings have root mean square 1. Of every text that iterate is kept
with which the mean gradient of all comes nearest to gold's, if it is readable.

Source: Nguyen et al. (2025), arXiv 2502.17607, algorithm 1. Different here: words in place of
tokens; the language model reads the words that this step has chosen and not the last one's, and
is weighed against the distance, where the paper takes the likeliest of the k nearest whatever it
does to the gradient; texts are kept one by one; the loss takes the head's gradients along its
training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from japagen.gradmm.matching import Matcher
from japagen.gradmm.reader import Reader, Writing
from japagen.japanese.morphology import Morpheme, Tagger

_JAPANESE = re.compile(r"[ぁ-ゖァ-ヺー一-鿿々]+")
# Time grows with the longest text.
_MOST_WORDS = 100


@dataclass(frozen=True)
class Admm:
    """How texts are synthesised.

    Attributes:
        iterations: Of all three steps.
        steps: Of Adam in an X-step.
        rate: Adam's, in units of the embeddings' root mean square.
        rho: Of the penalty.
        nearest: Words that the language model chooses among.
        readability: μ: what a nat of the language model's weighs in the loss.
        perplexity: Most that a text's perplexity may be, over that of the text given.
    """

    iterations: int = 4
    steps: int = 4
    rate: float = 0.3
    rho: float = 1e-4
    nearest: int = 30
    readability: float = 0.01
    perplexity: float = 1.5


class Lexicon:
    """Words that texts may be made of: dictionary words, and unknown words that gold has.

    Args:
        texts: Their allowed words are in the lexicon, beside whole words that are one token of
            either model.
        gold: Texts whose unknown words are allowed.
        matcher: Has the words' embeddings.
        reader: Has their tokens.
        tagger: Cuts texts.
    """

    def __init__(
        self,
        texts: Iterable[str],
        gold: Iterable[str],
        matcher: Matcher,
        reader: Reader,
        tagger: Tagger,
    ) -> None:
        self._tagger = tagger
        words = [word for text in gold for word in tagger.tokenize(text)]
        self._allowed = {word.surface for word in words if word.is_unknown}
        known = [w.surface for t in texts for w in tagger.tokenize(t) if self._allows(w)]
        pieces = {piece.removeprefix("▁") for piece in matcher.tokenizer.get_vocab()}
        whole = sorted(filter(self._is_word, pieces))
        cut = reader.tokenizer(whole, add_special_tokens=False)["input_ids"] if whole else []
        known += [piece for piece, row in zip(whole, cut, strict=True) if len(row) == 1]
        self.surfaces = list(dict.fromkeys(known))
        self._at = {surface: at for at, surface in enumerate(self.surfaces)}
        parts = [self.surfaces[at : at + 1024] for at in range(0, len(self.surfaces), 1024)]
        table = torch.cat([matcher.word_embeddings(part) for part in parts])
        self.unit = float(table.pow(2).mean().sqrt())
        self.table = table / self.unit
        self._lengths = self.table.pow(2).sum(dim=1)
        encoded = reader.tokenizer(self.surfaces, add_special_tokens=False)["input_ids"]
        self.tokens: list[list[int]] = [list(row) for row in encoded]
        self.first = torch.tensor([row[0] for row in self.tokens], device=table.device)
        # What a word's first token leaves open depends little on what stands before it.
        self.rest = torch.zeros(len(self.surfaces), device=table.device)
        longer = [at for at, row in enumerate(self.tokens) if len(row) > 1]
        if longer:
            found, _ = reader.log_likelihoods([self.surfaces[at] for at in longer], given=1)
            self.rest[longer] = torch.tensor(found, dtype=torch.float32, device=table.device)

    def _allows(self, word: Morpheme) -> bool:
        return not word.is_unknown or word.surface in self._allowed

    def _is_word(self, surface: str) -> bool:
        if not _JAPANESE.fullmatch(surface):
            return False
        cut = self._tagger.tokenize(surface)
        return len(cut) == 1 and self._allows(cut[0])

    def fits(self, before: str, word: int) -> bool:
        """Whether MeCab cuts a word as one allowed morpheme behind ``before``."""
        cut = self._tagger.tokenize(before + self.surfaces[word])
        return bool(cut) and cut[-1].surface == self.surfaces[word] and self._allows(cut[-1])

    def places(self, text: str) -> list[int]:
        """The words of a text that are in the lexicon, by their place in it."""
        found = [self._at.get(word.surface) for word in self._tagger.tokenize(text)]
        return [at for at in found if at is not None][:_MOST_WORDS]

    def nearest(self, points: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The nearest words of each point and their squared distances, each (n, number)."""
        distance = self._lengths - 2 * points @ self.table.T
        found = distance.topk(min(number, len(self.surfaces)), dim=1, largest=False)
        return found.indices, found.values + points.pow(2).sum(dim=1, keepdim=True)

    def text(self, places: Sequence[int]) -> str:
        """Words put together."""
        return "".join(self.surfaces[at] for at in places)


@dataclass(frozen=True)
class Written:
    """A text after synthesis, or as it was, and its perplexity over that of the text given."""

    text: str
    ratio: float = 1.0


def synthesise(
    texts: Sequence[str],
    label: int,
    matcher: Matcher,
    reader: Reader,
    lexicon: Lexicon,
    settings: Admm | None = None,
) -> list[Written]:
    """Writes as many texts of a label as are given to start from.

    Args:
        texts: At least one.
        label: Its index.
        matcher: The loss.
        reader: The causal language model.
        lexicon: What texts are made of.
        settings: How.

    Returns:
        Of each text the iterate, the start included, with which the loss is least; deterministic.
        What is new is readable and consists of whole words.
    """
    settings = settings or Admm()
    kept = [Written(text) for text in texts]
    natural = reader.perplexities(texts)
    gradients = matcher.all_gradients(texts, label)
    state = _State([lexicon.places(t) or [0] for t in texts], label, matcher, lexicon, settings)
    for _ in range(settings.iterations):
        state.move()
        made = state.project(reader)
        ratios = reader.perplexities(made) / natural
        new = matcher.all_gradients(made, label)
        total = gradients.sum(dim=0)
        least = matcher.distance(total / len(texts), label)
        for row in np.flatnonzero(ratios <= settings.perplexity).tolist():
            changed = total - gradients[row] + new[row]
            found = matcher.distance(changed / len(texts), label)
            if found < least:
                total, least, gradients[row] = changed, found, new[row]
                kept[row] = Written(made[row], float(ratios[row]))
    return kept


class _State:
    """X, Z and Λ of the texts of one label."""

    def __init__(
        self,
        words: list[list[int]],
        label: int,
        matcher: Matcher,
        lexicon: Lexicon,
        settings: Admm,
    ) -> None:
        self._words = words
        self._label = label
        self._matcher = matcher
        self._lexicon = lexicon
        self._settings = settings
        width = max(map(len, words))
        self._filled = torch.tensor(
            [[i < len(row) for i in range(width)] for row in words], device=lexicon.table.device
        )
        self._x = self._embeddings()
        self._dual = torch.zeros_like(self._x)
        # What stands around a text: the prefix and special tokens before it, one token behind.
        frame = matcher.embed([""])[0][0]
        self._before, self._behind = frame[:-1], frame[-1:]

    def _embeddings(self) -> torch.Tensor:
        """Z, shape (n, words, width); zero where a text has ended."""
        width = self._filled.shape[1]
        padded = [row + [0] * (width - len(row)) for row in self._words]
        table = self._lexicon.table
        return table[torch.tensor(padded, device=table.device)] * self._filled[..., None]

    def move(self) -> None:
        """The X-step."""
        z, rho = self._embeddings(), self._settings.rho
        x = self._x.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=self._settings.rate)
        for _ in range(self._settings.steps):
            mean = self._matcher.gradients(self._vectors(x), self._label).mean(dim=0)
            apart = ((x - z + self._dual / rho) * self._filled[..., None]).pow(2).sum()
            loss = self._matcher.distance(mean, self._label) + rho / 2 * apart / len(x)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self._x = x.detach() * self._filled[..., None]

    def _vectors(self, x: torch.Tensor) -> torch.Tensor:
        before = self._before.expand(len(x), -1, -1)
        # The closing token must follow the last word, so padding goes to the very end.
        behind = self._behind.expand(len(x), -1, -1)
        inputs = torch.cat([before, x * self._lexicon.unit, torch.zeros_like(behind)], dim=1)
        lengths = self._filled.sum(dim=1) + before.shape[1]
        places = torch.arange(inputs.shape[1], device=x.device)
        closing = (places == lengths[:, None])[..., None]
        inputs = torch.where(closing, behind, inputs)
        return self._matcher.vectors(inputs, (places <= lengths[:, None]).long())

    def project(self, reader: Reader) -> list[str]:
        """The Z-step and the Λ-step; returns the texts of Z."""
        rho = self._settings.rho
        points = self._x + self._dual / rho
        closeness = rho / 2 / self._settings.readability
        writing = Writing(reader, len(self._words))
        logits = writing.begin()
        chosen: list[list[int]] = [[] for _ in self._words]
        before = [""] * len(self._words)
        for place in range(points.shape[1]):
            near, distance = self._lexicon.nearest(points[:, place], self._settings.nearest)
            likely = logits.gather(1, self._lexicon.first[near]) + self._lexicon.rest[near]
            order = (likely - closeness * distance).argsort(dim=1, descending=True)
            tokens = []
            for row, words in enumerate(near.gather(1, order).tolist()):
                if not self._filled[row, place]:
                    tokens.append([0])
                    continue
                fitting = (word for word in words if self._lexicon.fits(before[row], word))
                word = next(fitting, words[0])
                chosen[row].append(word)
                before[row] += self._lexicon.surfaces[word]
                tokens.append(self._lexicon.tokens[word])
            logits = writing.add(tokens)
        self._words = chosen
        self._dual = self._dual + rho * (self._x - self._embeddings()) * self._filled[..., None]
        return before
