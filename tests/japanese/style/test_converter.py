import doctest
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.errors import JapagenError
from japagen.japanese.morphology import Tagger
from japagen.japanese.register.detector import analyze_register
from japagen.japanese.style import conjugation, converter
from japagen.japanese.style.converter import Conversion, convert_style

Target = Literal["polite", "plain", "casual"]

TABLE = Path(__file__).with_name("conversion_table.tsv")
ROWS = [
    line.replace("\\n", "\n").split("\t")
    for line in TABLE.read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
# Class, context, then the polite, the plain and the casual forms: now, not, past, not past.
FORMS = [
    (row[1] + polite + "。", row[1] + plain + "。", row[1] + casual + "。")
    for name in ("verb_table.tsv", "adjective_table.tsv")
    for row in (
        line.split("\t")
        for line in Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    for polite, plain, casual in zip(row[2:6], row[6:10], row[10:14], strict=True)
    if polite != "-"
]
STYLES: dict[Target, tuple[str, ...]] = {
    "polite": ("teinei", "unknown"),
    "plain": ("da", "dearu", "unknown"),
}
_SPACED = (
    "です ます ました ません でした でしょう ましょう だ だった だろう である ない なかった た て "
    "のだ んです のです か よ ね が けど から ので し と 行き 行く 食べ 高い 高く 静か 学生 雨 "
    "ある い いる し する 、 。 ? 「 」 （ ） \n ! ｶﾞ ﾃﾞｽ １ \u3000 😊 っす っ お ご "
    "いただき ください"
)
PIECES = _SPACED.split(" ")
WILD = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.text(st.one_of(st.sampled_from("ですますだたない行。、「」\n\0\ud800ﾞﾟ゙"), st.characters())),
)


def test_the_table_is_whole() -> None:
    assert len(ROWS) >= 350
    assert all(len(row) == 4 and row[3] in ("both", "to_plain", "to_polite") for row in ROWS)
    # Two polite forms of one plain form differ on purpose; the same pair twice does not.
    assert len({(row[1], row[2]) for row in ROWS}) == len(ROWS)
    assert sum(row[3] == "both" for row in ROWS) >= 290


@pytest.mark.parametrize(
    ("polite", "plain"),
    [row[1:3] for row in ROWS if row[3] != "to_polite"],
)
def test_polite_becomes_plain(polite: str, plain: str) -> None:
    assert convert_style(polite, "plain") == Conversion(plain)


@pytest.mark.parametrize(
    ("polite", "plain"),
    [row[1:3] for row in ROWS if row[3] != "to_plain"],
)
def test_plain_becomes_polite(polite: str, plain: str) -> None:
    assert convert_style(plain, "polite") == Conversion(polite)


def test_the_tables_of_forms_are_whole() -> None:
    assert len(FORMS) == len(set(FORMS)) >= 850


@pytest.mark.parametrize(("polite", "plain", "casual"), FORMS)
def test_every_form_in_every_style(polite: str, plain: str, casual: str) -> None:
    assert convert_style(polite, "plain").text == plain
    assert convert_style(plain, "polite").text == polite
    assert convert_style(polite, "casual").text == casual
    assert convert_style(plain, "casual").text == casual


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ("ここに名前を書いてください。/押さないでください。/ご覧ください。", ""),
        ("資料をお送りします。/午後に伺います。/拝見しました。/教えていただけますか。", "謙譲語"),
        ("利用させていただきました。/東京から参りました。/田中と申します。", "謙譲語"),
        ("そのように存じます。/すぐに対応いたします。/係の者がおります。", "謙譲語"),
        ("先生がお帰りになりました。/ご注文はお決まりですか。/お客様がお待ちです。", "尊敬語"),
        ("明日はいらっしゃいますか。/どうなさいますか。", "尊敬語"),
        ("こちらでございます。/ありがとうございました。/おはようございます。", "ございます"),
        (
            "すみません。/失礼しました。/お疲れ様でした。/まことに恐縮です。/ご馳走様でした。",
            "set phrase",
        ),
        ("窓口でお支払します。/商品をお届けにあがります。", "謙譲語"),
        ("寒いですね。/行きますよ。/雨でしたよね。/どうですかね。/楽しみですな。", "particle"),
        ("彼が来ますと言いました。/無理ですって言いました。", ""),
        ("行きますか行きませんか。/それは何ですか。/誰ですか。", ""),
        ("無理ですか、残念です。/行きました、楽しかったです。", "comma"),
        ("行くです。/行きますです。/高いでした。", ""),
        ("よろしいですか。", "よろしい"),
        ("どうぞ、お茶です。/山の眺めはいかがでしたか。", "hearer"),
        ("お考えですか。/そうおっしゃらずに、来ます。/心配なさるとは意外です。", "尊敬語"),
        ("お招きいただいたので、喜んでいます。/先生が本をお読みくださいました。", ""),
        ("これが届きました品です。", "more of the sentence"),
        ("昼はパン(夜は米です)を食べます。", "aside"),
        ("先月、会議室で行いました。", "another word"),
        ("パンをきます。/机におきます。", "two verbs"),
        ("害しません。", "wavers"),
        ("今日は寒いです😊", "kudaketa"),
        ("行くよ。", "kudaketa"),
        ("美味しいデス。/やっぱりﾃﾞｽ行きますﾏｽます。", ""),
        ("知らへんです。", "dialect"),
    ],
)
def test_refusals_to_plain(texts: str, why: str) -> None:
    for text in texts.split("/"):
        done = convert_style(text, "plain")
        assert (text, done.text) == (text, "")
        assert why in done.refused, (text, done.refused)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ("早く走れ。/ここに座りなさい。/手を貸してくれ。", "command"),
        ("行くぞ。/困ったなあ。/どこへ行くの?/素敵だわ。/行くかな。", "counterpart"),
        ("ちょっと待って。/見ないで。", "no predicate"),
        ("もう行かん。/何も残るまい。/行かねばならぬ。", ""),
        ("寒かろう。/もう着いたろう。", ""),
        ("いい?/学生だ?/もう行かない?", "question"),
        ("いいじゃない。", "agreement"),
        ("雨だ、帰ろう。", "comma"),
        ("彼がいった。/魚をかった。/会議は行った。/寺に通った。", "two verbs"),
        ("紙をきる。", "two verbs"),
        ("めっちゃすごーい。", "drawn-out"),
        ("やばいっしょ。", ""),
        ("母が怒った。「もう嫌だ。」", "quotation"),
        ("いい店だね、また行く。", "comma"),
        ("知らへん。/雨や。/行くばい。", "dialect"),
        ("私が参る。", "would read as"),
        ("行くっす。", "copula"),
        ("渡したのは弟にだ。", "copula"),
        ("何だか。", ""),
    ],
)
def test_refusals_to_polite(texts: str, why: str) -> None:
    for text in texts.split("/"):
        done = convert_style(text, "polite")
        assert (text, done.text) == (text, "")
        assert why in done.refused, (text, done.refused)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "東京。", "体言止めの見出し", "Hello, world.", "😊", "ありがとう。", "\ud800"],
)
def test_a_text_without_a_predicate_stays(text: str) -> None:
    why = "no sentence ends in a predicate"
    for to in get_args(Target):
        assert convert_style(text, to) == Conversion(text, unchanged=why)


