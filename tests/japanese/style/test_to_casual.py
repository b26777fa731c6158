from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.japanese.register.detector import analyze_register
from japagen.japanese.style.converter import convert_style

# The endings of 飲む, 高い, 静かだ and the like are in the tables of forms.
EXACT = [
    # Spoken as it is: a contraction needs no よ after it.
    ("画面が固まっている。", "画面が固まってる。"),
    ("昨日から待っていました。", "昨日から待ってた。"),
    ("本を読んでいない。", "本を読んでない。"),
    ("間違えて消してしまった。", "間違えて消しちゃった。"),
    ("二重に引き落とされています。", "二重に引き落とされてる。"),
    ("楽しみにしています！", "楽しみにしてる！"),
    # のだ and んです are んだ, and だ after ん of 飲んだ is no copula.
    ("もう購入したいと思っているのです。", "もう購入したいと思ってるんだ。"),
    ("薬を飲んだんです。", "薬を飲んだんだ。"),
    ("朝から頭が痛いんですが、薬がありません。", "朝から頭が痛いんだけど、薬がないよ。"),
    # Nothing is added to what is said.
    ("リピ確定です！", "リピ確定だよ！"),
    ("いいえ、違います！", "いいえ、違うよ！"),
    ("急がないので、無理に来なくてよい。", "急がないから、無理に来なくていいよ。"),
    ("雪国であった。", "雪国だったよ。"),
    ("原因は不明である。", "原因は不明だよ。"),
    # んだけど waits for an answer.
    ("荷物が届きません。確認してください。", "荷物が届かないんだけど。確認してくれないかな。"),
    ("色が違います。交換してもらえますか。", "色が違うんだけど。交換してもらえる？"),
    ("原因は不明です。教えてほしいです。", "原因は不明なんだけど。教えてほしいな。"),
    ("友人が来ました。駅まで送ってくれました。", "友人が来たよ。駅まで送ってくれた。"),
    ("返事がなくて困っています。", "返事がなくて困ってるんだけど。"),
    # What is written and not said gives way.
    ("来たので、替えてほしいです。", "来たから、替えてほしいな。"),
    ("静かなので気に入っています。", "静かだから気に入ってる。"),
    ("箱が開いており、中が割れていました。", "箱が開いてて、中が割れてた。"),
    ("まだ届いておらず、不安です。", "まだ届いてなくて、不安だよ。"),
    ("内容を確認し、連絡しました。", "内容を確認して、連絡したよ。"),
    ("説明書を読んだが、分からない。", "説明書を読んだけど、分からないよ。"),
    # Questions, requests, greetings.
    ("いつ届くか。", "いつ届く？"),
    ("送料はかかるのか？", "送料はかかるの？"),
    ("いつ届きますか。", "いつ届く？"),
    ("届くのはいつですか。", "届くのはいつ？"),
    ("返品は可能か。", "返品は可能？"),
    ("どうして届かないんですか。", "どうして届かないの？"),
    ("返金してもらえますか。", "返金してもらえる？"),
    ("どこで受け取れるのでしょうか。", "どこで受け取れるのかな。"),
    ("間に合うだろうか。", "間に合うかな。"),
    ("早めに教えてください。", "早めに教えてくれないかな。"),
    ("気をつけて帰ってくださいね。", "気をつけて帰ってね。"),
    ("急に落ちてしまい、仕事になりません。", "急に落ちちゃって、仕事にならないよ。"),
    ("ご飯を飲み込んでしまい、むせました。", "ご飯を飲み込んじゃって、むせたよ。"),
    ("ありがとうございました。とても助かりました。", "ありがとう。とても助かったよ。"),
    ("交換をお願いします。", "交換をお願いね。"),
    ("よろしくお願いします。", "よろしくね。"),
    # Final particles are at home in speech.
    ("今日は寒いですね。", "今日は寒いね。"),
    ("いい店ですよね。", "いい店だよね。"),
    ("すぐ行きますよ。", "すぐ行くよ。"),
    ("もう届いたよ。", "もう届いたよ。"),
]
BAD_ENDINGS = re.compile("[いうくぐすつぬぶむるんっ]なんだ|んなん|んんだ")


@pytest.mark.parametrize(("text", "made"), EXACT)
def test_speech(text: str, made: str) -> None:
    assert convert_style(text, "casual").text == made


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("お待ちください。", "尊敬語 has no plain ending"),
        ("ご確認いただけますか。", "謙譲語 has no plain ending"),
        ("返金を希望いたします。", "謙譲語 has no plain ending"),
        ("クーポンはご利用できません。", "謙譲語 has no plain ending"),
        ("本日は晴天なり。", "文語 has endings of its own"),
        ("行きましょうか。", "the result reads as da"),
        ("犬及び猫を飼っています。", "a written form is left: 及び"),
        ("お大事にしてください。", "a set phrase"),
        ("名前を書いてくださいと言われました。", "a request inside the sentence"),
        ("すみません、遅れます。", "a set phrase: すみません"),
    ],
)
def test_what_it_is_not_sure_of_is_refused(text: str, why: str) -> None:
    made = convert_style(text, "casual")
    assert made.text == ""
    assert made.refused.startswith(why)


def test_not_every_sentence_ends_in_yo() -> None:
    text = "荷物が届かない。追跡も動かない。電話もつながらない。何も分からない。"
    made = convert_style(text, "casual").text
    assert made == "荷物が届かないよ。追跡も動かない。電話もつながらないよ。何も分からない。"


def test_quotations_stay() -> None:
    made = convert_style("画面に「更新しています」と出ている。", "casual").text
    assert made == "画面に「更新しています」と出てる。"


@given(
    st.text(
        st.sampled_from("荷物が届いていないのではです。ますか？「」しまうだ行く高い飲んだ"),
        max_size=30,
    )
)
def test_any_text_is_refused_or_becomes_casual(text: str) -> None:
    made = convert_style(text, "casual")
    if made.text and not made.unchanged:
        assert analyze_register(made.text).register.name == "casual"
        assert convert_style(made.text, "casual").text == made.text
        assert len(BAD_ENDINGS.findall(made.text)) <= len(BAD_ENDINGS.findall(text))
