from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.data.files import parse_yaml, to_yaml
from japagen.errors import JapagenError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("day: 2024-02-30", "day is out of range"),
        ("n: " + "9" * 5000, "4300 digits"),
        ("!!int x", "invalid literal"),
        ("!!bool maybe", "its tag does not allow"),
        ("!!timestamp x", "failed to construct timestamp"),
        ("!!python/object:os.system x", "could not determine a constructor"),
        ("[" * 1000, "too many values within values"),
        ("&a [*a]", "aliases that come to more than 1,000,000 values"),
    ],
)
def test_what_a_loader_trips_over_is_one_error(text: str, found: str) -> None:
    with pytest.raises(JapagenError, match=f"^Expected YAML in task.yaml, found .*{found}"):
        parse_yaml(text, "task.yaml")


@pytest.mark.parametrize("way", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_cannot_blow_up(way: str) -> None:
    lines = ["a0: &a0 {k: 1}"]
    for i in range(1, 9):
        lines.append(f"a{i}: &a{i} {way.format(', '.join([f'*a{i - 1}'] * 9))}")
    started = time.process_time()
    with pytest.raises(JapagenError, match="aliases that come to more than"):
        parse_yaml("\n".join(lines), "task.yaml")
    assert time.process_time() - started < 5


_MARKS = [
    "- ",
    "a: ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "  ",
    "&a ",
    "*a",
    "<<: ",
    "'",
    '"',
    "> ",
    "\n",
]
_NAMES = ("int", "bool", "float", "null", "timestamp", "set", "omap", "pairs", "binary", "x")
_TAGS = [f"!!{name} " for name in _NAMES]
_VALUES = ["2024-02-30", "2024-13-01T25:61:61Z", "12:99:99", "1e999", "0x", "0b2", "~", "=", "日本"]
_PIECES = [*_MARKS, *_TAGS, *_VALUES, "!x ", "!<tag:x> ", "%YAML 1.1\n", "---\n", "#", "\0", "\t"]


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join) | st.text(max_size=20))
def test_any_text_is_read_or_refused_with_one_error(text: str) -> None:
    found = None
    try:
        parse_yaml(text, "task.yaml")
    except JapagenError as error:
        found = error
    if found:
        assert found.message.startswith("Expected YAML in task.yaml, found ")
        assert "\n" not in found.message
        assert found.hint


_TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"])) | st.sampled_from(
    ["yes", "no", "on", "y", "12:30", "1e3", "010", "08", "0o7", "~", "<<", "=", "a\nb"]
)
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9)) | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(_PLAIN, st.booleans())
def test_what_is_written_is_read_again(value: object, flow: bool) -> None:
    assert parse_yaml(to_yaml(value, flow), "it") == value


def test_words_of_old_yaml_stay_texts_and_are_quoted_for_its_readers() -> None:
    assert parse_yaml("[yes, no, on, n, 12:30]", "it") == ["yes", "no", "on", "n", "12:30"]
    assert to_yaml({"no": "12:30"}) == "'no': '12:30'\n"
