from __future__ import annotations

import pytest

from japagen.config.code import CodeChecks
from japagen.curation.code import CHECKS, check_program, count_rejections, reject_alike
from japagen.data.code import Program
from japagen.reporting.text import strings
from tests.sandbox import needs_sandbox

INSTRUCTION = (
    "整数のリスト numbers の偶数だけを合計して返す関数 sum_even(numbers) を書いてください。"
)
SOLUTION = "def sum_even(numbers):\n    return sum(n for n in numbers if n % 2 == 0)\n"
TESTS = """\
from solution import sum_even


def test_mixed():
    assert sum_even([1, 2, 3, 4]) == 6


def test_empty():
    assert sum_even([]) == 0


def test_zero_and_negative():
    assert sum_even([0, -2, 5]) == -2
"""
IMPORT = "from solution import sum_even\n"
SKIPPED = "@pytest.mark.skip\ndef test_x(): ...\n"
GOOD = Program(INSTRUCTION, SOLUTION, TESTS, id="good")
CHEAT = """\
import _pytest.reports

_usual = _pytest.reports.TestReport.from_item_and_call


def _passing(item, call):
    call.excinfo = None
    return _usual(item, call)


_pytest.reports.TestReport.from_item_and_call = staticmethod(_passing)


def sum_even(numbers):
    return 1
"""
CHEAT_INSIDE = """\
import _pytest.reports


def sum_even(numbers):
    usual = _pytest.reports.TestReport.from_item_and_call

    def passing(item, call):
        call.excinfo = None
        return usual(item, call)

    _pytest.reports.TestReport.from_item_and_call = staticmethod(passing)
    return 1 + len(numbers) * 2
"""


def _checked(checks: CodeChecks | None = None, **parts: str) -> Program:
    named = {"instruction": INSTRUCTION, "solution": SOLUTION, "tests": TESTS} | parts
    return check_program(Program(**named), checks or CodeChecks(seconds=2), 0)


def _rejected_by(checks: CodeChecks | None = None, **parts: str) -> tuple[str, str]:
    rejected = _checked(checks, **parts).rejected
    assert rejected is not None
    return rejected.filter, rejected.detail


@pytest.mark.parametrize(
    ("parts", "check", "detail"),
    [
        ({"instruction": "Write a function that sums even numbers."}, "not_japanese", ""),
        (
            {"instruction": f"{INSTRUCTION}\nreturn sum(n for n in numbers if n % 2 == 0)"},
            "shows_solution",
            "return sum",
        ),
        (
            {"instruction": f"{INSTRUCTION}例: sum_even([1, 2, 3, 4]) は 6、sum_even([]) は 0。"},
            "shows_tests",
            "sum_even([1,2,3,4])",
        ),
        ({"solution": "def sum_even(numbers)\n    return 0\n"}, "syntax", "solution: "),
        ({"tests": "def test_a(:\n"}, "syntax", "tests: "),
        ({"solution": f"import os\n{SOLUTION}"}, "imports", "solution: os"),
        ({"solution": f"import numpy as np\n{SOLUTION}"}, "imports", "solution: numpy"),
        ({"solution": f"import urllib.request\n{SOLUTION}"}, "imports", "urllib.request"),
        ({"solution": f"from . import x\n{SOLUTION}"}, "imports", "solution: ."),
        ({"solution": f"__import__('os')\n{SOLUTION}"}, "imports", "__import__"),
        ({"tests": f"import os\n{TESTS}"}, "imports", "tests: os"),
        ({"solution": SOLUTION.replace("sum_even", "add")}, "names", "sum_even"),
        ({"tests": TESTS.replace("from solution import sum_even", "")}, "names", "from solution"),
        ({"tests": "from solution import sum_even\nassert sum_even([]) == 0\n"}, "no_tests", ""),
    ],
)
def test_what_reading_tells_is_not_run(parts: dict[str, str], check: str, detail: str) -> None:
    found = _checked(**parts)
    assert found.seconds == 0
    assert found.rejected is not None
    assert found.rejected.filter == check
    assert detail in found.rejected.detail


