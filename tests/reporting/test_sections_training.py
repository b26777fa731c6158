from __future__ import annotations

import copy
from typing import Any

import pytest

from japagen.data.summary import RunSummary
from japagen.reporting.report import render_report
from japagen.reporting.sections_training import economics, headline, scale
from japagen.reporting.text import LANGUAGES, Words
from tests.report_sample import sample_run

_read = RunSummary.model_validate


@pytest.fixture(scope="module")
def sample() -> tuple[dict[str, Any], Any]:
    return sample_run()


def test_the_headline_has_texts_hours_and_yen_with_the_interval(
    sample: tuple[dict[str, Any], Any],
) -> None:
    # 4.7 per label, 4 labels, 100 texts and 2,000 yen an hour; from -1.2 to past the curve at 14.
    said = headline(_read(sample[0]), Words("en"))
    assert said is not None
    assert "about 18.8 texts over 4 labels, 0.188 hours, 376 yen" in said
    assert "(95% interval −96 yen to more than 1,120 yen)" in said
    assert "it may save no work" in said
    said = headline(_read(sample[0]), Words("ja"))
    assert said is not None
    assert "約 18.8 件、0.188 時間、376 円分" in said
    assert "−96 円 ～ 1,120 円超" in said
    assert "節約にならない可能性" in said


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_stands_on_the_first_screen_and_in_its_section(
    sample: tuple[dict[str, Any], Any], language: Any
) -> None:
    words = Words(language)
    html = render_report(_read(sample[0]), sample[1], language=language)
    first = html[: html.index('id="scores"')]
    hours = sample[0]["economics"]["labelling"]["hours"]["value"]
    assert words("tile.saved_hours", hours=f"{hours:.1f}") in first
    assert html.count(str(headline(_read(sample[0]), words))) == 1
    for name in ("economics", "economics.queries", "economics.assumed", "economics.price_given"):
        assert words(name) in html


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("state", ["none", "not_used", "worse", "not_measured"])
def test_without_worth_there_is_no_headline_but_a_reason(
    sample: tuple[dict[str, Any], Any], state: str, language: Any
) -> None:
    metrics, words = copy.deepcopy(sample[0]), Words(language)
    metrics["economics"]["labelling"] = {"state": state}
    assert headline(_read(metrics), words) is None
    shown = economics(_read(metrics), words)
    assert shown is not None
    assert shown["said"] == words(f"economics.{state}")
    assert shown["saved"] == []


def test_worth_past_the_curve_is_a_lower_bound(sample: tuple[dict[str, Any], Any]) -> None:
    metrics = copy.deepcopy(sample[0])
    labelling = metrics["economics"]["labelling"]
    labelling["state"] = "beyond"
    for name in ("per_label", "texts", "hours", "yen"):
        labelling[name] |= {"value": None, "low": 2.0}
    said = headline(_read(metrics), Words("en"))
    assert said is not None
    assert "more than 56 texts" in said
    assert "it may save no work" not in said
    shown = economics(_read(metrics), Words("ja"))
    assert shown is not None
    # Hours and yen are no texts.
    assert [row[1] for row in shown["saved"]] == ["14 超", "56 超", "0.56 超", "1,120 超"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("state", ["never", "not_measured"])
def test_no_break_even_says_why(
    sample: tuple[dict[str, Any], Any], state: str, language: Any
) -> None:
    metrics, words = copy.deepcopy(sample[0]), Words(language)
    metrics["economics"]["break_even"] = {"state": state}
    metrics["economics"]["query"]["llm"] |= {"yen": None, "tokens": None}
    shown = economics(_read(metrics), words)
    assert shown is not None
    assert shown["break_even"] == words(f"economics.break_even.{state}")
    assert shown["queries"][0][1] == words("not_measured")
    assert shown["queries"][2][1] == words("economics.unset")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_run_of_an_earlier_version_has_no_figures(
    sample: tuple[dict[str, Any], Any], language: Any
) -> None:
    metrics = {key: value for key, value in sample[0].items() if key != "economics"}
    assert economics(_read(metrics), Words(language)) is None
    assert headline(_read(metrics), Words(language)) is None
    assert Words(language)("economics") in render_report(
        _read(metrics), sample[1], language=language
    )


def test_tests_of_the_task_are_on_the_first_screen(sample: tuple[dict[str, Any], Any]) -> None:
    results = [
        {"name": "macro_f1", "kind": "least", "bound": 0.8, "found": 0.868, "passed": True},
        {"name": "leakage", "kind": "most", "bound": 0.1, "found": 0.545, "passed": False},
        {"name": "register_match", "kind": "least", "bound": 0.9, "found": None, "passed": False},
    ]
    metrics = {**sample[0], "tests": results}
    html = render_report(_read(metrics), sample[1], language="en")
    first = html[: html.index('id="tiles"')]
    assert "2 of 3 tests of the task file failed." in first
    for shown in ("at least 0.8", "at most 0.1", "0.545", "not measured", "passed", "failed"):
        assert shown in first
    html = render_report(_read({**metrics, "tests": results[:1]}), sample[1], language="ja")
    assert "1 件のテストにすべて合格しました" in html[: html.index('id="tiles"')]
    assert "合格" not in render_report(_read(sample[0]), sample[1])


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_scores_share_one_axis(sample: tuple[dict[str, Any], Any], language: Any) -> None:
    found = scale(_read(sample[0]), Words(language))
    assert found is not None
    measured = [row for row in sample[0]["scores"]["baselines"] if row["reason"] is None]
    assert len(found["rows"]) == len(measured) + 2
    assert [row["own"] for row in found["rows"][-2:]] == ["gold", "synthetic"]
    for row in found["rows"]:
        low, at, high = (float(row[place]) for place in ("low", "at", "high"))
        assert 0 <= low < at < high <= 100
    ordered = sorted(found["rows"], key=lambda row: float(row["at"]))
    assert [row["shown"] for row in ordered] == sorted(row["shown"] for row in found["rows"])
