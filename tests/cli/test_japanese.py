"""What the command line says where the user's language is Japanese: no English sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer import rich_utils

from japagen.data.dataset import Example, Rejection
from japagen.data.files import to_yaml
from tests.command_line import japagen
from tests.pipeline.test_comparison_commands import write_run
from tests.test_cli import COMMANDS

# Three words on end are a phrase. What stands in brackets, quotes or code is a name or a value.
_PHRASE = re.compile(r"[A-Za-z][a-z']+(?: [a-z']{2,}){2,}")
_NAMES = re.compile(
    r"<[^>]*>|\[[^\]]*\]|'[^']*'|「[^」]*」|(?:python -m )?japagen [a-z ]+|\S*[/._]\S*"
)


def _english(text: str) -> list[str]:
    return _PHRASE.findall(_NAMES.sub("", text))


@pytest.fixture(autouse=True)
def _in_japanese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAPAGEN_LANG", "ja")
    for name in dir(rich_utils):  # help pages change it for good
        if name.endswith(("_TITLE", "_STRING")) or name in ("Table", "Columns"):
            monkeypatch.setattr(rich_utils, name, getattr(rich_utils, name))
    monkeypatch.setattr(rich_utils, "rich_format_error", rich_utils.rich_format_error)


@pytest.fixture
def task_path(tmp_path: Path, raw_task: dict[str, Any]) -> Path:
    raw_task["labels"] = {"配送": "", "返品": "解約"}
    gold = Path(raw_task["gold"]["path"])
    lines = gold.read_text(encoding="utf-8").splitlines()
    again = [lines[0], lines[1].replace("配送", "返品")]
    gold.write_text("\n".join([*lines, *again]), encoding="utf-8")
    path = tmp_path / "small.yaml"
    path.write_text(to_yaml(raw_task), encoding="utf-8")
    return path


def test_the_measure_itself_finds_english() -> None:
    assert _english("2 texts are read from gold.jsonl (theirs)") == ["texts are read from"]
    assert _english("Missing option '--labels'. │ Show this message and exit.")
    assert _english("使い方: japagen data register [OPTIONS] [file]\n「did you mean it」") == []


@pytest.mark.parametrize("command", ["", "data", "model", *COMMANDS])
def test_help(command: str) -> None:
    code, out, err = japagen(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert "この説明を表示して終了します。" in out
    assert "使い方: " in out
    assert _english(out) == []


def test_plan_and_doctor(task_path: Path) -> None:
    code, out, err = japagen("plan", task_path, "--sample", "0")
    assert code == 0, err
    assert "どちらかを直してください" in out
    assert "説明のないラベルがあります: 配送" in out
    assert _english(out + err) == []
    _, out, err = japagen("doctor")
    assert "unidic-lite" in out
    assert _english(out + err) == []


def test_diff_and_explain(tmp_path: Path, raw_task: dict[str, Any]) -> None:
    kept = Example("返品したいです。", "返品", id="a")
    short = Example(kept.text, "返品", id="a", rejected=Rejection("too_short", 8, 20))
    one = write_run(tmp_path / "one", raw_task, kept, min_characters=6)
    two = write_run(tmp_path / "two", raw_task, short, min_characters=20)
    for command in (("diff", one, two), ("explain", one, "a")):
        code, out, err = japagen("data", *command)
        assert code == 0, err
        assert _english(out + err) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan"], "引数 config を指定してください。"),
        (["rnu", "small.yaml"], "「rnu」というコマンドはありません"),
        (["run", "small.yaml", "--ou", "x"], "「--ou」というオプションはありません"),
        (["run", "small.yaml", "--out"], "オプション --out には値が必要です。"),
        (["plan", "small.yaml", "--sample", "many"], "整数を指定してください"),
        (["model", "predict", "x", "--precision", "2"], "1 以下の値を指定してください"),
        (["report", "x", "--lang", "fr"], "'fr' は使えません。"),
        (["run", "none.yaml"], "タスクファイル"),
        (["run", "small.yaml", "--set", "sed=1"], "「seed」のことですか"),
        (["run", "small.yaml", "--set", "gold.path=none.csv"], "none.csv"),
        (
            ["init", "mine", "--directory", "none"],
            "--labels a,b,c か --gold FILE を指定してください。",
        ),
        (["init", "mi\nne", "--labels", "配送,返品"], r"引数 NAME に使えるのは文字、数字、_、.、-"),
        (["init", "mine", "--labels", "配送"], "2 個以上必要ですが、1 個です"),
        (["report", "."], "実行ディレクトリー"),
        (["run", "small.yaml", "extra"], "余分な引数があります: extra"),
    ],
)
def test_common_mistakes(task_path: Path, arguments: list[str], said: str) -> None:
    code, out, err = japagen(*arguments, cwd=task_path.parent)
    assert (code, out) == (2, "")
    assert said in err
    assert _english(err) == []


@pytest.mark.parametrize("arguments", [["--lang", "fr", "plan"], ["plan", "--lang=fr"]])
def test_a_language_that_is_not_spoken_is_named_wherever_it_stands(arguments: list[str]) -> None:
    code, out, err = japagen(*arguments)
    assert (code, out) == (2, "")
    assert "'fr' は使えません" in err


def test_lang_goes_before_the_locale_wherever_it_stands(task_path: Path) -> None:
    for arguments in (["--lang", "en", "plan"], ["plan", "--lang=en"]):
        code, _, err = japagen(*arguments)
        assert code == 2
        first, usage, hint = err.splitlines()
        assert first == "Error: Missing argument 'config'."
        assert re.fullmatch(r"Usage: .*japagen plan \[OPTIONS\] .*", usage)
        assert re.fullmatch(r"Try '.*japagen plan --help' for help\.", hint)
