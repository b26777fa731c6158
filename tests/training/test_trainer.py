from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.sections import Training
from japagen.data.dataset import Dataset, Example
from japagen.training.trainer import FrozenTraining, label_phrases, train
from tests.conftest import GOLD


def test_a_description_is_a_list_of_phrases() -> None:
    described = {"請求": "請求額、明細、 明細。", "配送": "", "技術": "動かない\n遅い; 落ちる"}
    phrases, labels = label_phrases(["請求", "配送", "技術", "他"], described)
    assert phrases == ["請求額", "明細", "配送", "動かない", "遅い", "落ちる", "他"]
    assert labels == [0, 0, 1, 2, 2, 2, 3]


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=30), min_size=1))
def test_every_label_has_a_phrase(described: dict[str, str]) -> None:
    phrases, labels = label_phrases(list(described), described)
    assert sorted(set(labels)) == list(range(len(described)))
    assert all(phrases)
    assert labels == sorted(labels)


DESCRIPTIONS = {"配送": "荷物、届け先", "返品": "返品、交換"}


def test_its_heads_are_those_that_train_fits(tiny_encoder: str) -> None:
    rows = [(text, label) for label in DESCRIPTIONS for text in GOLD[label]]
    gold = Dataset.of(Example(t, label, split="train") for t, label in rows)
    synthetic = Dataset.of(
        Example(f"{t}お願い", label, weight_distribution=1 + i % 3)
        for i, (t, label) in enumerate(rows)
    )
    settings = Training(synthetic_share=0.3)
    trained = train(
        synthetic, gold, encoder=tiny_encoder, descriptions=DESCRIPTIONS, settings=settings
    )
    frozen = FrozenTraining(tiny_encoder, DESCRIPTIONS, settings)
    # In gold texts: three tenths of the whole are three sevenths of gold.
    per_text = 3 / 7 * len(gold) / synthetic.weights.sum()
    mass = np.concatenate([np.ones(len(gold)), synthetic.weights * per_text])
    targets = np.array([list(DESCRIPTIONS).index(e.label) for e in [*gold, *synthetic]])
    texts = ["荷物はどこ", "返品したい", "定期便"]
    found = frozen.probabilities(
        frozen.vectors([*gold.texts, *synthetic.texts]),
        targets,
        mass,
        frozen.vectors(texts),
    )
    # The trained one is calibrated besides: the same order and the same odds but for a power.
    odds = [np.log(p[:, 0] / p[:, 1]) for p in (found, trained.probabilities(texts))]
    assert np.allclose(odds[0] / odds[1], odds[0][0] / odds[1][0], rtol=1e-3)
    assert odds[0][0] / odds[1][0] > 0


def test_gold_alone_classifies_others(tiny_encoder: str) -> None:
    frozen = FrozenTraining(tiny_encoder, DESCRIPTIONS, Training())
    gold = frozen.vectors([text for label in DESCRIPTIONS for text in GOLD[label]])
    targets = np.repeat([0, 1], [len(GOLD[label]) for label in DESCRIPTIONS])
    others = frozen.vectors(["荷物はどこ", "返品したい"])
    found = frozen.log_probabilities(gold, targets, others)
    alone = frozen.probabilities(gold, targets, np.ones(len(gold)), others)
    np.testing.assert_allclose(np.exp(found), alone)
