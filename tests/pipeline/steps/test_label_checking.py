from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.curation.label_check import FILTER
from japagen.data.dataset import Dataset
from japagen.llm.backend import AmbiguousOptionsError, Answer, Message, Prompt, PromptKind, Request
from tests.pipeline.test_run import Heard, _changed
from tests.scripted import ScriptedGenerator, write_text

RETURNS = ("返", "定期便", "サイズ", "交換", "解約")


def label_of(text: str) -> str:
    return "返品" if any(word in text for word in RETURNS) else "配送"


def misled(request: Request) -> str:
    """Every third text is of the other label; questions about a text are answered rightly."""
    if request.template.startswith("judge"):
        said = request.prompt[-1].content.split("判断する問い合わせ：\n")[1].split("\n")[0]
        return json.dumps({"label": label_of(said)}, ensure_ascii=False)
    text = write_text(request)
    if request.seed % 3 == 0:
        text = text.replace("荷物がまだ届きません", "商品を返したいです").replace(
            "再配達を頼みたいです", "定期便をやめたいです"
        )
    return text if request.template.endswith("t") or "chat" not in request.template else _json(text)


def _json(text: str) -> str:
    return json.dumps({"text": text}, ensure_ascii=False)


class Weighing(ScriptedGenerator):
    """A base model that knows the labels, by their names or, if these are alike, by letters."""

    def __init__(self, *, alike: bool = False) -> None:
        super().__init__(misled)
        self.alike = alike
        self.options: list[list[str]] = []

    def choose(
        self, documents: Sequence[str], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        self.options.append(list(options))
        if self.alike and options[0] != "A":
            raise AmbiguousOptionsError("alike")
        return (
            (i, [math.log(0.1 + 0.8 * (k == self._right(d))) for k in range(len(options))])
            for i, d in reversed(list(enumerate(documents)))
        )

    def _right(self, document: str) -> int:
        return ["配送", "返品"].index(label_of(document.rsplit("問い合わせ：", 1)[1]))


@pytest.fixture
def task(raw_task: dict[str, Any], tiny_encoder: str) -> Task:
    raw_task["training"] = {"encoder": tiny_encoder, "min_steps": 2, "max_steps": 3}
    return Task.parse(raw_task)


def checked(task: Task, out: Path, generator: ScriptedGenerator) -> tuple[Dataset, Heard]:
    heard = Heard()
    run = jg.run(task, out, generator=generator, listener=heard, until="align")
    return run.dataset, heard


def wrong(dataset: Dataset) -> int:
    return sum(label_of(e.text) != e.label for e in dataset.kept)


@pytest.mark.parametrize("alike", [False, True])
def test_a_base_model_has_its_own_texts_relabelled(task: Task, tmp_path: Path, alike: bool) -> None:
    before, _ = checked(_changed(task, "alignment", label_trust="none"), tmp_path / "a", Weighing())
    assert wrong(before) > 0
    generator = Weighing(alike=alike)
    after, heard = checked(task, tmp_path / "b", generator)
    assert wrong(after) == 0
    assert len(after.kept) >= len(before.kept) - 1
    assert generator.options == ([["配送", "返品"], ["A", "B"]] if alike else [["配送", "返品"]])
    moved = [e for e in after.kept if e.label != e.label_asked]
    assert len(moved) >= wrong(before) - 1
    assert any(note.startswith("Labelers (encoder ") for note in heard.notes)


def test_what_is_judged_otherwise_can_be_rejected(task: Task, tmp_path: Path) -> None:
    found, _ = checked(_changed(task, "curation", label_miss="reject"), tmp_path / "r", Weighing())
    assert wrong(found) == 0
    rejected = [e for e in found if e.rejected and e.rejected.filter == FILTER]
    assert rejected
    assert all(e.label == e.label_asked for e in found)
    assert all(e.rejected.value < e.rejected.threshold for e in rejected if e.rejected)


def test_a_chat_model_judges_through_the_ledger_and_only_once(task: Task, tmp_path: Path) -> None:
    generator = ScriptedGenerator(misled, kind="chat")
    found, _ = checked(task, tmp_path / "run", generator)
    assert wrong(found) == 0
    judged = [r for r in generator.asked if r.template.startswith("judge.chat")]
    kept = sum(1 for e in found if e.rejected is None or e.rejected.filter == FILTER)
    assert len(judged) >= 4 * kept
    again = ScriptedGenerator(misled, kind="chat")
    _, heard = checked(task, tmp_path / "run", again)
    assert again.asked == []
    assert "trust" in heard.kept()


class Answering(ScriptedGenerator):
    """A chat model in this process: it weighs the letters that an answer may begin with."""

    def __init__(self) -> None:
        super().__init__(misled, kind="chat")
        self.judged: list[tuple[Message, ...]] = []

    def choose(
        self, prompts: Sequence[Prompt], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        for index, prompt in enumerate(prompts):
            assert isinstance(prompt, tuple)
            self.judged.append(prompt)
            right = label_of(prompt[-1].content.rsplit("問い合わせ：", 1)[1])
            letter = next(o for o in options if f"\n{o}：{right}。" in prompt[-1].content)
            yield index, [math.log(0.9 if o == letter else 0.1) for o in options]


def test_a_chat_model_in_this_process_is_asked_once_about_each_text_and_shown_none(
    task: Task, tmp_path: Path
) -> None:
    generator = Answering()
    found, heard = checked(task, tmp_path / "run", generator)
    assert wrong(found) == 0
    assert any(e.label != e.label_asked for e in found.kept)
    gold = load_data(task).gold
    assert gold is not None
    kept = [e for e in found if e.rejected is None or e.rejected.filter == FILTER]
    assert len(generator.judged) == len(kept) + len(gold)
    assert not [r for r in generator.asked if r.template.startswith("judge")]
    for _, user in generator.judged:
        assert sum(text in user.content for text in gold.texts) <= 1
    assert any("scripted" in note for note in heard.notes if note.startswith("Labelers ("))
    again = Answering()
    _, heard = checked(task, tmp_path / "run", again)
    assert again.judged == []
    replayed = _changed(task, "generator", backend="replay", model=str(tmp_path / "run"))
    run = jg.run(replayed, tmp_path / "again", until="align")
    assert run.dataset.column("weight_label") == found.column("weight_label")


class Scoring(ScriptedGenerator):
    """Answers with the wrong label, and says how likely each was: the right one, by far."""

    scores_options = True

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        for request in requests:
            if not request.options:
                yield from super().stream([request])
                continue
            document = isinstance(request.prompt, str)
            said = request.prompt if document else request.prompt[-1].content
            mark = "\n問い合わせ：" if document else "判断する問い合わせ：\n"
            right = label_of(said.rsplit(mark, 1)[1].split("\n")[0])
            scores = tuple(math.log(0.9 if o == right else 0.1) for o in request.options)
            yield Answer(request.id, "", "stop", 10, 1, scores=scores)


@pytest.mark.parametrize("kind", ["chat", "document"])
def test_a_server_that_says_how_likely_each_label_is_need_not_name_the_right_one(
    task: Task, tmp_path: Path, kind: PromptKind
) -> None:
    found, _ = checked(task, tmp_path / "run", Scoring(misled, kind))
    assert wrong(found) == 0
    assert any(e.label != e.label_asked for e in found.kept)
    replayed = _changed(task, "generator", backend="replay", model=str(tmp_path / "run"))
    run = jg.run(replayed, tmp_path / "again", until="align")
    assert run.dataset.column("weight_label") == found.column("weight_label")


def test_without_a_generators_vote_the_encoder_decides(task: Task, tmp_path: Path) -> None:
    found, _ = checked(_changed(task, "curation", label_miss="keep"), tmp_path / "x", Weighing())
    alone = _changed(
        _changed(task, "curation", label_miss="keep"), "alignment", label_trust="encoder"
    )
    generator = Weighing()
    other, _ = checked(alone, tmp_path / "y", generator)
    assert generator.options == []
    assert other.column("weight_label") != found.column("weight_label")
    assert all(0 <= w <= 1 for w in other.column("weight_label"))
