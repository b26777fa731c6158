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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from japagen.gradients.editing import word_embeddings
from japagen.gradients.matching import Matcher
from japagen.gradients.reader import Floats, Reader, Writing
from japagen.gradients.words import WholeWords

Progress = Callable[[Iterable[int], int], Iterable[int]]


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
        length: Most words of a text.
        start: From the words of LM text, or from words at random (``noise``).
    """

    iterations: int = 4
    steps: int = 4
    rate: float = 0.3
    rho: float = 1e-4
    nearest: int = 30
    readability: float = 0.01
    perplexity: float = 1.5
    length: int = 24
    start: Literal["text", "noise"] = "text"


class Lexicon:
    """Words that texts may be made of, with their embeddings and language model tokens."""

    def __init__(
        self, surfaces: Sequence[str], matcher: Matcher, reader: Reader, words: WholeWords
    ) -> None:
        self.words = words
        self.surfaces = list(dict.fromkeys(surfaces))
        table = torch.cat(
            [
                word_embeddings(matcher, self.surfaces[at : at + 1024])
                for at in range(0, len(self.surfaces), 1024)
            ]
        )
        self.unit = float(table.pow(2).mean().sqrt())
        self.table = table / self.unit
        encoded = reader.tokenizer(self.surfaces, add_special_tokens=False)["input_ids"]
        self.tokens: list[list[int]] = [list(row) for row in encoded]
        self.first = torch.tensor([row[0] for row in self.tokens], device=self.table.device)
        self._lengths = self.table.pow(2).sum(dim=1)
        self._at = {surface: at for at, surface in enumerate(self.surfaces)}
        self.rest = torch.zeros(len(self.surfaces), device=self.table.device)
        longer = [at for at, row in enumerate(self.tokens) if len(row) > 1]
        if longer:
            found = reader.rest_log_likelihoods([self.surfaces[at] for at in longer])
            self.rest[longer] = torch.tensor(found, dtype=torch.float32, device=self.table.device)

    @classmethod
    def of(
        cls, texts: Iterable[str], matcher: Matcher, reader: Reader, words: WholeWords
    ) -> Lexicon:
        """The allowed words of texts, and whole words that are one token of either model."""
        found = [
            span.word.surface
            for text in texts
            for span in words.spans(text)
            if words.allows([span.word])
        ]
        pieces = {piece.removeprefix("▁") for piece in matcher.tokenizer.get_vocab()}
        whole = sorted(words.single(pieces))
        cut = reader.tokenizer(whole, add_special_tokens=False)["input_ids"] if whole else []
        single = [piece for piece, row in zip(whole, cut, strict=True) if len(row) == 1]
        return cls([*found, *single], matcher, reader, words)

    def places(self, text: str, length: int) -> list[int]:
        """The words of a text that are in the lexicon, up to so many, by their place in it."""
        found = [self._at.get(span.word.surface) for span in self.words.spans(text)]
        return [at for at in found if at is not None][:length]

    def nearest(self, points: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The nearest words of each point and their squared distances, each (n, number)."""
        distance = self._lengths - 2 * points @ self.table.T
        found = distance.topk(min(number, len(self.surfaces)), dim=1, largest=False)
        return found.indices, found.values + points.pow(2).sum(dim=1, keepdim=True)

    def text(self, places: Sequence[int]) -> str:
        """Words put together."""
        return "".join(self.surfaces[at] for at in places)


def synthesise(
    texts: Sequence[str],
    label: int,
    matcher: Matcher,
    reader: Reader,
    lexicon: Lexicon,
    settings: Admm | None = None,
    seed: int = 0,
    progress: Progress = lambda steps, _: steps,
) -> list[str]:
    """Writes as many texts of a label as are given to start from.

    Args:
        texts: LM text; with ``start: noise`` only their lengths and their perplexities count.
        label: Its index.
        matcher: The loss.
        reader: The causal language model.
        lexicon: What texts are made of.
        settings: How.
        seed: Of the words to start from, where they are drawn at random.
        progress: Wraps the iterations.

    Returns:
        As many texts: of each the iterate, the start included, with which the loss is least.
        What is new is readable and consists of whole words.
    """
    settings = settings or Admm()
    bounds = reader.perplexities(texts) * settings.perplexity
    words = [lexicon.places(text, settings.length) or [0] for text in texts]
    begin = list(texts)
    if settings.start == "noise":
        rng = np.random.default_rng([seed, label])
        words = [rng.integers(len(lexicon.surfaces), size=len(row)).tolist() for row in words]
        begin = [lexicon.text(row) for row in words]
    state = _State(words, label, matcher, reader, lexicon, settings)
    kept = _Kept(begin, label, matcher, reader, bounds)
    for _ in progress(range(settings.iterations), settings.iterations):
        state.move()
        state.project()
        kept.consider(state.texts())
    return kept.texts


