"""Mutants of a program: copies with one small fault each, which good tests notice.

DeMillo, Lipton and Sayward (1978), "Hints on test data selection": tests that tell a program from
its neighbours tell it from coarser faults too. The share of mutants that fail the tests (are
killed) says how much the tests hold a program to. Some mutants do what the program does (they are
equivalent); no tests kill these, and nobody can tell in general, so that a score of 1 is not to be
asked for.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

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
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or isinstance(node, _LEFT_ALONE)


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
