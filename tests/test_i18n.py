"""What japagen says in Japanese: that it says everything, and says it right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from japagen.cli import terminal
from japagen.config.task import Task
from japagen.errors import JapagenError
from japagen.i18n import CATALOGUE, catalogue, localized, page_texts, user_language
from japagen.japanese.registers import PRESETS
from tests import messages
from tests.conftest import ROOT

MESSAGES = [(english, ja) for (context, english), ja in catalogue().items() if not context]
# Where two values touch, only what they are tells where one ends.
_SEPARATE = [row for row in MESSAGES if row[0] and "}{" not in row[0]]


def _places(template: str) -> list[str]:
    return [name for _, name, *_ in Formatter().parse(template) if name is not None]


def test_every_text_has_its_japanese() -> None:
    """``make messages`` adds the texts that are missing here, to be translated."""
    have = CATALOGUE.read_text(encoding="utf-8")
    wanted = messages.written(messages.updated(messages.read()))
    assert len(messages.said()) > 450
    assert have == wanted, "".join(
        unified_diff(have.splitlines(True), wanted.splitlines(True), n=1)
    )
    assert [text for text in messages.read() if text.id and not str(text.string).strip()] == []


def test_our_own_reader_reads_what_babel_reads() -> None:
    read = {(m.context or "", str(m.id)): m.string for m in messages.read() if m.id}
    assert {key: ja for key, ja in catalogue().items() if key[1]} == read


def test_both_languages_take_the_same_values() -> None:
    for (_, english), ja in catalogue().items():
        assert set(_places(ja)) == set(_places(english)), english
    for english, _ in MESSAGES:
        assert _places(english) == [str(n) for n in range(len(_places(english)))], english


@pytest.mark.parametrize("row", _SEPARATE, ids=lambda row: row[0])
def test_every_message_is_found(row: tuple[str, str]) -> None:
    values = "猫犬鳥魚虫貝亀"
    assert localized(row[0].format(*values), "ja") == row[1].format(*values)


@given(
    st.sampled_from(_SEPARATE),
    st.lists(st.text(st.characters(categories=["Lo", "Nd"]), min_size=1), min_size=6),
)
def test_what_was_put_in_is_put_in_again(row: tuple[str, str], values: list[str]) -> None:
    assert localized(row[0].format(*values), "ja") == row[1].format(*values)


@pytest.mark.parametrize("path", messages.PAGES, ids=lambda path: path.stem)
def test_a_page_has_the_same_texts_in_both_languages(path: Path) -> None:
    english, japanese = page_texts(path, "en"), page_texts(path, "ja")
    assert english.keys() == japanese.keys()
    assert sum(english[key] == japanese[key] for key in english) < len(english) / 20


def test_help_is_in_the_language_of_the_user_and_whole() -> None:
    command = [sys.executable, "-m", "japagen", "model", "predict", "--help"]
    environment = {**os.environ, "JAPAGEN_LANG": "ja", "COLUMNS": "80"}
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=True
    )
    # The lines of a cell go on in the next row of the table.
    shown = re.sub(r"[\s│]", "", done.stdout)
    assert "学習したどのテキストとも似ていないものには、ラベルを付けません。" in shown
    assert "オプション" in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "ja_JP", "LANG": "en_US"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "JAPAGEN_LANG": "en"}, "en"),
        ({"LANG": "de_DE"}, "en"),
        ({}, "en"),
    ],
)
def test_the_locale_decides(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], language: str
) -> None:
    for name in ("JAPAGEN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert user_language() == language


def test_the_problems_of_a_task_file_are_told_in_japanese(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAPAGEN_LANG", "ja")
    raw = {"name": "t", "lables": ["a", "b"], "seed": "x", "generation": {"per_label": 0}}
    with pytest.raises(JapagenError) as caught:
        Task.parse(raw, "t.yaml")
    terminal.print_error(caught.value)
    assert capsys.readouterr().err.splitlines() == [
        "エラー: t.yaml に 4 件の問題があります:",
        "  - キー「labels」がありません",
        "  - generation.per_label: 1 以上の値が必要ですが、0 です",
        "  - seed: 整数が必要ですが、'x' です",
        "  - 「lables」というキーはありません（「labels」のことですか）",
        "上のキーを直してください。",
    ]


def test_what_the_user_wrote_is_not_translated() -> None:
    said = "Unknown register 'line 3' (did you mean 'a list'?)."
    assert localized(said, "ja") == "「line 3」という文体はありません（「a list」のことですか）。"
    assert localized("何かの文。", "ja") == "何かの文。"
    # What is empty in the catalogue is its header.
    assert localized("", "ja") == ""
    assert localized(said, "en") == said


def test_registers_have_one_name_in_each_language() -> None:
    """In the report, on the review page and in prompts; the task's own names are the English."""
    prompts = YAML(typ="safe").load(ROOT / "prompts_ja" / "registers.yaml")
    report, page = messages.PAGES
    for name in PRESETS:
        ja, en = (page_texts(report, language)[f"register.{name}"] for language in ("ja", "en"))
        assert (en, ja) == (name, prompts[name]["name"])
        shown = {key: page_texts(page, key)[f"register.{name}"] for key in ("ja", "en")}
        assert shown["ja"].startswith(ja)
        assert shown["en"].startswith(en)
