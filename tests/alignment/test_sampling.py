from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.alignment.sampling import Fit, find_factors, fit_sample, sampled, score_rows
from japagen.alignment.weights import align_datasets
from japagen.data.dataset import Dataset, Example
from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from tests.curation.test_bands import varied

GOLD = Dataset.of(varied(24, 1))


@given(
    total=st.integers(1, 3000), share=st.floats(0.05, 1.0), seed=st.integers(0, 9), cut=st.data()
)
@settings(max_examples=30)
def test_a_sample_is_even_and_does_not_depend_on_shards(
    total: int, share: float, seed: int, cut: st.DataObject
) -> None:
    size = max(1, int(total * share))
    rows = np.arange(total)
    drawn = sampled(rows, size, total, seed)
    at = cut.draw(st.integers(0, total))
    parts = [sampled(part, size, total, seed) for part in np.split(rows, [at])]
    assert np.array_equal(np.concatenate(parts), drawn)
    assert abs(int(drawn.sum()) - size) <= 5 * np.sqrt(size) + 1
    assert sampled(rows, total, total, seed).all()


def weights(fit: Fit, texts: Dataset, shards: int) -> np.ndarray:
    cuts = [texts.take(at) for at in np.array_split(np.arange(len(texts)), shards)]
    scored = [score_rows(fit, cut) for cut in cuts]
    factors = find_factors(fit, [table.schema for table in scored])
    parts = [factors.weigh(table).column("weight_distribution") for table in scored]
    return np.concatenate([np.array(part) for part in parts])


@pytest.mark.parametrize("kind", ["list", "number"])
def test_lists_and_numbers_are_weighted_as_in_memory(kind: str) -> None:
    def labelled(texts: Dataset) -> Dataset:
        found = []
        for example in texts:
            tags = [tag for tag in ("荷物", "画面", "返品") if tag in example.text]
            label = tags if kind == "list" else float(len(example.text))
            found.append(Example(example.text, label, id=example.id))
        return Dataset.of(found)

    synthetic, gold = labelled(Dataset.of(varied(90, 2))), labelled(GOLD)
    fit = fit_sample(synthetic, gold, None, label_prior="gold")
    expected = align_datasets(synthetic, gold, label_prior="gold").weights
    fit = Fit.model_validate_json(fit.model_dump_json())
    np.testing.assert_allclose(weights(fit, synthetic, 4), expected, rtol=1e-6)


def test_a_register_that_the_sample_lacks_counts_for_none() -> None:
    polite, plain = Register.of("polite"), Register.of("plain")
    texts = Dataset.of(varied(60, 3)).with_registers([polite] * 30 + [plain] * 30)
    gold = GOLD.with_registers([polite] * 12 + [plain] * 12)
    fit = fit_sample(texts, gold, None)
    assert fit.space is not None
    assert fit.space.registers == ("plain", "polite")
    odd = texts.with_registers([Register.of("casual")] * 60)
    assert np.isfinite(weights(fit, odd, 2)).all()


def test_an_empty_shard_adds_nothing() -> None:
    texts = Dataset.of(varied(40, 4))
    fit = fit_sample(texts, GOLD, None)
    whole, nothing = score_rows(fit, texts), score_rows(fit, Dataset.of([]))
    assert len(nothing) == 0
    both = find_factors(fit, [whole.schema, nothing.schema])
    np.testing.assert_array_equal(both.factors, find_factors(fit, [whole.schema]).factors)


def test_what_every_target_text_has_is_no_unit_of_distance() -> None:
    """Its standard error is what rounding leaves of 0."""

    def ended(texts: Dataset) -> Dataset:
        return Dataset.of([Example(f"{e.text}。", e.label, id=e.id) for e in texts])

    texts = ended(Dataset.of(varied(60, 4)))
    fit = fit_sample(texts, ended(GOLD), None)
    assert fit.space is not None
    assert fit.target is not None
    error = dict(zip(fit.space.names, fit.target[1], strict=True))
    assert 0 < error["word:。"] < 1e-8
    found = find_factors(fit, [score_rows(fit, texts).schema]).report
    assert found["sampling_error"]["after"] < 0.01
    assert found["largest_gap"]["after"] <= found["largest_gap"]["before"]


def test_numbers_without_gold_are_refused() -> None:
    texts = Dataset.of([Example(f"{n}番の荷物", float(n)) for n in range(9)])
    with pytest.raises(JapagenError, match="sorted into bins by gold"):
        fit_sample(texts, None, None)


def test_sums_do_not_depend_on_who_adds_them() -> None:
    texts = Dataset.of(varied(50, 5))
    fit = fit_sample(texts, GOLD, None)
    for shards in (1, 3, 50):
        np.testing.assert_array_equal(weights(fit, texts, shards), weights(fit, texts, 1))
