"""The shape of the package: which way imports point, and how light its own import is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "japagen"
STAGES = (
    *("curation", "alignment", "training", "reporting", "generation", "evaluation"),
    "diversity",
)
COMPOSERS = (
    *("stages", "mixing", "reviewing", "running", "inspecting", "exporting", "gradmm"),
    *("pipeline", "cli", "baselines"),
)


def _imports(path: Path) -> set[str]:
    """Modules of japagen that a file names, as dotted paths without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("japagen"):
            names = [
                f"{node.module}.{a.name}" if node.module == "japagen" else node.module
                for a in node.names
            ]
            found.update(name.removeprefix("japagen").lstrip(".") for name in names)
        elif isinstance(node, ast.Import):
            found.update(
                a.name.removeprefix("japagen").lstrip(".")
                for a in node.names
                if a.name.startswith("japagen.")
            )
    return found - {""}


def _files(*parts: str) -> list[Path]:
    files = []
    for part in parts:
        path = PACKAGE / part
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return files


@pytest.mark.parametrize("path", _files(*STAGES), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_stages_import_neither_each_other_nor_what_composes_them(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in _imports(path):
        top = name.split(".")[0]
        assert top == own or top not in STAGES, f"{own} imports {name}"
        assert top not in COMPOSERS, f"{own} imports {name}"


@pytest.mark.parametrize(
    "path",
    _files("japanese", "storage", "tasks", "errors", "examples", "prompts", "requesting"),
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_foundations_import_no_stage(path: Path) -> None:
    for name in _imports(path):
        assert name.split(".")[0] not in (*STAGES, *COMPOSERS), f"imports {name}"


def test_only_morphology_knows_fugashi() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "import fugashi" in path.read_text(encoding="utf-8")
    }
    assert users == {"japanese/morphology.py"}


def test_importing_japagen_is_light() -> None:
    program = (
        "import sys, japagen; heavy = {'torch', 'transformers', 'fugashi', 'xllamacpp', 'openai', "
        "'sklearn', 'scipy', 'matplotlib', 'datasets'} & set(sys.modules); print(heavy or 'light')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "light"


def test_every_public_name_is_there() -> None:
    import japagen

    for name in japagen.__all__:
        assert getattr(japagen, name) is not None
    with pytest.raises(AttributeError):
        _ = japagen.nothing_of_this_name  # type: ignore[attr-defined]
