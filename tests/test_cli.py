"""The command line: its output and its exit code, in real processes and in this one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from japagen.cli.main import app
from japagen.cli.task_commands import Stage
from japagen.cli.terminal import RENAMED
from japagen.config.task import Task
from japagen.curation import sandbox
from japagen.curation.sandbox import check_isolation
from japagen.pipeline.run import STAGES
from tests.command_line import japagen, japagen_process
from tests.conftest import GOLD, ROOT, write_jsonl
from tests.sandbox import needs_sandbox

_APP = get_command(app)
COMMANDS = [
    " ".join((name, *sub))
    for name, command in _APP.commands.items()  # type: ignore[attr-defined]
    for sub in ([(inner,) for inner in getattr(command, "commands", ())] or [()])
]


def test_every_command_has_help_and_is_in_the_readme() -> None:
    code, top, _ = japagen_process("--help")
    assert code == 0
    pages = {"": top}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(COMMANDS) == 19
    for command in COMMANDS:
        group, _, name = command.rpartition(" ")
        if group not in pages:
            assert group in top
            pages[group] = japagen(group, "--help")[1]
        assert f" {name} " in pages[group]
        assert f"`japagen {command} " in readme or f"`japagen {command}`" in readme, command


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_leads_to_a_command_and_names_it(old: str, new: str) -> None:
    assert old not in _APP.commands  # type: ignore[attr-defined]
    found = CliRunner().invoke(app, [old, "--help"], prog_name="japagen")
    assert found.exit_code == 0, found.output
    assert found.stderr == f"'japagen {old}' is now 'japagen {new}'.\n"
    command, _, stage = new.partition(" --until ")
    assert command in COMMANDS
    assert f"Usage: japagen {command} [OPTIONS]" in found.stdout
    assert stage in ("", *STAGES)


def test_an_old_name_prints_what_the_new_one_does() -> None:
    new = japagen("data", "register", "--json", stdin="行きます。\n")
    old = japagen("register", "--json", stdin="行きます。\n")
    assert old[:2] == new[:2]
    assert new[2] == ""
    assert old[2] == "'japagen register' is now 'japagen data register'.\n"


def test_the_stages_of_the_command_line_are_those_of_a_run() -> None:
    assert tuple(stage.value for stage in Stage) == STAGES


def test_from_a_file_of_texts_to_predictions(task_file: Path, tmp_path: Path) -> None:
    rows = [
        {"本文": f"{word}のことを伺います、{n}度目です。", "分類": label}
        for label, word in (("配送", "荷物"), ("返品", "返品"))
        for n in "一二三四五六"
    ]
    theirs = write_jsonl(tmp_path / "theirs.jsonl", rows)
    run = tmp_path / "run"
    arguments = ["run", task_file, "--out", run, "--synthetic", theirs, "--json"]
    code, out, err = japagen_process(*arguments, "--column", "text=本文", "--column", "label=分類")
    assert code == 0, err
    assert json.loads(out)["counts"]["generated"] == 12

    texts = "荷物はどこですか。\n返品したい。\n"
    code, out, err = japagen_process("model", "predict", run, "--json", stdin=texts)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["text"] for row in rows] == ["荷物はどこですか。", "返品したい。"]
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1)

    exported = tmp_path / "out.csv"
    code, _, err = japagen("data", "export", run, "-o", exported, "--bom")
    assert code == 0, err
    assert exported.read_bytes().startswith(b"\xef\xbb\xbf")
    code, _, err = japagen("data", "export", run, "-o", exported)
    assert code == 2
    assert "out.csv" in err

    code, _, err = japagen("report", run, "--lang", "en", "-o", tmp_path / "en.html")
    assert code == 0, err
    assert '<html lang="en"' in (tmp_path / "en.html").read_text(encoding="utf-8")


def test_alignment_needs_no_task_file(tmp_path: Path, gold_file: Path) -> None:
    out = tmp_path / "weighted.jsonl"
    code, _, err = japagen("data", "align", gold_file, gold_file, "-o", out)
    assert code == 0, err
    weights = [json.loads(line)["weight"] for line in out.read_text("utf-8").splitlines()]
    assert sum(weights) == pytest.approx(len(weights), rel=1e-3)


def test_alignment_prints_every_distance_and_finds_registers(
    tmp_path: Path, gold_file: Path, tiny_encoder: str
) -> None:
    call = ["data", "align", gold_file, gold_file, "-o", tmp_path / "w.jsonl", "--overwrite"]
    code, out, err = japagen(*call, "--encoder", tiny_encoder)
    assert code == 0, err
    for said in ("Total variation of labels", "MMD²", "POS bigrams", "AUC", "Effective sample"):
        assert said in out
    code, out, err = japagen(*call, "--no-registers", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["diagnostics"]["mean_discrepancy"] is None
    assert found["prior"]["how"] == "unchanged"
    assert "equal by design" in found["prior"]["why"]


def test_register_of_each_line() -> None:
    code, out, err = japagen_process("data", "register", "--json", stdin="行きます。\n行くよ。\n\n")
    assert code == 0, err
    styles = [json.loads(line)["style"] for line in out.splitlines()]
    assert styles == ["teinei", "kudaketa", "unknown"]


def test_misused_keigo_of_each_line() -> None:
    stdin = "社長がおっしゃられました。\n明日行きます。\n"
    code, out, err = japagen("data", "register", "--lint", stdin=stdin)
    assert (code, len(out.splitlines())) == (0, 1), err
    assert "double_keigo" in out
    assert "社長がおっしゃいました。" in out
    code, out, _ = japagen("data", "register", "--lint", "--json", stdin=stdin)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [len(row["findings"]) for row in rows] == [1, 0]
    assert rows[0]["findings"][0]["correction"] == "おっしゃい"


def test_register_with_own_honorifics(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("ご来駕: sonkeigo\n", encoding="utf-8")
    code, out, err = japagen_process(
        "data", "register", "--json", "--honorifics", own, stdin="ご来駕を待つ。\n"
    )
    assert (code, err) == (0, "")
    assert json.loads(out)["keigo"] == ["sonkeigo"]


def test_a_new_task_loads_and_is_not_overwritten(tmp_path: Path) -> None:
    code, out, err = japagen("init", "mine", "--labels", "配送, 返品", cwd=tmp_path)
    assert code == 0, err
    assert "mine.yaml" in out
    code, _, err = japagen("init", "mine", "--labels", "a,b", cwd=tmp_path)
    assert code == 2
    assert "exists already" in err
    assert "配送" in (tmp_path / "mine.yaml").read_text(encoding="utf-8")


def test_labels_may_be_separated_as_japanese_is(tmp_path: Path) -> None:
    code, _, err = japagen("init", "mine", "--labels", "請求、解約，配送", cwd=tmp_path)
    assert code == 0, err
    assert list(Task.load(tmp_path / "mine.yaml").labels) == ["請求", "解約", "配送"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "no task file at none.yaml"),
        (["run", "small.yaml", "--set", "seed"], "key=value"),
        (["run", "small.yaml", "--set", "sed=1"], "did you mean 'seed'?"),
        (["run", "small.yaml", "--synthetic", "none.csv"], "no file at none.csv"),
        (["run", "small.yaml", "--out", "."], "not a run directory"),
        (["model", "predict", "."], "Expected a classifier"),
        (["data", "export", ".", "-o", "x.csv"], "Expected a run directory"),
        (["data", "align", "gold.jsonl", "none.csv", "-o", "x.csv"], "no file at none.csv"),
        (["data", "register", "none.txt"], "no file at none.txt"),
        (["data", "register", "--user-dictionary", "none.dic"], "Expected a user dictionary"),
        (["data", "register", "--honorifics", "none.yaml"], "Expected a YAML list of honorifics"),
        (["data", "align", "gold.jsonl", "gold.jsonl", "-o", "gold.jsonl"], "is there already"),
        (["run", "small.yaml", "--out", "gold.jsonl/run"], "Cannot make the run directory"),
        (["run", "small.yaml", "--column", "text=a"], "--synthetic, which is absent"),
        (["run", "small.yaml", "--synthetic", "gold.jsonl", "--column", "txt=a"], "'txt' is none"),
        (["run", "small.yaml", "--synthetic", "gold.jsonl", "--column", "a"], "--column key=value"),
        (
            ["run", "small.yaml", "--synthetic", "a=gold.jsonl", "--synthetic", "a=gold.jsonl"],
            "two sources are called 'a'",
        ),
        (["run", "small.yaml", "--set", "training.encoder=./none"], "Expected an encoder"),
    ],
)
def test_bad_input_exits_with_2_and_one_message(
    task_file: Path, arguments: list[str], message: str
) -> None:
    code, out, err = japagen(*arguments, cwd=task_file.parent)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_shift_jis_gold_says_how_to_convert(task_file: Path) -> None:
    gold = task_file.parent / "gold.csv"
    gold.write_bytes("text,label\n届きません,配送\n".encode("cp932"))
    code, _, err = japagen_process("run", task_file, "--set", f"gold.path={gold}")
    assert code == 2
    assert "iconv -f CP932" in err


def test_a_task_of_files_asks_no_generator(task_file: Path) -> None:
    files = "[{name: ours, path: gold.jsonl}, {name: theirs, path: gold.jsonl}]"
    here = task_file.parent
    more = ("--set", f"sources={files}")
    code, out, err = japagen("plan", task_file, *more, cwd=here)
    assert code == 0, err
    assert "12 texts are read from gold.jsonl (theirs)" in out
    assert "no generator is asked" in out
    code, out, err = japagen("preview", task_file, *more, "-n", "2", cwd=here)
    assert code == 0, err
    for said in ("ours / 配送", "theirs / 返品", "→ 荷物はいつ届きますか。"):
        assert said in out
    code, out, err = japagen("preview", task_file, *more, "-n", "2", "--json", cwd=here)
    rows = json.loads(out)
    shown = [(row["source"], row["label"]) for row in rows]
    assert shown == [(name, label) for name in ("ours", "theirs") for label in ("配送", "返品")]
    assert [row["text"] for row in rows[:2]] == [GOLD["配送"][0], GOLD["返品"][0]]


def test_the_doctor_lists_extras() -> None:
    code, out, err = japagen("doctor", "--json")
    assert code == 0, err
    assert {"torch", "xllamacpp", "cache"} <= {row["what"] for row in json.loads(out)}


@needs_sandbox
def test_the_doctor_tries_out_what_isolates_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> tuple[str, str]:
        check_isolation.cache_clear()
        code, out, err = japagen("doctor", "--json")
        assert code == 0, err
        (row,) = (row for row in json.loads(out) if row["what"] == "bubblewrap")
        return row["state"], row["detail"]

    state, detail = told()
    assert (state, detail.split(", ")[1]) == ("ok", "isolation of programs (kind: code)")
    assert re.fullmatch(r"[\d.]+", detail.split(", ")[0])
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pluggy", None)  # pytest needs it
        sandbox._packages.cache_clear()
        state, detail = told()
    sandbox._packages.cache_clear()
    assert state == "missing"
    assert "japagen[code]" in detail
    monkeypatch.setenv("PATH", str(tmp_path))
    state, detail = told()
    assert state == "missing"
    assert "found no bwrap" in detail
    assert "apt install bubblewrap" in detail
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions' >&2\nexit 1\n")
    refusing.chmod(0o755)
    state, detail = told()
    assert state == "broken"
    assert "found: bwrap: No permissions" in detail


def test_the_doctor_speaks_japanese(monkeypatch: pytest.MonkeyPatch) -> None:
    english = japagen("doctor", "--lang", "en")[1]
    told = japagen("doctor", "--lang", "ja")[1]
    monkeypatch.setenv("JAPAGEN_LANG", "ja")
    assert japagen("doctor")[1] == told
    assert re.search(r"項目 +│? *┃? *状態", told)
    assert re.search(r"torch .* 正常 .*（学習）", told)
    assert "プロセッサー数" in told
    assert re.search(r"torch .* ok .*, training", english)
    assert not re.search("[ぁ-ん]", english)


def test_encoding_is_about_the_files_of_synthetic(task_file: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.csv"
    rows = [
        f"{word}を伺います、{n}度目です。,{label}\n"
        for label, word in (("配送", "荷物"), ("返品", "返品"))
        for n in "一二三四五六"
    ]
    theirs.write_bytes(("text,label\n" + "".join(rows)).encode("cp932"))
    command = ("run", task_file, "--out", tmp_path / "run", "--until", "curate")
    code, _, err = japagen(*command, "--synthetic", theirs)
    assert code == 2
    assert "reads as Shift_JIS" in err
    code, out, err = japagen(*command, "--synthetic", theirs, "--encoding", "cp932", "--json")
    assert code == 0, err
    assert json.loads(out)["examples"] == 12
    code, _, err = japagen(*command, "--encoding", "cp932")
    assert code == 2
    assert "--encoding is about the files of --synthetic" in err


def test_wrong_input_is_found_before_anything_is_written(task_file: Path) -> None:
    for wrong in ("gold.path=none.csv", "training.encoder=./none"):
        code, _, err = japagen("run", task_file, "--out", "out", "--set", wrong)
        assert code == 2, err
    assert not (task_file.parent / "out").exists()


@pytest.fixture
def finished(task_file: Path) -> Path:
    """A finished run on given texts."""
    rows = [
        {"text": f"{word}のことを伺います、{n}度目です。", "label": label}
        for label, word in (("配送", "荷物"), ("返品", "返品"))
        for n in "一二三四五六"
    ]
    theirs = write_jsonl(task_file.parent / "theirs.jsonl", rows)
    code, _, err = japagen(
        "run", task_file, "--out", task_file.parent / "run", "--synthetic", theirs
    )
    assert code == 0, err
    return task_file.parent / "run"


def test_a_failed_test_of_the_task_exits_with_3(finished: Path, task_file: Path) -> None:
    theirs = task_file.parent / "theirs.jsonl"
    command = ["run", task_file, "--out", finished, "--synthetic", theirs, "--set"]
    assert not (finished / "junit.xml").exists()
    code, _, err = japagen(*command, "tests.macro_f2=0.5")
    assert code == 2
    assert "did you mean 'macro_f1'?" in err
    code, _, err = japagen(*command, "tests={macro_f1: 0.0, leakage: 1.0}")
    assert code == 0, err
    code, _, err = japagen(*command, "tests={macro_f1: 0.0, ece: 0.0}")
    assert code == 3, err
    results = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))["tests"]
    assert [(test["name"], test["passed"]) for test in results] == [
        ("macro_f1", True),
        ("ece", False),
    ]
    junit = (finished / "junit.xml").read_text(encoding="utf-8")
    assert 'failures="1"' in junit
    # The run is whole, and the report says which test failed.
    report = (finished / "report.html").read_text(encoding="utf-8")
    assert "1 of 2 tests of the task file failed." in report


def test_damaged_files_get_one_message_and_are_made_anew(finished: Path, task_file: Path) -> None:
    before = (finished / "examples.jsonl").read_bytes()
    for name, command in (
        ("aligned.parquet", ["data", "export", finished, "-o", finished.parent / "x.csv"]),
        ("metrics.json", ["report", finished, "-o", finished.parent / "x.html"]),
        ("model/model.safetensors", ["model", "predict", finished]),
        ("model/japagen.json", ["model", "predict", finished]),
    ):
        path = finished / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        code, out, err = japagen(*command)
        assert (code, out) == (2, ""), err
        assert "damaged" in err
        assert "Traceback" not in err
    theirs = task_file.parent / "theirs.jsonl"
    code, _, err = japagen("run", task_file, "--out", finished, "--synthetic", theirs)
    assert code == 0, err
    assert err.count("its output is damaged") == 2  # align and the model
    assert (finished / "examples.jsonl").read_bytes() == before
    code, _, err = japagen("model", "predict", finished, stdin="荷物\n")
    assert code == 0, err


def test_one_run_is_exported_in_every_format(finished: Path) -> None:
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        code, _, err = japagen("data", "export", finished, "-o", finished.parent / name)
        assert code == 0, err
    code, _, err = japagen("data", "export", finished, "-o", finished.parent / "out")
    assert code == 2
    assert "one of --format chat, hf, argilla" in err


def test_predicting_with_half_a_run_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"task": "small", "created": ""}', encoding="utf-8")
    code, _, err = japagen("model", "predict", tmp_path)
    assert code == 2
    assert "has no model yet" in err


def test_columns_that_were_taken_are_told(task_file: Path) -> None:
    rows = [f"{text},{label}" for label, texts in GOLD.items() for text in texts]
    gold = task_file.with_name("gold.csv")
    gold.write_text("\n".join(["本文,カテゴリ", *rows]) + "\n", encoding="utf-8")
    code, _, err = japagen_process("plan", task_file, "--set", f"gold={gold}")
    assert code == 0, err
    assert err.count(f"Took the column '本文' of {gold} for the text.") == 1
    assert f"Took the column 'カテゴリ' of {gold} for the label." in err
