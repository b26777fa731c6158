from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.japanese.morphology import default_tagger
from japagen.japanese.traits import Cues, LengthBands, Terms, traits_of


@pytest.mark.parametrize(
    ("term", "text", "is_there"),
    [
        ("再配達", "明日の再配達をお願いします。", True),
        ("再配達", "配達がまだです。", False),
        ("置き配", "置き配でいいっすよ。", True),
        ("引き落とす", "二回も引き落とされていました。", True),
        ("母", "母音の発音について。", False),
        ("母", "母が受け取ります。", True),
        ("彼", "彼女に頼みました。", False),
        ("クーポン", "ｸｰﾎﾟﾝが使えない", True),
        ("PDF", "ＰＤＦで送ってほしい。", True),
        ("宅配ボックス", "宅配ボックスが故障していた。", True),
        ("領収書", "", False),
    ],
)
def test_terms_are_found_by_morphemes(term: str, text: str, is_there: bool) -> None:
    assert (term in Terms([term], default_tagger()).found(text)) == is_there


def test_several_terms_are_looked_for_at_once() -> None:
    terms = Terms(["領収書", "再発行", "返金"], default_tagger())
    assert terms.found("領収書の再発行をお願いします。") == {"領収書", "再発行"}


def test_words_are_what_people_write() -> None:
    found = traits_of("コンピューターで再配達を頼んだ。お荷物はまだ届きません。", default_tagger())
    assert {"コンピューター", "再配達", "頼む", "荷物", "届く"} <= set(found.words)
    assert not any("-" in word for word in found.words)
    assert "再配達" in found.nouns
    assert "お荷物" not in found.nouns


def test_endings_are_as_written() -> None:
    text = "昨日届きました！使えますか？もう一度確認したいんだけど。返品。"
    assert traits_of(text, default_tagger()).endings == ("ました", "ますか", "だけど")


@given(st.lists(st.integers(1, 200), min_size=1), st.integers(0, 300))
def test_every_length_has_one_band_and_bands_are_of_gold(lengths: list[int], length: int) -> None:
    bands = LengthBands(lengths)
    names = {bands.name(n) for n in range(301)}
    assert bands.name(length) in names
    assert len(names) <= 4
    ordered = [bands.name(n) for n in range(301)]
    assert all(
        ordered.index(name) + ordered.count(name) - 1 == 300 - ordered[::-1].index(name)
        for name in names
    )


def test_a_cue_tells_a_text_from_the_others() -> None:
    texts = [
        "荷物の箱が壊れていました。",
        "荷物の伝票がない。",
        "荷物がまだ来ない。",
        "まだですか。",
    ]
    cues = Cues(texts, default_tagger())
    assert [cues.topic(t) for t in texts[1:]] == ["伝票", "荷物", ""]
    assert cues.ending(texts[0]) == "ました"
    assert cues.length_band(texts[0]) == "10字以上"
