r"""The density ratio of a cross-fitted classifier that tells target from source.

With both sides given the same total weight, a calibrated classifier's odds are the ratio itself:

    w(x) = p(target | x) / p(source | x) = p_target(x) / p_source(x).

A logistic regression on the alignment features is fitted in folds, and every text is scored by
the model that did not see it: a model that saw the text has partly learnt it by heart and would
call every source text source. Texts with the same features share a fold, for the same reason.
Platt scaling on these unseen scores then gives slope and offset, the slope never below 0, and
the log ratio is clipped, as one text in a thousand that looks like no other would otherwise
outweigh the rest.

Source: Qin (1998) and Bickel, Brückner & Scheffer (2009), Discriminative Learning Under Covariate
Shift; cross-fitting as in Chernozhukov et al. (2018); Platt (1999) for the calibration. Assumes
that source has texts wherever target does, and that the log ratio is linear in the features.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import sparse

from japagen.alignment.comparison import Side
from japagen.alignment.counting import Floats, Ints

_FOLDS = 5
_PENALTY = 0.1
_CLIP = 3.0


def tilt(source: Side, target: Side, rng: np.random.Generator) -> Floats:
    """Log tilt of each source text, shape (n,), between -3 and 3.

    Args:
        source: Weighted texts to tilt; all alike, they get no tilt.
        target: Weighted texts to resemble; likewise.
        rng: Deals texts to folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import MaxAbsScaler

    stacked = sparse.vstack([source.features, target.features], format="csr")
    features = MaxAbsScaler().fit_transform(stacked)
    is_target = np.repeat([0, 1], [len(source), len(target)])
    # As much weight on either side, and in all as much as the texts are worth: a handful of gold
    # must not shrink the penalty of a model on thousands of synthetic texts to nothing.
    worth = 2 * min(source.size, target.size)
    weight = np.concatenate([source.share, target.share]) * worth / 2
    unseen = np.zeros(len(is_target))
    fold = _folds(sparse.csr_array(features), is_target, rng)
    for f in range(_FOLDS):
        seen, held = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        if min(np.bincount(is_target[seen], minlength=2)) == 0:
            return np.zeros(len(source))
        if not len(held):
            continue
        fold_weight = weight[seen]
        for side in (0, 1):
            mine = is_target[seen] == side
            fold_weight[mine] *= worth / 2 / max(float(fold_weight[mine].sum()), 1e-300)
        model = LogisticRegression(C=_PENALTY, max_iter=300)
        model.fit(features[seen], is_target[seen], sample_weight=fold_weight)
        unseen[held] = model.decision_function(features[held])
    calibrated = LogisticRegression(C=1.0)
    calibrated.fit(unseen[:, None], is_target, sample_weight=weight)
    slope, offset = float(calibrated.coef_[0, 0]), float(calibrated.intercept_[0])
    log_ratio = max(slope, 0.0) * unseen[: len(source)] + offset
    return np.clip(log_ratio, -_CLIP, _CLIP)


def _folds(features: sparse.csr_array, is_target: Ints, rng: np.random.Generator) -> Ints:
    """Deals texts to folds, shape (n,): equal rows together, target texts evenly."""
    features.sort_indices()
    known: dict[bytes, int] = {}
    group = np.empty(features.shape[0], dtype=np.int64)
    for i, (a, b) in enumerate(pairwise(features.indptr)):
        row = features.indices[a:b].tobytes() + features.data[a:b].tobytes()
        group[i] = known.setdefault(row, len(known))
    has_target = np.bincount(group, weights=is_target, minlength=len(known)) > 0
    fold = np.empty(len(known), dtype=np.int64)
    for members in (np.flatnonzero(has_target), np.flatnonzero(~has_target)):
        fold[members] = rng.permutation(len(members)) % _FOLDS
    return fold[group]
