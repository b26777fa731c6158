"""Loads and renders the Japanese prompt templates."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

from japagen.data.files import parse_yaml, resource_dir
from japagen.data.seed_table import SeedTable
from japagen.errors import JapagenError, nearest
from japagen.japanese.registers import OTHER, PRESETS
from japagen.llm.backend import Message, Prompt, PromptKind

# Blocks of a chat template and who speaks in them; the last two only where they are written.
_TURNS: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "then": "user",
}
_NEEDED = ("system", "user")
# Shorter values of attributes are words that any text may use.
_SENTENCE = 12
SHOWN = 2
"""Style examples in a prompt."""


_MOST_STEPS = 10_000  # of all loops over `range` in one prompt
_MOST_PRODUCT = 10_000


class _BoundedEnvironment(SandboxedEnvironment):
    """A sandbox in which no template runs for long or fills the memory."""

    intercepted_binops = frozenset("*") | {"**"}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Computes a product or a power of small numbers alone."""
        if any(not isinstance(v, int | float) or abs(v) > _MOST_PRODUCT for v in (left, right)) or (
            operator == "**" and abs(right) > 9
        ):
            raise SecurityError(f"{operator} is for small numbers")
        return super().call_binop(context, operator, left, right)


def _counted_range() -> Callable[..., Iterator[int]]:
    """A `range` whose loops together take no more steps than a prompt needs."""
    left = iter(range(_MOST_STEPS))

    def steps(*bounds: int) -> Iterator[int]:
        for number in range(*bounds):
            if next(left, None) is None:
                raise SecurityError(f"more than {_MOST_STEPS:,} steps of range")
            yield number

    return steps


