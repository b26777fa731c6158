"""Changes few words of a text so that its gradient comes nearer to gold's.

Of every content word the derivative of the matching loss by the encoder's input embeddings says,
to first order, what another word in its place would gain (HotFlip, Ebrahimi et al. 2018, arXiv
1712.06751). Words that may take its place are those the causal language model finds likely there,
that are whole dictionary words, or gold's own, and that have the same part of speech and
conjugation form; MeCab must cut the rest of the text as before. The best few are tried for real,
and the best of those is kept if it lowers the loss and the text stays as readable as asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from japagen.gradients.matching import Embedded, Matcher
from japagen.gradients.reader import Reader
from japagen.gradients.target import Ints
from japagen.gradients.words import Span, WholeWords

Progress = Callable[[Iterable[int], int], Iterable[int]]


@dataclass(frozen=True)
class Editing:
    """How far texts are changed.

    Attributes:
        edits: Most words changed in a text.
        likely: A new word must be among so many likeliest at its place.
        tried: Candidates a text that are tried for real, each time.
        perplexity: Most that the perplexity may grow, over the unchanged text's.
    """

    edits: int = 2
    likely: int = 50
    tried: int = 4
    perplexity: float = 1.5


@dataclass(frozen=True)
class Edited:
    """A text after editing.

    Attributes:
        text: The text; as it was where nothing helped.
        changes: (old word, new word), in the order of the changes.
    """

    text: str
    changes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Candidate:
    at: int
    surface: str
    gain: float


def edit(
    texts: Sequence[str],
    labels: Ints,
    matcher: Matcher,
    reader: Reader,
    words: WholeWords,
    settings: Editing | None = None,
    progress: Progress = lambda steps, _: steps,
) -> list[Edited]:
    """Edits texts so that each label's mean gradient comes nearer to gold's.

    Args:
        texts: The texts.
        labels: Their label indices, shape (n,); a label without gold stays as it is.
        matcher: The loss.
        reader: The causal language model.
        words: What may stand in a text.
        settings: How far to go.
        progress: Wraps the passes over the texts (passes, how many).

    Returns:
        One for each text, in order; deterministic.
    """
    settings = settings or Editing()
    done = [Edited(text) for text in texts]
    bounds = reader.perplexities(texts) * settings.perplexity
    for _ in progress(range(settings.edits), settings.edits):
        now = [found.text for found in done]
        spans = [words.spans(text) for text in now]
        likely = _likely_words(now, spans, reader, words, settings.likely)
        for label in np.flatnonzero(matcher.target.counts > 0):
            rows = np.flatnonzero(labels == label)
            if len(rows):
                part = _Pass(matcher, reader, words, settings, int(label))
                changed = part.run(
                    [done[r] for r in rows], [spans[r] for r in rows], [likely[r] for r in rows],
                    bounds[rows],
                )  # fmt: skip
                for row, found in zip(rows, changed, strict=True):
                    done[row] = found
        if [found.text for found in done] == now:
            break
    return done


def _likely_words(
    texts: Sequence[str],
    spans: Sequence[Sequence[Span]],
    reader: Reader,
    words: WholeWords,
    number: int,
) -> list[dict[int, list[str]]]:
    """For each text, content word by place, the likely whole words there."""
    surfaces: dict[int, str | None] = {}

    def surface(token: int) -> str | None:
        if token not in surfaces:
            found = words.single([reader.tokenizer.decode([token])])
            surfaces[token] = found[0] if found else None
        return surfaces[token]

    likely: list[dict[int, list[str]]] = [{} for _ in texts]
    for row, places in reader.next_tokens(texts, number):
        at = {span.start: i for i, span in enumerate(spans[row])}
        for begin, tokens in places:
            if begin in at and words.is_content(spans[row][at[begin]].word):
                own = spans[row][at[begin]].word.surface
                found = [s for s in map(surface, tokens) if s is not None and s != own]
                likely[row][at[begin]] = list(dict.fromkeys(found))
    return likely


class _Pass:
    """One pass over the texts of a label: at most one change in each."""

    def __init__(
        self, matcher: Matcher, reader: Reader, words: WholeWords, settings: Editing, label: int
    ) -> None:
        self._matcher = matcher
        self._reader = reader
        self._words = words
        self._settings = settings
        self._label = label

    def run(
        self,
        texts: Sequence[Edited],
        spans: Sequence[Sequence[Span]],
        likely: Sequence[dict[int, list[str]]],
        bounds: np.ndarray[tuple[int], np.dtype[np.float64]],
    ) -> list[Edited]:
        now = [found.text for found in texts]
        slopes, embedded = self._slopes(now)
        trials: list[tuple[int, _Candidate, str]] = []
        for row, text in enumerate(now):
            for candidate in self._candidates(spans[row], likely[row], slopes[row], embedded, row):
                changed = self._words.swap(text, spans[row], candidate.at, candidate.surface)
                if changed is not None:
                    trials.append((row, candidate, changed))
                if sum(r == row for r, _, _ in trials) >= self._settings.tried:
                    break
        if not trials:
            return list(texts)
        own = self._matcher.all_gradients(now, self._label)
        new = self._matcher.all_gradients([changed for _, _, changed in trials], self._label)
        readable = self._reader.perplexities([changed for _, _, changed in trials])
        total, done = own.sum(dim=0), list(texts)
        least = float(self._matcher.distance(total / len(own), self._label))
        for row in range(len(texts)):
            mine = [
                t for t, (r, _, _) in enumerate(trials) if r == row and readable[t] <= bounds[row]
            ]
            if not mine:
                continue
            means = (total - own[row] + new[mine]) / len(own)
            found = self._matcher.distance(means, self._label)
            best = int(found.argmin())
            if float(found[best]) < least:
                least = float(found[best])
                _, candidate, changed = trials[mine[best]]
                total = total - own[row] + new[mine[best]]
                old = spans[row][candidate.at].word.surface
                done[row] = Edited(changed, (*texts[row].changes, (old, candidate.surface)))
        return done

    def _slopes(self, texts: Sequence[str]) -> tuple[torch.Tensor, Embedded]:
        """Derivative of the loss by every input embedding, shape (n, length, width)."""
        embedded = self._matcher.embed(texts)
        inputs = embedded.embeddings.clone().requires_grad_(True)
        vectors = self._matcher.vectors(inputs, embedded.mask)
        mean = self._matcher.gradients(vectors, self._label).mean(dim=0)
        loss = self._matcher.distance(mean, self._label)
        (slopes,) = torch.autograd.grad(loss, inputs)
        return slopes, embedded

    def _candidates(
        self,
        spans: Sequence[Span],
        likely: dict[int, list[str]],
        slopes: torch.Tensor,
        embedded: Embedded,
        row: int,
    ) -> list[_Candidate]:
        """Words by what they promise to gain, most first; those that promise nothing left out."""
        found = []
        for at, surfaces in likely.items():
            if not surfaces:
                continue
            tokens = [
                i
                for i, (begin, end) in enumerate(embedded.offsets[row])
                if begin < spans[at].end and end > spans[at].start
            ]
            if not tokens:  # cut off
                continue
            slope = slopes[tokens].sum(dim=0)
            old = embedded.embeddings[row, tokens].mean(dim=0)
            gains = -(word_embeddings(self._matcher, surfaces) - old) @ slope
            found += [
                _Candidate(at, surface, float(gain))
                for surface, gain in zip(surfaces, gains, strict=True)
                if gain > 0
            ]
        return sorted(found, key=lambda c: -c.gain)


def word_embeddings(matcher: Matcher, surfaces: Sequence[str]) -> torch.Tensor:
    """Mean input embedding of each word's tokens, shape (n, width)."""
    rows = matcher.tokenizer(list(surfaces), add_special_tokens=False)["input_ids"]
    mark = matcher.tokenizer.tokenize("あ")[0] != "あ"  # SentencePiece puts ▁ before a text
    blank = matcher.tokenizer.convert_tokens_to_ids("▁") if mark else None
    kept = [[token for token in row if token != blank] or row for row in rows]
    return torch.stack([matcher.table[row].mean(dim=0) for row in kept])
