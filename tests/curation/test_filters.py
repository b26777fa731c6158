from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from japagen.config.curation import Curation
from japagen.curation import filters
from japagen.curation.filters import curate, treat_personal_data
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.japanese.morphology import Tagger
from japagen.japanese.pii.detector import find_personal_data
from tests.japanese.test_morphology import build_user_dictionary

GOLD = Dataset.of([Example("先週注文した掃除機がまだ届きません。", "配送", split="train")])
PHRASES = ["来週の予定を確認したいです。いつ分かりますか。"]


def _filter_of(text: str, label: str = "配送", **settings: object) -> str | None:
    dataset = Dataset.of([Example(text, label)])
    curated = curate(dataset, Curation.model_validate(settings), GOLD, PHRASES)
    return curated[0].rejected.filter if curated[0].rejected else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("\u200b　", "empty"),
        ("はい。", "too_short"),
        ("荷" * 301, "too_long"),
        ("Where is my package now?", "not_japanese"),
        ("12345 67890 !!!", "not_japanese"),
        ("届かない届かない届かない届かない届かない", "repetitive"),
        ("分類：配送 荷物が届きません。", "prompt_echo"),
        ("## 問い合わせの例です", "prompt_echo"),
        ("来週の予定を確認したいです。いつ分かりますか。", "prompt_echo"),
        ("先週注文した掃除機がまだ届きません。", "gold_copy"),
        ("先週注文した掃除機がまだ届きません！！", "gold_copy"),
        ("ﾌﾟﾘﾝﾀｰが動かないので見てもらえますか。", None),
        ("iPhone の Bluetooth 設定を教えてほしい", None),
        ("先週注文したカメラが昨日やっと届きました。", None),
    ],
)
def test_each_filter_rejects_what_it_is_for(text: str, expected: str | None) -> None:
    assert _filter_of(text) == expected


def test_a_label_name_is_only_a_leak_where_the_task_says_so() -> None:
    text = "配送の日を変えていただけますか。"
    assert _filter_of(text) is None
    assert _filter_of(text, forbid_label_name=True) == "label_name"
    assert _filter_of(text, label="返品", forbid_label_name=True) is None


def test_forbidden_words_are_found_in_any_width() -> None:
    assert _filter_of("ｱﾏｿﾞﾝで買いました。", forbidden_words=["アマゾン"]) == "forbidden_word"


def test_the_first_of_equal_texts_is_kept_whatever_its_width() -> None:
    dataset = Dataset.of(
        [
            Example("荷物１個が届きません", "配送"),
            Example("荷物1個が届きません", "返品"),
            Example("荷物2個が届きません", "配送"),
        ]
    )
    first, second, third = curate(dataset, Curation())
    assert first.rejected is None
    assert second.rejected == Rejection("duplicate", 1, 0, first.id)
    assert third.rejected is None


def test_a_rejection_says_what_was_measured_and_the_bound() -> None:
    dataset = Dataset.of([Example("先週注文した掃除機がまだ届きません！", "配送")])
    rejected = curate(dataset, Curation(max_gold_overlap=0.5), GOLD)[0].rejected
    assert rejected is not None
    assert rejected.filter == "gold_copy"
    assert 0.5 < rejected.value < 1
    assert rejected.threshold == 0.5
    assert rejected.detail == GOLD[0].text


def test_nothing_vanishes_and_earlier_rejections_stay() -> None:
    earlier = Rejection("truncated", 120, 120)
    dataset = Dataset.of([Example("荷物が届き", "配送", rejected=earlier), Example("", "配送")])
    curated = curate(dataset, Curation(), GOLD)
    assert curated.column("id") == dataset.column("id")
    assert curated[0].rejected == earlier


def test_both_sides_of_a_pair_are_looked_at() -> None:
    dataset = Dataset.of(
        [Example("男性が走っています。", "含意", text_pair="A man is running in the park.")]
    )
    rejected = curate(dataset, Curation())[0].rejected
    assert rejected is not None
    assert rejected.filter == "not_japanese"


PASSAGE = "フロントは二十四時間開いており、朝食は一階の食堂で六時半から十時まで用意している。"


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("朝食は一階の食堂で六時半から十時まで用意しているそうで、助かりました。", True),
        ("朝食は六時半からで、早く出る日にもゆっくり食べられました。", False),
        ("一階の食堂は広く、フロントの人も親切でした。", False),
    ],
)
def test_copies_of_passages_are_rejected(text: str, copied: bool) -> None:
    made = curate(Dataset.of([Example(text)]), Curation(), passages=[PASSAGE])
    rejection = made[0].rejected
    if not copied:
        assert rejection is None
        return
    assert rejection is not None
    assert (rejection.filter, rejection.threshold) == ("passage_copy", 15)
    assert rejection.detail in PASSAGE
    assert rejection.value == len(rejection.detail)
    loose = Curation(max_passage_copy=60, max_gold_overlap=1.0)
    assert curate(Dataset.of([Example(text)]), loose, passages=[PASSAGE])[0].rejected is None


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


def test_a_rewrite_keeps_what_its_parent_says_and_loses_what_it_adds() -> None:
    child = Example("担当の山田さんと090-1234-5678で話した。", id="a-r", parent_id="a")
    both = Dataset.concat([ROWS, Dataset.of([child])])
    twice = treat_personal_data(both, "mask", first=3)
    assert twice.texts[:3] == ROWS.texts
    assert twice[3].text == "担当の山田さんと〔電話番号〕で話した。"


def test_what_a_parent_says_is_masked_in_its_child_too_where_neither_was_treated() -> None:
    rows = Dataset.of([ROWS[0], Example("03-1234-5678へどうぞ。", "配送", parent_id="a", id="d")])
    assert treat_personal_data(rows, "mask")[1].text == "〔電話番号〕へどうぞ。"


def test_rows_that_passed_before_are_compared_with_and_not_judged_again() -> None:
    old = [
        Example("短い。", "配送", id="a"),
        Example("返品の送料は誰が払うのですか。", "返品", id="b"),
    ]
    new = [
        Example("返品の送料は誰が払うのですか。", "返品", id="c"),
        Example("短い。", "配送", id="d"),
    ]
    kept = curate(Dataset.of([*old, *new]), Curation(), first=2)
    found = [e.rejected.filter if e.rejected else None for e in kept]
    assert found == [None, None, "duplicate", "too_short"]


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


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(filters) == (0, 12)
