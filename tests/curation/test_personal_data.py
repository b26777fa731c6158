from __future__ import annotations

from pathlib import Path

import pytest

from japagen.curation.filters import curate
from japagen.curation.personal_data import treat_personal_data
from japagen.examples import Dataset, Example
from japagen.japanese.morphology import Tagger
from japagen.japanese.pii import find_personal_data
from japagen.tasks.settings import Curation
from tests.japanese.test_morphology import build_user_dictionary

ROWS = Dataset.of(
    [
        Example("担当の山田さんに03-1234-5678で連絡しました。", "配送", id="a"),
        Example("昨日、山田さんから返事がありました。", "配送", id="b"),
        Example("注文番号0312345678の荷物が届きません。", "配送", id="c"),
    ]
)


@pytest.mark.parametrize("action", ["flag", "reject", "ignore"])
def test_texts_stay_unless_they_are_to_be_changed(action: str) -> None:
    assert treat_personal_data(ROWS, action).texts == ROWS.texts


def test_masked_texts_hold_no_personal_data() -> None:
    masked = treat_personal_data(ROWS, "mask")
    assert masked[0].text == "担当の〔氏名〕さんに〔電話番号〕で連絡しました。"
    assert masked[2].text == ROWS[2].text
    assert not any(find_personal_data(text) for text in masked.texts)


def test_fakes_agree_across_a_dataset_and_depend_on_the_seed() -> None:
    first, second, _ = treat_personal_data(ROWS, "replace", seed=3).texts
    name = second.removeprefix("昨日、").removesuffix("さんから返事がありました。")
    assert first.startswith(f"担当の{name}さん")
    assert "山田" not in first + second
    assert treat_personal_data(ROWS, "replace", seed=3).texts[:2] == [first, second]
    assert any(treat_personal_data(ROWS, "replace", seed=s).texts[1] != second for s in range(5))


def test_a_rewrite_keeps_the_fakes_of_its_parent_and_loses_what_it_adds() -> None:
    once = treat_personal_data(ROWS, "replace", seed=3)
    child = Example(
        once[0].text.replace("しました", "した") + "090-1234-5678にも。", id="a-r", parent_id="a"
    )
    twice = treat_personal_data(Dataset.concat([once, Dataset.of([child])]), "replace", seed=3)
    assert twice[3].text.startswith(once[0].text.replace("しました。", ""))
    assert "090-1234-5678" not in twice[3].text


def test_a_text_with_personal_data_is_turned_down_where_the_task_says_so() -> None:
    curated = curate(ROWS, Curation(personal_data="reject"))
    assert [r and r["filter"] for r in curated.column("rejected")] == ["personal_data"] * 2 + [None]
    rejected = curated[0].rejected
    assert rejected is not None
    assert rejected.value == 2
    assert rejected.detail == "name, phone"
    assert curate(ROWS, Curation()).kept_mask.all()


def test_names_of_the_user_dictionary_are_turned_down_too(tmp_path: Path) -> None:
    rows = Dataset.of([Example("担当の青電池さんに聞きました。", "配送")])
    settings = Curation(personal_data="reject")
    (by_default,) = curate(rows, settings)
    assert by_default.rejected is None
    tagger = Tagger(build_user_dictionary(tmp_path, "青電池", ("人名", "姓")))
    (rejected,) = curate(rows, settings, tagger=tagger)
    assert rejected.rejected is not None
    assert (rejected.rejected.filter, rejected.rejected.detail) == ("personal_data", "name")
