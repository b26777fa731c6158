"""The compact classifier: predicts, is saved and read, in torch or in ONNX."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from japagen.data.dataset import Label
from japagen.data.files import atomic_directory, read_json, write_json
from japagen.data.labels import Kind, LabelSpace
from japagen.errors import DamagedError, JapagenError, MissingExtraError
from japagen.training.encoder import by_length
from japagen.transformers_loading import quiet_transformers

CARD = "japagen.json"
"""What a classifier's directory holds beside the ordinary checkpoint."""
ONNX_FILE = "model.onnx"
"""In place of the weights of a classifier that was exported."""
# What transformers calls the kinds; `pipeline` chooses softmax, sigmoid or neither by it.
_PROBLEM_TYPES: dict[Kind, str] = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
# Before the names of a second text's inputs, in a row of a bi-encoder.
_SECOND = "second_"
_LEAST = 4
# Wraps a loop (iterable, total) to show how far it is.
Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one text.

    Attributes:
        label: A class, a list of tags, or a number; None where the classifier abstains.
        probabilities: Of every class or tag; empty for numbers.
    """

    label: Label | None
    probabilities: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form; of a number the label alone."""
        found = {"label": self.label}
        return found | {"probabilities": self.probabilities} if self.probabilities else found

    @property
    def confidence(self) -> float | None:
        """The probability of the predicted class, or of the least certain tag's state.

        None for numbers. Where the classifier abstains it is the largest probability.
        """
        if not self.probabilities:
            return None
        if isinstance(self.label, list):
            chosen = self.label
            return min(p if tag in chosen else 1 - p for tag, p in self.probabilities.items())
        return max(self.probabilities.values())


