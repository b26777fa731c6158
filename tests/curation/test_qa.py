from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.qa import QACuration
from japagen.curation.qa import (
    agreement,
    answer_key,
    character_f1,
    check_closed_book,
    check_options,
    check_question,
    check_round_trip,
    check_unanswerable,
    find_span,
    given_away,
    is_refusal,
    multiple_choice,
    points_beside,
    reject_alike,
    unanswerable,
)
from japagen.data.qa import NO_ANSWER, Question
from japagen.japanese.morphology import Tagger

TAGGER = Tagger()
PASSAGE = "通勤手当は１か月あたり\n4万5千円を上限とし、ＩＣカードで支払う。駐車場は無料である。"
ALPHABET = st.text(st.sampled_from("通勤手当は１1 か月\nｶﾞガＡa。㍻①円"), max_size=30)


def _question(question: str, answer: str, kind: str = "extractive") -> Question:
    return Question("q", kind, "d#1", question, answer, -1)  # type: ignore[arg-type]


def _filter(question: str, answer: str) -> str | None:
    checked = check_question(_question(question, answer), PASSAGE, QACuration(), TAGGER)
    return checked.rejected and checked.rejected.filter


@given(ALPHABET, st.data())
def test_every_part_of_a_passage_is_found_in_it(passage: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(passage)))
    end = data.draw(st.integers(start, len(passage)))
    answer = passage[start:end]
    span = find_span(passage, answer)
    if answer:
        assert span is not None
        assert passage[slice(*span)] == answer
        assert span[0] <= start


@given(ALPHABET, ALPHABET)
def test_a_span_reads_as_the_answer_does(passage: str, answer: str) -> None:
    span = find_span(passage, answer)
    if span is None:
        assert answer not in passage or not answer
    else:
        start, end = span
        assert 0 <= start < end <= len(passage)
        assert answer_key(answer) in answer_key(passage[start:end])


@pytest.mark.parametrize(
    ("answer", "span"),
    [
        ("4万5千円", "4万5千円"),
        ("1か月あたり4万5千円", "１か月あたり\n4万5千円"),
        ("ICカード", "ＩＣカード"),
        ("45,000円", None),
        ("", None),
    ],
)
def test_width_and_line_breaks_do_not_hide_a_span(answer: str, span: str | None) -> None:
    found = find_span(PASSAGE, answer)
    assert (found and PASSAGE[slice(*found)]) == span


def test_a_kept_question_has_its_answer_as_the_passage_writes_it() -> None:
    asked = _question("みなと生活の通勤手当は何で支払われますか。", "ICカード")
    checked = check_question(asked, PASSAGE, QACuration(), TAGGER)
    assert checked.rejected is None
    assert checked.answer == "ＩＣカード"
    assert PASSAGE[checked.start :].startswith(checked.answer)


@pytest.mark.parametrize(
    ("question", "answer", "filter_"),
    [
        ("通勤手当の上限はいくらですか。", "45,000円", "no_span"),
        ("通勤手当の上限はいくらですか。", PASSAGE[:20] * 4, "no_span"),
        ("通勤手当について。", "4万5千円", "no_question"),
        ("この規則では、通勤手当はいくらですか。", "4万5千円", "not_alone"),
        ("それの上限はいくらですか。", "4万5千円", "not_alone"),
        ("駐車場は無料ですか。", "無料", "gives_away"),
        ("通勤手当の上限を教えてください。", "4万5千円", None),
        ("通勤手当の上限は", "4万5千円", "no_question"),
    ],
)
def test_what_a_question_says_is_checked(question: str, answer: str, filter_: str | None) -> None:
    assert _filter(question, answer) == filter_


def test_a_long_answer_is_rejected_with_its_length() -> None:
    settings = QACuration(max_answer_characters=5)
    asked = _question("通勤手当の上限はいくらですか。", "4万5千円を上限とし")
    rejected = check_question(asked, PASSAGE, settings, TAGGER).rejected
    assert rejected is not None
    assert (rejected.filter, rejected.value, rejected.threshold) == ("long_answer", 10, 5)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("上記の手当はいくらですか。", ["上記"]),
        ("この文書の名前は何ですか。", ["この文書"]),
        ("本製品の重さはどのくらいですか。", ["本製品"]),
        ("それはいつまでに提出しますか。", ["それ"]),
        ("ここに書かれた期限はいつですか。", ["ここ"]),
        ("この休暇は何日ですか。", ["この"]),
        ("次のうち、正しいものはどれですか。", ["次のうち"]),
        # What is named before, and idioms.
        ("休暇届を出した後、その控えは何年保管しますか。", []),
        ("平日の注文は、その日のうちに発送されますか。", []),
        ("社員は、育児のほかにその他の理由で休めますか。", []),
        ("育児短時間勤務は、いつまでに申請しますか。", []),
        ("本人が療養するとき、何日休めますか。", []),
        ("日本の本州への配送には何日かかりますか。", []),
    ],
)
def test_words_that_point_beside_a_question_are_found(question: str, words: list[str]) -> None:
    assert points_beside(question, TAGGER) == words


