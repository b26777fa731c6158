"""Writes a new task: a file that runs, and a gold template to fill in."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import yaml

from japagen.errors import JapagenError
from japagen.files import write_text
from japagen.tasks import Task

_TASK = """\
# {name}: a japagen task. Run it with: japagen run {name}.yaml
# It runs as it is, from the label descriptions alone; better descriptions and a few labelled
# texts make it good.
name: {name}

# What the texts are, and what one of them is called (in Japanese; prompts use both).
description: お客様から届いた文章
text_type: 文章
domain: ""

# Each label with a Japanese description of what belongs to it.
labels:
{labels}

# Fill in {name}_gold.csv (16 texts a label is a good start), then remove the # below. Some of
# it is held out to score on, unless you give a test file of its own.
# gold: {{path: {name}_gold.csv}}
# test: {{path: {name}_test.csv}}
# unlabelled: {{path: {name}_unlabelled.csv}}

# Shares of polite, plain, casual and honorific, or from_gold.
registers: {{polite: 0.4, plain: 0.2, casual: 0.2, honorific: 0.2}}

generation:
  per_label: 60

seed: 0
"""


def write_task(name: str, labels: Sequence[str], directory: Path) -> list[Path]:
    """Writes ``NAME.yaml`` and ``NAME_gold.csv``; nothing is overwritten.

    Returns:
        The paths written.

    Raises:
        JapagenError: If a file exists already, or name or labels are not usable.
    """
    names = [label.strip() for label in labels if label.strip()]
    lines = yaml.safe_dump(dict.fromkeys(names, ""), allow_unicode=True, sort_keys=False)
    text = _TASK.format(name=name, labels="".join(f"  {x}\n" for x in lines.splitlines()).rstrip())
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
