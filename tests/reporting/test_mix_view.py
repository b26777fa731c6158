from __future__ import annotations

import copy
from typing import Any, get_args

import pytest

from japagen.data.summary import Point, RunSummary
from japagen.mixing.mix import Reason
from japagen.reporting.report import render_report
from japagen.reporting.sections_training import mix, texts_for, worth
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


def test_what_the_texts_are_worth_is_said_with_its_interval_below(
    sample: tuple[dict[str, Any], Any],
) -> None:
    metrics = sample[0]
    said = worth(_read(metrics), Words("en"))
    assert said is not None
    assert "about 4.7 gold texts per label" in said
    told = worth(_read(metrics), Words("en"), figures=True)
    assert told is not None
    assert told.startswith(said)
    assert "−1.2 to over 14 gold texts per label, measured up to 14" in told
    said = worth(_read(metrics), Words("ja"), figures=True)
    assert said is not None
    assert "約 4.7 件分" in said
    assert "−1.2～14 超" in said


_CASES = [
    # The curves' estimate and its lower end, what the test texts say, and what is to be read.
    (4.7, 2.0, "better", "as much as labelling that many by hand"),
    (4.7, -1.2, "better", "a rough figure"),
    (4.7, -1.2, "no_clear_difference", "cannot be told from none"),
    (4.7, 2.0, "no_clear_difference", "the test texts show no clear difference"),
    (4.7, 2.0, "worse", "do not confirm it"),
    (-3.2, -9.0, "better", "the test texts, which count"),
    (-3.2, -9.0, "no_clear_difference", "stands for no additional gold text"),
    (-3.2, -9.0, "worse", "stands for no additional gold text"),
    (None, 2.0, "better", "more than 14 gold texts"),
]


@pytest.mark.parametrize(("texts", "low", "verdict", "expected"), _CASES)
def test_the_worth_does_not_contradict_the_verdict(
    sample: tuple[dict[str, Any], Any], texts: Any, low: float, verdict: str, expected: str
) -> None:
    metrics = _with_worth(sample[0], texts=texts, low=low)
    metrics["scores"]["verdict"] = verdict
    said = worth(_read(metrics), Words("en"))
    assert said is not None
    assert expected in said
    # An interval below 0 is for those who read on.
    assert "−" not in said
    said = worth(_read(metrics), Words("ja"))
    assert said is not None
    assert "−" not in said
    assert "0 件以下" not in said


def test_ten_texts_are_written_out_below_the_curve(sample: tuple[dict[str, Any], Any]) -> None:
    metrics = copy.deepcopy(sample[0])
    for place, point in enumerate(metrics["mix"]["curves"]["synthetic"]):
        point["per_label"] = 2.5 * place
    found = mix(_read(metrics), Words("ja"))
    assert found is not None
    assert "e+" not in "".join(drawn for _, drawn in found["charts"])


def test_texts_needed_follow_the_power_law_of_the_errors() -> None:
    points = [Point(n, 1.0, 1.0, 1.0, 1 - 0.8 * n**-0.5) for n in (2, 4, 8, 16)]
    # 1 - 0.9 = 0.8 n^-0.5 at n = 64.
    assert texts_for(0.9, points) == pytest.approx(64, rel=1e-6)
    assert texts_for(0.9, [Point(n, 1.0, 1.0, 1.0, 0.5) for n in (2, 4)]) is None
    assert texts_for(0.9, points[:1]) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_needed_are_said_and_not_read_off_too_far(
    sample: tuple[dict[str, Any], Any], language: Any
) -> None:
    metrics, words = copy.deepcopy(sample[0]), Words(language)
    for place, point in enumerate(metrics["mix"]["curves"]["gold"]):
        point["macro_f1"] = 0.74 + 0.001 * place
    found = mix(_read(metrics), words)
    assert found is not None
    last = metrics["mix"]["curves"]["gold"][-1]
    texts = words.count(8 * last["per_label"])
    said = words("needed.beyond.gold", goal="0.75", texts=texts, now="0.74", base="14")
    assert said in found["needed"]


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
    assert found["worth"] is None
    assert found["charts"] == found["needed"] == []
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