class Classifier:
    """A fine-tuned encoder with a classification head.

    Args:
        model: A ``transformers`` sequence classification model, or a `PairModel`.
        tokenizer: Its fast or slow tokenizer.
        labels: Class or tag of every output, in order; of a scale of numbers its anchors.
        prefix: Prefix that the encoder expects before every text.
        max_length: Longer inputs are cut, in tokens.
        encoder: Identity of the encoder it was tuned from.
        kind: What a label is.
        may_be_empty: Whether a text may have no tag.
        is_pair: Whether it reads pairs of texts.
        out_of_fold: Confidence in each text of gold, and whether the label was right, from
            cross-validation; empty where that was not done.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        labels: Sequence[str],
        *,
        prefix: str = "",
        max_length: int = 128,
        encoder: str = "",
        kind: Kind = "classification",
        may_be_empty: bool = False,
        is_pair: bool = False,
        out_of_fold: Sequence[tuple[float, bool]] = (),
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        # Whether the texts of a pair are encoded separately (bi-encoder).
        self.is_bi_encoder = bool(getattr(model, "is_bi_encoder", False))
        self.labels = list(labels)
        self.space = LabelSpace(kind, tuple(labels), may_be_empty)
        self.is_pair = is_pair
        self.prefix = prefix
        self.max_length = max_length
        self.encoder = encoder
        self.out_of_fold = [(float(confidence), bool(right)) for confidence, right in out_of_fold]

    def encode(
        self, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenises texts or pairs, each text cut at ``max_length``, without padding.

        Of a bi-encoder both texts of a pair stand apart in its row.
        """
        cut: Any = {"truncation": True, "max_length": self.max_length}
        firsts, pairs = [self.prefix + text for text in texts], None
        if text_pairs is not None and any(pair is not None for pair in text_pairs):
            pairs = [self.prefix + (pair or "") for pair in text_pairs]
        if not self.is_bi_encoder:
            rows = dict(self.tokenizer(firsts, pairs, **cut))
        else:
            rows = dict(self.tokenizer(firsts, **cut))
            seconds = self.tokenizer(pairs or [self.prefix] * len(firsts), **cut)
            rows |= {_SECOND + name: seconds[name] for name in seconds}
        return [{k: rows[k][i] for k in rows} for i in range(len(firsts))]

    def collate(
        self, rows: Sequence[dict[str, list[int]]], tensors: Literal["pt", "np"] = "pt"
    ) -> dict[str, Any]:
        """Pads encoded rows to the longest of them, as tensors of torch or numpy.

        Of a bi-encoder all first texts come first, then all second ones, padded alike.
        """
        if not self.is_bi_encoder:
            return dict(self.tokenizer.pad(list(rows), return_tensors=tensors))
        names = [name for name in rows[0] if not name.startswith(_SECOND)]
        texts = [{k: row[prefix + k] for k in names} for prefix in ("", _SECOND) for row in rows]
        # Even where every text is empty, there are as many tokens as a comparison looks for.
        how: Any = {"return_tensors": tensors, "pad_to_multiple_of": _LEAST}
        return dict(self.tokenizer.pad(texts, **how))

    def probabilities(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str | None] | None = None,
        batch_size: int = 32,
        progress: Progress = lambda batches, _: batches,
    ) -> npt.NDArray[np.float64]:
        """Returns the probability of every class or tag, or numbers, rows in input order.

        Shape (n, number of labels), or (n, 1) for numbers.
        """
        out = np.zeros((len(texts), self.space.outputs))
        if not len(texts):
            return out
        rows = self.encode(texts, text_pairs)
        batches = by_length([len(row["input_ids"]) for row in rows], batch_size)
        for index in progress(batches, len(batches)):
            logits = self._logits([rows[i] for i in index])
            out[index] = self.space.from_logits(logits.astype(np.float64))
        return out

    def _logits(self, rows: Sequence[dict[str, list[int]]]) -> npt.NDArray[np.float32]:
        """The network's logits for encoded rows, shape (n, outputs)."""
        import torch

        self.model.eval()
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = self.model(**self.collate(rows)).logits.float().numpy()
        return found

    def predict(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str | None] | None = None,
        batch_size: int = 32,
        abstain_below: float = 0.0,
    ) -> list[Prediction]:
        """Classifies texts or pairs.

        Args:
            texts: The texts, or the first of each pair.
            text_pairs: The second texts, as many as ``texts``.
            batch_size: Texts at a time.
            abstain_below: Give no label where the decision is less probable than this.

        Returns:
            One prediction per text, in input order.

        Raises:
            JapagenError: If a single string is given in place of a list, or single texts where
                pairs are wanted or the other way about.
        """
        if isinstance(texts, str):
            raise JapagenError(
                "Expected a list of texts, found one string.", "Write predict([text])."
            )
        self.check_pairs(texts, text_pairs)
        rows = self.probabilities(texts, text_pairs, batch_size)
        named = self.labels if self.space.kind != "regression" else []
        found = [
            Prediction(label, dict(zip(named, map(float, row), strict=False)))
            for label, row in zip(self.space.labels(self.space.decide(rows)), rows, strict=True)
        ]
        return [
            Prediction(None, one.probabilities)
            if one.confidence is not None and one.confidence < abstain_below
            else one
            for one in found
        ]

    def check_pairs(self, texts: Sequence[str], text_pairs: Sequence[str | None] | None) -> None:
        """Refuses single texts where pairs are wanted, and the other way about."""
        if len(texts) and self.is_pair != (text_pairs is not None):
            kinds = ("single texts", "pairs of texts")
            raise JapagenError(
                f"Expected {kinds[self.is_pair]}, found {kinds[not self.is_pair]}.",
                "This classifier was trained on pairs: write predict(firsts, seconds)."
                if self.is_pair
                else "This classifier was trained on single texts: write predict(texts).",
            )

    def predict_stream(
        self,
        texts: Iterator[str | tuple[str, str]],
        batch_size: int = 32,
        abstain_below: float = 0.0,
    ) -> Iterator[tuple[str | tuple[str, str], Prediction]]:
        """Classifies any number of texts, or pairs, in constant memory and input order."""
        while batch := list(islice(texts, batch_size)):
            pairs = [row[1] for row in batch if not isinstance(row, str)]
            firsts = [row if isinstance(row, str) else row[0] for row in batch]
            found = self.predict(firsts, pairs or None, batch_size, abstain_below)
            yield from zip(batch, found, strict=True)

    def confidence_for(self, precision: float) -> float:
        """Returns the lowest confidence above which predictions reach that precision.

        It is found on gold that the classifier was cross-validated with. With 16 texts per label
        it is a rough guide: look at what is answered before relying on it.

        Args:
            precision: The precision to reach, in (0, 1].

        Raises:
            JapagenError: If nothing was cross-validated, or no confidence is that good.
        """
        if not self.out_of_fold:
            raise JapagenError(
                "Expected a classifier that was cross-validated on gold, found none of that in it.",
                "It is done where there is gold. Give --abstain-below a probability.",
            )
        threshold = threshold_for(precision, *zip(*self.out_of_fold, strict=True))
        if threshold is None:
            right = sum(right for _, right in self.out_of_fold) / len(self.out_of_fold)
            raise JapagenError(
                f"Expected a confidence with {precision:.0%} right, found none: of all "
                f"{len(self.out_of_fold)} texts of gold {right:.0%} were right.",
                "Ask for less, or label more gold.",
            )
        return threshold

    def save(self, path: str | Path) -> None:
        """Writes a checkpoint that ``transformers`` loads, and a small japagen.json.

        Of a `PairModel` what ``transformers`` loads is the encoder; only `load` reads its head.
        The directory appears whole or not at all and replaces an earlier one.
        """
        with atomic_directory(Path(path)) as directory:
            self.save_all_but_weights(directory)
            with quiet_transformers():
                self.model.save_pretrained(directory)

    def save_all_but_weights(self, directory: Path) -> None:
        """Writes the tokenizer, the model's configuration with the labels, and japagen.json."""
        config = self.model.config
        names = self.labels if self.space.kind != "regression" else ["score"]
        config.problem_type = _PROBLEM_TYPES[self.space.kind]
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
        config.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        card: dict[str, Any] = {
            "kind": self.space.kind,
            "labels": self.labels,
            "may_be_empty": self.space.may_be_empty,
            "is_pair": self.is_pair,
            "prefix": self.prefix,
            "max_length": self.max_length,
            "encoder": self.encoder,
            "out_of_fold": self.out_of_fold,
        }
        if self.is_bi_encoder:
            card["pair_head"] = {"pooling": self.model.pooling}
        write_json(directory / CARD, card)

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """Reads what `save` wrote, or what was exported to ONNX.

        Raises:
            JapagenError: If the directory holds no japagen classifier.
            MissingExtraError: If it is an exported one and ``onnxruntime`` is not installed.
        """
        from safetensors import SafetensorError
        from transformers import AutoTokenizer

        path = Path(path)
        if not (path / CARD).is_file():
            raise JapagenError(
                f"Expected a classifier in {path}, found no {CARD}.",
                "Give a run directory or a directory that Classifier.save wrote.",
            )
        try:
            card = read_json(path / CARD)
            pair_head = card.pop("pair_head", None)
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
                if (path / ONNX_FILE).is_file():
                    exported = OnnxClassifier(open_session(path / ONNX_FILE), tokenizer, **card)
                    exported.is_bi_encoder = pair_head is not None
                    return exported
                return cls(_open_model(path, pair_head), tokenizer, **card)
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise DamagedError(path) from error


