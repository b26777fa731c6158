"""The strategy gradient_matching in a run, with small random models of the real classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import japagen as jg
from japagen.errors import JapagenError
from japagen.examples import EDITED
from japagen.generators.base import Request
from japagen.running.data import load_data
from japagen.running.results import Run
from japagen.stages import edit_work
from japagen.stages.edit_outcome import REFUSED
from japagen.storage.formats import load_dataset
from japagen.tasks.tasks import Task
from tests.generators.tiny_checkpoint import write_checkpoint
from tests.scripted import ScriptedGenerator
from tests.test_pipeline import Heard

TEXTS = {
    "配送": ["商品を家に送る。", "便で人に渡す。", "荷物を品と送る。", "日に家で待つ。"],
    "返品": ["品を店に返す。", "色を変える。", "日に会社で買う。", "人に金を返す。"],
}


def _write(request: Request) -> str:
    texts = TEXTS[request.label]
    return f"{texts[request.seed % 4]}{'先日の件で話す。' * (request.seed // 4 % 2)}"


@pytest.fixture(scope="session")
def tiny_reader(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("reader"), "gemma3"))


@pytest.fixture
def matching(raw_task: dict[str, Any], tiny_encoder: str, tiny_reader: str) -> dict[str, Any]:
    """A task as a mapping: few models are as unsure as a random one, so much is allowed."""
    raw_task["generation"] |= {"strategy": "gradient_matching"}
    return raw_task | {
        "gradient_matching": {"model": tiny_reader, "perplexity": 30},
        "curation": {"max_similarity": 1.0, "register_miss": "ignore"},
        "alignment": {"method": "labels", "label_trust": "none"},
        "training": {"encoder": tiny_encoder, "synthetic_share": 0.4, "min_steps": 1},
    }


def test_x(matching, tmp_path):
    task = Task.parse(matching)
    heard = Heard()
    run = jg.run(task, tmp_path / "run", generator=ScriptedGenerator(_write), listener=heard)
    print(heard.notes, run.metrics["gradient_matching"], run.metrics["counts"])
    for e in run.dataset:
        print(e.id, e.parent_id, e.text, e.source, e.rejected, e.prompt_id, e.generator, len(e.shot_ids))
    assert 0
