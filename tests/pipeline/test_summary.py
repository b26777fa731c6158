from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from japagen.config.sections import Economics
from japagen.config.task import Task
from japagen.data.scores import ModelScores, ScoreSummary
from japagen.data.summary import Curves, LabelCounts, MixSummary, RunSummary, Worth
from japagen.pipeline import summary
from japagen.pipeline.summary import economics_of
from tests.report_sample import from_file, sample_run, small_summary

_SETTINGS = Economics(
    yen_per_hour=3000, texts_per_hour=60, queries_per_month=500, machine_yen_per_hour=36
)


_COST = {
    "answers": 50,
    "prompt_tokens": 9_000,
    "completion_tokens": 1_000,
    "request_seconds": 100.0,
    "yen": 20.0,
}


def _mix(texts: float | None) -> MixSummary:
    worth = Worth(texts, low=-1.5, high=None, base=14.0, limit=14.0, extrapolated=False)
    return MixSummary(share=0.4, reason="reliable", curves=Curves((), (), worth))


def _scores(verdict: str) -> ScoreSummary:
    return ScoreSummary(
        n=9, metric="macro_f1", metrics=["macro_f1"], with_synthetic=ModelScores(), verdict=verdict
    )


def _found(**changed: Any) -> RunSummary:
    known = {
        "mix": _mix(6.0),
        "scores": _scores("better"),
        "per_label": {label: LabelCounts(kept=9, weight_share=0.25) for label in "abcd"},
        "seconds": {"generate": 80.0, "train": 20.0},
        "cost": _COST,
    }
    return small_summary(**(known | changed))


def _economics(settings: Economics, found: RunSummary, **options: Any) -> dict[str, Any]:
    """What metrics.json says."""
    return economics_of(settings, found, **options).model_dump(exclude_unset=True)


def test_labelling_is_worth_times_labels_by_speed_and_wage() -> None:
    found = _economics(_SETTINGS, _found())["labelling"]
    assert found["texts"] == {"value": 24.0, "low": -6.0, "high": None, "limit": 56.0}
    assert found["hours"]["value"] == pytest.approx(24 / 60)
    assert found["yen"]["value"] == pytest.approx(1200)
    assert found["yen"]["low"] == pytest.approx(-300)
    assert found["yen"]["high"] is None
    assert found["yen"]["limit"] == pytest.approx(2800)


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"mix": MixSummary(share=0.0, reason="unreliable")}, "not_used"),
        ({"mix": MixSummary(share=0.4, reason="reliable")}, "not_measured"),
        ({"mix": None}, "not_measured"),
        ({"scores": _scores("worse")}, "worse"),
        ({"mix": _mix(0.0)}, "none"),
    ],
)
def test_no_saving_is_claimed_without_worth(changed: dict[str, Any], state: str) -> None:
    assert _economics(_SETTINGS, _found(**changed))["labelling"] == {"state": state}


def test_worth_past_the_curve_keeps_its_limit() -> None:
    labelling = _economics(_SETTINGS, _found(mix=_mix(None)))["labelling"]
    assert labelling["state"] == "beyond"
    assert labelling["hours"]["value"] is None
    assert labelling["hours"]["limit"] == pytest.approx(56 / 60)


def test_break_even_by_what_the_runs_own_answers_cost() -> None:
    found = _economics(_SETTINGS, _found(), latency=0.1)
    assert found["run"] == {
        "seconds": 100.0,
        "generator_yen": 20.0,
        "machine_yen": pytest.approx(1.0),
        "yen": pytest.approx(21.0),
    }
    llm, ours = found["query"]["llm"], found["query"]["classifier"]
    assert llm == {"tokens": 200.0, "seconds": 2.0, "yen": 0.4, "price": "measured"}
    assert ours == {"seconds": 0.1, "yen": pytest.approx(0.001)}
    # 21 / (0.4 - 0.001) = 52.6
    assert found["break_even"] == {"state": "reached", "queries": 53, "months": 53 / 500}


def test_a_given_price_comes_first() -> None:
    settings = _SETTINGS.model_copy(update={"llm_yen_per_1000": 1000.0})
    found = _economics(settings, _found())
    assert found["query"]["llm"]["yen"] == 1
    assert found["query"]["llm"]["price"] == "given"
    assert found["break_even"]["queries"] == 21


