from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from japagen.examples import Dataset, Example
from japagen.mixing.confirming import Confirmation, confirm
from japagen.mixing.evidence import Fold, gather
from japagen.mixing.finding import find_mix, provenance
from japagen.mixing.linear_head import Floats
from japagen.mixing.mix import GOLD_ALONE, FoundMix, Mix
from tests.mixing.planted import LABELS, gold_set, planted, synthetic_set, vectors_of


def _find(gold: Dataset | None, synthetic: Dataset, kind: str = "good", **how: Any) -> FoundMix:
    return find_mix(
        gold,
        synthetic,
        LABELS,
        0.4,
        lambda g, s: vectors_of(g, s, kind),
        how.pop("weigh", lambda rows, _gold, _own: np.ones(len(rows))),
        seed=0,
        repeats=2,
        **how,
    )


def test_what_is_found_survives_a_file() -> None:
    gold = gold_set(16)
    found = _find(gold, synthetic_set(gold, 40))
    assert found.mix.share > 0
    assert found.details["folds"]["synthetic"] == 120
    assert found.details["provenance"] == "known"
    assert FoundMix.from_dict(found.to_dict()) == found


def test_the_order_of_rows_changes_nothing() -> None:
    gold = gold_set(8)
    synthetic = synthetic_set(gold, 20)
    vectors = dict(
        zip(
            (*gold.column("id"), *synthetic.column("id")),
            np.concatenate(vectors_of(gold, synthetic, "good")),
            strict=True,
        )
    )

    def find(gold_rows: list[Example], rows: list[Example]) -> FoundMix:
        return find_mix(
            Dataset.of(gold_rows),
            Dataset.of(rows),
            LABELS,
            0.4,
            lambda g, s: (
                np.array([vectors[i] for i in g.column("id")]),
                np.array([vectors[i] for i in s.column("id")]),
            ),
            lambda rows, _gold, own: own,
            seed=0,
            repeats=2,
        )

    first = find(list(gold), list(synthetic))
    shuffled = [list(gold), list(synthetic)]
    for rows in shuffled:
        random.Random(1).shuffle(rows)
    second = find(*shuffled)
    assert second.mix == first.mix
    for one, other in zip(first.details["candidates"], second.details["candidates"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-3)


def test_weights_of_a_fold_know_its_training_gold_alone() -> None:
    gold = gold_set(12)
    synthetic = synthetic_set(gold, 24)
    seen: list[set[str]] = []

    def weigh(rows: Dataset, train: Dataset, own: Floats) -> Floats:
        known = set(train.column("id"))
        seen.append(set(gold.column("id")) - known)
        for shots in rows.column("shot_ids"):
            assert set(shots) <= known
        assert len(own) == len(rows)
        return own

    _find(gold, synthetic, weigh=weigh)
    assert len(seen) == 16
    assert all(seen)


@pytest.mark.parametrize(
    ("gold", "made", "share", "reason"),
    [
        (None, 8, 0.4, "no_gold"),
        (gold_set(2), 8, 0.4, "few_gold"),
        (gold_set(16), 0, 0.0, "no_synthetic"),
    ],
)
def test_without_enough_to_search_with_it_says_so(
    gold: Dataset | None, made: int, share: float, reason: str
) -> None:
    synthetic = synthetic_set(gold_set(16), made)
    found = _find(gold, synthetic)
    assert (found.mix.share, found.reason) == (share, reason)
    assert FoundMix.from_dict(found.to_dict()) == found


def test_texts_that_all_saw_all_gold_cannot_be_judged() -> None:
    gold = gold_set(8)
    everything = tuple(gold.column("id"))
    rows = [Example(f"文{n}", LABELS[n % 3], shot_ids=everything) for n in range(30)]
    assert _find(gold, Dataset.of(rows)).reason == "few_usable"


def test_texts_of_unknown_descent_are_judged_and_named() -> None:
    gold = gold_set(8)
    rows = [Example(f"文{n}", LABELS[n % 3]) for n in range(60)]
    found = _find(gold, Dataset.of(rows))
    assert found.details["provenance"] == "unknown"
    assert found.details["folds"]["usable"] == [60] * 8
    zero_shot = Dataset.of([Example("文", "赤", request_id="r")])
    assert provenance(zero_shot) == "known"


def test_a_mix_takes_the_texts_of_most_weight_of_each_label() -> None:
    rows = [
        Example(f"文{n}", label, id=f"{label}{n}", weight_label=n + 1.0)
        for n in range(4)
        for label in LABELS
    ]
    data = Dataset.of(rows)
    part = FoundMix(Mix(0.4, 0.5), "better", {}).of(data)
    assert part is not None
    assert sorted(part.column("id")) == sorted(f"{label}{n}" for n in (2, 3) for label in LABELS)
    assert FoundMix(Mix(0.4), "default", {}).of(data) is data
    assert FoundMix(GOLD_ALONE, "no_help", {}).of(data) is None


def test_a_fold_keeps_the_weight_of_a_text_and_the_shares_of_labels() -> None:
    gold = gold_set(8)
    synthetic = synthetic_set(gold, 24)
    evidence = gather(
        gold,
        synthetic,
        LABELS,
        vectors_of(gold, synthetic, "good"),
        lambda rows, _gold, own: own,
        seed=0,
        repeats=1,
    )
    for fold in evidence.repeats[0]:
        used, train = len(fold.split.usable), len(fold.split.train)
        share = evidence.fold_share(Mix(0.4), train, used)
        ratio = (share / used) / ((1 - share) / train)
        assert ratio == pytest.approx((0.4 / 72) / (0.6 / 24))
        totals = np.bincount(fold.targets, weights=fold.weights, minlength=3)
        assert totals == pytest.approx(np.full(3, used / 3))


def test_labels_settled_with_all_of_gold_in_sight_do_not_reach_a_fold() -> None:
    gold = gold_set(8)
    synthetic = synthetic_set(gold, 24)
    told = synthetic.with_columns(label=[LABELS[0]] * len(synthetic), label_asked=synthetic.labels)

    def folds(data: Dataset, relabel: float | None) -> list[list[int]]:
        evidence = gather(
            gold,
            data,
            LABELS,
            vectors_of(gold, synthetic, "good"),
            lambda rows, _gold, own: own,
            seed=0,
            repeats=1,
            relabel=relabel,
        )
        return [fold.targets.tolist() for fold in evidence.repeats[0]]

    assert folds(told, None) == folds(synthetic, None)
    assert folds(told, 0.5) == folds(synthetic, 0.5) != folds(synthetic, None)


@pytest.mark.parametrize(("good", "worse"), [(0.9, False), (0.2, True)])
def test_fine_tuning_has_the_last_word(good: float, worse: bool) -> None:
    evidence = planted("good", per_label=8, synthetic=10, repeats=1)
    asked: list[float] = []

    def tune(fold: Fold, mix: Mix, share: float) -> Floats:
        asked.append(share)
        right = good if share else 0.5
        truth = evidence.gold_targets[fold.split.held]
        # Not all alike, so that there is an error to speak of.
        jitter = np.linspace(-0.02, 0.02, len(truth))[:, None]
        out = np.full((len(truth), 3), (1 - right) / 2)
        out[np.arange(len(truth)), truth] = right
        return np.asarray(np.abs(out + jitter))

    found = confirm(evidence, Mix(0.4), tune, most_folds=3, minutes=5)
    assert found.worse is worse
    assert found.texts == 9
    assert len(asked) == 6
    assert asked[0] == 0
    gold = gold_set(16)
    kept = _find(gold, synthetic_set(gold, 40), confirm=lambda _e, _m: found)
    assert (kept.mix == GOLD_ALONE) is worse
    assert (kept.reason == "worse_when_tuned") is worse
    assert kept.details["confirmation"]["texts"] == 9


def test_no_fold_is_begun_after_the_time() -> None:
    evidence = planted("good", per_label=8, synthetic=10, repeats=1)
    found = confirm(
        evidence,
        Mix(0.4),
        lambda fold, _mix, _share: np.full((len(fold.split.held), 3), 1 / 3),
        most_folds=8,
        minutes=1e-9,
    )
    assert found.texts == 3
    assert not Confirmation(3, 0.0, 0.0, 1.0).worse


def test_a_label_that_a_person_gave_stays_in_every_fold() -> None:
    gold = gold_set(8)
    asked = synthetic_set(gold, 10)
    changed = asked[0].id
    rows = [replace(e, label_asked=e.label) for e in asked]
    rows[0] = replace(rows[0], label=next(n for n in LABELS if n != rows[0].label))
    settled = Dataset.of(rows)
    trusts = []

    def weigh(rows: Dataset, _gold: Dataset, own: Floats) -> Floats:
        trusts.extend(t for i, t in zip(rows.column("id"), own, strict=True) if i == changed)
        return np.ones(len(rows))

    def labels(vouched: set[str]) -> set[str]:
        vectors = vectors_of(gold, asked, "good")
        evidence = gather(
            gold, settled, LABELS, vectors, weigh, seed=0, repeats=1, relabel=0.1, vouched=vouched
        )
        row = settled.column("id").index(changed)
        return {
            LABELS[fold.targets[list(fold.split.usable).index(row)]]
            for fold in evidence.repeats[0]
            if row in fold.split.usable
        }

    assert labels(set()) != {rows[0].label}
    trusts.clear()
    assert labels({changed}) == {rows[0].label}
    assert set(trusts) == {1.0}
