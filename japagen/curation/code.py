"""Judges programs with instructions and tests: by what they say, then by running them.

What can be told by reading is told first; only what passes is run, in the sandbox. The tests have
to pass twice on the solution, fail on a stub whose tested functions return None, and kill most
mutants: tests that would take anything are worth nothing, and neither is a solution that they hold
to nothing.

Mutants are copies with one small fault each (DeMillo, Lipton and Sayward 1978, "Hints on test data
selection"): tests that tell a program from its neighbours tell it from coarser faults too. Some
mutants do what the program does (they are equivalent); no tests kill these, and nobody can tell in
general, so that a score of 1 is not to be asked for.
"""

from __future__ import annotations

import ast
import io
import keyword
import random
import re
import tokenize
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from japagen.config.code import CodeChecks
from japagen.curation.near_duplicates import find_near_duplicates
from japagen.curation.sandbox import TestRun, run_tests
from japagen.data.code import Program
from japagen.japanese.normalization import japanese_share
from japagen.japanese.overlap import jaccard

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
# What a program does not depend on, or tests need not hold it to: the words of an error.
_LEFT_ALONE = (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Mutant:
    """A program with one fault.

    Attributes:
        source: The program.
        change: What was changed where: ``3: a < b → a <= b``.
    """

    source: str
    change: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node stands in a tree, so that another can take its place."""

    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST

    def put(self, node: ast.AST) -> None:
        """Puts a node there."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def make_mutants(source: str, number: int, seed: int) -> list[Mutant]:
    """Makes mutants of a program.

    Args:
        source: A module that can be parsed.
        number: Most mutants; of more, so many are drawn.
        seed: Of the draw.

    Returns:
        Mutants that differ in more than their layout, in the order of the program.
    """
    tree = ast.parse(source)
    before = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    for place in list(_places(tree)):  # before any is put elsewhere
        for changed in _changes(place.node):
            place.put(changed)
            mutated = ast.unparse(ast.fix_missing_locations(tree))
            place.put(place.node)
            line = getattr(place.node, "lineno", 0)
            told = f"{line}: {_shown(place.node)} → {_shown(changed)}"
            found.setdefault(mutated, Mutant(mutated, told))
    found.pop(before, None)
    mutants = list(found.values())
    if len(mutants) <= number:
        return mutants
    drawn = random.Random(seed).sample(range(len(mutants)), number)
    return [mutants[index] for index in sorted(drawn)]


def make_stub(source: str, names: Collection[str]) -> str:
    """The program in which functions of some names, and methods of such classes, return None.

    All else stays, and runs when the program is imported: one that makes tests pass in another way
    than by what these functions do, makes them pass here as well.
    """
    tree = ast.parse(source)
    for named in tree.body:
        if getattr(named, "name", None) in names:
            for node in ast.walk(named):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    node.body = [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(tree))


def _places(parent: ast.AST) -> Iterator[_Place]:
    """Every place below a node in which a fault changes what a program does."""
    for field, value in ast.iter_fields(parent):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        listed = isinstance(value, list)
        for index, node in enumerate(value if listed else [value]):
            if isinstance(node, ast.AST) and not _is_remark(node):
                yield _Place(parent, field, index if listed else None, node)
                yield from _places(node)


def _is_remark(node: ast.AST) -> bool:
    """Whether tests do not see a node: a docstring, a message, what runs in a script alone."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test).startswith("__name__")
    return _is_text(node) or isinstance(node, _LEFT_ALONE)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """The faults that one node can have."""
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            for index, operator in enumerate(ops):
                if swapped := _COMPARISONS.get(type(operator)):
                    changed = [*ops[:index], swapped(), *ops[index + 1 :]]
                    yield ast.Compare(left, changed, others)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            yield ast.BinOp(left, _OPERATORS[type(op)](), right)
        case ast.AugAssign(target=target, op=op, value=value) if type(op) in _OPERATORS:
            yield ast.AugAssign(target, _OPERATORS[type(op)](), value)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=value):
            yield from map(ast.Constant, _other_values(value))
        case ast.Return(value=value) if value is not None and ast.unparse(value) != "None":
            yield ast.Return(ast.Constant(None))
        case ast.If(test=test, body=body, orelse=orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.IfExp(test=test, body=then, orelse=otherwise):
            yield ast.IfExp(test, otherwise, then)
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()


def _other_values(value: Any) -> Iterator[Any]:
    match value:
        case bool():
            yield not value
        case int() | float():
            yield value + 1
        case str():
            yield "" if value else "x"


def _shown(node: ast.AST) -> str:
    """The first line of a node's code."""
    text = ast.unparse(node).strip().splitlines()[0]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# fmt: off
CHECKS = (
    "failed", "unreadable", "truncated", "not_japanese", "shows_solution", "shows_tests",
    "syntax", "imports", "names", "no_tests", "time", "memory", "disk", "crash", "fails",
    "unstable", "passes_stub", "weak_tests", "near_duplicate", "same_solution",
)
# fmt: on
"""Names of the checks, in their order."""
# Both runs of the solution pass, the stub's does not.
_EXPECTED = (True, True, False)
_SHOWN_LINE = 15
"""Shorter lines of a solution, such as ``return total``, an instruction may well have in common."""
_WINDOW = 6
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


def check_program(program: Program, checks: CodeChecks, seed: int) -> Program:
    """Judges one program by itself.

    Args:
        program: The program.
        checks: What it has to pass.
        seed: Draws mutants where there are more than are run.

    Returns:
        The program, rejected by the first check that it does not pass, with what was measured.

    Raises:
        JapagenError: If programs cannot be isolated here.
    """
    read = _read_instruction(program, checks)
    if read.rejected is None:
        read = _read_code(read, checks)
    return read if read.rejected else _run(read, checks, seed)


def reject_alike(
    programs: Sequence[Program], checks: CodeChecks, examples: Sequence[Program] = ()
) -> list[Program]:
    """Rejects programs that are too like an earlier kept one, or like an example of the prompts.

    Args:
        programs: Programs in the order in which they are preferred.
        checks: Says how alike is too alike.
        examples: What prompts show.
    """
    found = list(programs)
    kept = [index for index, one in enumerate(found) if one.rejected is None]
    compared = [*examples, *(found[index] for index in kept)]
    instructions = [one.instruction for one in compared]
    near = find_near_duplicates(instructions, checks.max_similarity, len(examples))
    for index, match in zip(kept, near[len(examples) :], strict=True):
        if match:
            detail = compared[match.index].id or compared[match.index].instruction
            found[index] = found[index].reject(
                "near_duplicate", match.similarity, checks.max_similarity, detail
            )
    threshold = checks.max_solution_similarity
    known = [(one, solution_shingles(one.solution)) for one in examples]
    for index in kept:
        one = found[index]
        if one.rejected:
            continue
        own = solution_shingles(one.solution)
        similar = [(jaccard(own, theirs), twin) for twin, theirs in known]
        similarity, twin = max(similar, key=lambda pair: pair[0], default=(0.0, one))
        if similarity >= threshold:
            detail = twin.id or twin.instruction
            found[index] = one.reject("same_solution", similarity, threshold, detail)
        else:
            known.append((one, own))
    return found


def solution_shingles(source: str) -> frozenset[str]:
    """Runs of six words and signs of a program in which all names and annotations are alike."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
    lines = io.StringIO(ast.unparse(tree)).readline
    words = [
        "v" if t.type == tokenize.NAME and not keyword.iskeyword(t.string) else t.string
        for t in tokenize.generate_tokens(lines)
    ]
    windows = (words[at : at + _WINDOW] for at in range(max(1, len(words) - _WINDOW + 1)))
    return frozenset("\x1f".join(window) for window in windows)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _read_instruction(program: Program, checks: CodeChecks) -> Program:
    """Checks that an instruction is Japanese and gives nothing away."""
    share = japanese_share(_CODE.sub("", program.instruction))
    if share < checks.min_japanese_share:
        return program.reject("not_japanese", share, checks.min_japanese_share)
    said = _squeezed(program.instruction)
    for line in program.solution.splitlines():
        if not line.strip().startswith(("def ", "class ", "import ", "from ", "#", '"""', "@")):
            squeezed = _squeezed(line)
            if len(squeezed) >= _SHOWN_LINE and squeezed in said:
                return program.reject("shows_solution", 1, 0, line.strip())
    return program


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _read_code(program: Program, checks: CodeChecks) -> Program:
    """Checks what solution and tests are made of."""
    trees = []
    for name in ("solution", "tests"):
        try:
            trees.append(ast.parse(getattr(program, name)))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return program.reject("syntax", 1, 0, f"{name}: {error}")
    solution, tests = trees
    allowed = set(checks.modules)
    for name, tree, more in (("solution", solution, ()), ("tests", tests, ("pytest", "solution"))):
        for module in _imported(tree):
            parts = module.split(".")
            heads = {".".join(parts[: n + 1]) for n in range(len(parts))}
            if not heads & {*allowed, *more}:
                return program.reject("imports", 1, 0, f"{name}: {module}")
    wanted = set(_wanted(tests))
    defined = {n.name for n in solution.body if hasattr(n, "name")}
    defined |= {
        t.id
        for n in solution.body
        for t in ast.walk(n)
        if isinstance(t, ast.Name) and isinstance(t.ctx, ast.Store)
    }
    if not wanted or not wanted <= defined:
        missing = ", ".join(sorted(wanted - defined)) or "from solution import …"
        return program.reject("names", len(wanted - defined), 0, missing)
    if not _test_names(tests):
        return program.reject("no_tests", 0, 1)
    calls = _tested_calls(tests, wanted)
    said = _squeezed(program.instruction)
    shown = [call for call in calls if call in said]
    if calls and len(shown) / len(calls) > checks.max_shown:
        share = len(shown) / len(calls)
        return program.reject("shows_tests", share, checks.max_shown, ", ".join(shown))
    return program


def _imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a program imports, by whatever statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.Name) and node.id == "__import__":
            yield "__import__"