class PromptLibrary:
    """A directory of templates and register descriptions.

    Templates are named ``STRATEGY.KIND.j2``, KIND being ``document`` (a text that a base model
    continues) or ``chat`` (with the blocks ``system`` and ``user``, and where the model has
    written something before, ``assistant`` and ``then``).

    Args:
        directory: Where the templates are; a template that is not there is taken from the
            built-in ones. Only those when None.

    Raises:
        JapagenError: If the directory or its ``registers.yaml`` is missing or incomplete.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = resource_dir("prompts_ja", directory)
        self._path = (self.directory, resource_dir("prompts_ja"))
        self._environment = _BoundedEnvironment(
            loader=FileSystemLoader(self._path),
            undefined=StrictUndefined,
            trim_blocks=False,
            autoescape=False,
        )
        self.registers = _load_registers(self.directory)
        # A plan asks for them with every request.
        self._hashes: dict[str, str] = {}

    @cached_property
    def attributes(self) -> dict[str, dict[str, Any]]:
        """What varies by default, for each kind of text: ``words`` and ``attributes``.

        Raises:
            JapagenError: If ``attributes.yaml`` does not give them.
        """
        path = next(p for d in self._path if (p := d / "attributes.yaml").is_file())
        kinds = parse_yaml(_read_text(path), str(path))
        wrong = [
            name
            for name, kind in (kinds.items() if isinstance(kinds, dict) else ())
            if not isinstance(kind, dict) or not {"words", "attributes"} <= set(kind)
        ]
        if wrong or not isinstance(kinds, dict) or "other" not in kinds:
            raise JapagenError(
                f"Expected words and attributes for every kind of text in {path}, and a kind "
                f"'other'; found {', '.join(wrong) or 'no such kind'}.",
                "Copy what is missing from the built-in attributes.yaml.",
            )
        return kinds

    @property
    def phrases(self) -> list[str]:
        """Sentences that prompts show besides gold."""
        styles = [
            phrase
            for register in self.registers.values()
            for voice in [register, *register.get("voices", ())]
            for phrase in [voice["description"], *voice["examples"]]
        ]
        settings = [
            value
            for kind in self.attributes.values()
            for values in kind["attributes"].values()
            for value in values
            if len(value) >= _SENTENCE
        ]
        return [*styles, *dict.fromkeys(settings)]

    def style(self, register: str, draw: str, number: int, *, voices: bool) -> dict[str, Any]:
        """A register as one prompt describes it: the examples to show stand first.

        Over the prompts of one draw all examples are shown about as often, and one of a
        register's voices takes its place in every second prompt.

        Args:
            register: Name of the register.
            draw: What the order is drawn from.
            number: Which prompt of the draw, from 0.
            voices: Whether a voice may take the register's place.
        """
        found = dict(self.registers[register])
        others = found.pop("voices", ()) if voices else ()
        # Of every run of prompts as long as this, half are in a voice, each voice once.
        turns: list[dict[str, Any]] = [*({} for _ in others), *others]
        if turns:
            lap, at = divmod(number, len(turns))
            random.Random(f"{draw}/voices/{lap}").shuffle(turns)
            found |= turns[at]
        found["examples"] = _rotated(found["examples"], draw, number)
        return found

    def _source(self, template: str) -> str:
        for directory in self._path:
            path = directory / f"{template}.j2"
            if path.is_file():
                return _read_text(path)
        found = {p.name.removesuffix(".j2") for d in self._path for p in d.glob("*.j2")}
        raise JapagenError(
            f"There is no prompt template '{template}' in {self.directory}"
            f"{nearest(template, sorted(found))}.",
            f"Found: {', '.join(sorted(found))}.",
        )

    def template_hash(self, template: str) -> str:
        """First 12 hex digits of the SHA-256 of the template and the register descriptions.

        What the template includes counts as part of it.
        """
        if template not in self._hashes:
            parts = self._with_included(template)
            content = "".join([*parts, json.dumps(self.registers, sort_keys=True, default=str)])
            self._hashes[template] = hashlib.sha256(content.encode()).hexdigest()[:12]
        return self._hashes[template]

    def _with_included(self, template: str, above: tuple[str, ...] = ()) -> list[str]:
        """The source of a template and of all that it includes, each as often as it is."""
        if template in above:
            raise JapagenError(f"The template {template}.j2 includes itself.", "Correct it.")
        source = self._source(template)
        included = meta.find_referenced_templates(self._environment.parse(source))
        below = (self._with_included(n[: -len(".j2")], (*above, template)) for n in included if n)
        return [source, *(part for parts in below for part in parts)]

    def mentions(self, template: str, variable: str) -> bool:
        """Whether a template, or what it includes, uses a variable."""
        return any(variable in _names_in(source) for source in self._with_included(template))

    def check_seed(self, template: str, table: SeedTable | None) -> None:
        """Refuses a template that names other columns than the seed table has, or none of them.

        Raises:
            JapagenError: If it does.
        """
        uses, names = False, list[str]()
        for source in self._with_included(template):
            tree = self._environment.parse(source)
            called = {id(call.node) for call in tree.find_all(nodes.Call)}
            uses |= any(map(_is_seed, tree.find_all((nodes.Name, nodes.Getattr))))
            names += [
                got.attr
                for got in tree.find_all(nodes.Getattr)
                if _is_seed(got.node) and id(got) not in called
            ]
            names += [
                item.arg.value
                for item in tree.find_all(nodes.Getitem)
                if _is_seed(item.node)
                and isinstance(item.arg, nodes.Const)
                and isinstance(item.arg.value, str)
            ]
        if table is None and names:
            raise JapagenError(
                f"Expected generation.seed, whose columns {template}.j2 names "
                f"({', '.join(dict.fromkeys(names))}), found none.",
                "Give the table: generation: {seed: {path: personas.csv}}",
            )
        if table is None:
            return
        if not uses:
            raise JapagenError(
                f"Expected the template {template}.j2 to tell of the row of generation.seed, found "
                "that it does not.",
                "Use a chat model, which the built-in templates tell of all columns, or write "
                "{{ seed.COLUMN }} in a template of your own (generation.prompts).",
            )
        for name in names:
            if name not in table.columns:
                raise JapagenError(
                    f"Expected {template}.j2 to name columns of {table.path} "
                    f"({', '.join(table.columns)}), found '{name}'{nearest(name, table.columns)}.",
                    "Correct the template, or name the column in generation.seed.columns.",
                )

    def render(self, strategy: str, kind: PromptKind, variables: Mapping[str, Any]) -> Prompt:
        """Renders one prompt.

        Args:
            strategy: Name of the template without its kind, for example ``few_shot``.
            kind: Document or chat.
            variables: What the template may name.

        Returns:
            The document (without a trailing newline) or the chat turns.

        Raises:
            JapagenError: If the template is missing or broken, or names variables that are
                not there; all of them are listed.
        """
        name = f"{strategy}.{kind}"
        source = self._source(name)
        try:
            missing = sorted(_names_in(source) - set(variables))
            if missing:
                raise JapagenError(
                    f"The template {name}.j2 names variables that are not there: "
                    f"{', '.join(missing)}.",
                    f"Known variables: {', '.join(sorted(variables))}.",
                )
            template = self._environment.get_template(f"{name}.j2")
            if kind == "document":
                return template.render({**variables, "range": _counted_range()}).rstrip()
            turns = []
            for block, role in _TURNS.items():
                if block not in template.blocks:
                    if block not in _NEEDED:
                        continue
                    raise JapagenError(
                        f"The chat template {name}.j2 has no block '{block}'.",
                        f"Write {{% block {block} %}}…{{% endblock %}}.",
                    )
                context = template.new_context({**variables, "range": _counted_range()})
                content = "".join(template.blocks[block](context)).strip()
                turns.append(Message(role, content))
            return tuple(turns)
        except (
            TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            RecursionError,
            MemoryError,
        ) as error:
            told = "it includes itself" if isinstance(error, RecursionError) else error
            raise JapagenError(
                f"The template {name}.j2 cannot be rendered: {told}.", "Correct the template."
            ) from None


@cache
def _names_in(source: str) -> set[str]:
    """The variables that a template names: found once, since it takes longer than rendering."""
    return meta.find_undeclared_variables(_BoundedEnvironment().parse(source))


def _is_seed(node: nodes.Node) -> bool:
    """Whether a template means the seed table's row here: ``seed``, or that of one of a list."""
    if isinstance(node, nodes.Name):
        return node.name == "seed" and node.ctx == "load"
    return isinstance(node, nodes.Getattr) and node.attr == "seed"


