"""The compact classifier: predicts, is saved and read, in torch or in ONNX."""

from __future__ import annotations

import importlib
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from japagen.data.dataset import Label, html_table
from japagen.data.files import (
    atomic_directory,
    read_array,
    read_json,
    write_array,
    write_json,
)
from japagen.data.labels import Kind, LabelSpace
from japagen.errors import DamagedError, JapagenError, MissingExtraError
from japagen.japanese.normalization import visible
from japagen.training.encoder import by_length, hub_files
from japagen.transformers_loading import need_packages, quiet_transformers

CARD = "japagen.json"
"""What a classifier's directory holds beside the ordinary checkpoint."""
ONNX_FILE = "model.onnx"
"""In place of the weights of a classifier that was exported."""
SCOPE_FILE = "scope.npy"
"""The vectors of texts that a classifier was made for; see `Scope`."""
# What transformers calls the kinds; `pipeline` chooses softmax, sigmoid or neither by it.
_PROBLEM_TYPES: dict[Kind, str] = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
# Before the names of a second text's inputs, in a row of a bi-encoder.
_SECOND = "second_"
_LEAST = 4
# In a batch. Beyond it, what a layer writes does not stay in a core's cache until it is read.
_TOKENS = 512
# Wraps a loop (iterable, total) to show how far it is.
Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one text.

    Attributes:
        label: A class, a list of tags, or a number; None where the classifier abstains or there
            is no text.
        probabilities: Of every class or tag; empty for numbers and where there is no text.
        out_of_scope: Whether the text is like nothing that the classifier was made for; None
            where it cannot tell.
        parts: Of how many parts the answer is, one after the other: a text that is longer than
            the encoder reads has several.
        cut: Whether the end of a pair was not read, since the encoder reads no more.
    """

    label: Label | None
    probabilities: dict[str, float]
    out_of_scope: bool | None = None
    parts: int = 1
    cut: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form; of a number the label alone."""
        found: dict[str, Any] = {"label": self.label}
        if self.probabilities:
            found["probabilities"] = self.probabilities
        if self.out_of_scope is not None:
            found["out_of_scope"] = self.out_of_scope
        return found

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


_NEIGHBOURS = 5


