from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.data.summary import RunSummary
from japagen.errors import DamagedError
from japagen.reporting.report import render_report
from tests.report_sample import sample_run, small_summary

METRICS, DATASET = sample_run()
REQUIRED = {"japagen", "task", "counts", "per_label"}


def test_it_comes_back_from_a_file_as_it_was(tmp_path: Path) -> None:
    summary = RunSummary.model_validate(METRICS)
    path = tmp_path / "metrics.json"
    summary.save(path)
    assert json.loads(path.read_text(encoding="utf-8")) == METRICS
    assert RunSummary.load(path) == summary


def test_what_another_version_says_besides_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    metrics = METRICS | {"later": {"a": [1]}, "mix": METRICS["mix"] | {"later": 1}}
    path.write_text(json.dumps(metrics), encoding="utf-8")
    assert RunSummary.load(path).to_dict() == metrics


def test_a_run_before_0_2_has_its_reasons_twice() -> None:
    """As a sentence and as a code with values; the sentence says all."""
    alignment = METRICS["alignment"]
    old = alignment["prior"] | {"reason": {"code": "gold_asked", "values": {"n": 64}}}
    diagnostics = alignment["diagnostics"] | {"note_reasons": [None]}
    summary = RunSummary.model_validate(
        METRICS | {"alignment": alignment | {"prior": old, "diagnostics": diagnostics}}
    )
    html = render_report(summary, DATASET)
    assert "正解データ 64 件のラベルの割合を使いました" in html


@given(st.sets(st.sampled_from(sorted(METRICS.keys() - REQUIRED))))
def test_parts_that_an_earlier_version_lacks_have_their_defaults(lacking: set[str]) -> None:
    metrics = {key: value for key, value in METRICS.items() if key not in lacking}
    summary = RunSummary.model_validate(metrics)
    assert summary.to_dict() == metrics
    fresh = small_summary()
    assert all(getattr(summary, key) == getattr(fresh, key) for key in lacking)


def test_the_least_that_a_run_says_is_a_report() -> None:
    summary = small_summary(
        mix={"share": 0.4, "reason": "cross_validated"}, audit={}, counts={"gold": 8} | _COUNTS
    )
    html = render_report(summary, DATASET, language="en")
    # A reason that this version has no sentence for is shown as it is.
    assert "cross_validated" in html
    assert "not measured" in html


_COUNTS = {"test": 0, "kept": 3, "generated": 4}


@pytest.mark.parametrize(
    ("share", "texts", "added", "not_used"),
    [
        (0.4, 0, "synthetic", False),
        (0.0, 0, "synthetic", True),
        (0.0, 9, "unlabelled", False),
        (0.4, 9, "both", False),
    ],
)
def test_what_was_added_to_gold(share: float, texts: int, added: str, not_used: bool) -> None:
    mix, pseudo = {"share": share, "reason": "given"}, {"reason": "always", "texts": texts}
    summary = small_summary(mix=mix, pseudo_labels=pseudo)
    assert (summary.added, summary.not_used) == (added, not_used)


@pytest.mark.parametrize("text", ["", "[]", '{"task": 1}', '{"japagen": "0.1"'])
def test_what_is_no_summary_is_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DamagedError):
        RunSummary.load(path)


def test_the_published_schema_is_that_of_the_code_and_takes_what_is_written() -> None:
    schema = RunSummary.model_json_schema(mode="serialization")
    published = Path(__file__).parents[2] / "docs" / "metrics.schema.json"
    # Written by: json.dumps(schema, indent=1, ensure_ascii=False)
    assert json.loads(published.read_text(encoding="utf-8")) == schema
    jsonschema.validate(METRICS, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(METRICS | {"counts": {"gold": "many"}}, schema)
