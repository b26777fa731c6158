from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.japanese.pii.detector import KINDS, find_personal_data, mask_personal_data

HERE = Path(__file__).parent
# Fragments that meet in ordinary text, so that hypothesis tries their neighbourhoods.
PIECES = st.lists(
    st.sampled_from(
        [
            "佐藤さん",
            "田中と申します",
            "ﾔﾏﾀﾞ",
            "\u200b",
            "㈱",
            "、",
            "。",
            " ",
            "が",
            "1,200円",
            "０９０ー１２３４ー５６７８",
            "03-1234-5678",
            "taro@example.com",
            "〒100-0001",
            "東京都千代田区丸の内1-2-3",
            "1985年4月12日生まれ",
            "4111 1111 1111 1111",
            "マイナンバー123456789018",
            "普通1234567",
            "旅券番号TK1234567",
        ]
    )
    | st.text(max_size=5),
    max_size=8,
).map("".join)


def lines(name: str) -> list[tuple[str, set[tuple[str, str]]]]:
    """Lines of a list, each with the kinds and texts to be found."""
    found = []
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            wanted, _, text = line.partition("\t")
            pairs = (w.partition(":") for w in wanted.split("|") if w)
            found.append((text, {(kind, value) for kind, _, value in pairs}))
    return found


@pytest.mark.parametrize(("text", "wanted"), lines("personal_data.tsv"))
def test_finds_what_is_personal_and_nothing_else(text: str, wanted: set[tuple[str, str]]) -> None:
    assert {(d.kind, d.text) for d in find_personal_data(text)} == wanted


def test_does_nearly_as_well_on_lines_written_after_the_rules() -> None:
    hits = extra = missed = 0
    for text, wanted in lines("personal_data_unseen.tsv"):
        found = {(d.kind, d.text) for d in find_personal_data(text)}
        hits += len(found & wanted)
        extra += len(found - wanted)
        missed += len(wanted - found)
    assert hits / (hits + extra) >= 0.9
    assert hits / (hits + missed) >= 0.85


def test_the_lists_are_large_and_hold_every_kind() -> None:
    listed = [*lines("personal_data.tsv"), *lines("personal_data_unseen.tsv")]
    assert len(listed) >= 200
    assert sum(not wanted for _, wanted in listed) >= 100
    assert {kind for _, wanted in listed for kind, _ in wanted} == set(KINDS)


@settings(max_examples=40, deadline=None)
@given(PIECES)
def test_offsets_are_those_of_the_given_text(text: str) -> None:
    found = find_personal_data(text)
    assert all(text[d.start : d.end] == d.text for d in found)
    assert all(a.end <= b.start for a, b in pairwise(found))


@settings(max_examples=40, deadline=None)
@given(PIECES)
def test_what_was_masked_is_not_found_again(text: str) -> None:
    masked = mask_personal_data(text)
    originals = {d.text for d in find_personal_data(text)}
    assert not originals & {d.text for d in find_personal_data(masked) if d.kind != "name"}


def test_masks_name_the_kind() -> None:
    assert mask_personal_data("佐藤さん（03-1234-5678）") == "〔氏名〕さん（〔電話番号〕）"