@pytest.mark.parametrize(
    ("text", "to"), [("雨です。", "polite"), ("雨だ。", "plain"), ("雨だよ。", "casual")]
)
def test_it_says_that_nothing_changed(text: str, to: Target) -> None:
    assert convert_style(text, to) == Conversion(text, unchanged=f"the text is {to} already")


@pytest.mark.parametrize(("to", "meant"), [("honorific", ""), ("keigo", ""), ("polit", "polite")])
def test_a_style_that_is_not_there_is_refused(to: str, meant: str) -> None:
    with pytest.raises(JapagenError, match="Use one of: polite, plain, casual") as caught:
        convert_style("雨です。", to)  # type: ignore[arg-type]
    assert f"found '{to}'" in str(caught.value)
    assert (f"did you mean '{meant}'" in str(caught.value)) == bool(meant)


def test_what_is_no_text_is_refused() -> None:
    for given_text in (None, ["雨です。"]):
        with pytest.raises(JapagenError, match="Expected a text"):
            convert_style(given_text, "plain")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("部屋が着けてらんない。", "部屋が着けていられません。"),
        ("やってらんない。", "やっていられません。"),
        ("理由がわかんない。", "理由がわかりません。"),
        ("どうすればいいんだ。", "どうすればいいんですか。"),
        ("何が起きたんだ。", "何が起きたんですか。"),
        ("なぜ行かなかったんだ。", "なぜ行かなかったんですか。"),
        ("誰もいないんだ。", "誰もいないんです。"),
        ("どう見ても変なんだ。", "どう見ても変なんです。"),
        ("どうして届かないのか知りたいんだ。", "どうして届かないのか知りたいんです。"),
        ("必要な書類は何か。", "必要な書類は何ですか。"),
        ("これ何の980円？", "これ何の980円ですか？"),
        ("明日ひま？", "明日ひまですか？"),
    ],
)
def test_questions_and_contractions_become_polite(text: str, made: str) -> None:
    assert convert_style(text, "polite").text == made


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("なぜ遅れたと思うんだ。", "a question inside the sentence: なぜ"),
        ("あれは何か。何か。", "a question or an indefinite word: 何か"),
        ("本日は晴天なり。", "文語 has endings of its own: 本日は晴天なり。"),
        ("とても丈夫だ。あ、値段相応かな。", "an ending without a polite counterpart: かな"),
    ],
)
def test_refusals_are_whole(text: str, why: str) -> None:
    assert convert_style(text, "polite") == Conversion("", why)


