from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from typer.testing import CliRunner

import japagen as jg
from japagen.cli.main import app
from japagen.config.generation import Budget, GeneratorSettings
from japagen.config.task import Task
from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, Message, Request, Sampling, load_generator
from japagen.llm.backends import batches
from japagen.llm.backends.batches import BatchRecord, open_records
from japagen.llm.client import BudgetTracker, run_requests
from japagen.llm.ledger import Ledger
from tests.batch_provider import BatchProvider, Row, answered, replied, unanswered
from tests.batch_providers import MODEL, AnthropicProvider, GeminiProvider, ScriptedProvider
from tests.fault_server import Call, FaultServer, Reply, asking, chat, error
from tests.llm.backends.test_openai import KEY, make


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_FIRST_PAUSE", 0.005)
    monkeypatch.setattr(batches, "_RETRIES", 0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def generator(server: FaultServer, path: Path, notes: list[str] | None = None) -> Any:
    said = notes if notes is not None else []
    how: Any = {"batch": True, "batches": path, "note": said.append}
    return asking("m", base_url=server.url, **how)


def ask(server: FaultServer, path: Path, count: int = 4, **how: Any) -> dict[str, Answer]:
    answers = list(generator(server, path, **how).stream(make(n) for n in range(count)))
    assert len({a.request_id for a in answers}) == len(answers) == count
    return {a.request_id: a for a in answers}


def test_a_batch_answers_every_request_of_a_stream(tmp_path: Path) -> None:
    provider, notes = BatchProvider(), list[str]()
    with FaultServer(provider) as server:
        answers = ask(server, tmp_path, notes=notes)
    for key, answer in answers.items():
        assert json.loads(answer.text) == {"text": f"返事:依頼{key[1:]}"}
        assert (answer.finish, answer.prompt_tokens, answer.completion_tokens) == ("stop", 11, 7)
    (rows,) = provider.uploads.values()
    assert [row["custom_id"] for row in rows] == ["r0", "r1", "r2", "r3"]
    assert {row["url"] for row in rows} == {"/v1/chat/completions"}
    assert {"model", "messages", "seed", "response_format"} <= set(rows[0]["body"])
    assert open_records(tmp_path) == []
    assert any("4 requests are in batch batch0" in note for note in notes)


def stop_after(calls: int) -> Callable[[Call], Reply | None]:
    """Interrupts this process at one of its calls."""
    count = itertools.count(1)

    def fault(call: Call) -> Reply | None:
        return Reply(drop=True) if next(count) == calls else None

    return fault


@pytest.mark.parametrize("calls", range(1, 6))
def test_what_ends_a_stream_anywhere_leaves_it_to_the_next(tmp_path: Path, calls: int) -> None:
    """Upload, create, poll, poll and fetch: dropped at each, nothing is submitted twice."""
    provider = BatchProvider(fault=stop_after(calls))
    with FaultServer(provider) as server:
        with pytest.raises(JapagenError, match=r"Cannot reach|the same command"):
            ask(server, tmp_path)
        answers = ask(server, tmp_path)
    assert not [a.error for a in answers.values() if a.error]
    assert len(provider.batches) == 1


def test_a_batch_whose_id_was_never_heard_is_found_by_its_key(tmp_path: Path) -> None:
    def deaf(call: Call) -> Reply | None:
        """Takes the first batch, but does not say so."""
        if call.method == "POST" and call.path.endswith("/batches") and not provider.batches:
            provider._create(call)
            return Reply(drop=True)
        return None

    provider = BatchProvider(fault=deaf)
    with FaultServer(provider) as server:
        with pytest.raises(JapagenError):
            ask(server, tmp_path)
        (record,) = open_records(tmp_path)
        assert record.batch == ""
        assert len(ask(server, tmp_path)) == 4
    assert len(provider.batches) == 1


def test_a_stream_takes_up_what_it_is_asked_for_and_submits_the_rest(tmp_path: Path) -> None:
    provider = BatchProvider()
    with FaultServer(provider) as server:
        stream = generator(server, tmp_path).stream(make(n) for n in range(2))
        next(stream)
        stream.close()  # one answer was taken, and the batch not closed
        answers = ask(server, tmp_path, 4)
    assert not [a.error for a in answers.values() if a.error]
    assert [[r["custom_id"] for r in rows] for rows in provider.uploads.values()] == [
        ["r0", "r1"],
        ["r2", "r3"],
    ]


def test_files_are_deleted_once_their_answers_are_taken(tmp_path: Path) -> None:
    provider = BatchProvider()
    with FaultServer(provider) as server:
        stream = generator(server, tmp_path).stream(make(n) for n in range(2))
        next(stream)
        assert provider.deleted == []
        next(stream)
        assert provider.deleted == []  # the second answer is not known to be on disk yet
        assert not list(stream)
    assert provider.deleted == ["file0", "batch0output"]
    assert open_records(tmp_path) == []


@pytest.mark.parametrize("status", [404, 405, 500])
def test_a_provider_that_deletes_nothing_costs_no_answer(tmp_path: Path, status: int) -> None:
    def refuse(call: Call) -> Reply | None:
        return error(status, "cannot delete") if call.method == "DELETE" else None

    provider, notes = BatchProvider(fault=refuse), list[str]()
    with FaultServer(provider) as server:
        answers = ask(server, tmp_path, notes=notes)
    assert not [a.error for a in answers.values() if a.error]
    assert open_records(tmp_path) == []
    assert any("not deleted file0, batch0output of batch batch0" in note for note in notes)


def faulty(row: Row) -> Row | None:
    number = int(row["custom_id"][1:])
    if number == 1:
        return replied(row, {"error": {"message": "overloaded", "code": "x"}}, 500)
    if number == 2:
        return replied(row, chat(None, "content_filter"))
    if number == 3:
        return unanswered(row, "batch_expired", "not executed before the window expired")
    if number == 4:
        return None
    if number == 5:
        return replied(row, {"error": {"message": f"bad key {KEY}"}}, 401)
    return answered(row)


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
def test_rows_that_failed_say_why(
    tmp_path: Path, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FaultServer(BatchProvider(faulty, status=status)) as server:
        answers = ask(server, tmp_path, 7)
    reasons = [answers[f"r{n}"].error for n in range(7)]
    assert (reasons[0], reasons[6]) == ("", "")
    assert "HTTP 500: overloaded" in reasons[1]
    assert "content filter" in reasons[2]
    assert answers["r2"].completion_tokens == 7  # it was paid for
    assert "batch_expired: not executed" in reasons[3]
    assert f"batch batch0 {status}" in reasons[4]
    assert "refuses the key" in reasons[5]
    assert KEY not in " ".join(reasons)


def test_a_batch_that_failed_or_is_gone_fails_its_requests(tmp_path: Path) -> None:
    provider = BatchProvider(status="failed")
    with FaultServer(provider) as server:
        assert "failed: the file is no good" in ask(server, tmp_path)["r0"].error
        record = BatchRecord.begin(tmp_path, ["r0", "r1"])
        record.batch = "lost"
        record.save()
        answers = ask(server, tmp_path, 2)
        assert "does not know batch lost any more" in answers["r1"].error
        # Asked again, it is a new batch.
        provider.status = "completed"
        assert not ask(server, tmp_path, 2)["r0"].error


def test_an_option_that_is_refused_is_left_out_in_a_second_batch(tmp_path: Path) -> None:
    def choosy(row: Row) -> Row:
        if "temperature" in row["body"]:
            said = {"message": "Unsupported value: 'temperature'", "param": "temperature"}
            return replied(row, {"error": said}, 400)
        return answered(row)

    provider = BatchProvider(choosy)
    with FaultServer(provider) as server:
        answers = ask(server, tmp_path)
    assert not [a.error for a in answers.values() if a.error]
    assert len(provider.batches) == 2


def test_a_provider_without_batches_and_a_wrong_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        FaultServer(lambda call: error(405, "no such method")) as server,
        pytest.raises(JapagenError, match="does not take the batch") as caught,
    ):
        ask(server, tmp_path)
    assert "generator.batch: false" in caught.value.hint
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        FaultServer(lambda call: error(401, f"wrong key {KEY}")) as server,
        pytest.raises(JapagenError, match="refuses the key") as caught,
    ):
        ask(server, tmp_path)
    assert KEY not in str(caught.value)


