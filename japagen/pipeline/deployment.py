"""A run's classifier for use elsewhere: exported to ONNX, watched for drift."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from japagen.data.dataset import Dataset, Example
from japagen.data.formats import read_rows
from japagen.errors import JapagenError
from japagen.evaluation.drift import FILE, Drift, Profile, compare, profile_of
from japagen.pipeline.cache import Step
from japagen.pipeline.context import RunContext
from japagen.pipeline.run_directory import Run, is_run, open_classifier
from japagen.pipeline.steps.train import Floats, LazyClassifier

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
    own, own_pairs = _texts(model, None, classifier)
    texts, pairs = (own, own_pairs) if check is None else _texts(model, check, classifier)
    if check is not None and not texts:
        raise JapagenError(f"Expected texts in {check}, found none.", "Fill it in.")
    path = output or (model / "onnx" if is_run(model) else model.with_name(f"{model.name}-onnx"))
    exported = export_onnx(classifier, path, int8=int8, texts=own, text_pairs=own_pairs)
    if (model / FILE).is_file():
        shutil.copy(model / FILE, path / FILE)
    return OnnxExport(
        path,
        int8,
        (path / ONNX_FILE).stat().st_size / 1e6,
        agreement(classifier, exported, texts, pairs) if texts else None,
    )


def _texts(model: Path, check: Path | None, classifier: Classifier) -> Texts:
    if check is not None:
        rows = [r for r in read_rows(check, sys.stdin, pairs=classifier.is_pair) if r.text.strip()]
        return [r.text for r in rows], [r.text_pair for r in rows] if classifier.is_pair else None
    if not is_run(model):
        return [], None
    examples = list(islice(Run.open(model).latest.kept, _MOST_OF_RUN))
    pairs = [e.text_pair for e in examples] if classifier.is_pair else None
    return [e.text for e in examples], pairs


def watch(
    model: Path,
    file: Path,
    seed: int = 0,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> Drift:
    """Says whether the texts of a file are still what a classifier was made for.

    Args:
        model: A run, or a saved classifier with a profile in or beside its directory.
        file: A file of examples, whose labels are not read, or one text per line.
        seed: Of samples and permutations.
        columns: Our column name to the file's.
        encoding: Of a text file; found out when None.

    Raises:
        JapagenError: If either cannot be read, or there is nothing to compare with.
    """
    classifier = open_classifier(model)
    reference = Profile.load(model)
    rows = read_rows(file, (), pairs=classifier.is_pair, columns=columns, encoding=encoding)
    examples = Dataset.of(
        Example(row.text, text_pair=row.text_pair) for row in rows if row.text.strip()
    )
    new = profile_of(examples, classifier)
    return compare(reference, examples.joined_texts, new, seed)


_REFERENCE = Step(
    "reference",
    2,
    (FILE,),
    save=lambda path, made: made.save(path.parent),
    load=lambda path: Profile.load(path.parent),
)


def keep_reference(
    run: RunContext, classifier: LazyClassifier, on_test: Floats, learnt: Dataset | None = None
) -> None:
    """Leaves beside the classifier what new traffic will be compared with.

    Texts that it has learnt from would look too certain, so only others count.

    Args:
        run: The run.
        classifier: The one that the run leaves.
        on_test: What it gave for the test texts.
        learnt: What it has learnt from besides gold and synthetic texts.
    """
    known = {(e.text, e.text_pair) for e in learnt or ()}
    test, unlabelled = run.data.test or (), run.data.unlabelled or ()
    rows = [*test, *(e for e in unlabelled if (e.text, e.text_pair) not in known)]
    if rows:
        # Labels are not read, and both files may use the same ids.
        texts = Dataset.of(replace(e, label=None, label_asked=None, id="") for e in rows)
        run.cache.step(
            _REFERENCE,
            lambda texts, classifier: profile_of(texts, classifier.load(), on_test),
            texts=texts,
            classifier=classifier,
        )
