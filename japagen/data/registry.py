"""Everything that is chosen by name: filters, alignment methods, backends, metrics, export formats.

An entry is the one place that says what its thing is called and where it is: a line of
``registry.yaml``, or an entry point of another package. From the entries follow what a task file
may name, help and completion of the command line, the reference of the task file, names in the
report, the settings that explain a difference between two runs, and what ``japagen doctor`` looks
for. docs/extending.md adds one of each kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires
from inspect import signature
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from japagen.data.files import parse_yaml
from japagen.errors import JapagenError, nearest
from japagen.i18n import Language, translated


@dataclass(frozen=True)
class Entry:
    """A thing with a name; called, it does what its implementation does.

    Attributes:
        name: In task files, on the command line and in data.
        ja: What it is, in a few words of Japanese. The catalogue has japagen's own.
        en: The same in English.
        home: The implementation, or where it is: ``module:attribute``, imported when it is first
            needed. Empty where a name is all there is.
        keys: The settings that it reads, dotted; a section stands for all its keys.
        extra: The extra of japagen that it needs.
        version: Of a plug-in: results of another version are not reused.
        kinds: Of a metric: the kinds of label that it is shown for.
        model: Of a backend: what ``generator.model`` must be; empty where the default will do.
        suffix: Of an export format: how its file ends; empty for a directory.
        traits: ``balanced``: a metric under which rare classes count as much as others.
            ``one_label``: a format for one label per text.
    """

    name: str
    ja: str
    en: str
    home: str | Callable[..., Any] = ""
    keys: tuple[str, ...] = ()
    extra: str = ""
    version: str = ""
    kinds: tuple[str, ...] = ()
    model: str = ""
    suffix: str = ""
    traits: tuple[str, ...] = ()

    def title(self, language: Language) -> str:
        """What it is, in a language."""
        return self.ja if language == "ja" else self.en

    def load(self) -> Callable[..., Any]:
        """The implementation."""
        if not isinstance(self.home, str):
            return self.home
        module, _, attribute = self.home.partition(":")
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Does what the implementation does."""
        return self.load()(*arguments, **named)

    def bind(self, available: Mapping[str, Any]) -> Callable[..., Any]:
        """The implementation, given those of the available values that its parameters name."""
        function = self.load()
        names = signature(function).parameters.keys() & available.keys()
        return partial(function, **{name: available[name] for name in names})

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Tells what goes wrong in here as the mistake of this plug-in.

        Raises:
            JapagenError: In place of any exception, if the entry has a version.
        """
        try:
            yield
        except Exception as error:
            if not self.version or isinstance(error, JapagenError):
                raise
            raise JapagenError(
                f"The plug-in '{self.name}' failed: {type(error).__name__}: {error}",
                f"Mend it ({self.version}), or take it out of the task.",
            ) from error


class Registry(Mapping[str, Entry]):
    """Entries by name. As in ``Annotated[str, METHODS]``, it checks the names in a task file.

    Args:
        section: Where japagen's own entries are in ``registry.yaml``.
        kind: What an entry is, for messages.
        group: Group of entry points by which other packages add entries; empty for none.
    """

    def __init__(self, section: str, kind: str, group: str = "") -> None:
        self.kind = kind
        self._section = section
        self._group = group
        self._added: dict[str, Entry] = {}

    @cached_property
    def own(self) -> Mapping[str, Entry]:
        """Japagen's own entries."""
        return {name: _entry(name, row) for name, row in _rows()[self._section].items()}

    @cached_property
    def _points(self) -> Mapping[str, EntryPoint]:
        points = entry_points(group=self._group) if self._group else ()
        return {point.name: point for point in points}

    def register(self, entry: Entry) -> None:
        """Adds an entry in this process; packages add theirs by entry points.

        Raises:
            ValueError: If japagen has an entry of this name.
        """
        if entry.name in self.own:
            raise ValueError(f"expected a new name, found {self.kind} '{entry.name}'")
        self._added[entry.name] = entry

    def __getitem__(self, name: str) -> Entry:
        known = self.own.get(name) or self._added.get(name)
        if known is None:
            known = self._added[name] = _plug_in(self._points[name])
        return known

    def _names(self) -> list[str]:
        return [*dict.fromkeys((*self.own, *self._added, *self._points))]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    # A registry equals itself alone, and so has a hash, which type hints ask for.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def find(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            JapagenError: If there is none; says which there are.
        """
        if name not in self:
            raise JapagenError(
                f"Unknown {self.kind} '{name}'{nearest(name, self)}.",
                f"Use one of: {', '.join(self)}.",
            )
        return self[name]

    def title(self, name: str, language: Language) -> str | None:
        """What an entry is called in a language; None where that cannot be known here."""
        try:
            return self[name].title(language)
        except (KeyError, JapagenError):
            return None

    def completions(self) -> list[tuple[str, str]]:
        """Names with what they mean, for the shell."""
        return [(name, entry.en) for name, entry in self.own.items()]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        found: dict[str, Any] = handler(schema)
        self.describe(found)
        return found

    def describe(self, schema: dict[str, Any]) -> None:
        """Adds japagen's own names and what they mean to a JSON schema."""
        meanings = [
            f"`{name}`: {entry.en}" + (f" ({', '.join(entry.kinds)})" if entry.kinds else "")
            for name, entry in self.own.items()
        ]
        schema |= {"enum": [*self.own], "description": "; ".join(meanings)}

    def _check(self, name: str) -> str:
        if name not in self:
            raise ValueError(f"expected one of {', '.join(self)}{nearest(name, self)}")
        return name


@cache
def _rows() -> dict[str, dict[str, dict[str, Any]]]:
    path = Path(__file__).with_name("registry.yaml")
    return dict(parse_yaml(path.read_text(encoding="utf-8"), path.name))


def _entry(name: str, row: Mapping[str, Any]) -> Entry:
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    if "home" in given:
        given["home"] = f"japagen.{given['home']}"
    return Entry(name, translated("registry", row["en"], "ja"), **given)


def _plug_in(point: EntryPoint) -> Entry:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else point.module
    with Entry(point.name, "", "", version=package).blamed():
        found = point.load()
        if not isinstance(found, Entry):
            raise TypeError(f"expected an Entry, found {type(found).__name__}")
    return replace(found, name=point.name, version=f"{package} {found.version}".strip())


def packages_of(extra: str) -> list[str]:
    """The packages that an extra of japagen brings."""
    try:
        lines = requires("japagen") or []
    except PackageNotFoundError:
        return []
    found = [re.match(rf"([\w.-]+).*extra == .{re.escape(extra)}.$", line) for line in lines]
    return [match[1] for match in found if match]


def metrics_of(kind: str) -> tuple[str, ...]:
    """The metrics that are shown for a kind of label; the first leads unless the task says else."""
    return tuple(name for name, metric in METRICS.items() if kind in metric.kinds)


FILTERS = Registry("filters", "filter", "japagen.filters")
METHODS = Registry("methods", "alignment method")
BACKENDS = Registry("backends", "backend", "japagen.backends")
METRICS = Registry("metrics", "metric")
EXPORTS = Registry("exports", "export format")
QA_EXPORTS = Registry("qa_exports", "export format of questions")
CODE_EXPORTS = Registry("code_exports", "export format of programs")
