from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.dataset import Dataset, Example
from japagen.data.formats import write_examples
from japagen.errors import JapagenError
from japagen.llm.backends import embedded, openai_session
from japagen.pipeline.costs import foretell_memory
from japagen.pipeline.estimate import estimate
from japagen.pipeline.preview import sample
from tests.command_line import japagen
from tests.fault_server import Call, FaultServer, Reply, chat, echo
from tests.llm.backends.tiny_model import write_tiny_model

PRICE = {"input_per_million": 100, "output_per_million": 400}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_session, "_FIRST_PAUSE", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def _task(raw: dict[str, Any], server: FaultServer, **generator: Any) -> Task:
    settings = {"backend": "openai", "model": "m", "base_url": server.url, **generator}
    return Task.parse({**raw, "generator": settings})


def _asks_for_label(call: Call) -> bool:
    return "label" in call.body["response_format"]["json_schema"]["schema"]["properties"]


def _slow(call: Call) -> Reply:
    """Takes ten times as long for a text as for a label."""
    if _asks_for_label(call):
        return Reply(chat('{"label": "配送"}'), delay=0.02)
    return Reply(echo(call).body, delay=0.2)


def test_a_plan_measures_on_a_few_requests_where_the_server_is_here(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    with FaultServer(_slow) as server:
        found = estimate(_task(raw_task, server, price=PRICE), tmp_path / "run")
    judged = [call for call in server.calls if _asks_for_label(call)]
    server.calls[:] = [call for call in server.calls if call not in judged]
    assert len(server.calls) == len(judged) == 4
    labels = {line for call in server.calls for line in call.prompt.split("\n") if "分類" in line}
    assert len(labels) > 1  # spread over the labels
    step = found["steps"][0]
    assert (step["step"], step["requests"], step["answered"]) == ("generate", 24, 0)
    assert found["measured_on"] == "sample"
    assert step["completion_tokens"] == 24 * 7
    assert 0 < step["seconds"] < 60
    trust = found["steps"][-1]
    assert trust["step"] == "trust"
    each = [s["seconds"] / s["expected_requests"] for s in (step, trust)]
    assert each[1] < each[0] / 2
    assert step["max_completion_tokens"] == 24 * 120
    cost = (step["prompt_tokens"] * 100 + step["completion_tokens"] * 400) / 1e6
    assert step["yen"] == pytest.approx(cost)
    assert step["max_yen"] == pytest.approx((step["prompt_tokens"] * 100 + 24 * 120 * 400) / 1e6)


def test_a_plan_counts_every_step(raw_task: dict[str, Any], tmp_path: Path) -> None:
    raw_task["curation"]["rewrite_attempts"] = 2
    with FaultServer() as server:
        task = _task(raw_task, server, price=PRICE)
        unmeasured = estimate(task, tmp_path / "run", 0)
        found = estimate(task, tmp_path / "run", 2)
        fewer = {"alignment": {"label_trust": "encoder"}, "curation": {"register_miss": ["keep"]}}
        alone = estimate(Task.parse({**task.model_dump(mode="json"), **fewer}), tmp_path / "run", 2)
        batch = estimate(_task(raw_task, server, price=PRICE, batch=True), tmp_path / "run", 2)
        refined = estimate(_task({**raw_task, "refinement": {"rounds": 2}}, server), None, 0)
    generate, rewrite, trust = found["steps"]
    gold = len(load_data(task).gold or ())
    assert rewrite["requests"] == 2 * 24
    assert rewrite["expected_requests"] is None
    assert found["unknown"] == ["rewrite"]
    assert trust["requests"] == trust["expected_requests"] == 4 * 24 + gold
    # A judge's prompt shows nearly all of the gold, and its answer is a name.
    assert unmeasured["steps"][2]["prompt_tokens"] / trust["requests"] > 100
    assert 0 < trust["completion_tokens"] < 30 * trust["requests"]
    assert found["requests"] == 24 + 48 + 4 * 24 + gold
    for key in ("prompt_tokens", "max_completion_tokens", "max_yen"):
        assert found[key] == pytest.approx(sum(step[key] for step in found["steps"]))
    assert found["yen"] == pytest.approx(generate["yen"] + trust["yen"])
    assert [step["step"] for step in alone["steps"]] == ["generate"]
    assert refined["steps"][2]["step"] == "refine"
    assert refined["steps"][2]["requests"] == 2 * 2 * 24
    assert refined["unknown"] == ["rewrite", "refine"]
    assert alone["max_yen"] == pytest.approx(generate["max_yen"])
    assert batch["max_yen"] == pytest.approx(found["max_yen"] / 2)
    assert (found["batch"], batch["batch"]) == (None, 0.5)


def test_a_plan_counts_unlabelled_texts_that_labels_are_asked_for(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "unlabelled.jsonl"
    write_examples(path, Dataset.of(Example(f"荷物が{i}日も遅れています。") for i in range(8)))
    raw_task["unlabelled"] = {"path": str(path)}
    with FaultServer() as server:
        task = _task(raw_task, server)
        gold = len(load_data(task).gold or ())
        for trust, texts in (("pool", 24 + 6), ("encoder", 6)):
            raw_task["alignment"] = {"label_trust": trust}
            found = estimate(_task(raw_task, server), None, 0)
            assert found["steps"][-1]["step"] == "trust"
            assert found["steps"][-1]["requests"] == 4 * texts + gold
        raw_task["training"] = {"pseudo_labels": "never"}
        found = estimate(_task(raw_task, server), None, 0)
        assert "trust" not in [step["step"] for step in found["steps"]]


def test_a_plan_prices_labels_of_test_texts_apart_from_the_label_check(
    raw_task: dict[str, Any], tmp_path: Path, tiny_encoder: str
) -> None:
    raw_task["evaluation"] |= {"baselines": True, "zero_shot": "always"}
    raw_task["training"] = {"encoder": tiny_encoder, "max_steps": 2, "synthetic_share": 0.5}

    def answer(call: Call) -> Reply:
        text = f"荷物はまだ届きません、{call.body['seed']}番です。"
        return Reply(
            chat(json.dumps({"label": "配送"} if _asks_for_label(call) else {"text": text}))
        )

    with FaultServer(answer) as server:
        task = _task(raw_task, server, price=PRICE)
        tests = len(load_data(task).test or ())
        before = estimate(task, tmp_path / "run", 0)
        jg.run(task, tmp_path / "run", until="train")
        calls = len(server.calls)
        after = estimate(task, tmp_path / "run")
        assert len(server.calls) == calls
    step, done = before["steps"][-1], after["steps"][-1]
    assert step["step"] == done["step"] == "zero_shot"
    assert step["requests"] == step["expected_requests"] == tests
    assert step["max_yen"] > 0
    # A prompt of the label check shows gold; this one none.
    trust = before["steps"][-2]
    assert step["prompt_tokens"] / tests < 0.9 * trust["prompt_tokens"] / trust["requests"]
    assert (step["answered"], done["answered"]) == (0, tests)
    assert done["yen"] == 0
    judged = [call for call in server.calls if _asks_for_label(call)]
    assert after["steps"][-2]["answered"] == len(judged) - tests


def test_a_second_model_that_refines_is_counted_at_its_own_price(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    with FaultServer() as server:
        second = {"backend": "openai", "model": "n", "base_url": server.url, "price": PRICE}
        raw_task["refinement"] = {"rounds": 1, "generator": second}
        found = estimate(_task(raw_task, server), tmp_path / "run", 0)
        second["api"] = "completions"
        base = estimate(_task(raw_task, server), tmp_path / "run", 0)
    (refine,) = (step for step in found["steps"] if step["step"] == "refine")
    assert (refine["requests"], refine["expected_requests"]) == (2 * 24, None)
    most = (refine["prompt_tokens"] * 100 + refine["max_completion_tokens"] * 400) / 1e6
    assert refine["max_yen"] == pytest.approx(most, rel=1e-3)
    # The task's own generator has no price.
    assert found["steps"][0]["max_yen"] is None
    assert found["max_yen"] == refine["max_yen"]
    assert "refine" not in [step["step"] for step in base["steps"]]
    assert any("No text will be refined: n continues" in note for note in base["notes"])


def test_texts_that_are_there_tell_how_many_will_be_rewritten_and_judged(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    """Half of the texts are too short to be kept, the others all polite."""
    raw_task["registers"] = {"polite": 0.5, "casual": 0.5}

    def answer(call: Call) -> Reply:
        number = call.body["seed"]
        text = "短い。" if number % 2 else f"荷物はまだ届きません、{number}番です。"
        return Reply(chat(json.dumps({"text": text}, ensure_ascii=False)))

    with FaultServer(answer) as server:
        task = _task(raw_task, server)
        jg.run(task, tmp_path / "run", until="generate")
        found = estimate(task, tmp_path / "run")
        run = jg.run(task, tmp_path / "run", until="curate")
    rewrites = len(server.calls) - 24
    generate, rewrite, trust = found["steps"]
    assert generate["answered"] == 24
    assert rewrite["expected_requests"] == rewrites
    kept = len(run.after("curate").kept)
    assert 4 * kept <= trust["expected_requests"] < 4 * 24
    assert found["unknown"] == []


def test_a_plan_sends_nothing_where_it_need_not(raw_task: dict[str, Any], tmp_path: Path) -> None:
    with FaultServer() as server:
        found = estimate(_task(raw_task, server), tmp_path / "run", 0)
    assert not server.calls
    assert (found["seconds"], found["completion_tokens"], found["max_yen"]) == (None, None, None)
    assert all(step["requests"] and step["prompt_tokens"] for step in found["steps"])
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
    step = found["steps"][0]
    assert 0 < step["answered"] <= 8
    waiting = step["requests"] - step["answered"]
    assert step["completion_tokens"] == 7 * waiting
    assert step["max_yen"] < step["prompt_tokens"] * 1e-4 + 120 * 4e-4 * waiting + 1e-6


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
        lines = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
        assert "168, at most 2,880" in lines["generation"]
        assert "at most 24" in lines["register rewrites"]
        assert {"judging labels", "together"} <= set(lines)
        assert "measured on the sample" in out
        assert "budget: 50.0 yen for all steps and sessions of a run together; it holds" in out


def test_a_budget_holds_for_rewriting_and_the_label_check_too(
    raw_task: dict[str, Any], tmp_path: Path, tiny_encoder: str
) -> None:
    raw_task["registers"] = {"polite": 0.5, "casual": 0.5}
    raw_task["training"] = {"encoder": tiny_encoder}

    def answer(call: Call) -> Reply:
        judged = _asks_for_label(call)
        text = f"荷物はまだ届きません、{call.body['seed']}番です。"
        body = chat(json.dumps({"label": "配送"} if judged else {"text": text}))
        body["usage"] = {"prompt_tokens": 100, "completion_tokens": 100}
        return Reply(body)

    asked = []
    for tokens in (24 * 200 + 2_000, 100_000):
        raw_task["generation"]["budget"] = {"tokens": tokens}
        with FaultServer(answer) as server:
            run = jg.run(_task(raw_task, server), tmp_path / str(tokens), until="align")
        formats = [call.body["response_format"]["json_schema"] for call in server.calls]
        asked.append(Counter(f["name"] for f in formats))
        assert 200 * len(server.calls) <= tokens
        assert len(run.dataset)
    small, large = asked
    assert small["text"] < large["text"]
    assert small["label"] < 8 < large["label"]


def test_a_preview_shows_what_is_sent(raw_task: dict[str, Any]) -> None:
    with FaultServer() as server:
        rows = sample(_task(raw_task, server), 3)
    assert len(rows) == len(server.calls) == 3
    assert all(row["text"] for row in rows)


def test_a_plan_asks_a_chat_model_in_this_process_once_about_each_text(
    raw_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp")
    # Threads that share a processor wait for each other.
    monkeypatch.setattr(embedded, "default_threads", lambda: 1)
    # The tiny vocabulary splits most characters into three bytes.
    monkeypatch.setattr(embedded, "CONTEXT", 4096)
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    path = write_tiny_model(tmp_path / "chat.gguf", lambda w: w.add_chat_template(template))
    raw_task["generator"] = {"backend": "embedded", "model": str(path), "slots": 1}
    task = Task.parse(raw_task)
    # Random weights rarely close their JSON object within the limit.
    found = estimate(task, tmp_path / "run", 16)
    trust = found["steps"][-1]
    gold = len(load_data(task).gold or ())
    assert trust["step"] == "trust"
    assert trust["requests"] == trust["expected_requests"] == 24 + gold
    assert trust["max_completion_tokens"] == 0
    assert trust["seconds"] > 0


def test_a_plan_until_enough_are_kept_is_a_range(raw_task: dict[str, Any], tmp_path: Path) -> None:
    raw_task["generation"] = {"until": 30, "texts_per_request": 1}
    with FaultServer() as server:
        task = _task(raw_task, server, price=PRICE)
        found = estimate(task, tmp_path / "run", 0)
        jg.run(task, tmp_path / "run", until="generate")
        later = estimate(task, tmp_path / "run", 0)
    step = found["steps"][0]
    assert found["until"] == {"requests": [60, 120], "kept": [0.5, 1.0]}
    assert (step["requests"], step["expected_requests"], step["answered"]) == (300, 90, 0)
    assert found["notes"][0] == (
        "Until 30 texts of each label are kept: 60–120 requests if 50–100% of the texts are kept "
        "(assumed, nothing is known yet), 300 at most."
    )
    assert later["steps"][0]["answered"] >= 60
    assert later["until"] != found["until"]
    assert "measured on earlier answers" in later["notes"][0]


def test_memory_is_foretold_of_models_whose_size_is_known(
    raw_task: dict[str, Any], tiny_encoder: str
) -> None:
    def foretold(texts: int = 100, **sections: Any) -> dict[str, int | None]:
        task = Task.parse({**raw_task, **sections})
        return foretell_memory(task, load_data(task), texts)[0]

    here = foretold()
    away = foretold(generator={"backend": "openai", "model": "m", "base_url": "http://[::1]:9/v1"})
    weights = 102_000_000
    for stage in ("generate", "curate", "align"):
        assert here[stage] > away[stage] + 2 * weights  # type: ignore[operator]
    assert here["train"] == away["train"]  # the generator is freed before
    assert away["generate"] < away["curate"] < away["align"] < away["train"]  # type: ignore[operator]
    assert foretold(10_000)["curate"] > foretold(100)["curate"]  # type: ignore[operator]

    batches = [foretold(training={"batch_size": size})["train"] for size in (16, 32, 64)]
    assert batches[2] - batches[1] == pytest.approx(2 * (batches[1] - batches[0]), abs=2)  # type: ignore[operator]
    fixed = foretold(training={"tune": "never"}, generator={"backend": "replay", "model": "run"})
    assert fixed["train"] == fixed["align"] == away["align"]
    assert foretold(training={"encoder": tiny_encoder})["train"] < here["train"]  # type: ignore[operator]
    hub = foretold(training={"encoder": "owner/name"})
    assert (hub["generate"], hub["align"], hub["train"]) == (here["generate"], None, None)
    assert foretold(generator={"backend": "hf", "model": "owner/name"})["generate"] is None


def test_the_forecast_is_of_the_training_that_a_run_does(raw_task: dict[str, Any]) -> None:
    """16 gold texts a label and more are tuned on, and plain fine-tuning always tunes."""

    def foretold(texts: int, **sections: Any) -> tuple[bool, bool]:
        task = Task.parse(
            {**raw_task, **sections, "generator": {"backend": "replay", "model": "r"}}
        )
        stages, head = foretell_memory(task, load_data(task), texts)
        assert head in (None, stages["align"])
        return stages["train"] > stages["align"], head is not None  # type: ignore[operator]

    gold = len(load_data(Task.parse(raw_task)).gold or ())
    few, needed = 16 * 2 - gold - 1, 16 * 2 - gold
    assert 0 < gold < needed
    # All of them may count for nothing, or for as much as gold.
    assert [foretold(few), foretold(needed)] == [(False, False), (True, True)]
    assert foretold(0, evaluation={"baselines": True}) == (True, False)
    assert foretold(needed, training={"tune": "never"}) == (False, False)
    assert foretold(0, training={"tune": "always"}) == (True, False)
    some = {"synthetic_share": 1 - gold / 32}
    assert foretold(1, training=some) == (True, True)
    assert foretold(1, training={"synthetic_share": 0.05}) == (False, False)
    assert foretold(0, training={"synthetic_share": 0.9}) == (False, False)
    alone = {"gold": None, "test": None, "registers": {"polite": 1}}
    assert foretold(63, **alone) == (False, False)
    assert foretold(64, **alone) == (True, True)


def test_the_plan_says_what_a_head_alone_takes(raw_task: dict[str, Any], tmp_path: Path) -> None:
    with FaultServer() as server:
        found = estimate(_task(raw_task, server), tmp_path / "run", 0)
    assert found["notes"][-1] == (
        "How many texts are kept decides whether training tunes the encoder, for which the memory "
        "is; a head alone takes about 1.1 GB."
    )


def test_the_plan_shows_the_memory(raw_task: dict[str, Any], tmp_path: Path) -> None:
    with FaultServer() as server:
        path = tmp_path / "task.yaml"
        path.write_text(_task(raw_task, server).to_yaml())
        found = japagen("plan", path, "--sample", "0", "--lang", "en")[1]
    line = (
        r"memory at most, about: generate 0\.2 GB, curate 0\.3 GB, align 1\.1 GB, train \d\.\d GB"
    )
    assert re.search(line, found)
