import pytest

from japagen.japanese.morphology import default_tagger
from japagen.japanese.register.detector import find_speech
from japagen.japanese.register.rules import Words


def certain(text: str) -> set[tuple[str, str]]:
    words = Words(text, default_tagger())
    return {(e.kind, e.surface) for e in find_speech(words) if e.certain}


@pytest.mark.parametrize(
    ("text", "surface"),
    [
        ("食べちゃう。", "ちゃう"),
        ("知ってる。", "てる"),
        ("やっとく。", "とく"),
        ("それじゃない。", "じゃ"),
        ("行かなきゃ。", "なきゃ"),
        ("そうなんだ。", "ん"),
        ("行くぞ。", "ぞ"),
        ("そうだっけ。", "っけ"),
        ("雨かしら。", "かしら"),
        ("いいじゃん。", "じゃん"),
        ("行くっす。", "っす"),
        ("えーと、次です。", "えー"),
        ("すごーい。", "すごーい"),
        ("やったーー", "ーー"),
        ("楽しい(^_^)", "(^_^)"),
        ("悲しい(T_T)", "(T_T)"),
        ("晴れた😀", "😀"),
        ("うける(笑)", "(笑)"),
        ("最高www", "www"),
    ],
)
def test_spoken(text: str, surface: str) -> None:
    assert ("spoken", surface) in certain(text)


@pytest.mark.parametrize(
    "text",
    [
        "食べたいです。",
        "りんごやみかんを買う。",
        "ますます増える。",
        "らーめんとコーヒーを頼む。",
        "笑顔が素敵です。",
        "言語 (C/C++) の仕様です。",
        "よく分からんと言う。",
        "wwwサーバーを置く。",
    ],
)
def test_plain_text_is_neither_spoken_nor_dialect(text: str) -> None:
    assert certain(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "そうやねん。",
        "知らへん。",
        "行くばい。",
        "そうたい。",
        "だべ。",
        "雨やさかい。",
        "知っとる。",
        "食べちょる。",
        "あかん。",
        "ええやん。",
        "そうやろ?",
        "行きはる。",
    ],
)
def test_dialect(text: str) -> None:
    assert "dialect" in {kind for kind, _ in certain(text)}


@pytest.mark.parametrize("text", ["東京である。", "犬及び猫を除く。"])
def test_written(text: str) -> None:
    assert {kind for kind, _ in certain(text)} == {"written"}
