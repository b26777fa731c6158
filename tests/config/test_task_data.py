from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from japagen.config.sources import Source, given_sources
from japagen.config.task import Task
from japagen.config.task_data import load_data, load_sources, load_synthetic, with_kept_data
from japagen.data.dataset import Dataset
from japagen.errors import JapagenError
from tests.conftest import GOLD, write_jsonl


def test_held_out_texts_are_not_in_gold_and_every_label_is_on_both_sides(task: Task) -> None:
    data = load_data(task)
    assert data.gold is not None
    assert data.test is not None
    assert len(data.gold) + len(data.test) == sum(map(len, GOLD.values()))
    assert not set(data.gold.texts) & set(data.test.texts)
    assert set(data.gold.labels) == set(data.test.labels) == set(GOLD)
    assert set(data.test.column("split")) == {"test"}


def test_test_texts_are_taken_out_of_gold_and_unlabelled(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    text = GOLD["配送"][0]
    raw_task["test"] = {
        "path": write_jsonl(tmp_path / "t.jsonl", [{"text": text, "label": "配送"}])
    }
    rows = [{"text": text}, {"text": "別の文章です。", "label": "返品"}]
    raw_task["unlabelled"] = {"path": write_jsonl(tmp_path / "u.jsonl", rows)}
    data = load_data(Task.parse(raw_task))
    assert data.gold is not None
    assert data.unlabelled is not None
    assert text not in data.gold.texts
    assert data.unlabelled.texts == ["別の文章です。"]
    assert data.unlabelled.labels == [None]


def test_gold_is_drawn_by_label_and_repeats(raw_task: dict[str, Any]) -> None:
    raw_task["gold"]["per_label"] = 2
    first, second = (load_data(Task.parse(raw_task)).gold for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.label_counts() == {"配送": 2, "返品": 2}
    assert first.texts == second.texts
    raw_task["seed"] = 1
    other = load_data(Task.parse(raw_task)).gold
    assert other is not None
    assert other.texts != first.texts


def test_numbers_in_a_file_name_classes(raw_task: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"text": f"文章{i}です", "label": i % 2} for i in range(8)]
    raw_task |= {"labels": ["0", "1"], "gold": {"path": write_jsonl(tmp_path / "n.jsonl", rows)}}
    gold = load_data(Task.parse(raw_task)).gold
    assert gold is not None
    assert set(gold.labels) == {"0", "1"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "あ", "label": "配達"}], r"on 1 row\(s\): the label '配達'"),
        ([{"text": "あい", "label": "配送"}], r"at least 2 gold .* '配送': 1, '返品': 0"),
        ([{"text": f"あ{i}", "label": "配送"} for i in range(9)], r"found '返品': 0"),
        ([{"text": "あ"}], "column 'label'"),
    ],
)
def test_gold_that_cannot_be_used_is_refused(
    raw_task: dict[str, Any], tmp_path: Path, rows: list[dict[str, str]], message: str
) -> None:
    raw_task["gold"] = {"path": write_jsonl(tmp_path / "g.jsonl", rows)}
    with pytest.raises(JapagenError, match=message):
        load_data(Task.parse(raw_task))


def test_too_large_a_draw_is_refused(raw_task: dict[str, Any]) -> None:
    raw_task["gold"]["per_label"] = 50
    with pytest.raises(JapagenError, match="asks for 50 texts of '配送', found"):
        load_data(Task.parse(raw_task))


