from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.japanese.register.detector import analyze_register
from japagen.japanese.style.converter import convert_style

# What stands before the ending; the ending itself is one of those listed.
STATEMENTS = [
    ("荷物がまだ届かない。", "荷物がまだ届かない"),
    ("電源が入らなくなった。", "電源が入らなくなった"),
    ("画面が固まっている。", "画面が固まってる"),
    ("昨日から待っていた。", "昨日から待ってた"),
    ("明細を見ていない。", "明細を見てない"),
    ("本を読んでいる。", "本を読んでる"),
    ("充電が切れてしまう。", "充電が切れちゃう"),
    ("間違えて消してしまった。", "間違えて消しちゃった"),
    ("飲んでしまった。", "飲んじゃった"),
    ("自宅ではない。", "自宅じゃない"),
    ("思ったほど静かではなかった。", "思ったほど静かじゃなかった"),
    ("説明書を読んだが、分からない。", "説明書を読んだけど、分からない"),
    ("荷物が届きません。", "荷物が届かない"),
    ("二重に引き落とされています。", "二重に引き落とされてる"),
    ("とても高かったです。", "とても高かった"),
]
STATEMENT_ENDS = ("よ。", "んだけど。", "んだよね。")
NOUNS = [
    ("原因は不明だ。", "原因は不明"),
    ("原因は不明である。", "原因は不明"),
    ("来月からの契約です。", "来月からの契約"),
]
NOUN_ENDS = ("だよ。", "なんだけど。", "なんだよね。")
EXACT = [
    ("いつ届くか。", "いつ届く？"),
    ("送料はかかるのか？", "送料はかかるの？"),
    ("いつ届きますか。", "いつ届く？"),
    ("返金してもらえますか。", "返金してもらえる？"),
    ("どこで受け取れるのでしょうか。", "どこで受け取れるのかな。"),
    ("間に合うだろうか。", "間に合うかな。"),
    ("早めに教えてください。", "早めに教えてくれないかな。"),
    ("もう届いたよ。", "もう届いたよ。"),
]


@pytest.mark.parametrize(("text", "start"), STATEMENTS)
def test_statements_take_contractions_and_a_spoken_end(text: str, start: str) -> None:
    made = convert_style(text, "casual")
    assert made.text in {start + end for end in STATEMENT_ENDS}, made


@pytest.mark.parametrize(("text", "start"), NOUNS)
def test_nouns_take_a_copula(text: str, start: str) -> None:
    assert convert_style(text, "casual").text in {start + end for end in NOUN_ENDS}


@pytest.mark.parametrize(("text", "made"), EXACT)
def test_questions_and_requests(text: str, made: str) -> None:
    assert convert_style(text, "casual").text == made


@pytest.mark.parametrize(
    "text",
    [
        "お待ちください。",
        "ご確認いただけますか。",
        "返金を希望いたします。",
        "早く行け、と言われた。",
    ],
)
def test_what_it_is_not_sure_of_is_refused_or_casual(text: str) -> None:
    made = convert_style(text, "casual")
    assert made.refused or analyze_register(made.text).register.name == "casual"


def test_two_sentences_in_a_row_do_not_end_alike() -> None:
    text = "荷物が届かない。追跡も動かない。電話もつながらない。何も分からない。"
    ends = [s[-2:] for s in convert_style(text, "casual").text.rstrip("。").split("。")]
    assert all(a != b for a, b in pairwise(ends))


def test_quotations_stay() -> None:
    made = convert_style("画面に「更新しています」と出ている。", "casual").text
    assert made.startswith("画面に「更新しています」と出てる")


@given(
    st.text(
        st.sampled_from("荷物が届いていないのではです。ますか？「」しまうだ行く高い"), max_size=30
    )
)
def test_any_text_is_refused_or_becomes_casual(text: str) -> None:
    made = convert_style(text, "casual")
    if made.text and made.text != text:
        assert analyze_register(made.text).register.name == "casual"
        assert convert_style(made.text, "casual").text == made.text
