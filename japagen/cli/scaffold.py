"""Writes a new task: a file that runs, and a gold template to fill in."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import yaml

from japagen.errors import JapagenError
from japagen.messages import Language
from japagen.storage.files import write_text
from japagen.tasks.tasks import Task

_TASK = """\
{about}
name: {name}

{texts}
description: お客様から届いた文章
text_type: 文章
domain: ""

{described}
labels:
{labels}

{gold}
# gold: {{path: {name}_gold.csv}}
# test: {{path: {name}_test.csv}}
# unlabelled: {{path: {name}_unlabelled.csv}}

{registers}
registers: {{polite: 0.4, plain: 0.2, casual: 0.2, honorific: 0.2}}

generation:
  per_label: 60

seed: 0
"""
_COMMENTS: dict[Language, dict[str, str]] = {
    "en": {
        "about": """\
# {name}: a japagen task. Run it with: japagen run {name}.yaml
# It runs as it is, from the label descriptions alone; better descriptions and a few labelled
# texts make it good.""",
        "texts": """\
# What the texts are, what one of them is called, and where they come from (in Japanese; prompts
# use them).""",
        "described": """\
# Each label with a Japanese description of what belongs to it; phrases with 、 between are best:
# 請求額、明細、支払い方法""",
        "gold": """\
# Fill in {name}_gold.csv (16 texts a label is a good start), then remove the # below. Some of
# it is held out to score on, unless you give a test file of its own.""",
        "registers": "# Shares of polite, plain, casual and honorific, or from_gold.",
    },
    "ja": {
        "about": """\
# japagen の課題「{name}」。実行するには: japagen run {name}.yaml
# このままでも、ラベルの説明だけで動きます。説明を詳しくし、ラベル付きのテキストを少し加えると
# 良くなります。""",
        "texts": "# テキストの内容、1件の呼び名、使われる場面（プロンプトに使います）",
        "described": """\
# ラベルと、その説明。「請求額、明細、支払い方法」のように、語句を「、」で区切って書くのが
# 効果的です。""",
        "gold": """\
# {name}_gold.csv に正解データを書き込み（ラベルごとに 16 件ほどが目安）、次の行の # を
# 外してください。評価用のファイル（test）がなければ、一部を評価に回します。""",
        "registers": """\
# 文体の割合: polite（です・ます）、plain（常体）、casual（くだけた口調）、honorific（敬語）。
# from_gold にすると、正解データに合わせます。""",
    },
}


def write_task(
    name: str, labels: Sequence[str], directory: Path, language: Language = "en"
) -> list[Path]:
    """Writes ``NAME.yaml`` and ``NAME_gold.csv``; nothing is overwritten.

    Args:
        name: Name of the task and, with suffixes, of the files.
        labels: Its labels.
        directory: Where to write.
        language: Of the comments.

    Returns:
        The paths written.

    Raises:
        JapagenError: If a file exists already, or name or labels are not usable.
    """
    names = [label.strip() for label in labels if label.strip()]
    lines = yaml.safe_dump(dict.fromkeys(names, ""), allow_unicode=True, sort_keys=False)
    comments = {key: text.format(name=name) for key, text in _COMMENTS[language].items()}
    indented = "\n".join(f"  {line}" for line in lines.splitlines())
    text = _TASK.format(name=name, labels=indented, **comments)
    Task.parse(yaml.safe_load(text), f"the task '{name}'")
    gold = io.StringIO()
    csv.writer(gold, lineterminator="\n").writerow(["text", "label"])
    files = {directory / f"{name}.yaml": text, directory / f"{name}_gold.csv": gold.getvalue()}
    for path in files:
        if path.exists():
            raise JapagenError(f"{path} exists already.", "Choose another name or --directory.")
    for path, content in files.items():
        write_text(path, content)
    return list(files)


def next_steps(name: str, directory: Path) -> str:
    """What to do after `write_task`."""
    task = directory / f"{name}.yaml"
    return (
        f"Next: describe the labels in {task}, fill in {directory / f'{name}_gold.csv'}, and\n"
        f"  japagen preview {task}\n  japagen run {task}"
    )