@pytest.mark.parametrize(
    ("raw", "to", "result"),
    [
        ("\u200b雨で\u200bす。", "plain", "\u200b雨だ。"),
        ("犬か\u3099好きです。\r\n\r\n雨です。", "plain", "犬か\u3099好きだ。\r\n\r\n雨だ。"),
        ("ｱﾌﾟﾘ は　便利だ｡ 〜", "polite", "ｱﾌﾟﾘ は　便利です｡ 〜"),
        ("㈱の値段は㍻だ。", "polite", "㈱の値段は㍻です。"),
    ],
)
def test_the_rest_stays_byte_for_byte(raw: str, to: Target, result: str) -> None:
    assert convert_style(raw, to) == Conversion(result)


@settings(max_examples=400, deadline=None)
@given(WILD, st.sampled_from(["polite", "plain"]))
def test_any_text_is_converted_or_refused(text: str, to: Target) -> None:
    done = convert_style(text, to)
    assert not (done.text and done.refused)
    if done.refused:
        return
    report = analyze_register(done.text)
    # 了解😊 is casual without a predicate to convert.
    assert report.style in STYLES[to] or done.unchanged
    # Once there, it stays.
    assert convert_style(done.text, to).text == done.text


@settings(max_examples=200, deadline=None)
@given(WILD, st.sampled_from(["polite", "plain"]))
def test_a_text_in_the_style_asked_for_stays(text: str, to: Target) -> None:
    report = analyze_register(text)
    polite_left = any(e.kind == "teineigo" for e in report.evidence)
    if report.style in STYLES[to][:-1] and not (to == "plain" and polite_left):
        assert convert_style(text, to).text == text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([row for row in ROWS if row[3] == "both"]), min_size=1, max_size=4),
    st.sampled_from(["", "\n", "😀 "]),
)
def test_texts_of_several_sentences_come_back(rows: list[list[str]], between: str) -> None:
    polite = between.join(row[1] for row in rows)
    plain = convert_style(polite, "plain")
    if not plain.refused:
        assert convert_style(plain.text, "polite").text in ("", polite)


def test_an_own_tagger_can_be_given() -> None:
    assert convert_style("行きます。", "plain", tagger=Tagger()).text == "行く。"


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(converter) == (0, 4)
    assert doctest.testmod(conjugation) == (0, 2)
