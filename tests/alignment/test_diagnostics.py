from __future__ import annotations

import json

import numpy as np

from japagen.alignment.diagnostics import effective_size
from japagen.alignment.weights import align_datasets
from japagen.data.dataset import Dataset, Example

GOLD = Dataset.of([Example(f"{i}番の駅で降ります。", "a" if i % 3 else "b") for i in range(18)])
SYNTHETIC = Dataset.of([Example(f"{i}番の店に寄った!", "a" if i % 2 else "b") for i in range(20)])


def test_effective_size_overall_and_by_label() -> None:
    weights = np.array([1.0, 1.0, 2.0, 0.0])
    found = effective_size(weights, {"a": weights[:2], "b": weights[2:], "c": weights[:0]})
    assert found.rows == 16 / 6
    assert found.share == 16 / 24
    assert found.per_label == {"a": 1.0, "b": 0.5}


def test_diagnostics_survive_json_and_name_the_words() -> None:
    found = align_datasets(SYNTHETIC, GOLD).to_dict()["diagnostics"]
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found
    assert "!" in {shift["word"] for shift in found["overused"]}
    assert "駅" in {shift["word"] for shift in found["underused"]}
    assert found["label_distance"]["before"] > found["label_distance"]["after"]
    assert found["two_sample_auc"]["before"] > 0.9


def test_diagnostics_do_not_depend_on_row_order() -> None:
    backwards = align_datasets(SYNTHETIC.take(range(19, -1, -1)), GOLD.take(range(17, -1, -1)))
    assert backwards.to_dict() == align_datasets(SYNTHETIC, GOLD).to_dict()
