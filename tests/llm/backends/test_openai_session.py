"""Several servers share the requests."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from japagen.config.generation import GeneratorSettings
from japagen.errors import JapagenError
from japagen.llm.backend import Answer
from japagen.llm.backends import openai_session
from japagen.llm.client import run_requests
from japagen.llm.ledger import Ledger
from tests.fault_server import Call, FaultServer, Reply, asking, echo, error
from tests.llm.backends.test_openai import KEY, make


@pytest.fixture(autouse=True)
def _quick_and_without_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_session, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(openai_session, "_FIRST_REST", 0.1)
    monkeypatch.setattr(openai_session, "_LONGEST_REST", 0.4)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def slow(seconds: float) -> Any:
    return lambda call: Reply(echo(call).body, delay=seconds)


def ask(urls: list[str], count: int, **how: Any) -> tuple[list[Answer], list[str]]:
    notes: list[str] = []
    generator = asking("m", base_url=urls, note=notes.append, **how)
    return list(generator.stream(make(n) for n in range(count))), notes


def all_answered(answers: list[Answer]) -> bool:
    texts = {a.request_id: json.loads(a.text)["text"] for a in answers if not a.error}
    return texts == {f"r{n}": f"返事:依頼{n}" for n in range(len(answers))}


def test_servers_share_the_requests_by_what_they_bear() -> None:
    with FaultServer() as quick, FaultServer(slow(2)) as late:
        answers, notes = ask([quick.url, late.url], 100, slots=8)
    assert all_answered(answers)
    assert notes == []
    # A server that waits holds nobody else up.
    assert 4 <= len(late.calls) < len(quick.calls) / 2
    assert max(quick.most_at_once, late.most_at_once) <= 8


def test_each_server_has_its_own_pace() -> None:
    began = time.monotonic()
    with FaultServer() as one, FaultServer() as other:
        answers, _ = ask([one.url, other.url], 20, requests_per_minute=600)
    assert all_answered(answers)
    most, least = sorted((len(one.calls), len(other.calls)), reverse=True)
    assert least >= 4
    assert time.monotonic() - began >= 0.1 * (most - 1)


@pytest.mark.parametrize("fault", [Reply(drop=True), error(503, "loading the model")])
def test_a_server_that_dies_is_dropped_and_its_requests_go_to_the_others(fault: Reply) -> None:
    def dying(call: Call) -> Reply:
        return echo(call) if len(dead.calls) <= 20 else fault

    with FaultServer(dying) as dead, FaultServer(slow(0.01)) as alive:
        answers, notes = ask([dead.url, alive.url], 200, slots=16)
    assert all_answered(answers)
    (note,) = notes
    assert note.startswith(f"{dead.url} does not answer (")
    # Some of those that were under way, and a probe now and then.
    assert len(dead.calls) < 70


def test_a_server_that_comes_back_is_taken_up_again() -> None:
    def restarted(call: Call) -> Reply:
        return error(502, "bad gateway") if 5 < len(server.calls) <= 20 else echo(call)

    with FaultServer(restarted) as server, FaultServer(slow(0.05)) as other:
        answers, notes = ask([server.url, other.url], 300, slots=4)
    assert all_answered(answers)
    assert [note.split(" (")[0] for note in notes] == [
        f"{server.url} does not answer",
        f"{server.url} answers again.",
    ]
    assert len(server.calls) > 30


def test_a_server_that_was_never_there_leaves_its_share_to_the_others() -> None:
    with FaultServer() as gone:
        url = gone.url
    with FaultServer() as server:
        answers, notes = ask([url, server.url], 50)
    assert all_answered(answers)
    assert len(notes) == 1


def test_servers_that_are_none_of_them_there_are_one_message() -> None:
    with FaultServer() as one, FaultServer() as other:
        urls = [one.url, other.url]
    notes: list[str] = []
    generator = asking("m", base_url=urls, note=notes.append)
    with pytest.raises(JapagenError, match=f"Cannot reach {urls[0]}, {urls[1]} "):
        list(generator.stream(make(n) for n in range(50)))


def test_servers_that_all_stop_are_one_message() -> None:
    lock, seen = threading.Lock(), Counter[str]()

    def stopping(call: Call) -> Reply:
        with lock:
            seen["calls"] += 1
            return echo(call) if seen["calls"] <= 10 else error(500, "oops")

    with FaultServer(stopping) as one, FaultServer(stopping) as other:
        urls = [one.url, other.url]
        generator = asking("m", base_url=urls, slots=4, deadline=0.3)
        answers: list[Answer] = []
        with pytest.raises(JapagenError, match=f"{urls[0]}, {urls[1]} has answered nothing for"):
            answers.extend(generator.stream(make(n) for n in range(1000)))
    assert sum(not a.error for a in answers) == 10
    assert seen["calls"] < 500


def test_options_are_left_out_only_where_they_are_refused() -> None:
    def plain(call: Call) -> Reply:
        return error(400, "top_k: unknown field") if "top_k" in call.body else echo(call)

    with FaultServer(plain) as narrow, FaultServer() as wide:
        answers, _ = ask([narrow.url, wide.url], 40)
    assert all_answered(answers)
    assert all("top_k" in call.body for call in wide.calls)
    assert "top_k" not in narrow.calls[-1].body


def test_what_is_answered_stays_answered_when_the_servers_change(tmp_path: Path) -> None:
    identities = set()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with ExitStack() as servers:
        one, other, third = (servers.enter_context(FaultServer()) for _ in range(3))
        for urls in ([one.url, other.url], [third.url]):
            generator = asking("m", base_url=urls)
            identities.add(generator.info.identity)
            answers = run_requests([make(n) for n in range(20)], generator, ledger)
            assert len(answers) == 20
        assert (len(one.calls) + len(other.calls), len(third.calls)) == (20, 0)
        assert asking("m", base_url=one.url).info.identity not in identities
    ledger.close()
    assert identities == {"openai:chat:m"}


def test_one_server_elsewhere_makes_the_generator_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    here = "http://127.0.0.1:1/v1"
    assert asking("m", base_url=[here]).info.local
    assert not asking("m", base_url=[here, "http://example.com/v1"]).info.local


def test_models_are_those_that_all_servers_have() -> None:
    def listing(*names: str) -> Any:
        return lambda call: Reply({"data": [{"id": name} for name in names]})

    with FaultServer(listing("a", "b")) as one, FaultServer(listing("b", "c")) as other:
        assert asking("b", base_url=[one.url, other.url]).models() == ["b"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"base_url": []}, "at least one address"),
        ({"base_url": ["http://a/v1", "http://a/v1"]}, "none twice"),
        ({"base_url": ["http://a/v1"], "batch": True}, "batch goes with one base_url"),
    ],
)
def test_lists_that_make_no_sense_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GeneratorSettings.model_validate({"backend": "openai", "model": "m", **more})


def test_it_tells_how_busy_its_servers_are() -> None:
    with FaultServer() as gone:
        dead = gone.url
    with FaultServer(slow(0.2)) as server:
        generator = asking("m", base_url=[server.url, dead], slots=6)
        assert generator.load() == {}
        answers = generator.stream(make(n) for n in range(12))
        next(answers)
        loads = generator.load()
        assert loads[dead] == (0, 0)
        busy, most = loads[server.url]
        assert 1 <= busy <= most <= 6
        answers.close()  # type: ignore[attr-defined]
        assert generator.load() == {}