class _Kept:
    """The best that was found of each text: what brings their mean gradient nearest to gold's.

    A text that is not readable, as noise is not, gives way to the first that is.
    """

    def __init__(
        self, texts: Sequence[str], label: int, matcher: Matcher, reader: Reader, bounds: Floats
    ) -> None:
        self.texts = list(texts)
        self._label = label
        self._matcher = matcher
        self._reader = reader
        self._bounds = bounds
        self._gradients = matcher.all_gradients(texts, label)
        self._readable = reader.perplexities(texts) <= bounds

    def consider(self, texts: Sequence[str]) -> None:
        """Takes those of an iterate's texts that are readable and lower the loss."""
        new = self._matcher.all_gradients(texts, self._label)
        number, total = len(texts), self._gradients.sum(dim=0)
        least = self._matcher.distance(total / number, self._label)
        readable = self._reader.perplexities(texts) <= self._bounds
        for row in np.flatnonzero(readable).tolist():
            moved = total - self._gradients[row] + new[row]
            found = self._matcher.distance(moved / number, self._label)
            if found < least or not self._readable[row]:
                total, least = moved, found
                self.texts[row], self._gradients[row] = texts[row], new[row]
                self._readable[row] = True


class _State:
    """X, Z and Λ of the texts of one label."""

    def __init__(
        self,
        words: list[list[int]],
        label: int,
        matcher: Matcher,
        reader: Reader,
        lexicon: Lexicon,
        settings: Admm,
    ) -> None:
        self.words = words
        self._label = label
        self._matcher = matcher
        self._reader = reader
        self._lexicon = lexicon
        self._settings = settings
        width = max(map(len, words))
        self._device = matcher.device
        self._filled = torch.tensor(
            [[i < len(row) for i in range(width)] for row in words], device=self._device
        )
        self._x = self._embeddings()
        self._dual = torch.zeros_like(self._x)
        frame = matcher.embed([""])
        ids = frame.embeddings[0]
        # What stands around a text: the prefix and special tokens before it, one token behind.
        self._before, self._behind = ids[:-1], ids[-1:]

    def texts(self) -> list[str]:
        return [self._lexicon.text(row) for row in self.words]

    def _embeddings(self) -> torch.Tensor:
        """Z, shape (n, words, width); zero where a text has ended."""
        width = self._filled.shape[1]
        padded = torch.tensor(
            [row + [0] * (width - len(row)) for row in self.words], device=self._device
        )
        return self._lexicon.table[padded] * self._filled[..., None]

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
        number = len(x)
        before = self._before.expand(number, -1, -1)
        # The closing token must follow the last word, so padding goes to the very end.
        behind = self._behind.expand(number, -1, -1)
        inner = x * self._lexicon.unit
        inputs = torch.cat([before, inner, torch.zeros_like(behind)], dim=1)
        lengths = self._filled.sum(dim=1) + before.shape[1]
        places = torch.arange(inputs.shape[1], device=self._device)
        closing = (places == lengths[:, None])[..., None]
        inputs = torch.where(closing, behind, inputs)
        return self._matcher.vectors(inputs, (places <= lengths[:, None]).long())

    def project(self) -> None:
        """The Z-step and the Λ-step."""
        rho = self._settings.rho
        points = self._x + self._dual / rho
        closeness = rho / 2 / self._settings.readability
        writing = Writing(self._reader, len(self.words))
        logits = writing.begin()
        chosen: list[list[int]] = [[] for _ in self.words]
        before = [""] * len(self.words)
        for place in range(points.shape[1]):
            near, distance = self._lexicon.nearest(points[:, place], self._settings.nearest)
            likely = logits.gather(1, self._lexicon.first[near]) + self._lexicon.rest[near]
            worth = likely - closeness * distance
            tokens = []
            for row, order in enumerate(worth.argsort(dim=1, descending=True).tolist()):
                if not self._filled[row, place]:
                    tokens.append([0])
                    continue
                word = self._fitting(before[row], [int(near[row, o]) for o in order])
                chosen[row].append(word)
                before[row] += self._lexicon.surfaces[word]
                tokens.append(self._lexicon.tokens[word])
            logits = writing.add(tokens)
        self.words = chosen
        self._dual = self._dual + rho * (self._x - self._embeddings()) * self._filled[..., None]

    def _fitting(self, before: str, words: Sequence[int]) -> int:
        """The first word that MeCab cuts as one behind the text so far; else the first of all."""
        ends_in = self._lexicon.words.ends_in
        return next((w for w in words if ends_in(before, self._lexicon.surfaces[w])), words[0])