@dataclass(frozen=True)
class Scope:
    """What a classifier was made for, as far as vectors show it.

    Attributes:
        vectors: Of texts that it was made for, as the head sees them, shape (n, width).
        threshold: The distance beyond which a text is like none of them.
    """

    vectors: npt.NDArray[np.float64]
    threshold: float

    def distances(self, vectors: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """How far texts lie from those that the classifier was made for, shape (n,)."""
        return nearest_distances(distances_between(vectors, self.vectors))


def distances_between(one: npt.ArrayLike, other: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Euclidean distances of all rows, shape (rows of one, rows of other)."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(np.asarray(one), np.asarray(other)))


def nearest_distances(distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean of the few smallest distances in each row, shape (rows,)."""
    nearest = np.sort(distances, axis=1)[:, :_NEIGHBOURS]
    return np.asarray(nearest.mean(axis=1))


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
        scope: What texts it was made for; None where it cannot tell.
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
        scope: Scope | None = None,
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
        self.scope = scope

    def encode(
        self, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenises texts or pairs, each text cut at ``max_length``, without padding.

        Of a bi-encoder both texts of a pair stand apart in its row.
        """
        cut: Any = {"truncation": True, "max_length": self.max_length}
        firsts, pairs = [self.prefix + visible(text) for text in texts], None
        if text_pairs is not None and any(pair is not None for pair in text_pairs):
            pairs = [self.prefix + visible(pair or "") for pair in text_pairs]
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

        Shape (n, number of labels), or (n, 1) for numbers. A text that is longer than the encoder
        reads is read in parts, each of whole sentences where they fit. Of classes and numbers it
        is the mean of what the parts give, by their length; a tag is as probable as in the part
        that has it most surely.
        """
        return self._answers(texts, text_pairs, batch_size, progress).outputs

    def _answers(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str | None] | None,
        batch_size: int,
        progress: Progress = lambda batches, _: batches,
    ) -> _Answers:
        parts = [self._in_parts(text) if text_pairs is None else [text] for text in texts]
        owner = np.repeat(np.arange(len(parts)), [len(of_text) for of_text in parts])
        flat = [part for of_text in parts for part in of_text]
        rows = self.encode(flat, text_pairs) if flat else []
        out = np.zeros((len(rows), self.space.outputs))
        far = np.zeros(len(rows))
        lengths = np.array([len(row["input_ids"]) for row in rows], dtype=np.int64)
        batches = by_length(lengths.tolist(), batch_size, _TOKENS)
        for index in progress(batches, len(batches)) if batches else ():
            logits, vectors = self.see([rows[i] for i in index])
            out[index] = self.space.from_logits(logits.astype(np.float64))
            if self.scope is not None and vectors is not None:
                far[index] = self.scope.distances(vectors)
        share = lengths / np.bincount(owner, lengths, len(parts))[owner] if len(rows) else lengths
        found, distances = np.zeros((len(parts), out.shape[1])), np.zeros(len(parts))
        if self.space.kind == "multi_label":
            np.maximum.at(found, owner, out)
        else:
            np.add.at(found, owner, out * share[:, None])
        np.add.at(distances, owner, far * share)
        full = np.inf if text_pairs is None else self.max_length
        cut = [max(len(row[k]) for k in row if k.endswith("input_ids")) >= full for row in rows]
        return _Answers(found, [len(of_text) for of_text in parts], distances, cut)

    def _in_parts(self, text: str) -> list[str]:
        """Cuts a text that is longer than the encoder reads, between sentences where that does."""
        room = self.max_length - self.tokenizer.num_special_tokens_to_add()
        room -= self._tokens(self.prefix) if self.prefix else 0
        # A character is at most its four bytes, so short texts need not be counted.
        if 4 * len(text) <= room or self._tokens(text) <= room:
            return [text]
        parts, size = [""], 0
        for piece in _pieces(text, lambda piece: self._tokens(piece) <= room):
            tokens = self._tokens(piece)
            if size + tokens > room:
                parts.append("")
                size = 0
            parts[-1] += piece
            size += tokens
        return [part for part in parts if part.strip()]

    def _tokens(self, text: str) -> int:
        tokens = self.tokenizer(visible(text), add_special_tokens=False, verbose=False)
        return len(tokens["input_ids"])

    def see(
        self, rows: Sequence[dict[str, list[int]]]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """What the network says of encoded rows, shape (n, outputs), and the head's input.

        Of an exported classifier nobody knows the latter: None.
        """
        import torch

        from japagen.training.head import last_linear

        seen: list[torch.Tensor] = []
        hook = last_linear(self.model).register_forward_pre_hook(
            lambda _module, inputs: seen.append(inputs[0])
        )
        try:
            self.model.eval()
            with torch.inference_mode():
                logits = self.model(**self.collate(rows)).logits.float().numpy()
        finally:
            hook.remove()
        return logits, seen[-1].float().numpy()

    def predict(
        self,
        texts: Sequence[str | None],
        text_pairs: Sequence[str | None] | None = None,
        batch_size: int = 32,
        abstain_below: float = 0.0,
    ) -> list[Prediction]:
        """Classifies texts or pairs.

        Args:
            texts: The texts, or the first of each pair; what is blank or None gets no label.
            text_pairs: The second texts, as many as ``texts``.
            batch_size: Texts at a time, at most; of long texts it is fewer.
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
        # A Series is asked by its index, which need not count its rows.
        texts, text_pairs = list(texts), None if text_pairs is None else list(text_pairs)
        self.check_pairs(texts, text_pairs)
        pairs = list(text_pairs) if text_pairs is not None else [None] * len(texts)
        there = [
            row
            for row, (text, pair) in enumerate(zip(texts, pairs, strict=True))
            if _is_text(text) and (text_pairs is None or _is_text(pair))
        ]
        read = self._answers(
            [str(texts[row]) for row in there],
            None if text_pairs is None else [pairs[row] for row in there],
            batch_size,
        )
        named = self.labels if self.space.kind != "regression" else []
        labels = self.space.labels(self.space.decide(read.outputs))
        found = [Prediction(None, {})] * len(texts)
        for at, row in enumerate(there):
            given = dict(zip(named, map(float, read.outputs[at]), strict=False))
            strange = (
                None if self.scope is None else bool(read.distances[at] > self.scope.threshold)
            )
            made = Prediction(labels[at], given, strange, read.parts[at], cut=read.cut[at])
            if made.confidence is not None and made.confidence < abstain_below:
                made = replace(made, label=None)
            found[row] = made
        return found

    def check_pairs(
        self, texts: Sequence[str | None], text_pairs: Sequence[str | None] | None
    ) -> None:
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
        if self.scope is not None:
            card["scope"] = self.scope.threshold
            write_array(directory / SCOPE_FILE, self.scope.vectors)
        if self.is_bi_encoder:
            card["pair_head"] = {"pooling": self.model.pooling}
        write_json(directory / CARD, card)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload a classifier of japagen",
    ) -> str:
        """Uploads what `save` writes to the Hugging Face Hub; the repository is made if need be.

        Args:
            repo_id: ``owner/name``.
            private: Whether a new repository is private; the owner's default when None.
            token: Of the Hub; that of ``hf auth login`` when None.
            commit_message: Of the upload.

        Returns:
            The address of the commit.

        Raises:
            JapagenError: If the Hub refuses it or cannot be reached.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            self.save(path)
            try:
                api.create_repo(repo_id, private=private, exist_ok=True)
                found = api.upload_folder(
                    repo_id=repo_id, folder_path=path, commit_message=commit_message
                )
            except (OSError, HFValidationError) as error:
                raise JapagenError(
                    f"The upload to '{repo_id}' on the Hugging Face Hub failed: {error}.",
                    "Check the name, owner/name, and log in with: hf auth login",
                ) from error
        return str(found.commit_url)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Classifier:
        """Reads a classifier from a directory, as `load`, or from the Hugging Face Hub.

        Args:
            name: The directory, or ``owner/name`` on the Hub.
            revision: A branch, tag or commit there.

        Raises:
            JapagenError: If there is none.
        """
        if Path(name).is_dir():
            return cls.load(name)
        return cls.load(hub_files(str(name), revision, ["*"]))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self.labels)}; tuned from {self.encoder}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows: list[list[Any]] = [
            ["labels", self.labels],
            ["kind", self.space.kind],
            ["texts", "pairs" if self.is_pair else "single"],
            ["encoder", self.encoder],
            ["max_length", self.max_length],
        ]
        return html_table(type(self).__name__, [], rows)

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """Reads what `save` wrote, or what was exported to ONNX.

        Raises:
            JapagenError: If the directory holds no japagen classifier.
            MissingExtraError: If it is an exported one and ``onnxruntime`` is not installed, or
                another one and torch is not.
        """
        path = Path(path)
        if not (path / CARD).is_file():
            raise JapagenError(
                f"Expected a classifier in {path}, found no {CARD}.",
                "Give a run directory or a directory that Classifier.save wrote.",
            )
        if (path / ONNX_FILE).is_file():
            need_packages("A classifier in ONNX", "transformers", extra="onnx")
        else:
            need_packages("A classifier", "torch", "transformers")
        from safetensors import SafetensorError
        from transformers import AutoTokenizer

        try:
            card = read_json(path / CARD)
            pair_head = card.pop("pair_head", None)
            if "scope" in card:
                card["scope"] = Scope(read_array(path / SCOPE_FILE), float(card["scope"]))
            with quiet_transformers():
                # Unless it is told, transformers asks on standard input whether to run code.
                tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
                if (path / ONNX_FILE).is_file():
                    exported = OnnxClassifier(open_session(path / ONNX_FILE), tokenizer, **card)
                    exported.is_bi_encoder = pair_head is not None
                    return exported
                return cls(_open_model(path, pair_head), tokenizer, **card)
        except (SafetensorError, OSError, TypeError, ValueError, KeyError) as error:
            if "trust_remote_code" in str(error):
                raise JapagenError(
                    f"Expected a model that transformers knows in {path}, found one that brings "
                    "its own code.",
                    "Code from a model's directory is never run: train it again with another "
                    "encoder.",
                ) from error
            raise DamagedError(path) from error


@dataclass(frozen=True)
class _Answers:
    """What was read of each text: outputs, in how many parts, how far off, and whether cut."""

    outputs: npt.NDArray[np.float64]
    parts: Sequence[int]
    distances: npt.NDArray[np.float64]
    cut: Sequence[bool]


def _is_text(value: object) -> bool:
    """Whether there is anything to read; pandas writes NaN where a text is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    return not isinstance(value, str) or bool(visible(value).strip())


_SENTENCE_ENDS = re.compile(r"(?<=[。．！？!?\n])")


def _pieces(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Sentences, and halves of those that do not fit."""
    for sentence in _SENTENCE_ENDS.split(text):
        waiting = [sentence]
        while waiting:
            piece = waiting.pop()
            if len(piece) < 2 or fits(piece):
                yield piece
            else:
                middle = len(piece) // 2
                waiting += [piece[middle:], piece[:middle]]


def _open_model(path: Path, pair_head: dict[str, Any] | None) -> Any:
    if pair_head is not None:
        from japagen.training.head import PairModel

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

    def __init__(self, model: Any, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        # Only what the head sees tells what a text is like, and the file gives its answers alone.
        super().__init__(model, tokenizer, *args, **{**kwargs, "scope": None})

    def see(
        self, rows: Sequence[dict[str, list[int]]]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """As of `Classifier`, without the head's input."""
        padded = self.collate(rows, "np")
        inputs = {i.name: padded[i.name].astype(np.int64) for i in self.model.get_inputs()}
        return self.model.run(None, inputs)[0], None

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
    how = {
        "providers": ["CPUExecutionProvider"],
        # On a processor it takes several times as long as the addition and the norm that it joins.
        "disabled_optimizers": ["SkipLayerNormFusion"],
    }
    try:
        return onnxruntime.InferenceSession(str(path), options, **how)
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
