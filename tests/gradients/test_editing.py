from __future__ import annotations

import numpy as np

from japagen.gradients.editing import Editing, edit
from tests.gradients.conftest import LABELS, TEXTS, Parts

# A random model of a hundred pieces finds few words; all of them may be tried.
WIDE = Editing(edits=2, likely=150, tried=8, perplexity=3.0)


def test_edits_lower_the_loss_within_the_bounds(parts: Parts) -> None:
    matcher, reader, words = parts
    found = edit(TEXTS, LABELS, matcher, reader, words, WIDE)
    texts = [e.text for e in found]
    assert any(e.changes for e in found)
    assert matcher.loss(texts, LABELS) < matcher.loss(TEXTS, LABELS)
    assert (reader.perplexities(texts) <= 3.0 * reader.perplexities(TEXTS) + 1e-6).all()
    for before, after in zip(TEXTS, found, strict=True):
        assert words.allowed_text(after.text)
        assert len(after.changes) <= 2
        assert len(words.spans(after.text)) == len(words.spans(before))
        differing = sum(
            a.word.surface != b.word.surface
            for a, b in zip(words.spans(after.text), words.spans(before), strict=True)
        )
        assert differing <= len(after.changes)


def test_editing_is_deterministic(parts: Parts) -> None:
    matcher, reader, words = parts
    one, other = (edit(TEXTS, LABELS, matcher, reader, words, WIDE) for _ in range(2))
    assert one == other


def test_no_edit_is_left_where_none_may_be_less_readable(parts: Parts) -> None:
    matcher, reader, words = parts
    found = edit(TEXTS, LABELS, matcher, reader, words, Editing(perplexity=1e-6))
    assert [e.text for e in found] == TEXTS


def test_losses_and_vectors_are_those_of_the_whole_set(parts: Parts) -> None:
    matcher = parts.matcher
    embedded = matcher.embed(TEXTS)
    vectors = matcher.vectors(embedded.embeddings, embedded.mask).detach().numpy()
    cosines = matcher.target.cosines(vectors, LABELS)
    np.testing.assert_allclose(matcher.loss(TEXTS, LABELS), 1 - np.nanmean(cosines), atol=1e-5)
