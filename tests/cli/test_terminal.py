from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from japagen.cli import terminal
from japagen.data.summary import RunSummary
from japagen.errors import JapagenError
from japagen.llm.backend import Waiting
from tests.report_sample import from_file, sample_run


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a terminal of 100 columns."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, highlight=False, markup=False)
    monkeypatch.setattr(terminal, "err", console)
    return file


def test_a_stage_that_counts_nothing_still_has_a_bar(screen: io.StringIO) -> None:
    with terminal.Terminal(doing="reading") as listener:
        listener.stage("align", "start", "")
        assert listener._progress is not None
        assert [t.description for t in listener._progress.tasks] == ["align"]
        listener.stage("train", "start", "")
        assert list(listener.track([1, 2], 2, "train")) == [1, 2]
        assert [t.description for t in listener._progress.tasks] == ["align", "train"]
        listener.stage("train", "done", "1.0")
        listener.stage("align", "done", "2.0")
        assert not listener._progress.tasks
    assert "reading" in screen.getvalue()
    assert "✓ align (2.0 s)" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in screen.getvalue()


def test_something_counted_without_a_stage_has_a_bar_of_its_own(screen: io.StringIO) -> None:
    with terminal.Terminal() as listener:
        assert list(listener.track(iter("ab"), None, "predict")) == ["a", "b"]
        assert listener._progress is not None
        assert [t.description for t in listener._progress.tasks] == ["reading"]


def test_quiet_and_outside_a_block_nothing_moves(screen: io.StringIO) -> None:
    with terminal.Terminal(quiet=True) as listener:
        listener.stage("align", "start", "")
        assert list(listener.track([1], 1, "align")) == [1]
        listener.stage("align", "done", "1.0")
    assert list(terminal.Terminal().track([1], 1, "align")) == [1]
    assert screen.getvalue() == ""


def test_without_a_terminal_only_lines_are_written(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO
) -> None:
    monkeypatch.setattr(terminal, "err", Console(file=screen, width=100))
    with terminal.Terminal() as listener:
        listener.stage("align", "start", "")
        list(listener.track([1], 1, "align"))
        listener.stage("align", "done", "1.0")
    assert screen.getvalue() == "✓ align (1.0 s)\n"


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "source 他社: 150 of 165 texts kept, share of the training loss 0.40"),
        ("ja", "他社: 165 件のうち 150 件を採用、損失に占める割合 0.40"),
    ],
)
def test_a_summary_has_a_line_for_each_source(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO, language: str, said: str
) -> None:
    monkeypatch.setattr(terminal, "out", Console(file=screen, width=200, soft_wrap=True))
    monkeypatch.setenv("JAPAGEN_LANG", language)
    metrics = sample_run()[0] | {"scores": None, "sources": from_file("llm.csv")}
    terminal.print_summary(Path("run"), RunSummary.model_validate(metrics))
    assert said in screen.getvalue()
    assert "3.2 [−0.4, " in screen.getvalue()


def test_a_summary_tells_of_narrowed_diversity(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO
) -> None:
    monkeypatch.setattr(terminal, "out", Console(file=screen, width=200, soft_wrap=True))
    metrics = sample_run()[0]
    terminal.print_summary(Path("run"), RunSummary.model_validate(metrics))
    assert "alarm" not in screen.getvalue()
    alarm = {"kind": "gold", "group": "synthetic", "measure": "self_bleu"}
    metrics["diversity"]["alarms"] = [{**alarm, "change": -0.3, "low": -0.4, "high": -0.2}]
    terminal.print_summary(Path("run"), RunSummary.model_validate(metrics))
    assert "(Self-BLEU), synthetic text is 30% less varied than gold" in screen.getvalue()


def test_a_summary_puts_baselines_first_and_the_gain_over_the_best_of_them(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO
) -> None:
    monkeypatch.setattr(terminal, "out", Console(file=screen, width=300, soft_wrap=True))
    terminal.print_summary(Path("run"), RunSummary.model_validate(sample_run()[0]))
    shown = screen.getvalue().splitlines()
    (first,) = [n for n, line in enumerate(shown) if line.startswith("gold only:")]
    named = [line for line in shown[:first] if line.startswith("baseline: ")]
    assert [line.split(": ")[1] for line in named] == [
        "TF-IDF and logistic regression / gold only",
        "TF-IDF and logistic regression / gold and all synthetic texts",
        "Plain fine-tuning / gold only",
        "Plain fine-tuning / gold and all synthetic texts",
    ]
    assert "baseline left out: The generator itself / no examples: not asked" in "\n".join(shown)
    gain = "gain over the best baseline (Plain fine-tuning / gold and all synthetic texts)"
    assert gain in shown[first - 1]


