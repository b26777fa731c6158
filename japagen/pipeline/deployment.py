"""Exports the classifier of a run to ONNX, and checks it on the texts that lie with the run."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from japagen.errors import JapagenError
from japagen.inspecting.monitoring import FILE as PROFILE
from japagen.running.results import Run, open_classifier
from japagen.running.runs import is_run
from japagen.storage.lines import read_pairs, read_texts

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier
    from japagen.training.onnx import Agreement

_MOST_OF_RUN = 1000
Texts = tuple[list[str], list[str | None] | None]


@dataclass(frozen=True)
class OnnxExport:
    """An exported classifier.

    Attributes:
        path: Its directory.
        int8: Whether it multiplies in 8-bit integers.
        megabytes: Size of the network's file.
        agreement: With the torch classifier; None where there was no text to compare on.
    """

    path: Path
    int8: bool
    megabytes: float
    agreement: Agreement | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {
            "path": str(self.path),
            "int8": self.int8,
            "megabytes": round(self.megabytes, 1),
            "agreement": self.agreement and self.agreement.to_dict(),
        }


def export_classifier(
    model: Path, output: Path | None = None, *, int8: bool = True, check: Path | None = None
) -> OnnxExport:
    """Exports the classifier of a run, or a saved one, and compares the two.

    Args:
        model: The run or the classifier's directory.
        output: RUN/onnx, or beside a saved classifier, if None.
        int8: Multiply in 8-bit integers.
        check: Texts to compare on; of a run its kept synthetic texts if None.

    Raises:
        MissingExtraError: If the extra ``onnx`` is not installed.
        JapagenError: If there is no classifier, it is in ONNX already, or there is no text in
            ``check``.
    """
    from japagen.training.classifier import ONNX_FILE
    from japagen.training.onnx import agreement, export_onnx

    classifier = open_classifier(model)
    texts, pairs = _texts(model, check, classifier)
    if check is not None and not texts:
        raise JapagenError(f"Expected texts in {check}, found none.", "Fill it in.")
    path = output or (model / "onnx" if is_run(model) else model.with_name(f"{model.name}-onnx"))
    exported = export_onnx(classifier, path, int8=int8)
    if (model / PROFILE).is_file():
        shutil.copy(model / PROFILE, path / PROFILE)
    return OnnxExport(
        path,
        int8,
        (path / ONNX_FILE).stat().st_size / 1e6,
        agreement(classifier, exported, texts, pairs) if texts else None,
    )


def _texts(model: Path, check: Path | None, classifier: Classifier) -> Texts:
    if check is not None and classifier.is_pair:
        rows = list(read_pairs(check, sys.stdin))
        return [first for first, _ in rows], [second for _, second in rows]
    if check is not None:
        return list(read_texts(check, sys.stdin)), None
    if not is_run(model):
        return [], None
    examples = list(islice(Run.open(model).latest.kept, _MOST_OF_RUN))
    pairs = [e.text_pair for e in examples] if classifier.is_pair else None
    return [e.text for e in examples], pairs