def run(
    server: FaultServer, path: Path, requests: list[Request], tracker: BudgetTracker | None = None
) -> Any:
    ledger = Ledger(path / "ledger.sqlite")
    try:
        return run_requests(
            requests, generator(server, path / "b"), ledger, tracker=tracker
        ), ledger
    finally:
        ledger.close()


def test_an_interrupted_run_takes_its_batch_up_and_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [make(n, max_tokens=20) for n in range(4)]
    provider = BatchProvider(polls=3)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with FaultServer(provider) as server:
        with monkeypatch.context() as patched:
            patched.setattr(batches.time, "sleep", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(server, tmp_path, requests)
        # What is left of the budget holds the batch that is under way, once.
        tracker = BudgetTracker(Budget(tokens=4 * (2 * 11 + 20) + 10))
        answers, _ = run(server, tmp_path, requests, tracker)
    assert len(answers) == 4
    assert len(provider.batches) == 1
    ledger = Ledger(tmp_path / "ledger.sqlite")
    totals = ledger.totals()
    ledger.close()
    assert (totals["attempts"], totals["prompt_tokens"]) == (4, 44)
    assert "lost_attempts" not in totals


def test_a_run_goes_by_batches_and_pays_their_price(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    price = {"input_per_million": 1000, "output_per_million": 4000}
    server_task = {**raw_task, "generation": {**raw_task["generation"], "per_label": 3}}
    with FaultServer(BatchProvider()) as server:
        settings = {"backend": "openai", "model": "m", "base_url": server.url, "batch": True}
        task = Task.parse({**server_task, "generator": {**settings, "price": price}})
        run = jg.run(task, tmp_path / "run", until="generate")
    assert len(run.after("generate")) == 6
    (record,) = (tmp_path / "run" / "batches").glob("*.json")
    assert json.loads(record.read_text())["batch"] == "batch0"
    assert task.generator.price_now is not None
    assert task.generator.price_now.input_per_million == 500
    with pytest.raises(JapagenError, match="batch goes with the backend openai"):
        Task.parse({**server_task, "generator": {"batch": True}})


# --- Anthropic and Gemini ---

_TURN = st.builds(
    Message, st.sampled_from(["system", "user", "assistant"]), st.text(min_size=1, max_size=20)
)
CHATS = st.lists(_TURN, max_size=4).map(lambda turns: (*turns, Message("user", "書いてください。")))


def chat_request(
    turns: tuple[Message, ...],
    *,
    options: tuple[str, ...] = (),
    stop: tuple[str, ...] = (),
    seed: int = 3,
) -> Request:
    sampling = Sampling(temperature=0.7, max_tokens=50, stop=stop)
    return Request("0a", turns, sampling, seed, "配送", Register(), "t", options=options)


PROVIDERS = {
    "anthropic": (AnthropicProvider, "anthropic", "ANTHROPIC_API_KEY"),
    "gemini": (GeminiProvider, "google.genai", "GEMINI_API_KEY"),
}


@pytest.fixture(params=PROVIDERS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    _, package, variable = PROVIDERS[request.param]
    pytest.importorskip(package)
    monkeypatch.setenv(variable, KEY)
    name: str = request.param
    return name


def provider_of(backend: str, outcomes: dict[str, str] | None = None, **how: Any) -> Any:
    return PROVIDERS[backend][0](outcomes, key=KEY, **how)


def settings_of(backend: str, server: FaultServer, model: str = MODEL) -> dict[str, Any]:
    url = server.url.removesuffix("/v1")
    return {"backend": backend, "model": model, "base_url": url, "batch": True}


def ask_other(
    backend: str, server: FaultServer, path: Path, count: int = 4, **how: Any
) -> dict[str, Answer]:
    notes: list[str] = how.pop("notes", [])
    settings = GeneratorSettings(**settings_of(backend, server, **how))
    stream = load_generator(settings, path, notes.append).stream(make(n) for n in range(count))
    answers = list(stream)
    assert len({a.request_id for a in answers}) == len(answers) == count
    return {a.request_id: a for a in answers}


def test_each_provider_answers_every_request(backend: str, tmp_path: Path) -> None:
    provider, notes = provider_of(backend, polls=2), list[str]()
    with FaultServer(provider) as server:
        answers = ask_other(backend, server, tmp_path, notes=notes)
    for key, answer in answers.items():
        assert json.loads(answer.text) == {"text": f"返事:依頼{key[1:]}"}
        assert (answer.finish, answer.prompt_tokens, answer.completion_tokens) == ("stop", 11, 7)
    (batch,) = provider.batches
    assert f"4 requests are in batch {batch}" in notes[0]
    assert open_records(tmp_path) == []
    if backend == "anthropic":
        assert provider.deleted == [batch]
    else:
        assert [name.partition("/")[0] for name in provider.deleted] == ["files", "batches"]
        assert "has not deleted files/batch-" in notes[-1]


def test_rows_of_each_provider_that_failed_say_why(backend: str, tmp_path: Path) -> None:
    kinds = ("answered", "filtered", "expired", "overloaded", "missing", "cut", "damaged")
    outcomes = {f"r{n}": kind for n, kind in enumerate(kinds)}
    provider = provider_of(backend, outcomes)
    with FaultServer(provider) as server:
        answers = ask_other(backend, server, tmp_path, 7)
        assert answers["r0"].error == ""
        assert answers["r1"].error == "refused by the content filter"
        assert answers["r1"].completion_tokens == 7  # it was paid for
        assert "expired" in answers["r2"].error
        assert "verloaded" in answers["r3"].error
        assert f"batch {next(iter(provider.batches))}" in answers["r4"].error
        assert "without a row for it" in answers["r4"].error
        assert answers["r6"].error == answers["r4"].error
        assert answers["r5"].finish == "length"
        # Asked again, they are a new batch.
        provider.outcomes = {}
        assert not ask_other(backend, server, tmp_path, 7)["r2"].error
    assert len(provider.batches) == 2


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_a_batch_of_gemini_may_end_early(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("google.genai")
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    provider = provider_of("gemini", {"r1": "missing"}, state=f"BATCH_STATE_{state}")
    with FaultServer(provider) as server:
        answers = ask_other("gemini", server, tmp_path, 2)
    assert f"JOB_STATE_{state}" in answers["r1"].error
    # What came of it before is kept.
    assert bool(answers["r0"].error) is (state == "FAILED")


@pytest.mark.parametrize("calls", range(1, 6))
def test_what_ends_a_stream_of_each_provider_leaves_it_to_the_next(
    backend: str, tmp_path: Path, calls: int
) -> None:
    provider = provider_of(backend, fault=stop_after(calls))
    with FaultServer(provider) as server:
        with pytest.raises(JapagenError, match=r"Cannot reach|the same command"):
            ask_other(backend, server, tmp_path)
        answers = ask_other(backend, server, tmp_path)
    assert not [a.error for a in answers.values() if a.error]
    assert len(provider.batches) == 1


def test_a_batch_of_each_provider_whose_id_was_never_heard_is_found(
    backend: str, tmp_path: Path
) -> None:
    def deaf(call: Call) -> Reply | None:
        """Takes the second batch, but does not say so; the first is of somebody else."""
        creates = call.path.endswith((":batchGenerateContent", "/messages/batches"))
        if call.method == "POST" and creates and len(provider.batches) == 1:
            provider.create(call, *([MODEL] if backend == "gemini" else []))
            return Reply(drop=True)
        return None

    provider = provider_of(backend, fault=deaf)
    with FaultServer(provider) as server:
        ask_other(backend, server, tmp_path / "elsewhere", 2)
        for batch in provider.batches.values():
            for row in batch["rows"]:
                row["custom_id" if backend == "anthropic" else "key"] += "-other"
        with pytest.raises(JapagenError):
            ask_other(backend, server, tmp_path, 2)
        (record,) = open_records(tmp_path)
        assert record.batch == ""
        answers = ask_other(backend, server, tmp_path, 2)
    assert not [a.error for a in answers.values() if a.error]
    assert len(provider.batches) == 2


def test_a_batch_of_each_provider_that_is_gone_fails_its_requests(
    backend: str, tmp_path: Path
) -> None:
    with FaultServer(provider_of(backend)) as server:
        record = BatchRecord.begin(tmp_path, ["r0", "r1"])
        record.batch = "batches/lost" if backend == "gemini" else "lost"
        record.save()
        answers = ask_other(backend, server, tmp_path, 2)
        assert f"does not know batch {record.batch} any more" in answers["r1"].error
        assert not ask_other(backend, server, tmp_path, 2)["r0"].error


def test_a_schema_that_each_provider_refuses_is_left_out_in_a_second_batch(
    backend: str, tmp_path: Path
) -> None:
    provider = provider_of(backend, {f"r{n}": "no schema" for n in range(2)})
    with FaultServer(provider) as server:
        answers = ask_other(backend, server, tmp_path, 2)
    assert not [a.error for a in answers.values() if a.error]
    assert len(provider.batches) == 2


def test_each_provider_may_refuse_the_key_or_the_model(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = provider_of(backend)
    with FaultServer(provider) as server:
        if backend == "gemini":
            with pytest.raises(JapagenError, match="does not know the model 'nobody'"):
                ask_other(backend, server, tmp_path, 1, model="nobody")
        else:  # Its requests are looked at when their turn comes.
            answers = ask_other(backend, server, tmp_path, 1, model="nobody")
            assert "does not know the model 'nobody'" in answers["r0"].error
        variable = PROVIDERS[backend][2]
        monkeypatch.setenv(variable, KEY[::-1])
        with pytest.raises(JapagenError, match=f"refuses the key in {variable}") as caught:
            ask_other(backend, server, tmp_path, 1)
    assert KEY[::-1] not in str(caught.value)


def test_a_run_by_each_provider_pays_the_price_of_batches(
    backend: str, raw_task: dict[str, Any], tmp_path: Path
) -> None:
    price = {"input_per_million": 1000, "output_per_million": 4000}
    generation = {**raw_task["generation"], "per_label": 3}
    with FaultServer(provider_of(backend)) as server:
        generator = {**settings_of(backend, server), "price": price}
        task = Task.parse({**raw_task, "generation": generation, "generator": generator})
        run = jg.run(task, tmp_path / "run", until="generate")
    assert len(run.after("generate")) == 6
    assert task.generator.price_now is not None
    assert task.generator.price_now.input_per_million == 500
    written = [p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert not [raw for raw in written if KEY.encode() in raw]


def test_doctor_asks_each_provider_for_its_models_alone(
    backend: str, raw_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider: ScriptedProvider = provider_of(backend)
    path = tmp_path / "task.json"
    with FaultServer(provider) as server:
        path.write_text(json.dumps({**raw_task, "generator": settings_of(backend, server)}))

        def doctor() -> dict[str, tuple[str, str]]:
            done = CliRunner().invoke(app, ["doctor", "--generator", str(path), "--json"])
            return {r["what"]: (r["state"], r["detail"]) for r in json.loads(done.stdout)}

        found = doctor()
        assert found["models"] == ("ok", MODEL)
        assert found["answers"][0] == "unknown"
        monkeypatch.setenv(PROVIDERS[backend][2], "another-key")
        assert doctor()["answers"][0] == "failed"
    assert provider.batches == {}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "asked by batches alone: set batch: true, or ask one by one with {backend: openai"),
        ({"batch": True, "api": "completions"}, "has chat models alone"),
        ({"batch": True, "timeout": 3}, "timeout goes with the backend openai, found"),
    ],
)
@pytest.mark.parametrize("name", PROVIDERS)
def test_settings_that_no_batch_has_are_refused(
    name: str, more: dict[str, Any], said: str, raw_task: dict[str, Any]
) -> None:
    raw_task["generator"] = {"backend": name, "model": "m", **more}
    with pytest.raises(JapagenError) as caught:
        Task.parse(raw_task)
    assert said in str(caught.value)


def test_what_asks_one_by_one_says_what_to_use(backend: str) -> None:
    settings = GeneratorSettings(backend=backend, model="m", batch=True)
    with pytest.raises(JapagenError, match="asks one by one") as caught:
        list(load_generator(settings).stream([make(0)]))
    assert f"api_key_env: {PROVIDERS[backend][2]}, model: m" in caught.value.hint


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_client_that_is_missing_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "find_spec", lambda package: None)
    with pytest.raises(JapagenError) as caught:
        load_generator(GeneratorSettings(backend=name, model="m", batch=True))
    assert f"japagen[{name}]" in caught.value.hint