def test_a_summary_is_said_in_japanese(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO
) -> None:
    monkeypatch.setenv("JAPAGEN_LANG", "ja")
    monkeypatch.setattr(terminal, "out", Console(file=screen, width=300, soft_wrap=True))
    terminal.print_summary(Path("run"), RunSummary.model_validate(sample_run()[0]))
    assert "比較対象: TF-IDF＋ロジスティック回帰 / 正解データのみ: macro-f1" in screen.getvalue()
    assert "測らなかった比較対象: 生成モデルによる直接の分類 / 学習なし: " in screen.getvalue()
    assert "比較対象のうち最も良い「通常の追加学習 / " in screen.getvalue()


def test_in_a_pipe_tables_wrap_nothing_and_leave_words_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "とても長い文です。" * 40 + " :smile: [bold] 10:100:20"
    terminal.print_table("example", ["field", "value"], [("text", text), ("id", "a")])
    assert text in capsys.readouterr().out


def test_tables_are_headed_in_the_language_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAPAGEN_LANG", "ja")
    terminal.print_table("what it takes", ["step", "time"], [("value", "step")])
    title, *rest = capsys.readouterr().out.splitlines()
    assert title.strip() == "必要な量"
    assert "工程" in rest[1]
    assert "時間" in rest[1]
    # Cells may be the user's own.
    assert "value" in rest[3]


def waiting(**more: Any) -> Waiting:
    servers = {"http://a/v1": (3, 8), "http://b/v1": (0, 0)}
    return Waiting(in_flight=3, unsent=90, servers=servers, **more)


def test_the_bar_says_what_is_waited_for(screen: io.StringIO) -> None:
    with terminal.Terminal() as listener:
        listener.stage("generate", "start", "")
        listener.watch("generate", lambda: waiting(tokens_left=12_000, yen_left=7.25))
        assert list(listener.track([1], 1, "generate")) == [1]
        listener._progress.refresh()  # type: ignore[union-attr]
    shown = "3 in flight, at most 8, 1 endpoints left alone, 12,000 tokens left, 7.2 yen left"
    assert shown in " ".join(screen.getvalue().split())


def test_what_is_not_known_is_not_said() -> None:
    assert terminal.awaited_text(Waiting(in_flight=2)) == "2 in flight"


def test_the_metrics_are_what_prometheus_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: io.StringIO
) -> None:
    path = tmp_path / "japagen.prom"
    monkeypatch.setattr(terminal, "_METRICS_SECONDS", 0.01)
    with terminal.Terminal(metrics=path, quiet=True) as listener:
        listener.watch("generate", lambda: waiting(tokens_left=12_000))
        for number in listener.track(range(5), 9, "generate"):
            deadline = time.monotonic() + 10
            while f'step_items_done{{step="generate"}} {number}\n' not in path.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        during = path.read_text()
        listener.stage("generate", "done", "2.5")
    for line in (
        '# TYPE japagen_requests_in_flight gauge\njapagen_requests_in_flight{step="generate"} 3',
        'japagen_requests_unsent{step="generate"} 90',
        'japagen_endpoint_requests_limit{endpoint="http://b/v1"} 0',
        'japagen_budget_left{unit="tokens"} 12000',
        'japagen_step_items{step="generate"} 9',
    ):
        assert f"{line}\n" in during
    after = path.read_text()
    assert 'japagen_step_items_done{step="generate"} 5\n' in after
    assert 'japagen_step_duration_seconds{step="generate"} 2.5\n' in after
    assert "in_flight" not in after
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    names = [line.split()[2] for line in after.splitlines() if line.startswith("# TYPE")]
    assert len(set(names)) == len(names)


def test_a_metrics_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    listener = terminal.Terminal(metrics=tmp_path)
    with pytest.raises(JapagenError, match="found the directory"):
        listener.__enter__()
