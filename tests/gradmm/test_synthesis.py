from __future__ import annotations

import pytest

from japagen.gradmm.synthesis import Group, Lexicon, synthesise
from japagen.japanese.morphology import default_tagger
from tests.gradmm.conftest import TEXTS, Parts


@pytest.fixture(scope="module")
def lexicon(parts: Parts) -> Lexicon:
    words = Lexicon(TEXTS, parts.matcher, parts.reader, default_tagger())
    return words.with_gold(parts.gold)


def test_synthesis_lowers_the_loss_in_whole_words(parts: Parts, lexicon: Lexicon) -> None:
    group = Group(TEXTS, 0, parts.matcher, lexicon)
    ((texts, _),) = synthesise([group], parts.reader)
    assert texts == synthesise([group], parts.reader)[0][0]

    def loss(texts: list[str]) -> float:
        return float(parts.matcher.distance(parts.matcher.text_gradients(texts, 0).mean(0), 0))

    assert loss(texts) < loss(TEXTS)
    cut = [word for text in texts for word in default_tagger().tokenize(text)]
    strange = [w for w in cut if w.is_unknown and w.surface not in "".join(parts.gold)]
    assert len(strange) < 0.1 * len(cut)


def test_what_is_new_is_as_readable_as_asked_for(parts: Parts, lexicon: Lexicon) -> None:
    group = Group(TEXTS, 0, parts.matcher, lexicon)
    ((texts, growth),) = synthesise([group], parts.reader, 1.05)
    grown = parts.reader.perplexities(texts) / parts.reader.perplexities(TEXTS)
    assert texts != TEXTS
    assert growth.tolist() == pytest.approx(grown.tolist(), rel=1e-3)
    assert grown.max() <= 1.05 + 1e-6


def test_groups_are_written_together_as_they_are_alone(parts: Parts, lexicon: Lexicon) -> None:
    groups = [
        Group(TEXTS[:2], 0, parts.matcher, lexicon),
        Group(TEXTS[2:], 1, parts.matcher, lexicon),
    ]
    together = synthesise(groups, parts.reader)
    for group, (texts, growth) in zip(groups, together, strict=True):
        ((alone, grown),) = synthesise([group], parts.reader)
        assert texts == alone
        assert growth.tolist() == pytest.approx(grown.tolist(), rel=1e-3)


def test_the_nearest_word_of_a_word_is_itself(lexicon: Lexicon) -> None:
    found, distance = lexicon.nearest(lexicon.table[:5], 2)
    for row, at in enumerate(found[:, 0].tolist()):
        assert lexicon.table[at].allclose(lexicon.table[row], atol=1e-5)
    apart = (lexicon.table[:5] - lexicon.table[found[:, 1]]).pow(2).sum(dim=1)
    assert distance[:, 1].tolist() == pytest.approx(apart.tolist(), rel=1e-3)


def test_a_text_is_put_together_from_its_own_words(lexicon: Lexicon) -> None:
    words = lexicon.places("色を変える。")
    assert "".join(lexicon.surfaces[at] for at in words) == "色を変える。"
