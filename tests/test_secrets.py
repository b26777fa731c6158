"""The key of a server is in no file, log or message that a run leaves."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.errors import JapagenError
from japagen.llm.backends import openai_session
from japagen.llm.backends.openai import OpenAIGenerator
from tests.command_line import japagen
from tests.fault_server import Call, FaultServer, Reply, chat, error

KEY = "sk-himitsu-0123456789"


class _Aloud:
    """A listener that remembers all it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def stage(self, name: str, news: str, detail: str) -> None:
        self.heard.append(detail)

    def note(self, message: str) -> None:
        self.heard.append(message)

    def track(self, items: Any, total: int, what: str) -> Any:
        yield from items


def _tells(call: Call) -> Reply:
    """Says the key in every way that a server can: in errors, refusals and even in texts."""
    said = f"you sent {call.headers['authorization']}"
    kinds = [
        error(500, said),
        error(400, said),
        Reply(said.encode(), 503),
        Reply(chat(None, refusal=said)),
        Reply(chat(json.dumps({"text": "荷物がまだ届いていません。"}))),
    ]
    return kinds[call.body["seed"] % len(kinds)]


def _task(raw: dict[str, Any], server: FaultServer) -> Task:
    settings = {
        "backend": "openai",
        "model": "m",
        "base_url": server.url,
        "api_key_env": "MY_API_KEY",
    }
    return Task.parse({**raw, "generator": settings})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", KEY)
    monkeypatch.setattr(openai_session, "_FIRST_PAUSE", 0.01)
    monkeypatch.setitem(OpenAIGenerator.__init__.__kwdefaults__, "deadline", 1.0)


def _grep(directory: Path) -> list[Path]:
    files = [p for p in directory.rglob("*") if p.is_file()]
    assert files
    return [p for p in files if KEY.encode() in p.read_bytes()]


def test_a_run_leaves_no_trace_of_the_key(
    raw_task: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    heard = _Aloud()
    with FaultServer(_tells) as server:
        task = _task(raw_task, server)
        run = jg.run(task, tmp_path / "run", until="curate", listener=heard)
    assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {KEY}"}
    details = [e.rejected.detail for e in run.after("generate") if e.rejected]
    assert any("Bearer ***" in detail for detail in details)
    assert _grep(tmp_path) == []
    assert KEY not in "".join([*heard.heard, caplog.text, *capfd.readouterr(), repr(task)])


def test_a_fatal_error_shows_no_key(raw_task: dict[str, Any], tmp_path: Path) -> None:
    with FaultServer(lambda call: error(401, f"bad key {call.headers['authorization']}")) as server:
        task = _task(raw_task, server)
        with pytest.raises(JapagenError, match="refuses the key in MY_API_KEY") as caught:
            jg.run(task, tmp_path / "run", until="generate")
        path = tmp_path / "task.yaml"
        path.write_text(task.to_yaml(), encoding="utf-8")
        code, out, err = japagen("run", path, "--until", "generate", "--out", tmp_path / "again")
    assert code == 2
    assert "refuses the key in MY_API_KEY" in err
    assert KEY not in out + err + "".join(traceback.format_exception(caught.value))
    assert _grep(tmp_path) == []
