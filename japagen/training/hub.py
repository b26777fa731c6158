"""Encoders on the Hugging Face Hub: which commit, and a local copy of its files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from japagen.errors import JapagenError, nearest

# A repository often holds the same model in formats that nobody here reads.
_OTHER_FORMATS = ("onnx/*", "openvino/*", "coreml/*")


def hub_commit(name: str) -> str:
    """Returns the commit of the copy in the Hub's local cache or, failing that, the latest.

    Raises:
        JapagenError: If there is no such model, or the Hub cannot be reached.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        return Path(cached).parent.name
    return hub_files(name, None, ["config.json"]).name


def hub_files(name: str, commit: str | None, patterns: Sequence[str]) -> Path:
    """Returns the directory with a commit's files that match; downloads what is not cached.

    Args:
        name: The repository.
        commit: Its commit; the latest when None. The directory is named after it.
        patterns: Names of files, with wildcards.

    Raises:
        JapagenError: If there is no such model, or the Hub cannot be reached and nothing is
            cached.
    """
    from huggingface_hub import snapshot_download

    with _hub_errors(name):
        directory = snapshot_download(
            name,
            revision=commit,
            allow_patterns=list(patterns),
            ignore_patterns=list(_OTHER_FORMATS),
        )
    return Path(directory)


def hub_listing(name: str, commit: str) -> list[str]:
    """Returns the names of a commit's files, for an error message; none if that fails too."""
    from huggingface_hub import HfApi

    # What a lost connection raises depends on the Hub library's version and its HTTP client.
    with contextlib.suppress(Exception):
        return HfApi().list_repo_files(name, revision=commit)
    return []


@contextlib.contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        yield
    except RepositoryNotFoundError as error:
        raise JapagenError(
            f"Expected the encoder '{name}' on the Hugging Face Hub, found no model of that name, "
            f"or one that asks for a login{nearest(name, ['embedded'])}.",
            "Check the spelling, or log in with: hf auth login",
        ) from error
    except OSError as error:
        # Nothing in the cache, and no answer, a refusal, or HF_HUB_OFFLINE is set.
        raise JapagenError(
            f"The encoder '{name}' is neither a directory nor in the Hub's local cache, and the "
            f"Hugging Face Hub cannot be reached{nearest(name, ['embedded'])}.",
            "Give the directory of a checkpoint, or use the encoder 'embedded'.",
        ) from error
