from __future__ import annotations

import json
from pathlib import Path

import pytest

from japagen.config.curation import Naturalness
from japagen.curation.naturalness import RULES, count_signs, unnatural
from japagen.data.dataset import Example, Rejection

POOL = Path(__file__).parents[2] / "configs" / "quickstart" / "pool.jsonl"


@pytest.mark.parametrize(
    ("sign", "text"),
    [
        (
            "repeated_words",
            "洗濯機の電源が入らず、洗濯機の電源が入らず、洗濯機の電源が入らず困っている。",
        ),
        ("unfinished", "ログインしようとしたら、画面が"),
        ("unfinished", "届いた荷物を開けたところ、"),
        ("unfinished", "昨日の夜に出発し"),
        ("unclosed", "係の方に「本日中に届きますと言われました。"),
        ("unclosed", "文字が\ufffd化けています。"),
        ("opening_formula", "以下に問い合わせの例を示します。"),
        ("opening_formula", "承知しました。文章を作成します。"),
        ("opening_formula", "例文1：荷物が届きません。"),
        ("can_do", "予約することができますし、変更することも、取り消すことが可能です。"),
        ("bullets", "・荷物が届かない ・電話がつながらない"),
        ("bullets", "**重要** 本日発送します。"),
        ("missing_particles", "雪降ってるしエアコン壊れたから布団かぶってる"),
        ("translationese", "彼は荷物を待った。それは最も大きな箱の一つであるという事実を知った。"),
        ("machine_phrases", "以上のことから、重要であると言えるでしょう。いかがでしたか。"),
    ],
)
def test_each_sign_is_counted(sign: str, text: str) -> None:
    assert count_signs(text)[sign]


@pytest.mark.parametrize(
    "text",
    [
        "荷物はいつ届きますか。",
        "まだ届いてないんだけど",
        "早く返事がほしい…",
        "教えて",
        "駅から近くて便利でした(^_^)",
        "とても満足です〜",
        "海を見ながらの露天風呂は最高なんだけどな・・・",
        "",
    ],
)
def test_natural_texts_have_no_sign(text: str) -> None:
    assert count_signs(text) == {}


def test_a_limit_is_what_may_be_and_none_allows_all() -> None:
    text = "・荷物が届かない ・電話がつながらない"
    assert unnatural(Example(text), Naturalness(bullets=1)) == Rejection("bullets", 2, 1, "・")
    assert unnatural(Example(text), Naturalness(bullets=2)) is None
    assert unnatural(Example(text), Naturalness(bullets=None)) is None
    assert (
        unnatural(Example("荷物はどこですか。", text_pair=text), Naturalness(bullets=0)) is not None
    )


def test_there_is_a_limit_for_every_rule() -> None:
    assert set(Naturalness.model_fields) == set(RULES)


def test_real_inquiries_are_seldom_rejected() -> None:
    texts = [json.loads(line)["text"] for line in POOL.read_text(encoding="utf-8").splitlines()]
    rejected = [t for t in texts if unnatural(Example(t), Naturalness())]
    assert len(rejected) <= 0.02 * len(texts)