def test_numbers_are_given_away_by_themselves_alone() -> None:
    assert given_away("到着から何日以内ですか。", "10日以内") == 0
    assert given_away("10日以内に返せばよいですか。", "10日以内") == 1
    assert given_away("担当は総務部ですか。", "総務部") == 1
    assert given_away("担当はどこですか。", "総務部") == 0


def test_agreement_is_f1_where_numbers_are_the_same() -> None:
    assert agreement("１，５００円", "1500円。") == 1
    assert agreement("1,500円", "1,600円") == 0
    assert agreement("20日前", "20日前まで") == pytest.approx(0.8)
    assert agreement("午前10時", "") == 0
    assert character_f1("積立休暇", "積立有給休暇") == pytest.approx(0.8)


@given(st.text(max_size=20), st.text(max_size=20))
def test_agreement_is_symmetric_and_a_share(one: str, other: str) -> None:
    assert 0 <= agreement(one, other) == agreement(other, one) <= 1
    assert agreement(one, one) == (1 if answer_key(one) else 0)


def test_near_duplicates_are_rejected_in_order() -> None:
    asked = [
        _question("静岡工場の早番は何時に始まりますか。", "午前6時"),
        _question("静岡工場の早番は何時に始まりますか？", "午前6時"),
        _question("福岡の受付は何時に終わりますか。", "午後5時"),
    ]
    found = reject_alike(asked, 0.7)
    assert [q.rejected and q.rejected.filter for q in found] == [None, "near_duplicate", None]


def test_the_round_trip_and_the_closed_book_are_recorded() -> None:
    asked = _question("上限はいくらですか。", "4万5千円")
    again = check_round_trip(asked, "4万5千円", 0.8)
    assert (again.round_trip, again.rejected) == ("4万5千円", None)
    wrong = check_round_trip(asked, "無料", 0.8).rejected
    assert wrong is not None
    assert (wrong.filter, wrong.value, wrong.threshold) == ("round_trip", 0, 0.8)
    known = check_closed_book(again, "4万5千円です", 0.7)
    assert known.rejected is not None
    assert (known.closed_book, known.rejected.filter) == ("4万5千円です", "closed_book")
    assert check_closed_book(again, NO_ANSWER, 0.7).rejected is None


@pytest.mark.parametrize("reply", [NO_ANSWER, "答えなし。", "分かりません", "記載されていません"])
def test_refusals_are_told_from_answers(reply: str) -> None:
    assert is_refusal(reply)
    assert check_unanswerable(unanswerable(_question("何ですか。", "青"), "d#2"), reply).kind == (
        "unanswerable"
    )


def test_an_answered_question_is_not_unanswerable() -> None:
    made = unanswerable(_question("何色ですか。", "青"), "d#2")
    assert (made.answer, made.start, made.parent_id) == ("", -1, "q")
    assert check_unanswerable(made, NO_ANSWER).rejected is None
    rejected = check_unanswerable(made, "赤").rejected
    assert rejected is not None
    assert (rejected.filter, rejected.detail) == ("answerable", "赤")


def _options(answer: str, *wrong: str) -> str | None:
    made = multiple_choice(_question("どれですか。", answer), wrong, range(4))
    assert set(made.options) == {answer, *wrong}
    checked = check_options(made, 4, TAGGER)
    return checked.rejected and checked.rejected.filter


@pytest.mark.parametrize(
    ("options", "filter_"),
    [
        (("10日", "7日", "14日", "30日"), None),
        (("10日", "7日", "14日", "一週間"), "other_kind"),
        (("総務部", "人事部", "経理部", "営業部"), None),
        (("総務部", "人事部", "経理部", "課長の承認を受けた後に申請する"), "other_kind"),
        (("総務部", "人事部", "経理部"), "bad_options"),
        (("総務部", "人事部", "人事部。", "経理部"), "bad_options"),
        (("総務部", "人事部", "経理部", "総務部の担当者"), "bad_options"),
        (("申請する", "届け出る", "電話する", "相談する"), None),
        (("申請する", "届け出る", "電話する", "総務部"), "other_kind"),
    ],
)
def test_options_are_of_one_kind_and_differ(options: tuple[str, ...], filter_: str | None) -> None:
    assert _options(*options) == filter_


def test_options_go_where_the_order_says() -> None:
    made = multiple_choice(_question("どれですか。", "ア"), ["イ", "ウ", "エ"], [2, 0, 3, 1])
    assert made.options == ("ウ", "ア", "エ", "イ")
    assert made.kind == "multiple_choice"
