"""The shape of the package: which way imports point, and how light its own import is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "japagen"
# A room is a folder of the package or a module beside the folders. It imports rooms of later
# lines only, and none of its own line.
LEVELS = (
    ("cli",),
    ("pipeline",),
    ("generation", "mixing"),
    ("alignment", "curation", "evaluation", "gradmm"),
    ("llm", "training"),
    ("config", "reporting", "review"),
    ("data",),
    ("japanese", "transformers_loading"),
    ("errors", "i18n", "listener"),
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
MAX_ROOM_EDGES = 80
MAX_MODULES = 156
MAX_LINES = 53_067


class Imported(NamedTuple):
    """A module of the package that another one imports.

    Attributes:
        name: Dotted, without the package's name.
        line: Where it is imported.
        for_types: Whether under ``if TYPE_CHECKING``.
    """

    name: str
    line: int
    for_types: bool


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for path in PACKAGE.rglob("*.py")}


def _imported(node: ast.AST, for_types: bool = False) -> Iterator[Imported]:
    """Modules of the package that code imports, also inside functions."""
    if isinstance(node, ast.ImportFrom) and node.module == "japagen":
        yield from (Imported(alias.name, node.lineno, for_types) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("japagen."):
        room = str(node.module).removeprefix("japagen.")
        for alias in node.names:
            module = f"{room}.{alias.name}"
            yield Imported(module if module in MODULES else room, node.lineno, for_types)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.startswith("japagen."):
                yield Imported(alias.name.removeprefix("japagen."), node.lineno, for_types)
    below = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for child in ast.iter_child_nodes(node):
        yield from _imported(child, for_types or below)


# The package's own `__init__` only says where its names are.
IMPORTS = {
    name: [*_imported(ast.parse(path.read_text(encoding="utf-8")))]
    for name, path in MODULES.items()
    if name != "__init__"
}


def _room(name: str) -> str:
    room = name.split(".")[0]
    return "cli" if room == "__main__" else room


def _room_edges() -> set[tuple[str, str]]:
    return {
        (_room(name), _room(imported.name))
        for name, imports in IMPORTS.items()
        for imported in imports
        if _room(name) != _room(imported.name)
    }


def _circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of a circle; none if there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_every_room_has_a_level() -> None:
    assert {_room(name) for name in IMPORTS} - set(LEVEL_OF) == set()


@pytest.mark.parametrize("name", IMPORTS)
def test_imports_point_down(name: str) -> None:
    upwards = [
        f"line {imported.line}: {imported.name}"
        for imported in IMPORTS[name]
        if _room(imported.name) != _room(name)
        and LEVEL_OF[_room(imported.name)] <= LEVEL_OF[_room(name)]
    ]
    assert not upwards


def test_rooms_import_each_other_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for room, imported in _room_edges():
        graph.setdefault(room, set()).add(imported)
    assert _circle(graph) == []


def test_modules_import_each_other_in_no_circle() -> None:
    """Imports for types alone do not count: they do not run."""
    graph = {
        name: {imported.name for imported in imports if not imported.for_types}
        for name, imports in IMPORTS.items()
    }
    assert _circle(graph) == []


def test_a_circle_is_found() -> None:
    circle = _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert set(pairwise(circle)) <= {("a", "c"), ("c", "b"), ("b", "a")}
    assert set(circle) == {"a", "b", "c"}


def test_no_tuple_of_literals_is_splatted() -> None:
    """Arguments that a tuple hands over say nothing of what they are."""
    splatted = [
        f"{name}, line {node.lineno}"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Starred) and isinstance(node.value, ast.Tuple)
    ]
    assert not splatted


def test_the_package_stays_small() -> None:
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES.values())
    modules = sum(path.name != "__init__.py" for path in MODULES.values())
    edges = len(_room_edges())
    print(f"{modules} modules, {lines:,} lines, {edges} imports from room to room")
    assert modules <= MAX_MODULES
    assert lines <= MAX_LINES
    assert edges <= MAX_ROOM_EDGES


def test_code_that_comes_with_a_model_is_never_left_to_a_question() -> None:
    """transformers asks on standard input where it is not told: texts to classify stand there."""
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".from_pretrained"):
                known = ast.unparse(call.func) == "PairModel.from_pretrained"
                assert known or "trust_remote_code" in {k.arg for k in call.keywords}, path


def test_only_morphology_knows_fugashi() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "import fugashi" in path.read_text(encoding="utf-8")
    }
    assert users == {"japanese/morphology.py"}


HEAVY = ("torch", "transformers", "fugashi", "xllamacpp", "openai", "sklearn", "vl_convert")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("japagen", {*HEAVY, "datasets", "scipy"}),
        ("japagen.pipeline", {*HEAVY, "datasets", "scipy"}),
        ("japagen.cli.main", {*HEAVY, "datasets", "scipy"}),
        ("japagen.pipeline.run", {"torch", "transformers", "fugashi", "xllamacpp", "openai"}),
        ("japagen.pipeline.sharded", {"torch", "transformers", "fugashi", "ray"}),
        ("japagen.training.classifier", {"torch", "transformers"}),
    ],
)
def test_importing_is_light(module: str, heavy: set[str]) -> None:
    program = f"import sys, {module}; print(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# What the package or one of its extras depends on.
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = {
    _plain(re.match(r"[\w.-]+", requirement)[0])  # type: ignore[index]
    for part in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in part
} - {"japagen"}
HELP = """
from japagen.__main__ import main
sys.argv = ["japagen", "--help"]
try:
    main()
