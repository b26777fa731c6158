from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.curation import CODE_VARIABLE, Curation
from japagen.config.task import Task
from japagen.curation.filters import curate
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.files import to_yaml
from japagen.errors import JapagenError
from japagen.pipeline.cache import canonical
from tests.command_line import japagen
from tests.fault_server import Call, FaultServer, Reply
from tests.scripted import ScriptedGenerator

CHECKS = """
import sys, time

def polite(texts):
    return [None if "です" in text else "ですがない" for text in texts]

def broken(texts):
    raise KeyError("rules.txt")

def leaving(texts):
    sys.exit(3)

def hanging(texts):
    time.sleep(60)

def short(texts):
    return [None]

def yes(texts):
    return [True for _ in texts]
"""
TEXTS = Dataset.of(
    [Example("荷物が届かないのですが。", "配送"), Example("商品を返したいと思っている。", "返品")]
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "checks.py").write_text(CHECKS, encoding="utf-8")
    monkeypatch.setenv(CODE_VARIABLE, "1")
    return tmp_path


def _curation(folder: Path, function: str, **more: Any) -> Curation:
    validator = {"function": f"checks:{function}", "folder": str(folder), **more}
    return Curation.model_validate({"validators": {"house": validator}})


def test_a_function_rejects_and_its_reason_is_recorded(folder: Path) -> None:
    found = curate(TEXTS, _curation(folder, "polite", batch=1))
    assert found[0].rejected is None
    assert found[1].rejected == Rejection("house", 1, 0, "ですがない")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("broken", r"'house' failed: RuntimeError: KeyError: 'rules.txt'"),
        ("leaving", "'house' failed: RuntimeError: SystemExit: 3"),
        ("hanging", "'house' did not answer for 2 texts in 0.3 seconds"),
        ("short", "Expected 2 verdicts of the validator 'house', found 1"),
        ("yes", "Expected a reason or None of the validator 'house', found bool: True"),
    ],
)
def test_a_validator_that_fails_is_named(folder: Path, function: str, message: str) -> None:
    with pytest.raises(JapagenError, match=message) as error:
        curate(TEXTS, _curation(folder, function, timeout=0.3))
    assert f"checks.py:{function}" in error.value.hint


def test_what_a_result_depends_on_holds_the_code(folder: Path) -> None:
    before = canonical(_curation(folder, "polite"))
    assert canonical(_curation(folder, "polite")) == before
    (folder / "checks.py").write_text(CHECKS.replace("です", "ます"), encoding="utf-8")
    assert canonical(_curation(folder, "polite")) != before
    assert curate(TEXTS, _curation(folder, "polite"))[0].rejected is not None


def test_a_service_judges_in_batches() -> None:
    def judge(call: Call) -> Reply:
        texts = call.body["texts"]
        return Reply({"verdicts": ["返品の話" if "返" in text else None for text in texts]})

    with FaultServer(judge) as server:
        validator = {"url": f"{server.url}/judge", "batch": 1}
        found = curate(TEXTS, Curation.model_validate({"validators": {"topic": validator}}))
    assert [len(call.body["texts"]) for call in server.calls] == [1, 1]
    assert found.rejection_counts == {"topic": 1}


@pytest.mark.parametrize("reply", [Reply({}, status=500), Reply(b"no"), Reply({"labels": []})])
def test_a_service_that_fails_is_named(reply: Reply) -> None:
    with FaultServer(lambda _: reply) as server:
        settings = Curation.model_validate({"validators": {"topic": {"url": server.url}}})
        with pytest.raises(JapagenError, match="The plug-in 'topic' failed: RuntimeError"):
            curate(TEXTS, settings)


@pytest.mark.parametrize(
    ("validator", "message"),
    [
        ({}, "expected either function or url"),
        ({"function": "checks:a", "url": "http://localhost"}, "expected either function or url"),
        ({"function": "../checks:a"}, "house.function"),
        ({"url": "file:///etc/passwd"}, "house.url"),
    ],
)
def test_wrong_settings_are_refused(
    raw_task: dict[str, Any], validator: dict[str, Any], message: str
) -> None:
    raw_task["curation"] = {"validators": {"house": validator}}
    with pytest.raises(JapagenError, match=message):
        Task.parse(raw_task)


def test_code_needs_the_users_word_and_lies_beside_the_task(
    folder: Path, raw_task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {"function": "checks:polit", "folder": "/elsewhere"}
    raw_task["curation"] = {"validators": {"house": elsewhere}}
    path = folder / "task.yaml"
    path.write_text(to_yaml(json.loads(json.dumps(raw_task, default=str))), encoding="utf-8")
    monkeypatch.delenv(CODE_VARIABLE)
    plan = ["plan", str(path)]
    code, _, said = japagen(*plan)
    assert code == 2
    assert "--allow-code" in said
    monkeypatch.setenv(CODE_VARIABLE, "")  # put back after the command has set it
    code, _, said = japagen("--allow-code", *plan)
    assert code == 2
    assert "'polit'" in said
    assert str(folder / "checks.py") in said.replace("\n", "")


def test_a_run_goes_on_once_its_validator_is_mended(
    folder: Path, raw_task: dict[str, Any], tmp_path: Path
) -> None:
    def task(function: str) -> Task:
        validators = {"house": {"function": f"checks:{function}", "folder": str(folder)}}
        raw_task["curation"] = {"validators": validators, "register_miss": "ignore"}
        return Task.parse(raw_task)

    first, second = ScriptedGenerator(), ScriptedGenerator()
    with pytest.raises(JapagenError, match="'house' failed"):
        jg.run(task("broken"), tmp_path / "run", generator=first, until="curate")
    run = jg.run(task("polite"), tmp_path / "run", generator=second, until="curate")
    assert first.asked
    assert second.asked == []
    assert run.after("curate").rejection_counts["house"] > 0
