from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from japagen.cli.main import app
from japagen.config.generation import ALLOWED_VARIABLES, GeneratorSettings
from japagen.config.sections import TRUST_VARIABLE, Training
from japagen.config.task import Task
from japagen.errors import JapagenError
from japagen.llm.backend import load_generator
from tests.fault_server import Call, FaultServer, Reply, chat, error

KEY = "sk-himitsu-9876543210"


def works(call: Call) -> Reply:
    if call.method == "GET":
        return Reply({"data": [{"id": "m"}]})
    if "top_k" in call.body:
        return error(400, "Unknown name 'top_k'")
    schema = json.dumps(call.body["response_format"])
    answer = {"label": "配送"} if '"label"' in schema else {"text": "荷物はいつ届きますか。"}
    return Reply(chat(f"<think>考える</think>{json.dumps(answer, ensure_ascii=False)}"))


def doctor(tmp_path: Path, raw: dict[str, Any], url: str) -> tuple[int, dict[str, tuple[str, str]]]:
    settings = {"backend": "openai", "model": "m", "base_url": url}
    path = tmp_path / "task.json"
    path.write_text(json.dumps({**raw, "generator": settings}), encoding="utf-8")
    done = CliRunner().invoke(app, ["doctor", "--generator", str(path), "--json"])
    rows = json.loads(done.stdout)
    return done.exit_code, {row["what"]: (row["state"], row["detail"]) for row in rows}


def test_a_server_that_works_is_shown_with_what_it_refuses(
    tmp_path: Path, raw_task: dict[str, Any]
) -> None:
    with FaultServer(works) as server:
        code, found = doctor(tmp_path, raw_task, server.url)
    assert code == 0
    assert found["models"] == ("ok", "m")
    assert found["text"] == ("ok", "荷物はいつ届きますか。")
    assert found["label"] == ("ok", "配送")
    assert found["JSON schema"][0] == "ok"
    assert found["log-probabilities"][0] == "unknown"
    assert found["options left out"] == ("refused", "top_k")


def test_what_does_not_work_is_said_with_what_to_do(
    tmp_path: Path, raw_task: dict[str, Any]
) -> None:
    with FaultServer(lambda call: Reply(b"<html>UI</html>")) as server:
        code, found = doctor(tmp_path, raw_task, server.url.removesuffix("/v1"))
    assert code == 2
    assert "set generator.base_url: http://127.0.0.1" in found["answers"][1]
    with FaultServer(
        lambda call: works(call) if call.method == "GET" else Reply(chat("書けません"))
    ) as s:
        code, found = doctor(tmp_path, raw_task, s.url)
    assert code == 2
    assert found["text"] == ("failed", "no JSON object with a text: 書けません")


def test_recorded_answers_are_counted_and_not_asked(
    tmp_path: Path, raw_task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "answers.jsonl"
    who = {"generator": {"name": "強いモデル", "identity": "x", "terms": {"summary": "any"}}}
    rows = [who, {"id": "a", "text": "一つ"}, {"id": "b", "text": "二つ"}]
    raw_task["generator"] = {"backend": "replay", "model": str(record)}
    path = tmp_path / "task.json"
    path.write_text(json.dumps(raw_task), encoding="utf-8")

    def tried(*options: str) -> Any:
        return CliRunner().invoke(app, ["doctor", "--generator", str(path), *options])

    for number, code, state in ((3, 0, "ok"), (1, 2, "failed")):
        record.write_text("\n".join(map(json.dumps, rows[:number])), encoding="utf-8")
        done = tried("--json")
        found = {row["what"]: (row["state"], row["detail"]) for row in json.loads(done.stdout)}
        assert (done.exit_code, found["record"][0]) == (code, state)
        assert found["record"][1] == f"{number - 1} answers of 強いモデル, 0 failures"
        assert found["answers"] == (
            "unknown",
            "Recorded answers answer the prompts that they were given to alone: none was tried.",
        )
    monkeypatch.setenv("JAPAGEN_LANG", "ja")
    told = tried().stdout
    assert "「強いモデル」の回答 0 件、失敗 0 件" in told
    assert "記録" in told
    assert "ため、試していません" in told


def test_a_record_that_is_none_is_named(tmp_path: Path, raw_task: dict[str, Any]) -> None:
    raw_task["generator"] = {"backend": "replay", "model": str(tmp_path / "none.jsonl")}
    path = tmp_path / "task.json"
    path.write_text(json.dumps(raw_task), encoding="utf-8")
    done = CliRunner().invoke(app, ["doctor", "--generator", str(path)])
    assert isinstance(done.exception, JapagenError)
    assert "none.jsonl" in str(done.exception)


def test_a_task_sends_no_variable_but_a_key_unless_the_user_allows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET", KEY)
    monkeypatch.delenv(ALLOWED_VARIABLES, raising=False)
    with FaultServer(works) as server:
        base: dict[str, Any] = {"backend": "openai", "model": "m", "base_url": server.url}
        for how in ({"api_key_env": "AWS_SECRET"}, {"headers": {"X-Key": "AWS_SECRET"}}):
            with pytest.raises(JapagenError, match="found 'AWS_SECRET'") as caught:
                load_generator(GeneratorSettings(**base, **how))
            assert "--allow-env AWS_SECRET" in caught.value.hint
        monkeypatch.setenv(ALLOWED_VARIABLES, "OTHER,AWS_SECRET")
        load_generator(GeneratorSettings(**base, api_key_env="AWS_SECRET")).close()
    assert not server.calls


def test_the_command_line_allows_what_a_task_cannot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Set first, so that it is set back.
    monkeypatch.setenv(ALLOWED_VARIABLES, "")
    monkeypatch.setenv(TRUST_VARIABLE, "")
    with pytest.raises(ValueError, match="only with --trust-remote-code"):
        Training(trust_remote_code=True)
    given = ["--allow-env", "A", "--allow-env", "B", "--trust-remote-code", "run", "none.yaml"]
    CliRunner().invoke(app, given)
    assert Training(trust_remote_code=True).trust_remote_code
    GeneratorSettings(api_key_env="B").check_variables()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"timeout": 0}, "timeout"),
        ({"extra_body": {"model": "other"}}, "model is japagen's own to send"),
        ({"headers": {"X Key": "A_API_KEY"}}, "headers"),
        (
            {"backend": "hf", "omit": ["top_k"]},
            "omit goes with the backend openai, anthropic, gemini, found hf",
        ),
    ],
)
def test_settings_of_a_server_are_checked(
    raw_task: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    settings = {"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1", **more}
    with pytest.raises(JapagenError, match=said):
        Task.parse({**raw_task, "generator": settings})
