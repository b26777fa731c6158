from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.japanese.pii.detector import (
    KINDS,
    find_personal_data,
    mask_personal_data,
    replace_personal_data,
)
from japagen.japanese.pii.patterns import is_card_number, is_corporate_number, is_my_number

HERE = Path(__file__).parent
# Fragments that meet in ordinary text, so that hypothesis tries their neighbourhoods.
PIECES = st.lists(
    st.sampled_from(
        [
            *(
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
            ),
            *("０９０ー１２３４ー５６７８", "03-1234-5678", "taro@example.com", "〒100-0001"),
            *("東京都千代田区丸の内1-2-3", "1985年4月12日生まれ", "4111 1111 1111 1111"),
            *("マイナンバー123456789018", "普通1234567", "旅券番号TK1234567"),
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


@pytest.mark.parametrize(("text", "wanted"), lines("personal_data.tsv"))
def test_fakes_are_the_same_for_the_same_seed_and_never_the_original(
    text: str, wanted: set[tuple[str, str]]
) -> None:
    made = replace_personal_data(text, seed=7)
    assert made == replace_personal_data(text, seed=7)
    assert not any(original in made for _, original in wanted)
    assert (made == text) == (not wanted)


@settings(max_examples=30, deadline=None)
@given(PIECES, st.integers(min_value=-(2**40), max_value=2**40))
def test_any_text_and_seed_give_a_fake(text: str, seed: int) -> None:
    assert replace_personal_data(text, seed) == replace_personal_data(text, seed)


@pytest.mark.parametrize(
    "number",
    [
        "03-1234-5678",
        "09012345678",
        "０９０ー１２３４ー５６７８",
        "+81-3-1234-5678",
        "0120-123-456",
    ],
)
def test_a_fake_telephone_number_keeps_its_form_and_reaches_nobody(number: str) -> None:
    for seed in range(20):
        made = replace_personal_data(f"電話は{number}です", seed)[3:-2]
        assert len(made) == len(number)
        assert [c for c in made if not c.isdigit()] == [c for c in number if not c.isdigit()]
        assert not phonenumbers.is_valid_number(phonenumbers.parse(made, "JP"))


def test_fake_numbers_fail_their_check_digit() -> None:
    for seed in range(20):
        text = "マイナンバー123456789018、法人番号6012345678901、カードは4111 1111 1111 1111"
        made = replace_personal_data(text, seed)
        mine, company, card = made.split("、")
        assert not is_my_number(mine[-12:])
        assert not is_corporate_number(company[-13:])
        assert not is_card_number(card[-19:].replace(" ", ""))


def test_one_person_keeps_one_fake_name_throughout_a_dataset() -> None:
    whole = replace_personal_data("山田太郎と申します", seed=5)
    family = replace_personal_data("昨日、山田さんに会った", seed=5)
    assert family[3:5] == whole[:2]
    assert "山田" not in whole + family


def test_a_fake_keeps_the_width_and_the_prefecture() -> None:
    assert replace_personal_data("電話は０３−１２３４−５６７８", seed=1)[3:5] == "０３"
    made = replace_personal_data("大阪府大阪市北区梅田三丁目1番3号まで", seed=1)
    assert made.startswith("大阪府大阪市北区")
    assert "梅田" not in made


def test_masks_name_the_kind() -> None:
    assert mask_personal_data("佐藤さん（03-1234-5678）") == "〔氏名〕さん（〔電話番号〕）"
