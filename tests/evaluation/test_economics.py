from __future__ import annotations

from typing import Any

import pytest

from japagen.config.sections import Economics
from japagen.config.task import Task
from japagen.evaluation.economics import economics_of

_SETTINGS = Economics(
    yen_per_hour=3000, texts_per_hour=60, queries_per_month=500, machine_yen_per_hour=36
)


def _found(**changed: Any) -> dict[str, Any]:
    worth = {"texts": 6.0, "low": -1.5, "high": None, "base": 14.0, "limit": 14.0}
    return {
        "mix": {"share": 0.4, "curves": {"worth": worth}},
        "scores": {"verdict": "better"},
        "per_label": {"a": {}, "b": {}, "c": {}, "d": {}},
        "seconds": {"generate": 80.0, "train": 20.0},
        "cost": {
            "answers": 50,
            "prompt_tokens": 9_000,
            "completion_tokens": 1_000,
            "request_seconds": 100.0,
            "yen": 20.0,
        },
        **changed,
    }


def test_labelling_is_worth_times_labels_by_speed_and_wage() -> None:
    found = economics_of(_SETTINGS, _found())["labelling"]
    assert found["texts"] == {"value": 24.0, "low": -6.0, "high": None, "limit": 56.0}
    assert found["hours"]["value"] == pytest.approx(24 / 60)
    assert found["yen"]["value"] == pytest.approx(1200)
    assert found["yen"]["low"] == pytest.approx(-300)
    assert found["yen"]["high"] is None
    assert found["yen"]["limit"] == pytest.approx(2800)


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"mix": {"share": 0.0}}, "not_used"),
        ({"mix": {"share": 0.4}}, "not_measured"),
        ({"mix": None}, "not_measured"),
        ({"scores": {"verdict": "worse"}}, "worse"),
        ({"mix": {"share": 0.4, "curves": {"worth": {"texts": 0.0}}}}, "none"),
    ],
)
def test_no_saving_is_claimed_without_worth(changed: dict[str, Any], state: str) -> None:
    assert economics_of(_SETTINGS, _found(**changed))["labelling"] == {"state": state}


def test_worth_past_the_curve_keeps_its_limit() -> None:
    found = _found()
    found["mix"]["curves"]["worth"]["texts"] = None
    labelling = economics_of(_SETTINGS, found)["labelling"]
    assert labelling["state"] == "beyond"
    assert labelling["hours"]["value"] is None
    assert labelling["hours"]["limit"] == pytest.approx(56 / 60)


def test_break_even_by_what_the_runs_own_answers_cost() -> None:
    found = economics_of(_SETTINGS, _found(), latency=0.1)
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
    found = economics_of(settings, _found())
    assert found["query"]["llm"]["yen"] == 1
    assert found["query"]["llm"]["price"] == "given"
    assert found["break_even"]["queries"] == 21


def test_no_price_is_made_up() -> None:
    cost = _found()["cost"]
    del cost["yen"]
    found = economics_of(_SETTINGS, _found(cost=cost))
    assert found["query"]["llm"]["yen"] is None
    assert found["query"]["llm"]["tokens"] == 200
    assert found["run"]["yen"] is None
    assert found["break_even"] == {"state": "not_measured"}
    assert economics_of(_SETTINGS, _found(cost=cost), free=True)["run"]["generator_yen"] == 0
    # What a query costs is known, what the run has cost is not.
    priced = _SETTINGS.model_copy(update={"llm_yen_per_1000": 80.0})
    assert economics_of(priced, _found(cost=cost))["break_even"] == {"state": "not_measured"}


def test_uncounted_tokens_are_no_measurement() -> None:
    cost = _found()["cost"] | {"prompt_tokens": 0, "completion_tokens": 0, "yen": 0.0}
    llm = economics_of(_SETTINGS, _found(cost=cost))["query"]["llm"]
    assert llm["tokens"] is None
    assert llm["yen"] is None
    assert llm["seconds"] == 2
    llm = economics_of(_SETTINGS, _found(cost=None))["query"]["llm"]
    assert llm == {"tokens": None, "seconds": None, "yen": None, "price": None}


def test_a_dearer_classifier_never_pays() -> None:
    dear = _SETTINGS.model_copy(update={"machine_yen_per_hour": 36_000.0})
    assert economics_of(dear, _found(), latency=0.1)["break_even"] == {"state": "never"}


def test_assumptions_are_read_from_the_task_file(raw_task: dict[str, Any]) -> None:
    raw_task["economics"] = {"yen_per_hour": 2500, "llm_yen_per_1000": 12.5}
    found = Task.parse(raw_task).economics
    assert (found.yen_per_hour, found.texts_per_hour) == (2500, 100)
    assert economics_of(found, _found())["assumptions"]["llm_yen_per_1000"] == 12.5


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
    sources = [{"kind": k, "yen": y} for k, y in zip(kinds, prices, strict=True)]
    cost = {**_found()["cost"], "yen": 5.0}
    found = economics_of(_SETTINGS, _found(cost=cost, sources=sources))
    assert found["run"]["generator_yen"] == charged