def test_synthetic_texts_of_other_labels_are_refused(task: Task, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", [{"text": "あ", "label": "配送 "}])
    assert load_synthetic(task, Source(path=path)).labels == ["配送"]
    path = write_jsonl(tmp_path / "s.jsonl", [{"text": "あ", "label": "解約"}])
    with pytest.raises(JapagenError, match="the synthetic file"):
        load_synthetic(task, Source(path=path))


@pytest.mark.parametrize("name", ["test", "unlabelled"])
def test_a_draw_of_anything_but_gold_is_refused(
    raw_task: dict[str, Any], tmp_path: Path, name: str
) -> None:
    rows = [{"text": "荷物が届きません。", "label": "配送"}]
    raw_task[name] = {"path": write_jsonl(tmp_path / "x.jsonl", rows), "per_label": 3}
    with pytest.raises(JapagenError, match=rf"found {name}\.per_label"):
        load_data(Task.parse(raw_task))


def test_all_labels_that_the_task_does_not_know_are_listed(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    labels = ["配送！", "返却", "配送！", "配送", "請求"]
    rows = [{"text": f"文章{i}です", "label": label} for i, label in enumerate(labels)]
    raw_task["gold"] = {"path": write_jsonl(tmp_path / "n.jsonl", rows)}
    with pytest.raises(JapagenError) as caught:
        load_data(Task.parse(raw_task))
    for told in (
        "on 2 row(s): the label '配送！' (did you mean '配送'?)",
        "'返却'",
        "'請求'",
        "line 5",
    ):
        assert told in caught.value.message


@pytest.mark.parametrize(
    ("names", "written", "expected"),
    [
        (["ガス", "電気"], ["カ\u3099ス", "ｶﾞｽ", " ガス"], "ガス"),
        (["カ\u3099ス", "電気"], ["ガス"], "カ\u3099ス"),
        (["1", "2"], [1, 1.0, "1", "1.0", "01", "１"], "1"),
        (["001", "002"], [1, "1"], "001"),
        (["1.0", "2.0"], [1, 1.0, "1.0"], "1.0"),
        (["1.5", "2.5"], [1.5, "1.5"], "1.5"),
        (["1234567", "1234568"], [1234567, "1234567"], "1234567"),
        (["12345678901234567890", "x"], [12345678901234567890], "12345678901234567890"),
        (["[重要]", "[通常]"], ["[重要]"], "[重要]"),
        (["配送", "請求"], ["['配送']", ["配送"], '["配送"]', '{"choices": ["配送"]}'], "配送"),
    ],
)
def test_labels_are_known_however_they_are_written(
    raw_task: dict[str, Any], tmp_path: Path, names: list[str], written: list[Any], expected: str
) -> None:
    for given in written:
        rows = [{"text": f"文章{i}です", "label": given} for i in range(3)]
        rows += [{"text": f"文書{i}です", "label": names[1]} for i in range(3)]
        raw_task |= {"labels": names, "gold": {"path": write_jsonl(tmp_path / "n.jsonl", rows)}}
        raw_task["test"] = raw_task["gold"] | {
            "path": write_jsonl(tmp_path / "t.jsonl", [{"text": "別の文章です", "label": given}])
        }
        gold = load_data(Task.parse(raw_task)).gold
        assert gold is not None
        assert set(gold.labels) == {expected, names[1]}, given


def test_classes_may_look_like_lists(raw_task: dict[str, Any], tmp_path: Path) -> None:
    first, second = '["配送"]', "['返品', '解約']"
    renamed = {"配送": first, "返品": second}
    rows = [{"text": t, "label": renamed[name]} for name, texts in GOLD.items() for t in texts]
    path = tmp_path / "gold.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    raw_task["labels"] = dict.fromkeys(renamed.values(), "")
    for gold in (path, pd.DataFrame(rows), [(row["text"], row["label"]) for row in rows]):
        task = Task(**{**raw_task, "gold": gold, "sources": {"writer": pd.DataFrame(rows)}})
        data = load_data(task)
        assert data.gold is not None
        assert set(data.gold.labels) == set(load_sources(task)["writer"].labels) == {first, second}
        kept = load_data(with_kept_data(task, tmp_path / "kept"))
        assert kept.gold is not None
        assert kept.gold.labels == data.gold.labels
    given = given_sources(pd.DataFrame(rows), task.kind, task.labels)
    assert given[0].file is not None
    assert set(load_synthetic(task, given[0].file).labels) == {first, second}
    tags = {"kind": "multi_label", "labels": ["配送", "返品", "解約"], "gold": path}
    several = load_data(Task(**{**raw_task, **tags})).gold
    assert several is not None
    assert {tuple(label) for label in several.labels} == {("配送",), ("返品", "解約")}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (["ｶﾞｽ", "カ\u3099ス"], "ガス"),
        (["1", "01"], "001"),
        (["12345678901234567890", "x"], "12345678901234567891"),
    ],
)
def test_what_means_two_labels_or_none_is_refused(
    raw_task: dict[str, Any], tmp_path: Path, names: list[str], written: str
) -> None:
    rows = [{"text": "文章です", "label": written}]
    raw_task |= {"labels": names, "gold": {"path": write_jsonl(tmp_path / "n.jsonl", rows)}}
    with pytest.raises(JapagenError, match="expected one of"):
        load_data(Task.parse(raw_task))


