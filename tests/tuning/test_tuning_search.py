from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from japagen.cli import tune_view
from japagen.errors import JapagenError
from japagen.generators.base import Request, Sampling
from japagen.japanese.registers import Register
from japagen.tasks.tasks import Task
from japagen.tuning.search import tune
from tests.conftest import GOLD
from tests.fault_server import Call, FaultServer, Reply, chat
from tests.scripted import ScriptedGenerator, write_text
from tests.test_cli import japagen

VARY = {
    "generation.shots": [],
    "generation.min_p": [],
    "generation.instruction": [],
    "generation.temperature": [0.1, 0.9],
}


def warm(request: Request) -> str:
    """Below a temperature of 0.5 gold's own phrases of the label; above, the other label's."""
    rng = random.Random(request.seed)
    right = request.sampling.temperature < 0.5
    text = rng.choice(GOLD[next(k for k in GOLD if (k == request.label) == right)])
    return text.replace("。", f"、{rng.randint(10, 9999)}番の件です。")


@pytest.fixture
def task(raw_task: dict[str, Any], tiny_encoder: str) -> Task:
    raw_task["training"] = {"encoder": tiny_encoder}
    raw_task["curation"] = {"max_similarity": 1.0, "max_gold_overlap": 1.0}
    raw_task["generation"]["temperature"] = 0.9
    return Task.parse(raw_task)


class Breaking(ScriptedGenerator):
    """Is interrupted after some answers."""

    def __init__(self, after: int) -> None:
        super().__init__(self._write)
        self._after = after

    def _write(self, request: Request) -> str:
        if len(self.asked) > self._after:
            raise KeyboardInterrupt
        return warm(request)


def test_the_settings_that_bring_the_right_labels_win(task: Task, tmp_path: Path) -> None:
    generator = ScriptedGenerator(warm)
    found = tune(task, 192, tmp_path / "t", vary=VARY, generator=generator)
    assert len(generator.asked) <= 192
    assert found["winner"] == found["chosen"] == {"generation.temperature": 0.1}
    assert found["verdict"] == "better"
    gain = found["gain"]
    assert 0 < gain["low"] < gain["value"]
    # No request of the comparison has chosen the winner.
    seeds = [r.seed for r in generator.asked]
    last = gain["winner"]["requests"] + gain["now"]["requests"]
    assert len(set(seeds[:-last]) & set(seeds[-last:])) == 0
    texts = {r.prompt for r in generator.asked}
    assert not any(e in prompt for prompt in texts for e in _test_texts(task))


def _test_texts(task: Task) -> list[str]:
    from japagen.running.data import load_data

    test = load_data(task).test
    assert test is not None
    return list(test.texts)


def test_a_search_that_was_interrupted_goes_on_to_the_same_end(task: Task, tmp_path: Path) -> None:
    whole = tune(task, 96, tmp_path / "a", vary=VARY, generator=ScriptedGenerator(warm))
    asked = []
    for after in (10, 30):
        generator = Breaking(after)
        with pytest.raises(KeyboardInterrupt):
            tune(task, 96, tmp_path / "b", vary=VARY, generator=generator)
        asked.append(len(generator.asked) - 1)
    generator = ScriptedGenerator(warm)
    resumed = tune(task, 96, tmp_path / "b", vary=VARY, generator=generator)
    for name in ("trials", "winner", "gain", "verdict"):
        assert resumed[name] == whole[name]
    assert sum(asked) + len(generator.asked) == whole["cost"]["answers"]
    again = ScriptedGenerator(warm)
    tune(task, 96, tmp_path / "b", vary=VARY, generator=again)
    assert again.asked == []


def test_settings_that_make_no_difference_are_said_to_make_none(task: Task, tmp_path: Path) -> None:
    same = ScriptedGenerator(write_text)
    found = tune(task, 96, tmp_path / "t", vary=VARY, generator=same)
    assert found["verdict"] in ("no_clear_difference", "unchanged")


def test_what_cannot_be_tuned_says_so(raw_task: dict[str, Any], task: Task, tmp_path: Path) -> None:
    with pytest.raises(JapagenError, match="at least"):
        tune(task, 10, tmp_path / "t", generator=ScriptedGenerator())
    with pytest.raises(JapagenError, match="the task has none"):
        tune(Task.parse({**raw_task, "gold": None}), 100, tmp_path / "t")
    with pytest.raises(JapagenError, match="one label each"):
        tune(Task.parse({**raw_task, "pair": {}}), 100, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_the_command_writes_a_task_file_with_its_comments(task: Task, tmp_path: Path) -> None:
    with FaultServer(_serve) as server:
        _check_the_command(task, tmp_path, server.url)


def _serve(call: Call) -> Reply:
    lines = call.prompt.splitlines()
    label = next(k for k in GOLD if any(line.startswith(f"分類：{k}") for line in lines))
    sampling = Sampling(temperature=call.body["temperature"])
    request = Request("r", "", sampling, call.body["seed"], label, Register(), "t")
    return Reply(chat(json.dumps({"text": warm(request)}, ensure_ascii=False)))


def _check_the_command(task: Task, tmp_path: Path, url: str) -> None:
    raw = yaml.safe_load(task.to_yaml())
    config = tmp_path / "task.yaml"
    text = yaml.safe_dump({k: raw[k] for k in ("labels", "gold", "training")}, allow_unicode=True)
    text += f"generator: {{backend: openai, model: m, base_url: '{url}'}}\n"
    config.write_text(
        "# 社内の問い合わせ\nname: small\ntext_type: 問い合わせ  # 一件\n"
        + text
        + "curation: {max_similarity: 1.0, max_gold_overlap: 1.0}\n"
        "evaluation: {test_share: 0.34, bootstrap: 200}\n"
        "generation:\n  temperature: 0.9  # 高め\n  shots: 3\n",
        encoding="utf-8",
    )
    command = ["tune", config, "--budget", "192", "--out", tmp_path / "t"]
    command += [f"--vary={key}={values}" for key, values in VARY.items()]
    code, out, err = japagen(*command, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["chosen"] == {"generation.temperature": 0.1}
    assert found["gain"]["value"] > 0
    written = (tmp_path / "tuned.yaml").read_text(encoding="utf-8")
    assert "temperature: 0.1  # 高め" in written
    assert "# 社内の問い合わせ" in written
    assert "on 64 requests of its own" in written
    assert Task.load(tmp_path / "tuned.yaml").generation.temperature == 0.1
    code, _, err = japagen(*command)
    assert (code, "exists; nothing was tried" in err) == (2, True)
    assert (tmp_path / "tuned.yaml").read_text(encoding="utf-8") == written
    with tune_view.terminal.out.capture() as shown:
        tune_view.print_trials(found)
    assert "temperature: 0.1: score +" in shown.get()
    assert "better than the task as it stands" in shown.get()
    assert shown.get().splitlines()[-1].endswith("tuned.yaml")


def test_a_file_elsewhere_finds_what_its_task_named(tmp_path: Path) -> None:
    from japagen.tuning.task_file import write_changed

    config, target = tmp_path / "a" / "task.yaml", tmp_path / "b" / "tuned.yaml"
    config.parent.mkdir()
    (config.parent / "gold.jsonl").touch()
    config.write_text("gold: {path: gold.jsonl}\ntest: gold.jsonl\n", encoding="utf-8")
    write_changed(config, target, {"generation.shots": 4}, ["a"])
    found = yaml.safe_load(target.read_text(encoding="utf-8"))
    assert found["gold"]["path"] == found["test"] == "../a/gold.jsonl"
    assert found["generation"] == {"shots": 4}
