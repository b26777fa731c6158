from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.dataset import Dataset, Example
from japagen.data.files import read_array
from japagen.data.formats import write_examples
from japagen.llm.backend import Answer, GeneratorInfo, OutputTerms, Request
from japagen.pipeline.steps.baselines import chosen_rows, why_not_asked
from tests.conftest import write_jsonl
from tests.pipeline.steps.test_label_checking import Weighing, label_of
from tests.pipeline.test_run import Heard, _changed
from tests.scripted import ScriptedGenerator, write_text

FITTED = [("tfidf", "gold"), ("tfidf", "union"), ("plain", "gold"), ("plain", "union")]
STAGES = {f"baseline-{name}_{learnt}-0" for name, learnt in FITTED}


@pytest.fixture
def raw_task(raw_task: dict[str, Any]) -> dict[str, Any]:
    raw_task["evaluation"]["baselines"] = True
    return raw_task


@pytest.fixture
def task(raw_task: dict[str, Any], tiny_encoder: str) -> Task:
    """A small task on synthetic text, with few steps."""
    raw_task["training"] = {"encoder": tiny_encoder, "synthetic_share": 0.5, "max_steps": 4}
    raw_task["alignment"] = {"method": "labels", "label_trust": "none"}
    return Task.parse(raw_task)


class Elsewhere(ScriptedGenerator):
    """A chat model on another machine that knows which label a text has, or does not answer."""

    def __init__(self, *, answers: bool = True) -> None:
        super().__init__(self._say, "chat")
        self._answers = answers
        terms = OutputTerms("Free to use.", "", True, True)
        self.info = GeneratorInfo("chat", "chat:1", "chat", False, terms)

    def _say(self, request: Request) -> str | Answer:
        if not request.options:
            return json.dumps({"text": write_text(request)}, ensure_ascii=False)
        if not self._answers:
            return Answer(request.id, "", "error", error="down")
        text = _asked_of(request)
        return json.dumps({"label": "返品" if "返" in text or "解約" in text else "配送"})

    @property
    def judged(self) -> list[Request]:
        return [request for request in self.asked if request.options]


def _asked_of(request: Request) -> str:
    assert not isinstance(request.prompt, str)
    return request.prompt[-1].content.split("判断する問い合わせ：\n")[1].split("\n")[0]


def ran(task: Task, out: Path, generator: ScriptedGenerator) -> tuple[jg.Run, Heard]:
    heard = Heard()
    return jg.run(task, out, generator=generator, listener=heard), heard


