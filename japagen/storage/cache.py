"""Where japagen keeps what is made once and used by every run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from japagen.errors import JapagenError


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
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        build(scratch)
        # mkdtemp makes it private; a cache may be shared with the group.
        scratch.chmod(0o755)
        scratch.rename(target)
    except OSError as error:
        if not target.is_dir():
            raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _root() -> Path:
    named = os.environ.get("JAPAGEN_CACHE")
    if named:
        return Path(named).expanduser()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "japagen"


def _cannot_write(target: Path, error: OSError) -> JapagenError:
    return JapagenError(
        f"Writing {target} failed: {error.strerror or error}.",
        "Free some space there, or set JAPAGEN_CACHE to another directory.",
    )