def test_no_price_is_made_up() -> None:
    cost = {name: value for name, value in _COST.items() if name != "yen"}
    found = _economics(_SETTINGS, _found(cost=cost))
    assert found["query"]["llm"]["yen"] is None
    assert found["query"]["llm"]["tokens"] == 200
    assert found["run"]["yen"] is None
    assert found["break_even"] == {"state": "not_measured"}
    assert _economics(_SETTINGS, _found(cost=cost), free=True)["run"]["generator_yen"] == 0
    # What a query costs is known, what the run has cost is not.
    priced = _SETTINGS.model_copy(update={"llm_yen_per_1000": 80.0})
    assert _economics(priced, _found(cost=cost))["break_even"] == {"state": "not_measured"}


def test_uncounted_tokens_are_no_measurement() -> None:
    cost = _COST | {"prompt_tokens": 0, "completion_tokens": 0, "yen": 0.0}
    llm = _economics(_SETTINGS, _found(cost=cost))["query"]["llm"]
    assert llm["tokens"] is None
    assert llm["yen"] is None
    assert llm["seconds"] == 2
    llm = _economics(_SETTINGS, _found(cost=None))["query"]["llm"]
    assert llm == {"tokens": None, "seconds": None, "yen": None, "price": None}


def test_a_dearer_classifier_never_pays() -> None:
    dear = _SETTINGS.model_copy(update={"machine_yen_per_hour": 36_000.0})
    assert _economics(dear, _found(), latency=0.1)["break_even"] == {"state": "never"}


def test_assumptions_are_read_from_the_task_file(raw_task: dict[str, Any]) -> None:
    raw_task["economics"] = {"yen_per_hour": 2500, "llm_yen_per_1000": 12.5}
    found = Task.parse(raw_task).economics
    assert (found.yen_per_hour, found.texts_per_hour) == (2500, 100)
    assert _economics(found, _found())["assumptions"]["llm_yen_per_1000"] == 12.5


@pytest.mark.parametrize(
    ("kinds", "prices", "charged"),
    [
        (["file", "file"], [30.0, 12.5], 42.5),
        (["file", "file"], [30.0, None], None),
        (["generator", "file"], [None, 30.0], 35.0),
        (["generator", "file"], [None, None], None),
        (["generator", "file"], [7.0, 30.0], 37.0),
        (["generator"], [None], 5.0),
    ],
)
def test_files_cost_what_their_source_says(
    kinds: list[str], prices: list[float | None], charged: float | None
) -> None:
    sources = [
        from_file("llm.csv")[0] | {"kind": kind, "yen": yen}
        for kind, yen in zip(kinds, prices, strict=True)
    ]
    cost = _COST | {"yen": 5.0}
    found = _economics(_SETTINGS, _found(cost=cost, sources=sources))
    assert found["run"]["generator_yen"] == charged


def test_a_run_is_held_to_the_tests_of_its_task() -> None:
    found = RunSummary.model_validate(sample_run()[0])
    assert found.scores is not None
    assert found.registers is not None
    model = found.scores.with_synthetic
    worst = min(row["f1"] or 0.0 for row in model.per_label.values())
    wanted = {"macro_f1": 0.99, "accuracy": 0.5, "label_f1": worst, "ece": 0.0, "leakage": 1.0}
    results = summary.check_tests(wanted, found)
    assert [(test.name, test.passed) for test in results] == [
        ("macro_f1", False),
        ("accuracy", True),
        ("label_f1", True),
        ("ece", False),
        ("leakage", True),
    ]
    assert results[0].found == model.score("macro_f1")
    unknown = found.model_copy(update={"scores": None, "registers": None})
    bounds = {"macro_f1": 0.0, "register_match": 0.0}
    assert not any(test.passed for test in summary.check_tests(bounds, unknown))

    suite = ElementTree.fromstring(summary.junit(results, "tickets"))
    assert suite.attrib == {"name": "japagen.tickets", "tests": "5", "failures": "2"}
    failed = {case.get("name"): case.find("failure") for case in suite}
    assert [name for name, failure in failed.items() if failure is not None] == ["macro_f1", "ece"]
    message = failed["macro_f1"].get("message", "")  # type: ignore[union-attr]
    assert message == f"expected at least 0.99, found {results[0].found:g}"