def test_baselines_are_scored_beside_the_run_and_kept(task: Task, tmp_path: Path) -> None:
    run, heard = ran(task, tmp_path / "run", ScriptedGenerator())
    assert heard.ran() >= STAGES
    scores = run.metrics["scores"]
    rows = scores["baselines"]
    assert [(row["name"], row["learnt"]) for row in rows[:4]] == FITTED
    assert (rows[4]["name"], rows[4]["reason"]) == ("zero_shot", "slow")
    for row in rows[:4]:
        assert row["reason"] is None
        assert row["n"] == scores["n"]
        bounds = row["intervals"]["macro_f1"]
        assert bounds["low"] <= row["macro_f1"] <= bounds["high"]
        ours = scores["with_synthetic"]["macro_f1"]
        assert row["gain"]["value"] == pytest.approx(ours - row["macro_f1"])
    # What the synthetic texts say is in the second of each, and not in the first.
    one, both = (
        read_array(run.path / "predictions" / f"baseline-tfidf_{learnt}-0.npy")
        for learnt in ("gold", "union")
    )
    assert np.abs(one - both).max() > 0
    card = (run.path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| TF-IDF and logistic regression / gold only |" in card
    assert "素朴な方法との比較" in (run.path / "report.html").read_text(encoding="utf-8")
    _, heard = ran(task, tmp_path / "run", ScriptedGenerator())
    assert heard.kept() >= STAGES


def test_other_steps_fine_tune_anew_and_count_nothing_again(task: Task, tmp_path: Path) -> None:
    ran(task, tmp_path / "run", ScriptedGenerator())
    _, heard = ran(_changed(task, "training", max_steps=5), tmp_path / "run", ScriptedGenerator())
    assert {name for name in heard.ran() if name in STAGES} == {
        "baseline-plain_gold-0",
        "baseline-plain_union-0",
    }


def test_every_seed_is_fine_tuned_once(task: Task, tmp_path: Path) -> None:
    run, heard = ran(_changed(task, "training", seeds=2), tmp_path / "run", ScriptedGenerator())
    assert heard.ran() >= {*STAGES, "baseline-plain_gold-1", "baseline-plain_union-1"}
    assert "baseline-tfidf_gold-1" not in heard.ran()
    by_name = {(r["name"], r["learnt"]): r for r in run.metrics["scores"]["baselines"]}
    assert [s["seed"] for s in by_name["plain", "gold"]["seeds"]] == [0, 1]


def test_none_where_none_are_wanted(task: Task, tmp_path: Path) -> None:
    run, heard = ran(_changed(task, "evaluation", baselines=False), tmp_path / "run", Elsewhere())
    assert not heard.ran() & {*STAGES, "zero_shot"}
    rows = run.metrics["scores"]["baselines"]
    assert [(row["name"], row["reason"]) for row in rows] == [("zero_shot", "not_wanted")]


def test_numbers_are_left_out_with_the_reason(
    raw_task: dict[str, Any], tiny_encoder: str, tmp_path: Path
) -> None:
    rows = [{"text": f"評価は{i}点です。", "label": float(i % 3)} for i in range(24)]
    del raw_task["labels"]
    raw_task |= {
        "kind": "regression",
        "scale": {0: "低い", 1: "普通", 2: "高い"},
        "gold": {"path": str(write_jsonl(tmp_path / "numbers.jsonl", rows))},
        "training": {"encoder": tiny_encoder, "synthetic_share": 0.5, "max_steps": 2},
    }
    run, heard = ran(Task.parse(raw_task), tmp_path / "run", ScriptedGenerator())
    assert not heard.ran() & STAGES
    assert {row["reason"] for row in run.metrics["scores"]["baselines"]} == {"kind"}


def test_a_chat_model_elsewhere_labels_test_texts_without_examples(
    task: Task, tmp_path: Path
) -> None:
    generator = Elsewhere()
    run, heard = ran(task, tmp_path / "run", generator)
    test = load_data(task).test
    assert test is not None
    assert sorted(_asked_of(r).strip() for r in generator.judged) == sorted(test.texts)
    assert all("実例：" not in r.prompt[-1].content for r in generator.judged)  # type: ignore[union-attr]
    row = run.metrics["scores"]["baselines"][-1]
    assert (row["name"], row["learnt"], row["n"]) == ("zero_shot", "nothing", len(test))
    expected = np.mean([("返" in t or "解約" in t) == (y == "返品") for t, y in _rows(test)])
    assert row["accuracy"] == pytest.approx(expected)
    again = Elsewhere()
    _, heard = ran(task, tmp_path / "run", again)
    assert again.asked == []
    assert "zero_shot" in heard.kept()


def _rows(data: Dataset) -> list[tuple[str, Any]]:
    return list(zip(data.texts, data.labels, strict=True))


def test_what_got_no_answer_is_no_baseline_and_asked_again(task: Task, tmp_path: Path) -> None:
    run, _ = ran(task, tmp_path / "run", Elsewhere(answers=False))
    assert run.metrics["scores"]["baselines"][-1]["reason"] == "unanswered"
    run, heard = ran(task, tmp_path / "run", Elsewhere())
    assert "zero_shot" in heard.ran()
    assert run.metrics["scores"]["baselines"][-1]["reason"] is None


def test_a_base_model_weighs_labels_where_it_is_always_asked(task: Task, tmp_path: Path) -> None:
    run, _ = ran(_changed(task, "evaluation", zero_shot="always"), tmp_path / "run", Weighing())
    test = load_data(task).test
    assert test is not None
    row = run.metrics["scores"]["baselines"][-1]
    expected = np.mean([label_of(text) == label for text, label in _rows(test)])
    assert row["accuracy"] == pytest.approx(expected)


def test_at_most_200_texts_are_asked_about_and_mostly_the_same_ones(task: Task) -> None:
    test = Dataset.of(Example(f"{i}番の荷物。", "配送", split="test") for i in range(500))
    rows = chosen_rows(task, test)
    assert len(rows) == 200
    assert rows == sorted(set(rows))
    fewer = chosen_rows(task, test.take(range(400)))
    assert len(set(rows) & set(fewer)) > 100


@pytest.mark.parametrize(
    ("setting", "local", "kind", "reason"),
    [
        ("auto", False, "chat", None),
        ("auto", True, "chat", "slow"),
        ("auto", False, "document", "slow"),
        ("always", True, "document", None),
        ("never", False, "chat", "not_wanted"),
    ],
)
def test_who_is_asked(task: Task, setting: str, local: bool, kind: Any, reason: str | None) -> None:
    info = GeneratorInfo("any", "any:1", kind, local)
    chosen = _changed(task, "evaluation", zero_shot=setting)
    assert why_not_asked(chosen, load_data(task), info) == reason


def test_texts_from_a_file_have_no_generator_to_ask(task: Task, tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    texts = [("荷物が届いていません、確認を。", "配送"), ("解約の手続きを教えてください。", "返品")]
    write_examples(path, Dataset.of(Example(f"{t}{i}", y) for i in range(6) for t, y in texts))
    run = jg.run(task, tmp_path / "run", synthetic=path)
    assert [row["name"] for row in run.metrics["scores"]["baselines"]] == [n for n, _ in FITTED]
