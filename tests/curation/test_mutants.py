from __future__ import annotations

import ast
from typing import Any

import pytest

from japagen.curation.code import make_mutants, make_stub

SOURCE = '''"""Doc."""
LIMIT = 10


def clamp(n: int = 3) -> int:
    """Doc."""
    if n < 0 or n is None:
        raise ValueError("negative")
    for i in range(1, n + 1):
        if i >= LIMIT:
            break
    return -i


if __name__ == "__main__":
    print(clamp(5))
'''


def _changes(source: str) -> list[str]:
    return [mutant.change for mutant in make_mutants(source, 1000, 0)]


def test_every_mutant_is_another_program_that_parses() -> None:
    mutants = make_mutants(SOURCE, 1000, 0)
    sources = {ast.unparse(ast.parse(mutant.source)) for mutant in mutants}
    assert len(sources) == len(mutants)
    assert ast.unparse(ast.parse(SOURCE)) not in sources


@pytest.mark.parametrize(
    "change",
    [
        "7: n < 0 → n <= 0",
        "7: n < 0 or n is None → n < 0 and n is None",
        "7: n is None → n is not None",
        "9: n + 1 → n - 1",
        "9: 1 → 2",
        "10: i >= LIMIT → i > LIMIT",
        "11: break → continue",
        "12: return -i → return None",
        "12: -i → i",
        "2: 10 → 11",
        "5: 3 → 4",
    ],
)
def test_faults_of_every_kind_are_made(change: str) -> None:
    assert change in _changes(SOURCE)


def test_messages_docstrings_annotations_and_scripts_stay() -> None:
    for mutant in make_mutants(SOURCE, 1000, 0):
        assert "ValueError('negative')" in mutant.source
        assert mutant.source.count("Doc.") == 2
        assert "-> int" in mutant.source
        assert "print(clamp(5))" in mutant.source


def test_a_draw_is_of_the_same_mutants_and_follows_from_its_seed() -> None:
    every = _changes(SOURCE)
    drawn = [mutant.change for mutant in make_mutants(SOURCE, 5, 1)]
    assert len(drawn) == 5
    assert set(drawn) <= set(every)
    assert drawn == [mutant.change for mutant in make_mutants(SOURCE, 5, 1)]
    assert drawn != [mutant.change for mutant in make_mutants(SOURCE, 5, 2)]


def test_nothing_to_change() -> None:
    assert make_mutants("def same(x):\n    pass\n", 9, 0) == []


def test_a_stub_keeps_everything_but_what_is_tested() -> None:
    source = (
        "X = len('a')\ndef used():\n    return 2\ndef tested():\n    return used()\n"
        "class Tested:\n    def method(self):\n        return 3\n"
    )
    space: dict[str, Any] = {}
    exec(make_stub(source, {"tested", "Tested"}), space)
    assert (space["X"], space["used"]()) == (1, 2)
    assert space["tested"]() is None
    assert space["Tested"]().method() is None
