"""From nothing to a task file: asked for, found, or filled in later."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from japagen.cli.new_task import Gold, write_task
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.formats import read_examples
from japagen.errors import JapagenError
from tests.command_line import japagen
from tests.conftest import GOLD, ROOT

ROWS = [(text, label) for label, texts in GOLD.items() for text in texts]


def _csv(path: Path, *columns: str, encoding: str = "utf-8") -> Path:
    lines = [",".join(columns), *(f"{text},{label}" for text, label in ROWS)]
    path.write_bytes("\r\n".join(lines).encode(encoding))
    return path


def test_gold_that_is_there_is_used_and_its_columns_are_told(tmp_path: Path) -> None:
    _csv(tmp_path / "mine_gold.csv", "本文", "カテゴリ", encoding="cp932")
    code, out, err = japagen("init", "mine", cwd=tmp_path)
    assert code == 0, err
    assert out.splitlines() == [
        "wrote mine.yaml",
        "gold is read from mine_gold.csv (cp932)",
        "labels: 配送, 返品",
    ]
    assert "Took the column '本文' of mine_gold.csv for the text." in err
    assert "Took the column 'カテゴリ' of mine_gold.csv for the label." in err
    task = Task.load(tmp_path / "mine.yaml")
    assert list(task.labels) == ["配送", "返品"]
    assert task.registers == "from_gold"
    found = load_data(task)
    assert found.gold is not None
    assert found.test is not None
    assert sorted([*found.gold.texts, *found.test.texts]) == sorted(text for text, _ in ROWS)


@pytest.mark.parametrize("name", ["a\nb", "a\n", "a: b", "/a", "-a", "a b", ""])
def test_a_name_that_cannot_be_one_is_refused_at_its_option(tmp_path: Path, name: str) -> None:
    code, out, err = japagen("init", "--labels", "配送,返品", "--", name, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "Error: Expected letters, digits, _, . and - only as NAME, not . or - first, found "
        f"{name!r}.",
        "Choose another name.",
    ]
    assert not list(tmp_path.iterdir())


def test_gold_may_lie_elsewhere_and_have_other_columns(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "tasks").mkdir()
    path = _csv(tmp_path / "data" / "問い合わせ.csv", "質問", "担当", encoding="utf-16")
    columns = ("--column", "text=質問", "--column", "label=担当")
    code, _, err = japagen(
        "init", "mine", "--gold", path, *columns, "--directory", tmp_path / "tasks"
    )
    assert code == 0, err
    task = tmp_path / "tasks" / "mine.yaml"
    assert "path: ../data/問い合わせ.csv" in task.read_text(encoding="utf-8")
    gold = load_data(Task.load(task)).gold
    assert gold is not None
    assert set(gold.texts) <= {text for text, _ in ROWS}


def test_lists_of_labels_and_pairs_make_the_kind(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    line = '{{"text": "{0}", "text_pair": "あ", "label": ["配送", "{1}"]}}\n'
    path.write_text(line.format("い", "返品") + line.format("う", "請求"), encoding="utf-8")
    found = Gold.read(path, {})
    assert (found.labels, found.kind) == (["配送", "返品", "請求"], "multi_label")
    (task,) = write_task("mine", found.labels, tmp_path, gold=found)
    loaded = Task.load(task)
    assert (loaded.kind, loaded.pair is not None) == ("multi_label", True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0.5,あ", "1.5,い"], "Expected names of labels in .*, found numbers"),
        ([f"番号{n},文{n}" for n in range(30)], "found 30 different ones on 30 rows"),
        (["配送,"], "Expected a text on line 2"),
        ([",届かない"], "Expected a label on every row"),
    ],
)
def test_a_file_that_is_no_gold_is_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("\n".join(["label,text", *rows]), encoding="utf-8")
    with pytest.raises(JapagenError, match=message):
        Gold.read(path, {})
    code, out, err = japagen("init", "mine", cwd=tmp_path)
    assert (code, out, (tmp_path / "mine.yaml").exists()) == (2, "", False), err


def test_labels_of_gold_that_are_not_named_are_refused(tmp_path: Path) -> None:
    _csv(tmp_path / "gold.csv", "本文", "分類")
    code, out, err = japagen("init", "mine", "--labels", "配達,返品,その他", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "among --labels, found 配送 in it only." in err
    assert not (tmp_path / "mine.yaml").exists()
    # A label that gold does not have yet is the user's to add.
    code, out, err = japagen("init", "mine", "--labels", "配送,返品,その他", cwd=tmp_path)
    assert code == 0, err
    assert "labels: 配送, 返品, その他" in out


def test_neither_labels_nor_gold_is_too_little(tmp_path: Path) -> None:
    code, _, err = japagen("init", "mine", cwd=tmp_path)
    assert code == 2
    assert "Give --labels a,b,c or --gold FILE." in err


@pytest.mark.parametrize(("option", "suffix"), [([], "csv"), (["--excel"], "xlsx")])
def test_the_template_is_for_excel_and_not_for_training(
    tmp_path: Path, option: list[str], suffix: str
) -> None:
    code, _, err = japagen("init", "mine", "--labels", "配送、返品", *option, cwd=tmp_path)
    assert code == 0, err
    template = tmp_path / f"mine_gold.{suffix}"
    if suffix == "csv":
        assert template.read_bytes().startswith(b"\xef\xbb\xbftext,label\r\n")
    assert read_examples(template).labels == ["配送", "配送", "返品", "返品"]
    task = tmp_path / "mine.yaml"
    text = task.read_text(encoding="utf-8")
    assert text.count(f"# gold: {{path: mine_gold.{suffix}}}") == 1
    task.write_text(text.replace("# gold:", "gold:"), encoding="utf-8")
    code, _, err = japagen("plan", task, "--sample", "0")
    assert code == 2
    assert "found the template's" in err


def test_gold_that_was_filled_in_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    assert japagen("init", "mine", "--labels", "配送、返品", cwd=tmp_path)[0] == 0
    plan = ("plan", "mine.yaml", "--sample", "0")
    code, out, err = japagen(*plan, cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "say the name alone, and texts are worse: 配送, 返品" in out
    _csv(tmp_path / "mine_gold.csv", "text", "label", encoding="utf-8-sig")
    code, _, err = japagen(*plan, cwd=tmp_path)
    assert "mine_gold.csv is not used: remove the # before gold in mine.yaml" in err


def test_a_terminal_is_asked_for_what_helps(tmp_path: Path) -> None:
    """Answers become the task: descriptions as lists, an empty one as none."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "japagen", "init", "mine", "--labels", "配送、返品"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAPAGEN_LANG": "ja"},
    )
    os.write(ours, "お客様の声: 店舗\n\n届く日、届け先\n\n".encode())
    out, err = process.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 0, err.decode()
    assert "「配送」に当てはまるもの" in out.decode()
    task = Task.load(tmp_path / "mine.yaml")
    assert task.description == "お客様の声: 店舗"
    assert task.text_type == "文章"
    assert task.labels == {"配送": "届く日、届け先", "返品": ""}
    assert "  配送: [届く日, 届け先]" in (tmp_path / "mine.yaml").read_text(encoding="utf-8")
