from __future__ import annotations

from dataclasses import replace

import pytest

from japagen.gradients.synthesis import Admm, Lexicon, synthesise
from tests.conftest import GOLD
from tests.gradients.conftest import TEXTS, Parts

QUICK = Admm(iterations=3, steps=3, rate=0.3, nearest=12)


@pytest.fixture(scope="module")
def lexicon(parts: Parts) -> Lexicon:
    gold = [text for texts in GOLD.values() for text in texts]
    return Lexicon.of([*TEXTS, *gold], parts.matcher, parts.reader, parts.words)


@pytest.mark.parametrize("start", ["text", "noise"])
def test_synthesis_lowers_the_loss_in_whole_words(
    parts: Parts, lexicon: Lexicon, start: str
) -> None:
    settings = replace(QUICK, start=start)
    made = synthesise(TEXTS, 0, parts.matcher, parts.reader, lexicon, settings, seed=1)
    again = synthesise(TEXTS, 0, parts.matcher, parts.reader, lexicon, settings, seed=1)
    assert made == again
    none = replace(settings, iterations=0)
    before = synthesise(TEXTS, 0, parts.matcher, parts.reader, lexicon, none, seed=1)

    def loss(texts: list[str]) -> float:
        return float(parts.matcher.distance(parts.matcher.all_gradients(texts, 0).mean(0), 0))

    assert loss(made) < loss(before)
    assert parts.words.unknown_share(made) < 0.1


def test_what_is_new_is_as_readable_as_asked_for(parts: Parts, lexicon: Lexicon) -> None:
    settings = replace(QUICK, perplexity=1.05)
    made = synthesise(TEXTS, 0, parts.matcher, parts.reader, lexicon, settings)
    grown = parts.reader.perplexities(made) / parts.reader.perplexities(TEXTS)
    assert made != TEXTS
    assert grown.max() <= 1.05 + 1e-6


def test_the_nearest_word_of_a_word_is_itself(lexicon: Lexicon) -> None:
    found, distance = lexicon.nearest(lexicon.table[:5], 2)
    for row, at in enumerate(found[:, 0].tolist()):
        assert lexicon.table[at].allclose(lexicon.table[row], atol=1e-5)
    apart = (lexicon.table[:5] - lexicon.table[found[:, 1]]).pow(2).sum(dim=1)
    assert distance[:, 1].tolist() == pytest.approx(apart.tolist(), rel=1e-3)


def test_a_text_is_put_together_from_its_own_words(lexicon: Lexicon) -> None:
    assert lexicon.text(lexicon.places("色を変える。", 10)) == "色を変える。"
