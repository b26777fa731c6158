"""The classifier as scikit-learn knows one: for its pipelines, searches and cross-validation."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from japagen.config.sections import Training
from japagen.data.dataset import Data, Dataset, Example, as_dataset
from japagen.data.labels import parse_label, unify_labels
from japagen.errors import JapagenError
from japagen.training.classifier import Classifier
from japagen.transformers_loading import need_packages


class JapagenClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies Japanese texts, or pairs of texts, into one of several classes.

    >>> from sklearn.model_selection import cross_val_score
    >>> cross_val_score(JapagenClassifier(), texts, labels)  # doctest: +SKIP

    Args:
        encoder: ``embedded``, a directory, or a Hub name.
        descriptions: Class to what it covers, phrases with 、 between; they are learnt from too.
        tune: Whether the encoder is tuned: ``auto``, ``always`` or ``never``.
        epochs: Passes over the texts, where it is.
        learning_rate: Of the encoder's layers; chosen by the amount of text when None.
        max_length: Tokens of a text that the encoder reads at once.
        synthetic_share: The share of the loss that synthetic texts carry, or ``auto``.
        calibrated: Whether probabilities are calibrated by cross-validation.
        random_state: Seed of batches and dropout.

    Attributes:
        classes_: The classes, sorted, as ``y`` has them.
        classifier_: The fitted `Classifier`; it saves, exports and knows what is out of scope.
    """

    def __init__(
        self,
        *,
        encoder: str = "embedded",
        descriptions: Mapping[Any, str] | None = None,
        tune: Literal["auto", "always", "never"] = "auto",
        epochs: int = 3,
        learning_rate: float | None = None,
        max_length: int = 128,
        synthetic_share: float | Literal["auto"] = "auto",
        calibrated: bool = True,
        random_state: int = 0,
    ) -> None:
        self.encoder = encoder
        self.descriptions = descriptions
        self.tune = tune
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.max_length = max_length
        self.synthetic_share = synthetic_share
        self.calibrated = calibrated
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, *, synthetic: Data | None = None, unlabelled: Data | None = None
    ) -> Self:
        """Trains on texts and their classes.

        Args:
            X: Texts, or pairs of texts, shape (n,) or (n, 2).
            y: Their classes: texts or whole numbers, shape (n,).
            synthetic: More labelled texts that an LLM wrote, with weights or without: a `Dataset`,
                DataFrame or list. Its labels are those of ``y``.
            unlabelled: Texts of the target, to say what is out of scope.

        Raises:
            ValueError: If ``y`` holds anything else than two or more classes, or not one for each
                text.
            JapagenError: If ``X`` holds anything but texts, or a synthetic text has another label.
        """
        need_packages("Training", "torch", "transformers")
        from japagen.training.trainer import train

        texts, pairs = _texts(X)
        y = np.asarray(y).ravel() if np.ndim(y) > 1 and np.shape(y)[1] == 1 else np.asarray(y)
        check_classification_targets(y)
        if len(texts) != len(y):
            raise ValueError(f"Expected a class for each text, found {len(texts)} and {len(y)}.")
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"Expected two classes or more, found {len(classes)} class.")
        # Written as a file's labels are read: 1.0 is the class 1.
        parsed = [parse_label(one) for one in classes.tolist()]
        texts_of = [one for one in parsed if isinstance(one, str)]
        names = [str(one) for one in unify_labels(parsed, classes=texts_of)]
        if len(set(names)) < len(classes):
            raise ValueError(f"Expected classes that can be told apart, found {classes.tolist()}.")
        gold = Dataset.of(
            Example(text, names[code], pair, split="train")
            for text, pair, code in zip(texts, pairs, codes, strict=True)
        )
        named = dict(zip(classes.tolist(), names, strict=True))
        given = self.descriptions
        self.classifier_ = train(
            None if synthetic is None else as_dataset(synthetic),
            gold,
            encoder=self.encoder,
            labels=names,
            descriptions=None
            if given is None
            else {named.get(k, str(k)): v for k, v in given.items()},
            settings=Training(
                tune=self.tune,
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                max_length=self.max_length,
                synthetic_share=self.synthetic_share,
            ),
            seed=self.random_state,
            calibrated=self.calibrated,
            unlabelled=unlabelled,
            progress=False,
        )
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """The probability of every class, shape (n, classes), in the order of ``classes_``.

        Raises:
            sklearn.exceptions.NotFittedError: If it is not fitted.
        """
        check_is_fitted(self)
        texts, pairs = _texts(X)
        apart = pairs if any(pair is not None for pair in pairs) else None
        self.classifier_.check_pairs(texts, apart)
        return self.classifier_.probabilities(texts, apart)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The likeliest class of every text, shape (n,).

        Raises:
            sklearn.exceptions.NotFittedError: If it is not fitted.
        """
        found = self.predict_proba(X)
        return np.asarray(self.classes_[found.argmax(axis=1)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: the weights as safetensors, which hold no code."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "classifier_" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model"
                state["classifier_"].save(path)
                state["classifier_"] = {p.name: p.read_bytes() for p in path.iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(files := state.get("classifier_"), Mapping):
            with tempfile.TemporaryDirectory() as folder:
                for name, content in files.items():
                    (Path(folder) / Path(name).name).write_bytes(content)
                state = {**state, "classifier_": Classifier.load(folder)}
        super().__setstate__(state)


def _texts(given: Any) -> tuple[list[str], Sequence[str | None]]:
    """The texts, and the second of each pair."""
    if isinstance(given, str) or not hasattr(given, "__len__"):
        raise JapagenError(
            f"Expected a list of texts, found {type(given).__name__}.", "Write predict([text])."
        )
    rows = given.to_numpy() if hasattr(given, "to_numpy") else given
    listed = [row.tolist() if isinstance(row, np.ndarray) else row for row in rows]
    # A table with one column.
    listed = [r[0] if isinstance(r, list | tuple) and len(r) == 1 else r for r in listed]
    pairs = [row if isinstance(row, list | tuple) and len(row) == 2 else None for row in listed]
    is_pair = bool(pairs) and None not in pairs
    firsts = [pair[0] for pair in pairs if pair] if is_pair else listed
    seconds = [pair[1] for pair in pairs if pair] if is_pair else [None] * len(listed)
    wrong = next(
        (t for t in (*firsts, *(seconds if is_pair else ())) if not isinstance(t, str)), ""
    )
    if wrong != "":
        raise JapagenError(
            f"Expected texts, found {wrong!r}.", "Fill in what is missing, or leave it out."
        )
    return [str(text) for text in firsts], seconds