def test_several_tags_are_written_in_many_ways(raw_task: dict[str, Any], tmp_path: Path) -> None:
    cells = ["配送、急ぎ", "配送，急ぎ", "配送|急ぎ", "配送;急ぎ", '"配送\n急ぎ"', '"配送,急ぎ"']
    cells += ["\"['急ぎ', '配送']\"", "[]", "該当なし", "配送", "急ぎ"]
    path = tmp_path / "gold.csv"
    lines = [f"{i}番目の文,{cell}" for i, cell in enumerate(cells)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    raw_task |= {"labels": ["配送", "急ぎ"], "kind": "multi_label", "gold": {"path": str(path)}}
    raw_task["evaluation"] = {"test_share": 0.001}
    gold = load_data(Task.parse(raw_task)).gold
    assert gold is not None
    assert gold.labels == [["配送", "急ぎ"]] * 7 + [[], [], ["配送"], ["急ぎ"]]


def test_whole_numbers_are_numbers_where_the_task_has_a_scale(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    rows = [{"text": f"文章{i}です", "label": i % 6} for i in range(12)]
    del raw_task["labels"]
    raw_task |= {"scale": {0: "低い", 5: "高い"}}
    raw_task |= {"gold": {"path": write_jsonl(tmp_path / "n.jsonl", rows)}}
    raw_task["evaluation"] = {"test_share": 0.001}
    gold = load_data(Task.parse(raw_task)).gold
    assert gold is not None
    assert gold.labels == [float(i % 6) for i in range(12)]


def test_a_task_is_given_its_texts_in_code(task: Task, gold_file: Path, tmp_path: Path) -> None:
    """Whatever it is given as, the texts are those of the file, and so is what a run keeps."""
    expected = load_data(task)
    frame = pd.DataFrame(
        [(t, v) for v, texts in GOLD.items() for t in texts], columns=["本文", "v"]
    )
    columns = {"text": "本文", "label": "v"}
    given = {
        "frame": {"data": frame, "columns": columns},
        "tuples": [*map(tuple, frame.to_numpy().tolist())],
        "dataset": Dataset.from_pandas(frame, columns=columns, split="train"),
        "path": str(gold_file),
    }
    for name, gold in given.items():
        made = Task(**{**dict(task), "gold": gold})
        for read in (made, with_kept_data(made, tmp_path / name)):
            found = load_data(read)
            for one, other in ((found.gold, expected.gold), (found.test, expected.test)):
                assert one is not None
                assert other is not None
                assert (one.column("id"), one.labels) == (other.column("id"), other.labels)
                assert one["split"] == other["split"]
        assert Task.parse(YAML(typ="safe").load(read.to_yaml())) == read


def test_unlabelled_texts_and_sources_are_given_in_code(task: Task) -> None:
    frame = pd.DataFrame({"text": ["届きません。", "まだ。"], "label": ["配送", "返品"]})
    made = Task(
        **{**dict(task), "unlabelled": frame, "sources": {"gpt": frame, "own": [("あ", "返品")]}}
    )
    found = load_data(made).unlabelled
    assert found is not None
    assert found.labels == [None, None]
    assert {name: data.labels for name, data in load_sources(made).items()} == {
        "gpt": ["配送", "返品"],
        "own": ["返品"],
    }
    assert [s.name for s in Task(**{**dict(task), "sources": frame}).sources] == ["synthetic"]


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ({"data": GOLD, "colums": {}}, "unknown key 'gold.colums'"),
        ([("届かない", None), ("返品", "返品")], "label on every row of list, found none on row 1"),
        ([("届かない", "配達"), ("返品", "返品")], r"gold \(list\), on 1 row.s.: the label '配達'"),
        (5, "found int"),
    ],
)
def test_what_code_gives_is_checked_as_files_are(
    raw_task: dict[str, Any], gold: Any, message: str
) -> None:
    with pytest.raises(JapagenError, match=message):
        load_data(Task.parse({**raw_task, "gold": gold}))


def test_what_notebooks_show_of_a_task(raw_task: dict[str, Any]) -> None:
    raw_task["labels"] = {"<i>配送": "届く日", "返品": "解約"}
    task = Task.parse({**raw_task, "gold": [("届かない", "<i>配送")]})
    assert repr(task) == "<Task small: classification, <i>配送, 返品>"
    shown = task._repr_html_()
    assert "&lt;i&gt;配送" in shown
    assert "<i>" not in shown
    assert "1 example, &lt;i&gt;配送 1" in shown


def test_texts_that_stand_twice_are_told_with_their_rows(
    raw_task: dict[str, Any], gold_file: Path
) -> None:
    before = gold_file.read_text(encoding="utf-8").splitlines()
    again = [before[0], before[1].replace("配送", "返品"), *[before[2]] * 6]
    gold_file.write_text("\n".join([*before, *again]), encoding="utf-8")
    lines = len(before)
    told = load_data(Task.parse(raw_task)).notes
    where = f"gold ({gold_file})"
    assert told[:2] == (
        f"{where} has '{GOLD['配送'][1]}' as '配送' on line 2 and as '返品' on line {lines + 2}: "
        "correct one of them.",
        f"{where} has '{GOLD['配送'][0]}' on line 1 and again on line {lines + 1}: "
        "it counts double.",
    )
    assert told[-1] == f"{where} has 3 more texts that stand there twice."
    assert len(told) == 6


def test_spaces_around_a_text_make_no_other_one_of_it(
    raw_task: dict[str, Any], gold_file: Path
) -> None:
    text = GOLD["配送"][0]
    before = gold_file.read_text(encoding="utf-8")
    assert text in before
    again = before.splitlines()[0].replace(text, f"{text}　 ")
    gold_file.write_text(f"{before.rstrip()}\n{again}", encoding="utf-8")
    (told,) = load_data(Task.parse(raw_task)).notes
    assert "on line 1 and again on line" in told


def test_gold_that_is_in_test_is_told_and_left_out(
    raw_task: dict[str, Any], gold_file: Path
) -> None:
    lines = gold_file.read_text(encoding="utf-8").splitlines()
    test = gold_file.with_name("test.jsonl")
    test.write_text("\n".join([lines[0], lines[-1]]), encoding="utf-8")
    found = load_data(Task.parse({**raw_task, "test": {"path": str(test)}}))
    assert found.notes == ("2 gold texts are in test too, and are left out of gold.",)
    assert found.gold is not None
    assert len(found.gold) == len(lines) - 2
