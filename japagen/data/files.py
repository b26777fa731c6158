"""Files written whole or not at all, YAML and JSON, the cache directory, packaged resources.

What is wrong with YAML 1.2 that a user wrote is said in one sentence.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver

from japagen.errors import DamagedError, JapagenError

TEMPORARY = ".japagen-part"
"""How the names of files end that are not whole yet; nobody else's do."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path that replaces ``path`` when the block ends without an error."""
    if path.is_dir():
        raise JapagenError(
            f"Expected a file to write, found the directory {path}.", "Give the path of a file."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(TEMPORARY, f".{path.name}.", path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        # A failed write names no file, and the temporary one is none of the user's.
        if error.filename in (None, name):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields a temporary directory that replaces ``path`` when the block ends without an error."""
    if path.is_file():
        raise JapagenError(
            f"Expected a directory to write, found the file {path}.", "Give another path."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(TEMPORARY, f".{path.name}.", path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for inner in temporary.rglob("*"):  # some writers keep what they write to the user
            inner.chmod((0o777 if inner.is_dir() else 0o666) & ~_umask())
        if path.is_symlink():
            path.unlink()  # what it leads to is somebody's
        elif path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except Exception as error:
        # The writers of weights and tokenizers, in Rust, say it in words alone.
        if isinstance(error, OSError) or "No space left" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """The rights that the user takes from new files; temporary ones are the user's alone."""
    with _ASKING:  # another thread between the two would keep what is set for a moment
        umask = os.umask(0o077)
        os.umask(umask)
    return umask


_ASKING = threading.Lock()


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuses a path that is taken.

    Raises:
        JapagenError: If something is there already and not to be replaced.
    """
    if path.exists() and not overwrite:
        raise JapagenError(
            f"{path} is there already.",
            "Choose another path, or say overwrite (--overwrite) to replace it.",
        )


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote.

    Raises:
        DamagedError: If the file is not whole.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(path) from error


def encodable(text: str) -> str:
    """Replaces halves of surrogate pairs, which JSON can carry and no file or database can."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


_HALVES = re.compile("[\ud800-\udfff]")
# How JSON writes one in ASCII.
_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def parse_json(
    text: str, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
) -> Any:
    """Decodes JSON from elsewhere, whose strings then can be written anywhere.

    Args:
        text: The JSON.
        pairs: Makes an object of its keys and values; see ``object_pairs_hook`` of `json.loads`.

    Raises:
        ValueError: If it is not JSON, or nested too deeply, or holds too long a number.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs)
        return _encodable(value) if _HALF.search(text) else value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [_encodable(inner) for inner in value]
    if isinstance(value, dict):
        return {encodable(name): _encodable(inner) for name, inner in value.items()}
    return value


def write_array(path: Path, array: npt.NDArray[np.float64]) -> None:
    """Writes an array as .npy, atomically."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path) -> npt.NDArray[np.float64]:
    """Reads what `write_array` wrote.

    Raises:
        DamagedError: If the file is not whole.
    """
    try:
        array: npt.NDArray[np.float64] = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise DamagedError(path) from error
    return array


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a JSON-ready value."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def cache_dir(*parts: str) -> Path:
    """Returns the cache directory, or a directory below it, and creates it.

    ``JAPAGEN_CACHE`` names the directory itself; without it, it is ``japagen`` below
    ``XDG_CACHE_HOME`` (if absolute, as the XDG base directory specification asks) or below
    ``~/.cache``.

    Raises:
        JapagenError: If the directory cannot be created.
    """
    path = _root().joinpath(*parts)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JapagenError(
            f"Expected a cache directory that can be written, found {path} ({error.strerror}).",
            "Set JAPAGEN_CACHE to a directory of your own.",
        ) from error
    return path


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Returns the directory ``target``, which ``build`` fills if it is not there yet.

    ``build`` is given an empty directory next to ``target``, which is renamed when it is full:
    ``target`` is either absent or complete. Of several processes that start at once each
    builds its own copy, and the first to finish keeps it.

    Raises:
        JapagenError: If the disk does not take it.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
            scratch = Path(folder, target.name)
            scratch.mkdir()
            build(scratch)
            # A cache may be shared with the group.
            scratch.chmod(0o755)
            scratch.rename(target)
    except OSError as error:
        if not target.is_dir():
            raise JapagenError(
                f"Writing {target} failed: {error.strerror or error}.",
                "Free some space there, or set JAPAGEN_CACHE to another directory.",
            ) from error
    return target


def _root() -> Path:
    named = os.environ.get("JAPAGEN_CACHE")
    if named:
        return Path(named).expanduser()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "japagen"


def resource_dir(
    name: Literal["prompts_ja", "configs"], explicit: str | Path | None = None
) -> Path:
    """Returns the directory ``name``: the explicit path, the packaged copy, or the checkout's.

    Raises:
        JapagenError: If an explicit path is not a directory, or the installation is broken.
    """
    if explicit is not None:
        path = Path(explicit)
        if not path.is_dir():
            raise JapagenError(
                f"Expected a directory of {name}, found nothing at {path}.",
                "Check the path, or leave it out to use the built-in ones.",
            )
        return path
    package = Path(__file__).parents[1]
    for candidate in (package / "_resources" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise JapagenError(
        f"The directory {name} is missing from this installation of japagen.",
        "Reinstall japagen.",
    )


_MOST_NODES = 1_000_000
"""Values that a text may come to with its aliases written out."""


def parse_yaml(text: str, where: str, hint: str = "Correct the file there.") -> Any:
    """Reads YAML that a user wrote.

    Args:
        text: The YAML.
        where: How to name its place in an error.
        hint: What to do about an error.

    Raises:
        JapagenError: If it is not YAML, repeats a key, or means a value that there is not, such
            as 30 February.
    """
    try:
        if "&" in text and _size(_yaml().compose(text), {}) > _MOST_NODES:
            raise ValueError(f"aliases that come to more than {_MOST_NODES:,} values")
        return _yaml().load(text)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # Not only its own errors: what the constructors of numbers, dates and tags raise comes
        # through as it is.
        if "'\\t'" in str(error):
            hint = "Indent with spaces: YAML takes no tabs."
        raise JapagenError(f"Expected YAML in {where}, found {_what(error)}.", hint) from None


def to_yaml(value: Any, flow: bool = False) -> str:
    """Writes plain data as YAML that readers of YAML 1.1 and 1.2 understand alike.

    Args:
        value: Mappings, lists, texts, numbers, booleans and None.
        flow: Whether innermost lists stand on one line.
    """
    yaml = _yaml()
    # The writer of 1.1 quotes yes, no and 12:30, which are no texts there, and _Texts the rest.
    yaml.version = (1, 1)
    yaml.Representer = _Texts
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.default_flow_style = None if flow else False
    yaml.width = 10_000 if flow else 80
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue().removeprefix("%YAML 1.1\n---\n")


class _Texts(SafeRepresenter):
    """Quotes the texts that YAML 1.2 takes for numbers, such as 08."""

    def represent_str(self, data: str) -> ScalarNode:
        tag = _RESOLVER.resolve(ScalarNode, data, (True, False))
        style = None if str(tag) == _TEXT else "'"
        node: ScalarNode = self.represent_scalar(_TEXT, data, style=style)
        return node


_TEXT = "tag:yaml.org,2002:str"
_RESOLVER = VersionedResolver()
_Texts.add_representer(str, _Texts.represent_str)


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _size(node: Node | None, known: dict[int, float]) -> float:
    """Counts the values below a node, its aliases written out; infinite where it holds itself."""
    if node is None or isinstance(node, ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        children = [
            child
            for entry in node.value
            for child in (entry if isinstance(entry, tuple) else (entry,))
        ]
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def _what(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too many values within values"
    if isinstance(error, (AttributeError, LookupError, TypeError)):
        return f"a value that its tag does not allow ({str(error) or type(error).__name__})"
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    repeated = re.match(r'found duplicate key "(.*?)" with value', problem, re.DOTALL)
    told = f"the key '{repeated[1]}' stands there twice" if repeated else problem
    return place + " ".join(told.split())


def front_matter(card: Path) -> dict[str, str]:
    """The texts of a card's front matter; nothing where there is none that can be read."""
    try:
        _, front, _ = card.read_text(encoding="utf-8").split("---\n", 2)
        found = parse_yaml(front, str(card))
    except (OSError, ValueError, JapagenError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}
