from __future__ import annotations

import pytest

from japagen.gradients.words import WholeWords
from japagen.japanese.morphology import default_tagger

WORDS = WholeWords(default_tagger(), ["ホゲラッタを使う。"])


def test_spans_say_where_words_stand() -> None:
    text = "部屋が 広い。"
    spans = WORDS.spans(text)
    assert [text[s.start : s.end] for s in spans] == ["部屋", "が", "広い", "。"]


def test_gold_decides_which_unknown_words_are_allowed() -> None:
    assert WORDS.allowed_text("ホゲラッタが広い。")
    assert not WORDS.allowed_text("フガリッポが広い。")
    assert WORDS.unknown_share(["フガリッポが広い。"]) == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("surface", "changed"),
    [
        ("狭い", "部屋が狭い。"),
        ("狭く", None),  # another conjugation form
        ("窓", None),  # another part of speech
        ("フガリッポ", None),  # no word
    ],
)
def test_a_swap_keeps_the_rest_as_it_was(surface: str, changed: str | None) -> None:
    text = "部屋が広い。"
    assert WORDS.swap(text, WORDS.spans(text), 2, surface) == changed


def test_a_swap_that_changes_how_the_rest_is_cut_is_refused() -> None:
    text = "東を見る。"
    # 京都 after 東 could be read as 東京 + 都.
    assert WORDS.swap(text, WORDS.spans(text), 0, "東京都") is None


def test_only_whole_japanese_words_are_single() -> None:
    assert WORDS.single(["部屋", "部屋が", "abc", "。", "広い"]) == ["部屋", "広い"]


def test_only_content_words_may_change() -> None:
    text = "三人が京都の広い部屋をとても気に入った。"
    assert [s.word.surface for s in WORDS.spans(text) if WORDS.is_content(s.word)] == [
        *("広い", "部屋", "とても", "気", "入っ"),
    ]
