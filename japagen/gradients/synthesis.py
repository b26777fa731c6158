r"""Writes texts whose gradients match gold's: ADMM between embeddings and readable words.

X are continuous input embeddings, one for each word of each text; Z are words of a lexicon of
whole dictionary words (and gold's own), with the mean embedding of their tokens. With Λ the dual,

    X-step   minimise  loss(X) + ρ/2 ‖X − Z + Λ/ρ‖²         by Adam;
    Z-step   for each word in turn the k words nearest to X + Λ/ρ, of which the causal language
             model finds one the likeliest behind the words chosen before, and MeCab still cuts
             it as a word there;
    Λ-step   Λ += ρ (X − Z).

ρ is in units in which the embeddings have root mean square 1. The best iterate's words are kept.

Source: Nguyen et al. (2025), arXiv 2502.17607, algorithm 1. Different here: words in place of
tokens, the language model reads the words that this step has chosen and not the last one's, and
the loss takes the head's gradients along its training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from japagen.gradients.editing import word_embeddings
from japagen.gradients.matching import Matcher
from japagen.gradients.reader import Reader, Writing
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
        length: Most words of a text.
        start: From the words of LM text, or from words at random (``noise``).
    """

    iterations: int = 4
    steps: int = 4
    rate: float = 0.1
    rho: float = 1e-3
    nearest: int = 30
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

    @classmethod
    def of(
        cls, texts: Iterable[str], matcher: Matcher, reader: Reader, words: WholeWords
    ) -> Lexicon:
        """The allowed words of texts, and the encoder's own pieces that are whole words."""
        found = [
            span.word.surface
            for text in texts
            for span in words.spans(text)
            if words.allows([span.word])
        ]
        pieces = (piece.removeprefix("▁") for piece in matcher.tokenizer.get_vocab())
        return cls([*found, *sorted(words.single(set(pieces)))], matcher, reader, words)

    def places(self, text: str, length: int) -> list[int]:
        """The words of a text that are in the lexicon, up to so many, by their place in it."""
        found = [self._at.get(span.word.surface) for span in self.words.spans(text)]
        return [at for at in found if at is not None][:length]

    def nearest(self, points: torch.Tensor, number: int) -> torch.Tensor:
        """The nearest words of each point, shape (n, number)."""
        distance = self._lengths - 2 * points @ self.table.T
        return distance.topk(min(number, len(self.surfaces)), dim=1, largest=False).indices

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
        texts: LM text; with ``start: noise`` only their lengths count.
        label: Its index.
        matcher: The loss.
        reader: The causal language model.
        lexicon: What texts are made of.
        settings: How.
        seed: Of the words to start from, where they are drawn at random.
        progress: Wraps the iterations.

    Returns:
        The iterate of least loss, the start included: as many texts, whole words throughout.
    """
    settings = settings or Admm()
    words = [lexicon.places(text, settings.length) or [0] for text in texts]
    if settings.start == "noise":
        rng = np.random.default_rng([seed, label])
        words = [rng.integers(len(lexicon.surfaces), size=len(row)).tolist() for row in words]
    state = _State(words, label, matcher, reader, lexicon, settings)
    best, least = state.texts(), state.loss()
    for _ in progress(range(settings.iterations), settings.iterations):
        state.move()
        state.project()
        loss = state.loss()
        if loss < least:
            best, least = state.texts(), loss
    return best


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

    def loss(self) -> float:
        """Of the texts as the encoder really cuts them."""
        mean = self._matcher.all_gradients(self.texts(), self._label).mean(dim=0)
        return float(self._matcher.distance(mean, self._label))

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
        writing = Writing(self._reader, len(self.words))
        log_p = writing.begin()
        chosen: list[list[int]] = [[] for _ in self.words]
        before = [""] * len(self.words)
        for place in range(points.shape[1]):
            near = self._lexicon.nearest(points[:, place], self._settings.nearest)
            likely = log_p.gather(1, self._lexicon.first[near])
            tokens = []
            for row, order in enumerate(likely.argsort(dim=1, descending=True).tolist()):
                if not self._filled[row, place]:
                    tokens.append([0])
                    continue
                word = self._fitting(before[row], [int(near[row, o]) for o in order])
                chosen[row].append(word)
                before[row] += self._lexicon.surfaces[word]
                tokens.append(self._lexicon.tokens[word])
            log_p = writing.add(tokens)
        self.words = chosen
        self._dual = self._dual + rho * (self._x - self._embeddings()) * self._filled[..., None]

    def _fitting(self, before: str, words: Sequence[int]) -> int:
        """The first word that MeCab cuts as one behind the text so far; else the first of all."""
        ends_in = self._lexicon.words.ends_in
        return next((w for w in words if ends_in(before, self._lexicon.surfaces[w])), words[0])
