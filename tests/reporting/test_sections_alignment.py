from __future__ import annotations

from japagen.data.summary import RunSummary
from japagen.reporting.sections_alignment import alignment
from japagen.reporting.text import Words
from tests.report_sample import LABELS, sample_run


def test_label_shares_are_target_then_before_then_after() -> None:
    metrics, _ = sample_run()
    metrics["per_label"] = {
        label: {"kept": kept, "weight_share": share}
        for label, kept, share in zip(LABELS, (10, 20, 30, 40), (0.7, 0.1, 0.15, 0.05), strict=True)
    }
    found = alignment(RunSummary.model_validate(metrics), Words("en"))
    assert found is not None
    assert [name for name, _ in found["series"]] == ["Target", "Before", "After"]
    first = next(iter(LABELS))
    assert found["labels"][0] == (first, "31.0%", "10.0%", "70.0%")
    metrics["alignment"]["prior"]["probabilities"] = None
    found = alignment(RunSummary.model_validate(metrics), Words("en"))
    assert found is not None
    assert [name for name, _ in found["series"]] == ["Before", "After"]
    assert found["labels"][0] == (first, "10.0%", "70.0%")