def _wanted(tests: ast.AST) -> Iterator[str]:
    """The names that tests take from the solution."""
    for node in ast.walk(tests):
        if isinstance(node, ast.ImportFrom) and node.module == "solution":
            yield from (alias.name for alias in node.names if alias.name != "*")
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "solution"
        ):
            yield node.attr


def _test_names(tests: ast.Module) -> list[str]:
    """The tests that a module defines, as pytest will call them."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in tests.body:
        if isinstance(node, functions) and node.name.startswith("test"):
            found.append(node.name)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            inner = [n.name for n in node.body if isinstance(n, functions)]
            found += [f"{node.name}::{name}" for name in inner if name.startswith("test")]
    return found


def _tested_calls(tests: ast.AST, names: set[str]) -> list[str]:
    """The calls of the solution with values that tests make, without white space."""
    found: dict[str, None] = {}
    for node in ast.walk(tests):
        if isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("solution.") in names:
            values = [*node.args, *(k.value for k in node.keywords)]
            if values and all(not isinstance(n, ast.Name) for v in values for n in ast.walk(v)):
                found[_squeezed(ast.unparse(node))] = None
    return list(found)


def _run(program: Program, checks: CodeChecks, seed: int) -> Program:
    """Runs the tests on the solution twice, on the stub, and on mutants."""
    mutants = make_mutants(program.solution, checks.mutants, seed)
    tree = ast.parse(program.tests)
    stub = make_stub(program.solution, {*_wanted(tree)})
    solutions = [program.solution, program.solution, stub]
    sources = [*solutions, *(mutant.source for mutant in mutants)]
    runs = run_tests(sources, program.tests, checks, _EXPECTED)
    program = replace(program, seconds=round(sum(run.seconds for run in runs), 3))
    tests = _test_names(tree)
    passed = [run.all_passed(tests) for run in runs]
    if not passed[0]:
        return _failed(program, runs[0], tests)
    if len(runs) < len(_EXPECTED) or not passed[1]:
        return program.reject("unstable", 1, 0, runs[-1].why)
    if passed[2]:
        return program.reject("passes_stub", 1, 0)
    if len(runs) < len(sources):
        return program.reject("crash", 1, 0, runs[-1].why)
    survived = [m.change for m, done in zip(mutants, passed[3:], strict=True) if done]
    killed = len(mutants) - len(survived)
    program = replace(program, mutants=len(mutants), killed=killed, survivors=tuple(survived))
    score = killed / len(mutants) if mutants else 0.0
    if score < checks.mutation_score:
        detail = "; ".join(survived[:3]) if mutants else "nothing to change"
        return program.reject("weak_tests", score, checks.mutation_score, detail)
    return program


def _failed(program: Program, run: TestRun, tests: Sequence[str]) -> Program:
    """Rejects a program for what came of the first run of its tests."""
    if run.problem:
        return program.reject(run.problem, 1, 0, run.detail)
    for name, sign in (("memory", "MemoryError"), ("disk", "OSError: [Errno 28]")):
        if run.why.startswith(sign):
            return program.reject(name, 1, 0, run.why)
    if run.failed:
        return program.reject("fails", len(run.failed), 0, ": ".join(run.failed[0]))
    functions = {name.partition("[")[0] for name in run.passed}
    lacking = ", ".join(name for name in tests if name not in functions)
    return program.reject("fails", 1, 0, f"not run: {lacking}")


def count_rejections(programs: Sequence[Program]) -> dict[str, int]:
    """Check to programs rejected by it, in the order of the checks."""
    counts = Counter(one.rejected.filter for one in programs if one.rejected)
    return {name: counts[name] for name in CHECKS if counts[name]}