def _open_model(path: Path, pair_head: dict[str, Any] | None) -> Any:
    if pair_head is not None:
        from japagen.training.pairs import PairModel

        return PairModel.from_pretrained(path, **pair_head)
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        path, use_safetensors=True, trust_remote_code=False
    )


class OnnxClassifier(Classifier):
    """A classifier whose network onnxruntime computes.

    It predicts as `Classifier` does; it cannot be trained further. Its ``model`` is the
    ``onnxruntime.InferenceSession``.
    """

    def _logits(self, rows: Sequence[dict[str, list[int]]]) -> npt.NDArray[np.float32]:
        padded = self.collate(rows, "np")
        inputs = {i.name: padded[i.name].astype(np.int64) for i in self.model.get_inputs()}
        found: npt.NDArray[np.float32] = self.model.run(None, inputs)[0]
        return found

    def save(self, path: str | Path) -> None:
        """Refuses: there are no torch weights to write.

        Raises:
            JapagenError: Always.
        """
        raise JapagenError(
            "Expected a torch classifier to save, found one that was exported to ONNX.",
            "Copy its directory.",
        )


def open_session(path: str | Path) -> Any:
    """Opens a model.onnx on the processor.

    As many threads compute as ``OMP_NUM_THREADS`` says, or as onnxruntime chooses.

    Raises:
        MissingExtraError: If ``onnxruntime`` is not installed.
        DamagedError: If the file cannot be read.
    """
    onnxruntime = import_onnx_package("onnxruntime", "A classifier in ONNX")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        raise DamagedError(path, "Export it again: japagen model onnx MODEL") from error


def import_onnx_package(package: str, purpose: str) -> Any:
    """Imports a package of the extra ``onnx``.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, "onnx", purpose) from error


def threshold_for(
    precision: float, confidence: Sequence[float], right: Sequence[bool]
) -> float | None:
    """Returns the lowest confidence above which predictions reach a precision.

    Args:
        precision: The precision to reach.
        confidence: Probability of each predicted label.
        right: Whether each prediction was right.

    Returns:
        The threshold, or None where no share of the predictions is that good.
    """
    sure = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(-sure, kind="stable")
    hits = np.cumsum(np.asarray(right, dtype=np.float64)[order])
    good = np.flatnonzero(hits / np.arange(1, len(order) + 1) >= precision - 1e-12)
    # Predictions that share a confidence stand or fall together.
    ends = [i for i in good if i + 1 == len(order) or sure[order[i + 1]] < sure[order[i]]]
    return float(sure[order[ends[-1]]]) if ends else None
