from __future__ import annotations

from dataclasses import replace

import pytest

from japagen.gradmm.synthesis import Admm, Lexicon, synthesise
from japagen.japanese.morphology import default_tagger
from tests.gradmm.conftest import TEXTS, Parts

QUICK = Admm(iterations=3, steps=3, rate=0.3, nearest=12)


@pytest.fixture(scope="module")
def lexicon(parts: Parts) -> Lexicon:
    return Lexicon([*TEXTS, *parts.gold], parts.gold, parts.matcher, parts.reader, default_tagger())


def test_synthesis_lowers_the_loss_in_whole_words(parts: Parts, lexicon: Lexicon) -> None:
    made = synthesise(TEXTS, 0, parts.matcher, parts.reader, lexicon, QUICK)
    assert made == synthesise(TEXTS, 0, parts.matcher, parts.reader, lexicon, QUICK)
    texts = [each.text for each in made]

    def loss(texts: list[str]) -> float:
        return float(parts.matcher.distance(parts.matcher.all_gradients(texts, 0).mean(0), 0))

    assert loss(texts) < loss(TEXTS)
    cut = [word for text in texts for word in default_tagger().tokenize(text)]
    strange = [w for w in cut if w.is_unknown and w.surface not in "".join(parts.gold)]
    assert len(strange) < 0.1 * len(cut)


def test_what_is_new_is_as_readable_as_asked_for(parts: Parts, lexicon: Lexicon) -> None:
    settings = replace(QUICK, perplexity=1.05)
    made = synthesise(TEXTS, 0, parts.matcher, parts.reader, lexicon, settings)
    texts = [each.text for each in made]
    grown = parts.reader.perplexities(texts) / parts.reader.perplexities(TEXTS)
    assert texts != TEXTS
    assert [each.ratio for each in made] == pytest.approx(grown.tolist(), rel=1e-3)
    assert grown.max() <= 1.05 + 1e-6


def test_the_nearest_word_of_a_word_is_itself(lexicon: Lexicon) -> None:
    found, distance = lexicon.nearest(lexicon.table[:5], 2)
    for row, at in enumerate(found[:, 0].tolist()):
        assert lexicon.table[at].allclose(lexicon.table[row], atol=1e-5)
    apart = (lexicon.table[:5] - lexicon.table[found[:, 1]]).pow(2).sum(dim=1)
    assert distance[:, 1].tolist() == pytest.approx(apart.tolist(), rel=1e-3)


def test_a_text_is_put_together_from_its_own_words(lexicon: Lexicon) -> None:
    assert lexicon.text(lexicon.places("色を変える。")) == "色を変える。"
