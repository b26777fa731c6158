"""Finds the prompt templates and configurations, installed or in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from japagen.errors import JapagenError


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
    package = Path(__file__).parent
    for candidate in (package / "_resources" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise JapagenError(
        f"The directory {name} is missing from this installation of japagen.",
        "Reinstall japagen.",
    )
