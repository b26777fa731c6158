"""The sources of a task file, and those that an option names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from japagen.config.sources import Source, SourceEntry, given_sources, sources_from_options
from japagen.config.task import Task
from japagen.errors import JapagenError
from japagen.i18n import localized


def test_the_generator_is_the_only_source_unless_the_task_says_otherwise(task: Task) -> None:
    assert task.sources == (SourceEntry(name="generator", generator=True),)
    assert task.generator_source == "generator"


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "sources: name at least one source"),
        ([{"name": "a b", "path": "x.csv"}], r"sources\.0\.name: expected letters"),
        ([{"name": "a"}], "'a' needs a path or generator: true"),
        ([{"name": "a", "path": "x.csv", "generator": True}], "generator: true, and not both"),
        (
            [{"name": "a", "path": "x.csv"}, {"name": "a", "generator": True}],
            "two sources are called 'a'",
        ),
        (
            [{"name": "a", "generator": True}, {"name": "b", "generator": True}],
            "only one source, found a and b",
        ),
        ([{"name": "a", "path": "x.csv", "columns": {"txt": "本文"}}], "'txt' is none of"),
        ([{"name": "a", "path": "x.csv", "per_label": 3}], r"unknown key 'sources\.0\.per_label'"),
        ([{"name": "a", "path": "x.csv", "yen": -1}], r"sources\.0\.yen"),
    ],
)
def test_wrong_sources_are_refused(
    raw_task: dict[str, Any], sources: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(JapagenError, match=message) as caught:
        Task.parse(raw_task | {"sources": sources})
    assert "1 problem(s)" in caught.value.message


def test_wrong_sources_are_told_of_in_japanese(raw_task: dict[str, Any]) -> None:
    twice = [{"name": "a", "path": "x.csv"}, {"name": "a", "path": "y.csv"}]
    with pytest.raises(JapagenError) as caught:
        Task.parse(raw_task | {"sources": twice})
    said = localized(caught.value.message.splitlines()[-1], "ja")
    expected = "sources に「a」という名前が2つあります。別々の名前を付けてください"
    assert said == f"  - sources: {expected}"


def test_paths_are_taken_from_the_task_file_and_written_absolute(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(
        "name: t\nlabels: [a, b]\nsources:\n- {name: 強い, path: texts/x.csv, yen: 90}\n"
        "- {name: own, generator: true}\n",
        encoding="utf-8",
    )
    task = Task.load(path)
    file, own = task.sources
    assert file.path == tmp_path / "texts" / "x.csv"
    assert (file.name, file.yen, own.file, task.generator_source) == ("強い", 90, None, "own")
    other = tmp_path / "elsewhere" / "task.yaml"
    other.parent.mkdir()
    other.write_text(task.to_yaml(), encoding="utf-8")
    assert Task.load(other).sources == task.sources


def test_options_name_their_sources_or_the_files_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.csv").write_text("text,label\n", encoding="utf-8")
    given = ["claude=theirs.csv", "data/gpt texts.jsonl", "a=b.csv", "x=y=z.csv"]
    found = sources_from_options(given, ["text=本文"])
    assert [(s.name, str(s.path)) for s in found] == [
        ("claude", "theirs.csv"),
        ("gpt-texts", "data/gpt texts.jsonl"),
        ("a-b", "a=b.csv"),
        ("x", "y=z.csv"),
    ]
    assert all(s.columns == {"text": "本文"} and s.encoding == "utf-8" for s in found)
    assert sources_from_options(given, [], "cp932")[0].file.encoding == "cp932"  # type: ignore[union-attr]
    with pytest.raises(JapagenError, match="two sources are called 'x'"):
        sources_from_options(["x.csv", "x=y.csv"], [])
    with pytest.raises(JapagenError, match=r"--synthetic has 1 problem.*[\s\S]*letters, digits"):
        sources_from_options(["a b=x.csv"], [])


def test_files_keep_their_columns_and_encoding() -> None:
    source = Source(path=Path("x/他社.csv"), columns={"text": "本文"}, encoding="cp932")
    named = SourceEntry(name="own", generator=True)
    file, own = given_sources([source, named])
    assert (file.name, file.file, own) == ("他社", source, named)


def test_code_names_files_texts_and_sources_by_their_writers(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("本文,label\n荷物です。,配送\n", encoding="utf-8")
    columns = {"text": "本文"}
    given = {
        "file": path,
        "texts": [("荷物です。", "配送")],
        "source": Source(path=path, columns=columns),
    }
    found = given_sources(given)
    assert [source.name for source in found] == ["file", "texts", "source"]
    assert [source.path for source in found][::2] == [path, path]
    assert found[2].columns == columns
    texts = found[1].file
    assert texts is not None
    assert texts.data is not None
    assert texts.data.labels == ["配送"]


def test_columns_are_texts_of_one_writer() -> None:
    (source,) = given_sources({"text": ["荷物です。"], "label": ["配送"]})
    assert source.name == "synthetic"
    assert source.data is not None
    assert source.data.labels == ["配送"]