def test_modules_may_be_allowed() -> None:
    parts = {"solution": f"import os\n{SOLUTION}", "tests": f"{TESTS}x = (\n"}
    assert _rejected_by(CodeChecks(modules=("os",)), **parts)[0] == "syntax"


@needs_sandbox
def test_a_good_program_is_kept_with_its_score() -> None:
    found = _checked()
    assert found.rejected is None
    assert found.score == 1.0
    assert (found.mutants or 0) >= 4
    assert found.seconds > 0


@needs_sandbox
@pytest.mark.parametrize(
    ("parts", "check", "detail"),
    [
        ({"solution": SOLUTION.replace("== 0", "== 1")}, "fails", "test_mixed: "),
        ({"solution": "def sum_even(numbers):\n    while True:\n        pass\n"}, "time", "2 s"),
        ({"solution": "def sum_even(numbers):\n    return 'x' * 10**10\n"}, "memory", ""),
        ({"solution": f"raise SystemExit\n{SOLUTION}"}, "crash", ""),
        (
            {
                "solution": "def sum_even(numbers):\n    return 0\n",
                "tests": f"{IMPORT}def test():\n    assert not sum_even([])\n",
            },
            "passes_stub",
            "",
        ),
        (
            {"tests": f"{IMPORT}def test():\n    assert sum_even([2]) is not None\n"},
            "weak_tests",
            "2: ",
        ),
        (
            {"tests": f"import pytest\n{TESTS}{SKIPPED}"},
            "fails",
            "test_x",
        ),
    ],
)
def test_what_running_tells(parts: dict[str, str], check: str, detail: str) -> None:
    found, said = _rejected_by(**parts)
    assert found == check
    assert detail in said


@needs_sandbox
def test_the_second_time_counts() -> None:
    # The sandbox is the same for both runs: the second one finds what the first one left.
    solution = (
        "import io\ndef sum_even(numbers):\n    if len(numbers) > 3:\n"
        "        io.open('/box/seen', 'x').close()\n"
        "    return sum(n for n in numbers if n % 2 == 0)\n"
    )
    assert _rejected_by(solution=solution)[0] == "unstable"


@needs_sandbox
def test_a_program_that_patches_pytest_is_found_by_its_stub_or_its_mutants() -> None:
    checks = CodeChecks(seconds=2, modules=("_pytest",))
    assert _rejected_by(checks, solution=CHEAT)[0] == "passes_stub"
    assert _rejected_by(checks, solution=CHEAT_INSIDE)[0] in ("weak_tests", "fails")


def test_of_programs_alike_the_earlier_is_kept() -> None:
    renamed = "def total(values):\n    return sum(k for k in values if k % 2 == 0)\n"
    other = "文字列 text を逆の順に並べ替えた文字列を返す関数 reverse_text(text) を書いてください。"
    programs = [
        GOOD,
        Program(INSTRUCTION.replace("合計", "全部合計"), "def f(a):\n    return a\n", TESTS),
        Program(other, renamed, TESTS),
        Program(
            "別の話で、文を語に分けるもの。",
            "def reverse_text(text):\n    return text[::-1]\n",
            TESTS,
        ),
    ]
    found = reject_alike(programs, CodeChecks())
    assert [one.rejected and one.rejected.filter for one in found] == [
        None,
        "near_duplicate",
        "same_solution",
        None,
    ]
    assert found[1].rejected is not None
    assert found[1].rejected.detail == "good"
    assert count_rejections(found) == {"near_duplicate": 1, "same_solution": 1}


def test_examples_of_prompts_are_not_to_be_copied() -> None:
    (found,) = reject_alike([GOOD], CodeChecks(), [GOOD])
    assert found.rejected is not None
    assert found.rejected.filter == "near_duplicate"


def test_every_check_has_a_name_for_readers() -> None:
    known = {key for key in strings("en") if key.startswith("code.check.")}
    assert known == {f"code.check.{name}" for name in CHECKS}
