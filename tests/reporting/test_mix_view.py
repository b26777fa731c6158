from __future__ import annotations

import copy
from typing import Any, get_args

import pytest

from japagen.data.summary import RunSummary
from japagen.mixing.mix import Reason
from japagen.reporting.charts import banded_curves
from japagen.reporting.report import render_report
from japagen.reporting.sections_training import mix, worth
from japagen.reporting.text import LANGUAGES, Words
from tests.report_sample import sample_run

_read = RunSummary.model_validate


@pytest.fixture(scope="module")
def sample() -> tuple[dict[str, Any], Any]:
    return sample_run()


def _with_worth(metrics: dict[str, Any], **values: Any) -> dict[str, Any]:
    metrics = copy.deepcopy(metrics)
    metrics["mix"]["curves"]["worth"] |= values
    return metrics


def test_what_the_texts_are_worth_is_said_with_its_interval(
    sample: tuple[dict[str, Any], Any],
) -> None:
    metrics = sample[0]
    said = worth(_read(metrics), Words("en"))
    assert said is not None
    assert "about 4.7 more gold texts per label" in said
    assert "−1.2 to more than 14" in said
    said = worth(_read(metrics), Words("ja"))
    assert said is not None
    assert "約 4.7 件" in said
    assert "−1.2 ～ 14 件超" in said


def test_worthless_texts_and_those_beyond_the_curve(sample: tuple[dict[str, Any], Any]) -> None:
    worthless = _read(_with_worth(sample[0], texts=-3.2, low=-9.0, high=2.0))
    none = worth(worthless, Words("en"))
    assert none is not None
    assert "stands for no additional gold text" in none
    # The first screen says so in words; the interval is told where the curves are.
    assert "−9" not in none
    told = worth(worthless, Words("en"), figures=True)
    assert told is not None
    assert told.startswith(none)
    assert "0 or fewer gold texts per label (95% interval −9 to 2)" in told
    beyond = worth(_read(_with_worth(sample[0], texts=None, low=2.0)), Words("en"))
    assert beyond is not None
    assert "beyond the measured curve" in beyond


@pytest.mark.parametrize("language", LANGUAGES)
def test_gold_alone_is_the_verdict_where_synthetic_text_was_not_used(
    sample: tuple[dict[str, Any], Any], language: Any
) -> None:
    metrics = copy.deepcopy(sample[0])
    metrics["mix"] |= {"share": 0.0, "reason": "unreliable"}
    words = Words(language)
    html = render_report(_read(metrics), sample[1], language=language)
    assert words("verdict.not_used") in html
    assert words("mix.unreliable") in html
    assert words("verdict.no_clear_difference", added=words("added.synthetic")) not in html
    metrics["scores"] = None
    assert words("verdict.not_used") in render_report(_read(metrics), sample[1], language=language)


def test_a_mix_that_could_not_be_measured_shows_no_curves(
    sample: tuple[dict[str, Any], Any],
) -> None:
    metrics = copy.deepcopy(sample[0])
    for name in ("provenance", "folds", "curves"):
        del metrics["mix"][name]
    found = mix(_read(metrics), Words("en"))
    assert found is not None
    assert found["chart"] is found["worth"] is None
    assert [name for name, _ in found["facts"]] == ["Synthetic share of the training loss", "Why"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_source_stands_with_its_reliability_and_the_counts_behind_it(
    sample: tuple[dict[str, Any], Any], language: Any
) -> None:
    metrics, words = copy.deepcopy(sample[0]), Words(language)
    known = metrics["mix"]["sources"]["generator"]
    unknown = {**known, "text_weight": 0.0, "reliability": None}
    metrics["mix"]["sources"]["<他社>"] = unknown
    found = mix(_read(metrics), words)
    assert found is not None
    own, other = found["sources"]
    texts = words.count(known["texts"])
    mean = words.number(known["reliability"]["mean"])
    assert own[1] == texts
    assert own[2].startswith(f"{mean} [")
    assert own[3:] == (words.number(known["text_weight"]), words.share(0.4))
    assert other[2:] == (words("not_measured"), words.number(0.0), words.share(0.0))
    # Who was never checked has no evidence to tell of.
    (sentence,) = found["sentences"]
    evidence = known["reliability"]["evidence"]
    for name in ("recognized", "gold", "agreed", "texts", "transferred"):
        assert words.count(evidence[name]) in sentence
    html = render_report(_read(metrics), sample[1], language=language)
    assert sentence in html
    assert "&lt;他社&gt;" in html


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_has_its_sentence(sample: tuple[dict[str, Any], Any], reason: str) -> None:
    metrics = copy.deepcopy(sample[0])
    metrics["mix"]["reason"] = reason
    assert Words("ja")(f"mix.{reason}") in render_report(_read(metrics), sample[1])


def test_curves_stay_inside_the_picture() -> None:
    svg = banded_curves(
        "c", "題", [("左", [(2, 1.0, 0.9, 1.2), (14, 0.5, 0.4, 0.7)]), ("右", [(0, 0.5, 0.4, 0.7)])]
    )
    assert svg.count("<title>") == 1
    assert ">14<" in svg
    assert ">1.20<" in svg
