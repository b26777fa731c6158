from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.errors import JapagenError
from japagen.generators import openai_session
from japagen.previewing import estimate, sample
from japagen.tasks import Task
from tests.fault_server import Call, FaultServer, Reply, chat, echo
from tests.test_cli import japagen

PRICE = {"input_per_million": 100, "output_per_million": 400}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_session, "_FIRST_PAUSE", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def _task(raw: dict[str, Any], server: FaultServer, **generator: Any) -> Task:
    settings = {"backend": "openai", "model": "m", "base_url": server.url, **generator}
    return Task.parse({**raw, "generator": settings})


def _slow(call: Call) -> Reply:
    return Reply(echo(call).body, delay=0.02)


def test_a_plan_measures_on_a_few_requests_where_the_server_is_here(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    with FaultServer(_slow) as server:
        found = estimate(_task(raw_task, server, price=PRICE), tmp_path / "run")
    assert len(server.calls) == 4
    labels = {line for call in server.calls for line in call.prompt.split("\n") if "分類" in line}
    assert len(labels) > 1  # spread over the labels
    assert (found["requests"], found["answered"]) == (24, 0)
    assert found["measured_on"] == "sample"
    assert found["completion_tokens"] == 24 * 7
    assert 0 < found["seconds"] < 60
    assert found["max_completion_tokens"] == 24 * 120
    cost = (found["prompt_tokens"] * 100 + found["completion_tokens"] * 400) / 1e6
    assert found["yen"] == pytest.approx(cost)
    assert found["max_yen"] == pytest.approx((found["prompt_tokens"] * 100 + 24 * 120 * 400) / 1e6)


def test_a_plan_sends_nothing_where_it_need_not(raw_task: dict[str, Any], tmp_path: Path) -> None:
    with FaultServer() as server:
        found = estimate(_task(raw_task, server), tmp_path / "run", 0)
    assert not server.calls
    assert (found["seconds"], found["completion_tokens"], found["max_yen"]) == (None, None, None)
    # The server is gone now: a plan is made all the same, unless a sample was asked for.
    assert estimate(_task(raw_task, server), tmp_path / "run")["measured_on"] is None
    with pytest.raises(JapagenError, match="Cannot reach"):
        estimate(_task(raw_task, server), tmp_path / "run", 2)


def test_a_plan_goes_by_the_ledger_of_its_run(raw_task: dict[str, Any], tmp_path: Path) -> None:
    few = {**raw_task, "generation": {**raw_task["generation"], "per_label": 4}}
    with FaultServer() as server:
        jg.run(_task(few, server), tmp_path / "run", until="generate")
        calls = len(server.calls)
        found = estimate(_task(raw_task, server, price=PRICE), tmp_path / "run")
        assert len(server.calls) == calls
    assert found["measured_on"] == "ledger"
    assert 0 < found["answered"] <= 8
    waiting = found["requests"] - found["answered"]
    assert found["completion_tokens"] == 7 * waiting
    assert found["max_yen"] < found["prompt_tokens"] * 1e-4 + 120 * 4e-4 * waiting + 1e-6


def test_prices_in_another_currency_and_impossible_ones(raw_task: dict[str, Any]) -> None:
    with FaultServer() as server:
        dollars = {**PRICE, "currency": "USD", "yen_per_unit": 150.0}
        yen, usd = (
            estimate(_task(raw_task, server, price=price), None, 0) for price in (PRICE, dollars)
        )
        assert usd["max_yen"] == pytest.approx(150 * yen["max_yen"])
        with pytest.raises(JapagenError, match="yen_per_unit is needed to convert USD"):
            _task(raw_task, server, price={**PRICE, "currency": "USD"})
        raw_task["generation"]["budget"] = {"yen": 10}
        with pytest.raises(JapagenError, match=r"found no generator\.price"):
            estimate(_task(raw_task, server), None, 0)


def test_a_budget_ends_a_run_with_what_it_bought(raw_task: dict[str, Any], tmp_path: Path) -> None:
    raw_task["generation"]["budget"] = {"tokens": 8_000}
    reply = chat('{"text": "荷物のことで伺います。"}')
    reply["usage"] = {"prompt_tokens": 400, "completion_tokens": 100}
    with FaultServer(lambda call: Reply(reply)) as server:
        run = jg.run(_task(raw_task, server), tmp_path / "run", until="generate")
    rows = run.after("generate")
    unsent = [e for e in rows if e.rejected and "budget is used up" in e.rejected.detail]
    assert len(rows) == 24
    assert len(server.calls) == 24 - len(unsent)
    # 500 tokens each, and a request may be asked for three times at 520 before it is given up.
    assert (8_000 - 3 * 520 * 1.1) / 500 - 1 <= len(server.calls) <= 16


def test_the_command_shows_time_and_money(raw_task: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    raw_task["generation"]["budget"] = {"yen": 50}
    with FaultServer() as server:
        path.write_text(_task(raw_task, server, price=PRICE).to_yaml(), encoding="utf-8")
        code, out, err = japagen("plan", path, "--sample", 2, "--out", tmp_path / "run")
        assert code == 0, err
        assert "about 168 still to write, at most 2,880 in all" in out
        assert "s (measured on the sample)" in out
        assert "yen: about" in out
        assert "budget: 50.0 yen" in out


def test_a_preview_shows_what_is_sent(raw_task: dict[str, Any]) -> None:
    with FaultServer() as server:
        rows = sample(_task(raw_task, server), 3)
    assert len(rows) == len(server.calls) == 3
    assert all(row["text"] for row in rows)
