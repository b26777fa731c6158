import json
import re
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.japanese.morphology import Tagger
from japagen.japanese.register.detector import RegisterAnalyzer, analyze_register
from japagen.japanese.registers import Register

WILD = st.text(
    st.one_of(
        st.sampled_from(
            "おご御覧になられるですますいただくださる食べ行くよねぞっすw。、!?「」()笑\n\0\ud800"
        ),
        st.characters(),
    ),
    max_size=60,
)


@settings(max_examples=30)
@given(st.lists(WILD, max_size=100))
def test_a_register_alone_is_the_one_reported(texts: list[str]) -> None:
    analyzer = RegisterAnalyzer()
    reported = [report.register for report in analyzer.analyze_all(texts)]
    assert [*analyzer.registers(texts)] == reported


def test_a_report_in_full() -> None:
    report = analyze_register("先生がお茶を召し上がりました。")
    assert report.register == Register("teinei", frozenset({"sonkeigo", "bikago"}))
    assert (report.style, report.channel, report.dialect) == ("teinei", "unknown", False)
    assert [e.surface for e in report.sonkeigo] == ["召し上がり"]
    assert report.kenjogo == ()
    assert [(e.surface, e.start) for e in report.bikago] == [("お茶", 3)]
    assert report.why == ""
    assert [(s.start, s.end, s.style) for s in report.sentences] == [(0, 15, "teinei")]
    meal = next(e for e in report.evidence if e.kind == "sonkeigo")
    assert (meal.start, meal.end, meal.rule) == (6, 11, "召し上がる")


@pytest.mark.parametrize(
    ("text", "style", "channel"),
    [
        ("結果を示す。差は大きい。", "da", "unknown"),
        ("結果を示す。差は大きいのである。", "dearu", "written"),
        ("昨日行った。楽しかったよ。", "kudaketa", "spoken"),
        ("お腹が空いた😭", "kudaketa", "spoken"),
        ("楽しいですね。", "teinei", "spoken"),
        ("東京です。東京だ。", "mixed", "unknown"),
        ("東京です。\n体言止め。", "teinei", "unknown"),
    ],
)
def test_style_and_channel_of_a_text(text: str, style: str, channel: str) -> None:
    report = analyze_register(text)
    assert (report.style, report.channel) == (style, channel)


def test_what_notebooks_show_marks_the_forms_and_is_escaped() -> None:
    shown = analyze_register("<b>先生</b>がお茶を召し上がりました。")._repr_html_()
    assert "&lt;b&gt;先生&lt;/b&gt;が" in shown
    assert ">召し上がり</mark><sub>sonkeigo</sub>" in shown
    assert "teinei, sonkeigo+bikago" in shown
    plain = re.sub("<sub>.*?</sub>|<p>|</p>|<mark.*?>|</mark>", "", shown.partition("</b><p>")[2])
    assert unescape(plain).removesuffix("</div>") == "<b>先生</b>がお茶を召し上がりました。"


def test_mixed_says_where() -> None:
    report = analyze_register("今日は雨です。明日は晴れだ。")
    assert report.why == "teinei at 0, da at 7: 明日は晴れだ。"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "The text is empty."),
        (" \n\t", "The text is empty."),
        ("😀🎉", "The text holds no Japanese."),
        ("Hello, world.", "The text holds no Japanese."),
        ("\x00\x07\u200b", "The text is empty."),
        ("12,345 (50%)", "The text holds no Japanese."),
        ("안녕하세요.", "The text holds no Japanese."),
        ("東京。", "No sentence ends in a predicate."),
    ],
)
def test_unknown_says_why(text: str, why: str) -> None:
    report = analyze_register(text)
    assert (report.style, report.why) == ("unknown", why)
    assert report.keico is report.keico_level is None
    assert report.sonkeigo == report.kenjogo == ()


@pytest.mark.parametrize(
    ("text", "style", "read"),
    [
        ("Please check。このPDFをご確認ください。Thanks!", "teinei", "ご確認ください"),
        ("이것은 책です。", "teinei", "です"),
        ("これはкнигаだよ。", "kudaketa", "だよ"),
        ("お待ち\x00し\x07て\u200bおります\x1b。", "teinei", "お待ちしております。"),
        ("行きます\r\n来ます\u2028帰ります", "teinei", "行きます\n来ます\n帰ります"),
        ("ﾃｽﾄﾃﾞｽ。ﾖﾛｼｸｵﾈｶﾞｲｼﾏｽ。", "teinei", "テストデス。"),
        ("😀お願いします🙏🏽", "teinei", "お願いします"),
        ("ＡＢＣ　とは　何ですか？", "teinei", "ABC とは 何ですか?"),
    ],
)
def test_mixed_and_broken_text_is_read(text: str, style: str, read: str) -> None:
    report = analyze_register(text)
    assert (report.style, read in report.text) == (style, True)


def test_half_width_kana_are_read() -> None:
    assert analyze_register("ｺﾝﾋﾟｭｰﾀです。").text == "コンピュータです。"


@pytest.mark.parametrize(
    "text",
    [
        # Each is read in three pieces.
        "あ" * 50_000,
        "Aあ漢ア😀" * 10_000,
        "お待ちしております。" * 5_000,
        "「" * 50_000,
        "行くよ\n" * 12_500,
        "(^" * 25_000,
    ],
    ids=["kana", "mixed", "sentences", "brackets", "lines", "faces"],
)
def test_very_long_texts_have_an_answer(text: str) -> None:
    assert analyze_register(text).text


@settings(max_examples=300, deadline=None)
@given(WILD)
def test_any_text_has_a_consistent_answer(text: str) -> None:
    report = analyze_register(text)
    for item in report.evidence:
        assert report.text[item.start : item.end] == item.surface != ""
    starts = [e.start for e in report.evidence]
    assert starts == sorted(starts)
    assert all(
        a.end <= b.start for a, b in zip(report.sentences, report.sentences[1:], strict=False)
    )
    assert Register.from_dict(json.loads(json.dumps(report.to_dict()))) == report.register
    assert (report.keico is None) == (report.style == "unknown")
    assert report.keico_level in (None, 1, 2, 3, 4)
    assert bool(report.why) == (report.style in ("unknown", "mixed"))


def test_an_own_tagger_can_be_given() -> None:
    assert analyze_register("行きます。", tagger=Tagger()).style == "teinei"
