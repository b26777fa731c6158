"""Loading with transformers: quietly, and with plain words for what is wrong."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

from japagen.errors import JapagenError, MissingExtraError


def need_packages(purpose: str, *packages: str, extra: str = "train") -> None:
    """Refuses early what needs packages that are not installed.

    Args:
        purpose: What they are needed for, as a noun phrase.
        *packages: torch, transformers, or both.
        extra: The extra that brings them.

    Raises:
        MissingExtraError: Naming the first that is missing.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra, purpose)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps load reports and progress bars off standard error."""
    import transformers

    logging: Any = transformers.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with _quiet_conversion():
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _quiet_conversion() -> Iterator[None]:
    """Hides the bar of a GGUF file's conversion, which is shown whatever transformers is told."""
    module: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    bar = getattr(module, "tqdm", None)
    if bar is None:
        yield
        return
    module.tqdm = functools.partial(bar, disable=True)
    try:
        yield
    finally:
        module.tqdm = bar


@contextlib.contextmanager
def loading_errors(
    name: str, *, kind: str, hint: str, code_hint: str | None = None
) -> Iterator[None]:
    """Turns what transformers raises for a checkpoint that it cannot load into our error.

    Args:
        name: What is loaded, as the user named it.
        kind: What it is expected to be, for example "a causal language model".
        hint: What to do about a checkpoint that cannot be read.
        code_hint: What to do about one that comes with Python code of its own, if anything else.

    Raises:
        JapagenError: For a missing package, and for a checkpoint that cannot be read.
    """
    from safetensors import SafetensorError

    try:
        yield
    except ImportError as error:
        # transformers raises its own sentence in place of the import that failed.
        cause = error if error.name else error.__context__
        package = getattr(cause, "name", None)
        raise JapagenError(
            f"Loading '{name}' needs "
            + (f"the package '{package}', which is not installed." if package else str(error)),
            f"Install it with: pip install {package.replace('_', '-')}" if package else "",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise JapagenError(
            f"Expected {kind} that transformers can load in {name}, found a problem: "
            f"{str(error).strip() or repr(error)}",
            code_hint if code_hint and "trust_remote_code" in str(error) else hint,
        ) from error


def refuse_missing_weights(model: Any, name: str, missing: Sequence[str]) -> None:
    """Raises an error if a checkpoint lacks weights, which would be random otherwise.

    Raises:
        JapagenError: If there are any.
    """
    if missing:
        raise JapagenError(
            f"Expected the weights of a {type(model).__name__} in {name}, found none for "
            f"{', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}.",
            "The checkpoint is damaged, or its config.json belongs to another model.",
        )
