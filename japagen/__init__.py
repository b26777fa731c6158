"""From a handful of labelled Japanese texts to a trained compact classifier.

Importing this package loads neither torch nor fugashi nor an LLM engine; names are resolved
when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from japagen.alignment.weights import align_datasets as align
    from japagen.config.task import Task
    from japagen.data.dataset import Dataset, Example
    from japagen.data.formats import read_examples, write_examples
    from japagen.errors import JapagenError
    from japagen.japanese.register.detector import analyze_register, analyze_registers
    from japagen.japanese.register.lint import check_keigo
    from japagen.japanese.style.converter import convert_style
    from japagen.pipeline.run import run
    from japagen.pipeline.run_directory import Run
    from japagen.training.classifier import Classifier
    from japagen.training.estimator import JapagenClassifier
    from japagen.training.trainer import train

__version__ = "0.2.0"

_HOMES = {
    "Classifier": ("japagen.training.classifier", "Classifier"),
    "Dataset": ("japagen.data.dataset", "Dataset"),
    "Example": ("japagen.data.dataset", "Example"),
    "JapagenClassifier": ("japagen.training.estimator", "JapagenClassifier"),
    "JapagenError": ("japagen.errors", "JapagenError"),
    "Run": ("japagen.pipeline.run_directory", "Run"),
    "Task": ("japagen.config.task", "Task"),
    "align": ("japagen.alignment.weights", "align_datasets"),
    "analyze_register": ("japagen.japanese.register.detector", "analyze_register"),
    "analyze_registers": ("japagen.japanese.register.detector", "analyze_registers"),
    "check_keigo": ("japagen.japanese.register.lint", "check_keigo"),
    "convert_style": ("japagen.japanese.style.converter", "convert_style"),
    "read_examples": ("japagen.data.formats", "read_examples"),
    "run": ("japagen.pipeline.run", "run"),
    "train": ("japagen.training.trainer", "train"),
    "write_examples": ("japagen.data.formats", "write_examples"),
}

__all__ = [
    "Classifier",
    "Dataset",
    "Example",
    "JapagenClassifier",
    "JapagenError",
    "Run",
    "Task",
    "align",
    "analyze_register",
    "analyze_registers",
    "check_keigo",
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
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        from japagen.errors import MissingExtraError

        raise MissingExtraError(error.name, "train", f"japagen.{name}") from None


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
