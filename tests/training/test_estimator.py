"""The classifier as scikit-learn knows one."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as checks

import japagen as jg
from japagen.config.sections import Training
from japagen.errors import JapagenError
from japagen.training.estimator import JapagenClassifier
from tests.conftest import GOLD

X = [text for texts in GOLD.values() for text in texts]
Y = [label for label, texts in GOLD.items() for _ in texts]


@pytest.fixture(scope="module")
def estimator(tiny_encoder: str) -> JapagenClassifier:
    return JapagenClassifier(encoder=tiny_encoder, tune="never", calibrated=False)


@pytest.fixture(scope="module")
def fitted(estimator: JapagenClassifier) -> JapagenClassifier:
    return clone(estimator).fit(X, Y)


# scikit-learn's own `check_estimator` fits every estimator to tables of random numbers. It leaves
# one whose tags say that it reads texts alone but for these two, so that those of the other checks
# that need no numbers are called here, and what the rest asks is asked of texts below.
@pytest.mark.parametrize(
    "check",
    [
        checks.check_estimator_cloneable,
        checks.check_estimator_tags_renamed,
        checks.check_valid_tag_types,
        checks.check_estimator_repr,
        checks.check_no_attributes_set_in_init,
        checks.check_do_not_raise_errors_in_init_or_set_params,
        checks.check_mixin_order,
        checks.check_parameters_default_constructible,
        checks.check_get_params_invariance,
        checks.check_set_params,
    ],
    ids=lambda check: check.__name__,
)
def test_the_checks_that_need_no_numbers(check: Any) -> None:
    check("JapagenClassifier", JapagenClassifier())


def test_check_estimator_has_nothing_to_say() -> None:
    with pytest.warns(match="Can't test estimator"):
        found = checks.check_estimator(JapagenClassifier())
    assert {one["status"] for one in found} == {"passed"}


def test_it_is_a_classifier_that_predicts_its_classes(fitted: JapagenClassifier) -> None:
    assert is_classifier(fitted)
    assert fitted.classes_.tolist() == sorted(GOLD)
    found = fitted.predict_proba(X)
    assert found.shape == (len(X), 2)
    assert found.sum(axis=1) == pytest.approx(1)
    assert (fitted.predict(X) == fitted.classes_[found.argmax(axis=1)]).all()
    assert fitted.score(X, Y) == np.mean(fitted.predict(X) == np.array(Y)) > 0.5


def test_it_learns_what_train_learns(fitted: JapagenClassifier) -> None:
    settings = Training(tune="never")
    gold = jg.Dataset.from_records((X, Y), split="train")
    own = jg.train(
        None,
        gold,
        encoder=fitted.encoder,
        labels=sorted(GOLD),
        settings=settings,
        calibrated=False,
        progress=False,
    )
    assert fitted.predict_proba(X) == pytest.approx(own.probabilities(X), abs=1e-5)


@pytest.mark.parametrize("form", [np.array, pd.Series, tuple, lambda x: np.array(x).reshape(-1, 1)])
def test_texts_come_in_any_form(fitted: JapagenClassifier, form: Any) -> None:
    assert fitted.predict_proba(form(X)) == pytest.approx(fitted.predict_proba(X), abs=1e-6)


@pytest.mark.parametrize("y", [np.array(Y) == "配送", np.where(np.array(Y) == "配送", 3, 7)])
def test_classes_keep_their_type(estimator: JapagenClassifier, y: Any) -> None:
    found = clone(estimator).fit(X, y)
    assert found.classes_.tolist() == np.unique(y).tolist()
    assert found.predict(X).dtype == y.dtype


def test_it_is_searched_and_cross_validated(estimator: JapagenClassifier) -> None:
    assert len(cross_val_score(estimator, X, Y, cv=2)) == 2
    search = GridSearchCV(estimator, {"max_length": [16, 32]}, cv=2).fit(X, Y)
    assert search.best_params_["max_length"] in (16, 32)
    stripped = make_pipeline(
        FunctionTransformer(lambda texts: [t.strip() for t in texts]), estimator
    )
    assert stripped.fit(X, Y).predict(X[:3]).shape == (3,)


def test_synthetic_texts_are_learnt_from(estimator: JapagenClassifier) -> None:
    frame = pd.DataFrame(
        {"text": ["荷物が届かない。", "返品の期限は。"], "label": ["配送", "返品"]}
    )
    alone = clone(estimator).fit(X, Y).predict_proba(X)
    found = clone(estimator).fit(X, Y, synthetic=frame, unlabelled=X[:3])
    assert not np.allclose(found.predict_proba(X), alone)
    with pytest.raises(JapagenError, match="found 交換"):
        clone(estimator).fit(X, Y, synthetic=[("替えて。", "交換")])


def test_pairs_are_classified(estimator: JapagenClassifier) -> None:
    pairs = list(zip(X, X[::-1], strict=True))
    found = clone(estimator).fit(pairs, Y)
    assert found.predict_proba(pairs).shape == (len(X), 2)
    with pytest.raises(JapagenError, match="found single texts"):
        found.predict(X)


def test_it_is_pickled_without_code(fitted: JapagenClassifier) -> None:
    written = pickle.dumps(fitted)
    assert b"torch" not in written
    again = pickle.loads(written)
    assert again.get_params() == fitted.get_params()
    assert again.predict_proba(X) == pytest.approx(fitted.predict_proba(X), abs=1e-6)
    assert pickle.loads(pickle.dumps(JapagenClassifier(max_length=64))).max_length == 64


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:-1], "a class for each text, found 12 and 11"),
        (X[:3], Y[:3], "two classes or more, found 1 class"),
        (X, np.linspace(0, 1, 12), "continuous"),
        ([*X[:-1], None], Y, "Expected texts, found None"),
        (np.zeros((12, 3)), Y, r"Expected texts, found \["),
        ("返品", Y, "Expected a list of texts, found str"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    estimator: JapagenClassifier, x: Any, y: Any, message: str
) -> None:
    with pytest.raises((ValueError, JapagenError), match=message):
        clone(estimator).fit(x, y)


def test_it_predicts_only_when_fitted(estimator: JapagenClassifier) -> None:
    with pytest.raises(NotFittedError):
        clone(estimator).predict(X)
