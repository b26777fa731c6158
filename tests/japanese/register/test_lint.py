import doctest
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import japagen as jg
from japagen.errors import JapagenError
from japagen.japanese.register import lint
from japagen.japanese.register.lint import check_keigo, corrected

TABLE = Path(__file__).with_name("keigo_lint.tsv")
ROWS = [
    line.split("\t")
    for line in TABLE.read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
WRONG = [row for row in ROWS if row[0] != "-"]
RIGHT = [text for kind, text, _ in ROWS if kind == "-"]


def test_the_table_is_whole() -> None:
    assert len({text for _, text, _ in ROWS}) == len(ROWS) >= 300
    assert min(len(RIGHT), len(WRONG)) >= 150
    assert Counter(kind for kind, *_ in WRONG).keys() == {kind for kind, _ in lint._RULES} | {
        "sasete_itadaku"
    }


@pytest.mark.parametrize(("kind", "text", "right"), WRONG)
def test_misuse_is_found_and_corrected(kind: str, text: str, right: str) -> None:
    found = check_keigo(text)
    assert {f.kind for f in found} == {kind}
    assert corrected(text, found) == (text if right == "-" else right)


@pytest.mark.parametrize("text", RIGHT)
def test_right_keigo_is_let_be(text: str) -> None:
    assert check_keigo(text) == []


@pytest.mark.parametrize("text", [row[2] for row in WRONG if row[2] != "-"])
def test_a_correction_is_right_itself(text: str) -> None:
    assert check_keigo(text) == []


@pytest.mark.parametrize(
    "text",
    ["「社長がおっしゃられた。」と聞いた。", "ｻｷﾆ帰らさせていただきます。", "雨だ。\n海が見れる。"],
)
def test_a_finding_says_where_and_why_in_both_languages(text: str) -> None:
    [found] = jg.check_keigo(text)
    normalised = jg.analyze_register(text).text
    assert normalised[found.start : found.end] == found.surface
    assert found.why.endswith(".")
    assert json.loads(json.dumps(found.to_dict()))["why_ja"].endswith("。")


def test_every_reason_has_japanese() -> None:
    reasons = {f.why: f.why_ja for _, text, _ in WRONG for f in check_keigo(text)}
    assert len(reasons) >= 15
    assert all(ja != en and ja.endswith("。") for en, ja in reasons.items())


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(JapagenError, match="Expected a text, found list"):
        check_keigo(["行く。"])  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(
    st.text(
        st.sampled_from(
            "おご覧にならられるれさせていただくますか様方円から母が参申存じ。見食べ来\n「」 \ud800"
        ),
        max_size=40,
    )
)
def test_any_text_has_an_answer(text: str) -> None:
    for found in check_keigo(text):
        assert found.surface
        assert found.correction != found.surface


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(lint) == (0, 2)
