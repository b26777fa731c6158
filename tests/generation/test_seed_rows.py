"""Rows of a table in prompts: one for each text, told, recorded, asked for anew when changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.tables import write_rows
from japagen.errors import JapagenError
from japagen.llm.backend import Request
from japagen.pipeline import estimate, preview
from japagen.pipeline.comparison import explain_example
from japagen.pipeline.context import TaskContext
from japagen.pipeline.steps.generate import plan
from tests.scripted import ScriptedGenerator, write_text

PEOPLE: list[dict[str, Any]] = [
    {"id": "p1", "age": 58, "occupation": "介護士", "好きな物": "将棋"},
    {"id": "p2", "age": 17, "occupation": "高校生", "好きな物": ""},
    {"id": "p3", "age": 72, "occupation": "元漁師", "好きな物": "相撲"},
]


@pytest.fixture
def people(raw_task: dict[str, Any], tmp_path: Path) -> Path:
    """Writes the table and lets the task use it."""
    path = tmp_path / "people.csv"
    write_rows(path, PEOPLE)
    raw_task["generation"]["seed"] = {"path": str(path), "order": "in_order"}
    return path


def _plan(task: Task, kind: str = "chat") -> list[Request]:
    info = ScriptedGenerator(kind=kind).info  # type: ignore[arg-type]
    return plan(TaskContext.open(task, load_data(task)), info)


def _answer(request: Request) -> str:
    text = write_text(request)
    if not request.each:
        return json.dumps({"text": text}, ensure_ascii=False)
    texts = [f"{text}{n}通目です。" for n in range(request.texts)]
    return json.dumps({"texts": texts}, ensure_ascii=False)


def test_each_text_has_a_row_that_the_prompt_tells_in_japanese(
    raw_task: dict[str, Any], people: Path
) -> None:
    task = Task.parse(raw_task)
    for request in _plan(task):
        (id_,) = request.seed_rows
        row = next(row for row in PEOPLE if row["id"] == id_)
        prompt = preview.prompt_text(request)
        assert f"書き手：年齢は「{row['age']}」、職業は「{row['occupation']}」" in prompt
        assert ("好きな物は" in prompt) == bool(row["好きな物"])
        # Who writes is said once: the default attribute of that name gives way.
        assert not any(line.startswith("書き手：") for line in request.settings[0].split("\n"))
    for label in task.labels:
        asked = sorted(id_ for r in _plan(task) if r.label == label for id_ in r.seed_rows)
        assert asked == ["p1"] * 4 + ["p2"] * 4 + ["p3"] * 4


def test_each_text_of_a_list_has_a_row_of_its_own(raw_task: dict[str, Any], people: Path) -> None:
    raw_task["generation"]["texts_per_request"] = 3
    for request in _plan(Task.parse(raw_task)):
        prompt = preview.prompt_text(request)
        assert len(request.seed_rows) == request.texts
        for number, id_ in enumerate(request.seed_rows, start=1):
            age = next(row["age"] for row in PEOPLE if row["id"] == id_)
            assert f"\n{number}. 書き手：年齢は「{age}」" in prompt


def test_a_row_may_be_material(raw_task: dict[str, Any], people: Path) -> None:
    raw_task["generation"]["seed"] |= {"role": "material", "columns": ["好きな物", "occupation"]}
    prompts = [preview.prompt_text(request) for request in _plan(Task.parse(raw_task))]
    assert any("資料：好きな物は「相撲」、職業は「元漁師」\n" in prompt for prompt in prompts)
    assert all("年齢" not in prompt for prompt in prompts)
    assert any("書き手は「" in prompt for prompt in prompts)


def test_prompts_without_a_table_are_what_they_were(raw_task: dict[str, Any]) -> None:
    for request in _plan(Task.parse(raw_task)):
        assert request.seed_rows == ()
        assert "なりきって" not in preview.prompt_text(request)


def test_first_texts_of_pairs_have_rows_too(raw_task: dict[str, Any], people: Path) -> None:
    del raw_task["gold"]
    raw_task |= {"pair": {}, "registers": {"polite": 1.0}}
    requests = _plan(Task.parse(raw_task))
    assert {id_ for request in requests for id_ in request.seed_rows} == {"p1", "p2", "p3"}
    assert all("書き手：年齢は" in preview.prompt_text(request) for request in requests)


OWN = """\
{% block system %}書き手です。{% endblock %}
{% block user %}{{ label }}を、MENTIONとして書く。{{ register.name }}{% endblock %}
"""


@pytest.mark.parametrize(
    ("mention", "message"),
    [
        ("{{ seed.occupation }}", None),
        ("{{ seed['好きな物'] or seed.age }}", None),
        ("{{ seed.好きな物 }}", None),
        ("{% for name, value in seed.items() %}{{ name }}{{ value }}{% endfor %}", None),
        ("{{ seed.ocupation }}", r"columns of .*people\.csv .*found 'ocupation' .*'occupation'"),
        ("{{ seed['name'] }}", "found 'name'"),
        ("{% if seed %}{% else %}{{ seed.sex }}{% endif %}", "found 'sex'"),
        (
            "誰か",
            r"few_shot\.chat\.j2 to tell of the row of generation\.seed, found that it does not",
        ),
    ],
)
def test_a_template_names_columns_that_are_there(
    raw_task: dict[str, Any], people: Path, mention: str, message: str | None
) -> None:
    prompts = people.parent / "prompts"
    prompts.mkdir()
    builtin = Path(__file__).parents[2] / "prompts_ja" / "registers.yaml"
    (prompts / "registers.yaml").write_bytes(builtin.read_bytes())
    own = OWN.replace("MENTION", mention)
    (prompts / "few_shot.chat.j2").write_text(own, encoding="utf-8")
    raw_task["generation"]["prompts"] = str(prompts)
    if message is None:
        shown = "".join(preview.prompt_text(r) for r in _plan(Task.parse(raw_task)))
        assert "将棋" in shown or "介護士" in shown
        return
    generator = ScriptedGenerator(_answer, kind="chat")
    with pytest.raises(JapagenError, match=message):
        jg.run(Task.parse(raw_task), people.parent / "run", generator=generator)
    assert generator.asked == []


def test_a_template_that_names_columns_needs_the_table(
    raw_task: dict[str, Any], people: Path
) -> None:
    prompts = people.parent / "prompts"
    prompts.mkdir()
    builtin = Path(__file__).parents[2] / "prompts_ja" / "registers.yaml"
    (prompts / "registers.yaml").write_bytes(builtin.read_bytes())
    own = OWN.replace("MENTION", "{{ seed.age }}")
    (prompts / "few_shot.chat.j2").write_text(own, encoding="utf-8")
    raw_task["generation"] |= {"prompts": str(prompts), "seed": None}
    with pytest.raises(JapagenError, match=r"Expected generation\.seed, .*\(age\), found none"):
        _plan(Task.parse(raw_task))


def test_a_base_model_is_not_told_of_rows_and_says_so(
    raw_task: dict[str, Any], people: Path
) -> None:
    with pytest.raises(JapagenError, match=r"few_shot\.document\.j2 to tell of the row"):
        _plan(Task.parse(raw_task), "document")


def test_the_row_is_in_the_lineage_and_a_changed_one_is_asked_for_anew(
    raw_task: dict[str, Any], people: Path, tmp_path: Path
) -> None:
    task, out = Task.parse(raw_task), tmp_path / "run"

    def run() -> tuple[jg.Run, list[Request]]:
        generator = ScriptedGenerator(_answer, kind="chat")
        made = jg.run(task, out, until="curate", generator=generator)
        return made, [r for r in generator.asked if r.template.startswith("few_shot")]

    made, asked = run()
    assert len(asked) == 24
    rows = {request.id: request.seed_rows[0] for request in asked}
    for example in made.latest:
        assert example.seed_row == rows[str(example.request_id)]
    first = made.latest[0]
    found = explain_example(made, first.id)
    assert found["example"]["seed_row"] == first.seed_row
    assert found["request"]["seed_rows"] == [first.seed_row]
    jg.write_examples(tmp_path / "export.csv", made.latest)
    assert jg.read_examples(tmp_path / "export.csv").column("seed_row")[0] == first.seed_row

    assert run()[1] == []
    write_rows(people, [{**row, "age": 18} if row["id"] == "p2" else row for row in PEOPLE])
    made, again = run()
    assert {request.seed_rows for request in again} == {("p2",)}
    assert len(again) == 8
    assert {request.id for request in again} <= {e.request_id for e in made.latest}
    assert not {id_ for id_, row in rows.items() if row == "p2"} & {
        e.request_id for e in made.latest
    }
    # A row's new name is no new prompt, but it is the name of its texts from now on.
    write_rows(
        people,
        [{**row, "age": 18} if row["id"] == "p2" else row for row in PEOPLE[:2]]
        + [{**PEOPLE[2], "id": "p9"}],
    )
    made, again = run()
    assert again == []
    assert set(made.latest.column("seed_row")) == {"p1", "p2", "p9"}


def test_a_row_stays_with_its_text_in_a_list_that_came_short(
    raw_task: dict[str, Any], people: Path, tmp_path: Path
) -> None:
    raw_task["generation"]["texts_per_request"] = 3

    def short(request: Request) -> str:
        texts = json.loads(_answer(request)).get("texts", [])
        return json.dumps({"texts": texts[:-1] or texts}, ensure_ascii=False)

    generator = ScriptedGenerator(short, kind="chat")
    made = jg.run(Task.parse(raw_task), tmp_path / "run", until="curate", generator=generator)
    asked = {request.id: request for request in generator.asked}
    originals = [e for e in made.latest if e.derived is None]
    assert len(originals) == 24
    for example in originals:
        request = asked[str(example.request_id)]
        assert example.seed_row == request.seed_rows[request.text_ids().index(example.id)]
    for label in ("配送", "返品"):
        rows = sorted(str(e.seed_row) for e in originals if e.label_asked == label)
        assert rows == ["p1"] * 4 + ["p2"] * 4 + ["p3"] * 4
    explained = explain_example(made, originals[0].id)["request"]["of_text"]
    assert explained["seed_row"] == originals[0].seed_row


@pytest.mark.parametrize(("role", "copies"), [("writer", 8), ("material", 0)])
def test_a_text_that_recites_who_writes_is_rejected(
    raw_task: dict[str, Any], people: Path, tmp_path: Path, role: str, copies: int
) -> None:
    character = "口数が少なく、聞かれたことにしか答えない"
    write_rows(
        people, [{**row, "性格": character if n else "温厚"} for n, row in enumerate(PEOPLE)]
    )
    raw_task["generation"]["seed"]["role"] = role

    def recited(request: Request) -> str:
        recites = request.seed_rows == ("p2",)
        text = f"私は{character if recites else '普通の'}人ですが、{write_text(request)}"
        return json.dumps({"text": text}, ensure_ascii=False)

    generator = ScriptedGenerator(recited, kind="chat")
    made = jg.run(Task.parse(raw_task), tmp_path / "run", until="curate", generator=generator)
    assert made.latest.rejection_counts.get("passage_copy", 0) == copies


def test_a_plan_counts_rows_and_a_preview_shows_them(
    raw_task: dict[str, Any], people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (estimate, preview):
        monkeypatch.setattr(
            module, "load_generator", lambda settings: ScriptedGenerator(_answer, kind="chat")
        )
    raw_task["generation"]["per_label"] = 2
    task = Task.parse(raw_task)
    found = estimate.estimate(task)
    used = {"file": "people.csv", "order": "in_order", "rows": 3, "used": 2}
    assert found["seed_rows"] == used
    assert "2 of 3 rows of people.csv are used (order: in_order)." in found["notes"]
    shown = preview.sample(task, 1)[0]
    assert shown["seed_rows"] == [
        {"row": "p1", "values": {"age": "58", "occupation": "介護士", "好きな物": "将棋"}}
    ]
    assert "介護士" in shown["prompt"]
