"""The notebooks of examples/ run, and are kept without their outputs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

# Lines of what each prints.
PROMISED = {
    "from_csv_to_classifier": [
        r"配送  [01]\.\d\d  荷物がまだ届きません。$",
        r"opening_formula \| 承知しました。",
        r"(near_)?duplicate \| ",
    ],
    # A writer is known by its labels: one set is right, the other was drawn at random.
    "which_llm_writes_best": [
        r"careful .* reliable$",
        r"careless .* weight 0\.00, share 0\.00, unreliable$",
    ],
}


def _code(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    cells = _code(path)
    assert cells
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_promises(path: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    (tmp_path / "configs").symlink_to(ROOT / "configs")
    folder = tmp_path / "examples"
    folder.mkdir()
    shutil.copy(path, folder)
    notebook = nbformat.read(folder / path.name, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    # Bars of progress are on standard error.
    said = "".join(one["text"] for one in outputs if one.get("name") == "stdout")

    # Recorded texts of a strong LLM help a head of 32 gold texts.
    assert float(re.findall(r"gain +([+-]\d\.\d+) \[", said)[0]) > 0
    for line in PROMISED[path.stem]:
        assert re.search(f"^{line}", said, re.MULTILINE)
