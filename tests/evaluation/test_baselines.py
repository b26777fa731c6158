from __future__ import annotations

import random

import numpy as np
import pytest

from japagen.data.dataset import Dataset, Example
from japagen.data.labels import LabelSpace
from japagen.evaluation.baselines import _batches, fit_plain, fit_tfidf
from japagen.evaluation.metrics import score
from japagen.training.encoder import load_encoder
from tests.conftest import GOLD

LABELS = ("配送", "返品")
SPACE = LabelSpace("classification", LABELS)
TRAIN = Dataset.of(
    Example(text, label, split="train") for label, texts in GOLD.items() for text in texts
)
TEST = Dataset.of(
    [
        Example("荷物が届きません。再配達はいつ届きますか。", "配送", split="test"),
        Example("返品したいです。解約の手続きは誰に。", "返品", split="test"),
        Example("届け先に荷物がまだ届いてない。", "配送", split="test"),
        Example("定期便を解約したいので返品の送料を。", "返品", split="test"),
    ]
)


def test_tfidf_learns_what_words_say() -> None:
    found = fit_tfidf(TRAIN, TEST, SPACE)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert score(TEST.labels, SPACE.decide(found), SPACE)["accuracy"] == 1.0
    # The order of the columns is the task's, not scikit-learn's.
    turned = LabelSpace("classification", LABELS[::-1])
    np.testing.assert_allclose(fit_tfidf(TRAIN, TEST, turned), found[:, ::-1], atol=1e-6)


def test_tfidf_gives_nothing_to_a_class_without_examples() -> None:
    space = LabelSpace("classification", ("請求", *LABELS))
    found = fit_tfidf(TRAIN, TEST, space)
    assert found.shape == (4, 3)
    assert (found[:, 0] == 0).all()
    np.testing.assert_allclose(found[:, 1:], fit_tfidf(TRAIN, TEST, SPACE), atol=1e-6)


def test_tfidf_takes_tags_one_by_one() -> None:
    space = LabelSpace("multi_label", ("配送", "返品", "急ぎ"))
    tagged = Dataset.of(Example(e.text, [str(e.label), "急ぎ"]) for e in TRAIN)
    found = fit_tfidf(tagged, TEST, space)
    assert found.shape == (4, 3)
    assert (found[:, 2] == 1).all()  # on every text
    assert [row[:2].argmax() for row in found] == [0, 1, 0, 1]


def test_tfidf_sees_both_texts_of_a_pair() -> None:
    pairs = Dataset.of(
        Example("問い合わせです。", label, text_pair=text)
        for text, label in zip(TRAIN.texts, TRAIN.labels, strict=True)
    )
    asked = Dataset.of(
        Example("問い合わせです。", label, text_pair=text)
        for text, label in zip(TEST.texts, TEST.labels, strict=True)
    )
    found = fit_tfidf(pairs, asked, SPACE)
    assert score(asked.labels, SPACE.decide(found), SPACE)["accuracy"] == 1.0


def test_plain_fine_tuning_learns_and_leaves_the_encoder_alone(tiny_encoder: str) -> None:
    encoder = load_encoder(tiny_encoder)
    before = {key: value.clone() for key, value in encoder.model.state_dict().items()}
    steps: list[int] = []

    def progress(batches, total):  # type: ignore[no-untyped-def]
        steps.append(total)
        return batches

    found = fit_plain(TRAIN, TRAIN, SPACE, encoder, progress=progress)
    again = fit_plain(TRAIN, TRAIN, SPACE, encoder)
    np.testing.assert_array_equal(found, again)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert steps == [60]
    assert score(TRAIN.labels, SPACE.decide(found), SPACE)["accuracy"] > 0.6
    after = encoder.model.state_dict()
    assert all((after[key] == value).all() for key, value in before.items())


def test_plain_fine_tuning_reads_pairs_and_tags(tiny_encoder: str) -> None:
    encoder = load_encoder(tiny_encoder)
    space = LabelSpace("multi_label", LABELS, may_be_empty=True)
    rows = Dataset.of(
        Example(text, [label], text_pair="返品")
        for text, label in zip(TRAIN.texts, TRAIN.labels, strict=True)
    )
    other = rows.with_columns(text_pair=["配送" for _ in rows.texts])
    one, two = (fit_plain(rows, seen, space, encoder, max_steps=4) for seen in (rows, other))
    assert one.shape == (12, 2)
    assert ((one > 0) & (one < 1)).all()
    assert np.abs(one - two).max() > 0  # the second text was read


@pytest.mark.parametrize(("texts", "steps"), [(64, 60), (5, 3), (17, 7)])
def test_batches_pass_over_all_texts_and_put_like_lengths_together(texts: int, steps: int) -> None:
    lengths = [random.Random(i).randint(5, 80) for i in range(texts)]
    batches = list(_batches(lengths, steps, random.Random(0)))
    assert len(batches) == steps
    a_pass = -(-texts // 16)
    for start in range(0, steps - a_pass + 1, a_pass):
        assert sorted(i for b in batches[start : start + a_pass] for i in b) == list(range(texts))
    widths = [
        max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches if len(b) > 1
    ]
    if texts == 64:
        assert np.mean(widths) < 40 < max(lengths) - min(lengths)