except SystemExit as leaving:
    assert not leaving.code
"""


@pytest.mark.parametrize(
    ("program", "loaded"),
    [
        ("import japagen", set()),
        (HELP, {"numpy", "pyarrow", "pydantic", "rich", "ruamel-yaml", "typer"}),
    ],
    ids=["import", "help"],
)
def test_no_more_of_the_dependencies_is_loaded(program: str, loaded: set[str]) -> None:
    """Each costs everybody a part of a second who only wants to know what there is."""
    program = f"import sys\n{program}\nprint(*(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    *said, modules = done.stdout.splitlines()
    assert bool(said) == ("--help" in program)
    owners = packages_distributions()
    found = {_plain(owner) for name in modules.split() for owner in owners.get(name, ())}
    assert found & DEPENDENCIES == loaded


WITHOUT_TORCH = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *more):
        hidden = name.partition(".")[0] in ("torch", "transformers")
        return None if hidden else self.finder.find_spec(name, *more)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
"""
NEEDS_NO_TORCH = """
import japagen as jg
from japagen.curation.near_duplicates import find_near_duplicates

assert jg.analyze_register("お荷物が届きません。").style == "teinei"
assert jg.convert_style("届きません。", "plain").text
jg.check_keigo("お客様が申されました。")
gold = [("荷物が届きません。", "配送"), ("返品したいです。", "返品")] * 4
rows = [(f"{n}番の荷物はまだですか。", "配送") for n in range(8)]
rows += [(f"{n}番を返品します。", "返品") for n in range(8)]
assert len(jg.align(rows, gold).weights) == 16
for ask in (lambda: jg.train, lambda: jg.JapagenClassifier().fit(["一", "二"], ["a", "b"])):
    try:
        ask()
    except jg.JapagenError as error:
        print(error.hint)
"""


def test_what_needs_no_torch_works_without_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + NEEDS_NO_TORCH],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Install it with: pip install 'japagen[train]'"] * 2


def test_every_public_name_is_there() -> None:
    import japagen

    for name in japagen.__all__:
        assert getattr(japagen, name) is not None
    with pytest.raises(AttributeError):
        _ = japagen.nothing_of_this_name  # type: ignore[attr-defined]
