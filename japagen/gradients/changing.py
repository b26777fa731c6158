"""Changes the texts of one label towards one target, and says what was changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

import numpy as np

from japagen.gradients.editing import Editing, edit
from japagen.gradients.matching import Matcher
from japagen.gradients.reader import Reader
from japagen.gradients.synthesis import Admm, Lexicon, synthesise
from japagen.gradients.words import WholeWords

# ADMM's time grows with the longest text.
_MOST_WORDS = 100


@dataclass(frozen=True)
class Changed:
    """A text after it was changed, or as it was.

    Attributes:
        text: The text.
        changes: (old words, new words); none where nothing helped.
        ratio: Its perplexity over that of the text as it was.
    """

    text: str
    changes: tuple[tuple[str, str], ...] = ()
    ratio: float = 1.0


def change(
    texts: Sequence[str],
    label: int,
    matcher: Matcher,
    reader: Reader,
    words: WholeWords,
    *,
    method: Literal["edit", "synthesise"] = "edit",
    edits: int = 2,
    perplexity: float = 1.5,
    lexicon: Callable[[], Lexicon] | None = None,
    seed: int = 0,
) -> list[Changed]:
    """Edits or synthesises texts of one label.

    Args:
        texts: At least one.
        label: Its index.
        matcher: The loss.
        reader: The causal language model.
        words: What may stand in a text.
        method: ``edit`` or ``synthesise``.
        edits: Most words that ``edit`` changes in a text.
        perplexity: Most that a text's perplexity may grow; a synthesised text beyond it stays as
            it was.
        lexicon: Makes what ``synthesise`` writes with.
        seed: Of ``synthesise``.

    Returns:
        One for each text, in order.
    """
    if method == "edit":
        settings = Editing(edits=edits, perplexity=perplexity)
        labels = np.full(len(texts), label, dtype=np.int64)
        made = edit(texts, labels, matcher, reader, words, settings)
        found = [(each.text, each.changes) for each in made]
    else:
        assert lexicon is not None
        found = _synthesised(texts, label, matcher, reader, lexicon(), perplexity, seed)
    changed = [row for row, (_, changes) in enumerate(found) if changes]
    before = reader.perplexities([texts[row] for row in changed])
    after = reader.perplexities([found[row][0] for row in changed])
    done = [Changed(text) for text in texts]
    for row, ratio in zip(changed, (after / before).tolist(), strict=True):
        if ratio <= perplexity:
            done[row] = Changed(*found[row], ratio)
    return done


def _synthesised(
    texts: Sequence[str],
    label: int,
    matcher: Matcher,
    reader: Reader,
    lexicon: Lexicon,
    perplexity: float,
    seed: int,
) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    cut = [[span.word.surface for span in lexicon.words.spans(text)] for text in texts]
    length = min(max(map(len, cut)), _MOST_WORDS)
    settings = Admm(length=length, perplexity=perplexity)
    made = synthesise(texts, label, matcher, reader, lexicon, settings, seed)
    return [
        (new, _differences(old, [span.word.surface for span in lexicon.words.spans(new)]))
        if new != text
        else (text, ())
        for text, new, old in zip(texts, made, cut, strict=True)
    ]


def _differences(before: Sequence[str], after: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Runs of words that differ."""
    matched = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return tuple(
        ("".join(before[a:b]), "".join(after[c:d])) for kind, a, b, c, d in matched
        if kind != "equal"
    )  # fmt: skip
