from __future__ import annotations

import pytest

from japagen.japanese.mentions import Terms
from japagen.japanese.morphology import default_tagger


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