def _rotated(examples: Sequence[str], draw: str, number: int) -> list[str]:
    """The examples in an order drawn for every few prompts; each prompt begins at another place."""
    lap, at = divmod(number, max(1, len(examples) // SHOWN))
    order = random.Random(f"{draw}/examples/{lap}").sample(list(examples), len(examples))
    return [*order[at * SHOWN :], *order[: at * SHOWN]]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise JapagenError(
            f"Expected {path} to be UTF-8 text, found bytes that are not.", "Save it as UTF-8."
        ) from None


def _load_registers(directory: Path) -> dict[str, dict[str, Any]]:
    path = directory / "registers.yaml"
    if not path.is_file():
        raise JapagenError(
            f"Expected register descriptions at {path}, found none.",
            "Copy registers.yaml from the built-in templates.",
        )
    registers = parse_yaml(_read_text(path), str(path))
    known: dict[str, dict[str, Any]] = registers if isinstance(registers, dict) else {}
    incomplete = [
        name
        for name in (*PRESETS, OTHER)
        if not isinstance(known.get(name), dict)
        or not {"name", "description", "examples"} <= set(known[name])
    ]
    if incomplete:
        raise JapagenError(
            f"{path} should give name, description and examples for every register; "
            f"incomplete: {', '.join(incomplete)}.",
            "Copy what is missing from the built-in registers.yaml.",
        )
    return known


@cache
def builtin_prompts() -> PromptLibrary:
    """The templates that come with japagen."""
    return PromptLibrary()
