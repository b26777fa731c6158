"""From a handful of labelled Japanese texts to a trained compact classifier.

Importing this package loads neither torch nor fugashi nor an LLM engine; names are resolved
when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from japagen.alignment.alignment import align_datasets as align
    from japagen.errors import JapagenError
    from japagen.examples import Dataset, Example
    from japagen.japanese.conversion import convert_style
    from japagen.japanese.register_detection import analyze_register
    from japagen.pipeline import run
    from japagen.running.results import Run
    from japagen.storage.formats import read_examples, write_examples
    from japagen.tasks.tasks import Task
    from japagen.training.classifier import Classifier
    from japagen.training.fitting import train

__version__ = "0.1.0"

_HOMES = {
    "Classifier": ("japagen.training.classifier", "Classifier"),
    "Dataset": ("japagen.examples", "Dataset"),
    "Example": ("japagen.examples", "Example"),
    "JapagenError": ("japagen.errors", "JapagenError"),
    "Run": ("japagen.running.results", "Run"),
    "Task": ("japagen.tasks.tasks", "Task"),
    "align": ("japagen.alignment.alignment", "align_datasets"),
    "analyze_register": ("japagen.japanese.register_detection", "analyze_register"),
    "convert_style": ("japagen.japanese.conversion", "convert_style"),
    "read_examples": ("japagen.storage.formats", "read_examples"),
    "run": ("japagen.pipeline", "run"),
    "train": ("japagen.training.fitting", "train"),
    "write_examples": ("japagen.storage.formats", "write_examples"),
}

__all__ = [
    "Classifier",
    "Dataset",
    "Example",
    "JapagenError",
    "Run",
    "Task",
    "align",
    "analyze_register",
    "convert_style",
    "read_examples",
    "run",
    "train",
    "write_examples",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'japagen' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
