from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.data.shards import Part
from japagen.errors import AwaitedError, JapagenError
from japagen.llm.backends.offline import Elsewhere
from japagen.llm.ledger import Ledger
from japagen.pipeline.run import merge_parts
from tests.batch_provider import Row, answered, replied
from tests.conftest import Heard
from tests.fault_server import FaultServer, chat

# Nobody listens there: whatever is sent ends the run.
NOWHERE = "http://127.0.0.1:9/v1"
TEXTS = (
    "昨日届くはずのソファーがまだ来ていません。",
    "サイズが合わなかったので送り返す方法を教えてください。",
    "不在票が入っていたのですが、再配達はいつになりますか。",
)


@pytest.fixture
def task(raw_task: dict[str, Any]) -> Task:
    generator = {"backend": "openai", "model": "m", "base_url": [NOWHERE]}
    return Task.parse({**raw_task, "generator": generator})


def generate(task: Task, out: Path, notes: Heard | None = None, **how: Any) -> jg.Run:
    elsewhere = Elsewhere(**how)
    return jg.run(task, out, until="generate", elsewhere=elsewhere, listener=notes or Heard())


def totals_of(run: Path) -> Any:
    with closing(Ledger(run / "ledger.sqlite")) as ledger:
        return ledger.totals()


def written(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answer(rows: list[Row], path: Path) -> Path:
    """What an offline engine leaves, in an order of its own."""
    lines = [json.dumps(answered(row), ensure_ascii=False) for row in reversed(rows)]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_a_run_goes_by_files_to_the_texts_that_a_server_would_have_given(
    task: Task, tmp_path: Path
) -> None:
    out, requests = tmp_path / "run", tmp_path / "requests.jsonl"
    with pytest.raises(AwaitedError, match="24 requests are in"):
        generate(task, out, requests=requests)
    rows = written(requests)
    assert {(row["method"], row["url"]) for row in rows} == {("POST", "/v1/chat/completions")}
    assert rows[0]["body"].keys() >= {"model", "messages", "seed", "response_format"}
    notes = Heard()
    answers = answer(rows, tmp_path / "answers.jsonl")
    by_file = generate(task, out, notes, answers=answers)
    assert notes.notes[0].startswith(f"{answers}: 24 answers taken, 0 were here before, 0 to no")
    with FaultServer() as server:
        live = task.model_copy(
            update={"generator": task.generator.model_copy(update={"base_url": (server.url,)})}
        )
        by_server = generate(live, tmp_path / "live")
        assert len(server.calls) == 24
    assert by_file.after("generate").texts == by_server.after("generate").texts


def test_only_what_is_missing_is_written_again(task: Task, tmp_path: Path) -> None:
    out, requests = tmp_path / "run", tmp_path / "requests.jsonl"
    with pytest.raises(AwaitedError):
        generate(task, out, requests=requests)
    rows = written(requests)
    answers = answer([*rows[:20], rows[3], {**rows[4], "custom_id": "no such"}], tmp_path / "a")
    with answers.open("a") as file:
        file.write(json.dumps(answered(rows[20]))[:40])  # the engine was killed
    notes = Heard()
    with pytest.raises(AwaitedError, match="4 requests are in"):
        generate(task, out, notes, requests=requests, answers=answers)
    assert notes.notes == [
        f"{answers}: 20 answers taken, 0 were here before, 1 to no request of this run, "
        "2 lines doubled or damaged."
    ]
    assert [row["custom_id"] for row in written(requests)] == [r["custom_id"] for r in rows[20:]]
    notes = Heard()
    more = answer(written(requests), tmp_path / "more")
    with more.open("a") as file:
        file.write(answers.read_text())
    generate(task, out, notes, requests=requests, answers=more)
    assert "4 answers taken, 20 were here before, 1 to no request" in notes.notes[0]
    totals = totals_of(out)
    assert (totals["attempts"], totals["answers"], totals["prompt_tokens"]) == (24, 24, 24 * 11)
    assert "lost_attempts" not in totals


def test_a_row_that_failed_is_a_failed_text(task: Task, tmp_path: Path) -> None:
    out, requests = tmp_path / "run", tmp_path / "requests.jsonl"
    with pytest.raises(AwaitedError):
        generate(task, out, requests=requests)
    rows = written(requests)
    answers = answer(rows[1:], tmp_path / "answers")
    failed = {"custom_id": rows[0]["custom_id"], "response": {"status_code": 400, "body": None}}
    with answers.open("a") as file:
        file.write(json.dumps({**failed, "error": {"message": "the prompt is too long"}}))
    run = generate(task, out, requests=requests, answers=answers)
    (rejected,) = filter(None, run.after("generate").column("rejected"))
    assert "HTTP 400: the prompt is too long" in rejected["detail"]


def test_answers_to_another_task_are_refused_before_anything_is_sent(
    task: Task, tmp_path: Path
) -> None:
    requests = tmp_path / "requests.jsonl"
    other = task.model_copy(update={"text_type": "別の文章"})
    with pytest.raises(AwaitedError):
        generate(other, tmp_path / "other", requests=requests)
    answers = answer(written(requests), tmp_path / "answers")
    with pytest.raises(JapagenError, match=r"None of 24 answers in .* to a request of this run"):
        generate(task, tmp_path / "run", answers=answers)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"requests": "task.yaml"}, "Expected a new .jsonl file"),
        ({"requests": "a.jsonl", "answers": "a.jsonl"}, "Expected a new .jsonl file"),
        ({"answers": "missing.jsonl"}, "Cannot read .*missing.jsonl: No such file"),
    ],
)
def test_files_that_cannot_be_used(
    how: dict[str, str], message: str, task: Task, tmp_path: Path
) -> None:
    paths = {name: tmp_path / file for name, file in how.items()}
    with pytest.raises(JapagenError, match=message):
        generate(task, tmp_path / "run", **paths)


