from __future__ import annotations

from pathlib import Path

import pytest

from japagen.data.dataset import Dataset, Example
from japagen.japanese.registers import Register
from japagen.pipeline.steps import align as file_alignment
from japagen.pipeline.steps.align import align_files, with_registers


def _sets() -> tuple[Dataset, Dataset, Dataset | None]:
    polite = [Example("荷物が届きません。", "あ", id="1")]
    known = Example("荷物が届かない。", "あ", id="2", register_seen=Register.of("honorific"))
    return Dataset.of([*polite, known]), Dataset.of([Example("届かない。", "あ")]), None


def _names(dataset: Dataset) -> list[str]:
    return [e.register_seen.name for e in dataset if e.register_seen]


def test_registers_are_found_where_there_are_none() -> None:
    synthetic, gold, _ = with_registers(_sets(), None)
    assert _names(synthetic) == ["polite", "honorific"]  # what the file says stays
    assert _names(gold) == ["plain"]
    assert _names(with_registers(_sets(), False)[0]) == ["honorific"]


def test_of_many_texts_they_are_found_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_alignment, "MOST_UNASKED", 1)
    notes: list[str] = []
    assert _names(with_registers(_sets(), None, notes.append)[1]) == []
    assert "2 texts come without one. --registers finds them" in notes[0]
    assert _names(with_registers(_sets(), True)[1]) == ["plain"]


def test_register_is_among_the_features(gold_file: Path, tmp_path: Path) -> None:
    for wanted, expected in ((None, True), (False, False)):
        found = align_files(
            gold_file, gold_file, tmp_path / f"{wanted}.jsonl", registers=wanted
        ).features
        assert found is not None
        assert ("register" in found.groups) == expected
