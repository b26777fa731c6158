from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.errors import JapagenError, MissingExtraError
from japagen.llm.backends.gguf_weights import QWEN, find_weights
from japagen.pipeline.context import TaskContext
from japagen.pipeline.kinds import kind_of
from japagen.pipeline.run import run
from japagen.pipeline.steps.generate import plan
from tests.conftest import thin_out
from tests.scripted import ScriptedGenerator

CONFIGS = Path(__file__).parents[1] / "configs"
ALL = sorted(
    path for path in CONFIGS.rglob("*.yaml") if path.name != "topics.yaml" and kind_of(path) is None
)
# Tasks that come with recorded answers in place of gold.
RECORDED = [p.with_suffix(".yaml") for p in sorted((CONFIGS / "everyday").glob("*/"))
            if (p / "answers.jsonl").is_file()]  # fmt: skip
EVERYDAY = [p for p in sorted((CONFIGS / "everyday").glob("*.yaml")) if p not in RECORDED]


def _name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", ALL, ids=_name)
@pytest.mark.parametrize("kind", ["document", "chat"])
def test_every_configuration_loads_and_can_be_planned(path: Path, kind: str) -> None:
    task = Task.load(path, {"generation.per_label": 9})
    assert task.description
    assert all(task.labels.values())
    generator = ScriptedGenerator(kind=kind)  # type: ignore[arg-type]
    context = TaskContext.open(task, load_data(task))
    if (task.generation.seed or task.generation.fields) and kind == "document":
        with pytest.raises(JapagenError, match="a chat model"):
            plan(context, generator.info)
        return
    requests = plan(context, generator.info)
    per_label = 1 if task.pair else len(task.labels)
    assert sum(request.texts for request in requests) == 9 * per_label
    if task.generation.knowledge:
        assert all(r.knowledge for r in requests)


def test_the_papers_six_tasks_are_there() -> None:
    names = {path.stem for path in (CONFIGS / "japagen").glob("*.yaml")}
    assert names == {
        "review_polarity",
        "jsts",
        "jnli",
        "jcola",
        "news_topics",
        "epidemic_tweets",
    }


@pytest.mark.parametrize("path", EVERYDAY, ids=_name)
def test_everyday_gold_is_enough_and_apart_from_its_test_texts(path: Path) -> None:
    data = load_data(Task.load(path))
    assert data.gold is not None
    assert data.test is not None
    assert min(data.gold.label_counts().values()) >= 8
    assert len(data.test) >= 40
    assert not set(data.gold.texts) & set(data.test.texts)


def test_the_personas_are_many_and_their_weights_are_the_census() -> None:
    table = load_data(Task.load(CONFIGS / "everyday" / "inquiry_personas.yaml")).seed
    assert table is not None
    assert table.weights is not None
    assert len(table.rows) == 300
    assert len({tuple(row.values.values()) for row in table.rows}) == 300
    prefectures, ages = Counter[str](), Counter[bool]()
    for row, weight in zip(table.rows, table.weights, strict=True):
        age, work = int(row.values["age"]), row.values["occupation"]
        assert 16 <= age <= 89
        assert age >= 65 or "年金" not in work
        assert age <= 28 or not work.endswith(("学生", "学部生", "大学院生", "生徒", "高校生"))
        prefectures[row.values["prefecture"]] += weight
        ages[age >= 65] += weight
    assert len(prefectures) == 47
    total = sum(table.weights)
    # 14.0 of 126 millions live in Tokyo, and 32% of those from 15 to 89 are 65 or older.
    assert prefectures["東京都"] / total == pytest.approx(0.111, abs=0.002)
    assert ages[True] / total == pytest.approx(0.32, abs=0.02)


@pytest.mark.parametrize("path", RECORDED, ids=_name)
def test_recorded_answers_fit_their_tasks_to_the_last_request(path: Path, tmp_path: Path) -> None:
    result = run(Task.load(path), tmp_path / "run", until="curate")
    texts = result.after("curate")
    proposals = len(result.task.labels) if result.task.generation.knowledge else 0
    answers = (path.with_suffix("") / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    with closing(sqlite3.connect(tmp_path / "run" / "ledger.sqlite")) as ledger:
        (asked,) = ledger.execute("SELECT COUNT(*) FROM requests").fetchone()
    # What the filters reject is not asked to be completed.
    rejected = sum(row is not None for row in texts.rejections)
    assert len(answers) - 1 - proposals - rejected <= asked <= len(answers) - 1 - proposals
    assert rejected <= len(texts) // 4


def _names_chat_model(path: Path) -> bool:
    """Skips the test where the model is neither in the cache nor installed."""
    if Task.load(path).generator.model != QWEN.key:
        return False
    try:
        find_weights(QWEN.key).file()
    except MissingExtraError as missing:
        pytest.skip(str(missing))
    return True


@pytest.mark.slow
@pytest.mark.parametrize("path", EVERYDAY, ids=_name)
def test_everyday_configurations_run_end_to_end(path: Path, tmp_path: Path) -> None:
    given = Task.load(path).test
    assert given is not None
    # Every classifier is tried on all test texts, of which the encoder reads 50 a second.
    thin_out(40, given.path, tmp_path / "test.jsonl")
    tiny = {
        "test.path": str(tmp_path / "test.jsonl"),
        # The embedded model reads most of the gold before it judges a text's label.
        "gold.per_label": 4,
        "generation.per_label": 4,
        "training.min_steps": 4,
        "training.max_steps": 4,
        "evaluation.bootstrap": 100,
    }
    if _names_chat_model(path):
        # A core reads 20 tokens of a prompt a second; slots would each read what prompts share.
        tiny |= {"generation.per_label": 1, "generation.shots": 2, "generator.slots": 1}
    result = run(Task.load(path, tiny), tmp_path / "run")
    counts, scores = result.metrics["counts"], result.metrics["scores"]
    assert counts["generated"] > 0
    assert counts["kept"] > 0
    assert 0 <= scores["with_synthetic"][scores["metric"]] <= 1
    assert (result.path / "report.html").is_file()