def test_files_go_with_a_generator_that_speaks_the_api(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(JapagenError, match=r"go with generator\.backend openai"):
        generate(Task.parse(raw_task), tmp_path / "run", requests=tmp_path / "r.jsonl")


def test_a_second_model_has_files_of_its_own_in_turn(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    writer, judge = (
        {"backend": "openai", "model": name, "base_url": [NOWHERE]} for name in ("writer", "judge")
    )
    raw_task["curation"]["judge"] = {"generator": judge}
    task = Task.parse({**raw_task, "generator": writer})
    scores = dict.fromkeys(("naturalness", "label", "register", "harmlessness"), 4)
    asked: list[set[str]] = []
    how: dict[str, Path] = {"requests": tmp_path / "requests.jsonl"}
    for number in range(4):
        try:
            run = jg.run(task, tmp_path / "run", until="curate", elsewhere=Elsewhere(**how))
            break
        except AwaitedError:
            rows = written(how["requests"])
        asked.append({row["body"]["model"] for row in rows})
        how["answers"] = tmp_path / f"answers{number}.jsonl"
        with how["answers"].open("w", encoding="utf-8") as file:
            for place, row in enumerate(rows):
                said = {"text": TEXTS[place % len(TEXTS)]} if number == 0 else scores
                reply = replied(row, chat(json.dumps(said, ensure_ascii=False)))
                file.write(json.dumps(reply, ensure_ascii=False) + "\n")
    assert asked == [{"writer"}, {"judge"}]
    kept = run.after("curate").kept
    assert 0 < len(kept) <= len(TEXTS)
    assert all(example.scores == scores for example in kept)


def test_the_command_line_tells_that_it_waits(task: Task, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(task.to_yaml())
    command = [sys.executable, "-m", "japagen", "run", "task.yaml", "--requests", "r.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 4
    assert "24 requests are in r.jsonl, none was sent." in done.stderr
    assert "Error" not in done.stderr


def test_parts_join_to_the_run_that_one_process_makes(task: Task, tmp_path: Path) -> None:
    runs = [tmp_path / str(number) for number in range(3)]
    with FaultServer() as server:
        generator = task.generator.model_copy(update={"base_url": (server.url,)})
        live = task.model_copy(update={"generator": generator})
        for number, path in enumerate(runs):
            with pytest.raises(AwaitedError, match=f"Part {number + 1} of 3 is done"):
                generate(live, path, part=Part(number + 1, 3))
        assert len(server.calls) == 24
        sizes = [totals_of(path)["answers"] for path in runs]
        assert sum(sizes) == 24
        assert min(sizes) > 0
        out = tmp_path / "joined"
        # As often as one likes, and in any order.
        assert merge_parts(runs[:2], out) == sizes[0] + sizes[1]
        assert merge_parts(runs[::-1], out) == 24
        joined = generate(live, out)
        assert len(server.calls) == 24
        whole = generate(live, tmp_path / "whole")
        assert len(server.calls) == 48
    assert joined.after("generate").texts == whole.after("generate").texts
    totals = totals_of(out)
    assert (totals["attempts"], totals["prompt_tokens"]) == (24, 24 * 11)


def test_runs_of_other_tasks_are_not_joined(task: Task, tmp_path: Path) -> None:
    with FaultServer() as server:
        generator = task.generator.model_copy(update={"base_url": (server.url,)})
        live = task.model_copy(update={"generator": generator})
        for name, changed in {
            "a": live,
            "b": live.model_copy(update={"text_type": "別の文章"}),
            "c": live.model_copy(update={"name": "other"}),
        }.items():
            with pytest.raises(AwaitedError):
                generate(changed, tmp_path / name, part=Part(1, 2))
    with pytest.raises(JapagenError, match="found 24 of 24 that the others do not have"):
        merge_parts([tmp_path / "a", tmp_path / "b"], tmp_path / "ab")
    with pytest.raises(JapagenError, match="belongs to the task 'other'"):
        merge_parts([tmp_path / "a", tmp_path / "c"], tmp_path / "ac")
    assert not (tmp_path / "ac").exists()
    with pytest.raises(JapagenError, match="is one of the runs to merge"):
        merge_parts([tmp_path / "a", tmp_path / "b"], tmp_path / "c" / ".." / "b")
    with pytest.raises(JapagenError, match="Expected a run directory"):
        merge_parts([tmp_path / "a", tmp_path], tmp_path / "ad")
