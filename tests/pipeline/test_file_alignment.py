from __future__ import annotations

from pathlib import Path

import pytest

from japagen.data.dataset import Dataset, Example
from japagen.data.formats import read_examples
from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.pipeline.steps import align as file_alignment
from japagen.pipeline.steps.align import align_files, with_like_labels, with_registers
from tests.conftest import write_jsonl


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


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp"])
def test_files_of_other_columns_and_encodings_are_weighted(tmp_path: Path, encoding: str) -> None:
    synthetic, gold = tmp_path / "synthetic.csv", tmp_path / "gold.csv"
    rows = [f"{n}番目の検針です。,ｶﾞｽ\n{n}番目の停電です。,電気\n" for n in range(4)]
    synthetic.write_bytes(("text,label\n" + "".join(rows)).encode(encoding))
    gold.write_bytes(("お声,label\n" + "".join(rows).replace("ｶﾞｽ", "ガス")).encode(encoding))
    with pytest.raises(JapagenError, match=r"'text' for the text in .*gold.csv"):
        align_files(synthetic, gold, tmp_path / "out.jsonl", registers=False)
    output = tmp_path / "out.csv"
    align_files(
        synthetic, gold, output, columns={"gold.text": "お声"}, registers=False, method="labels"
    )
    assert set(read_examples(output).labels) == {"ガス", "電気"}


def test_whole_numbers_go_with_numbers() -> None:
    whole = Dataset.of([Example("一", "1"), Example("五", "5")])
    broken = Dataset.of([Example("一", 1.5), Example("五", 4.0)])
    for pair in ((whole, broken), (broken, whole)):
        assert {type(label) for part in with_like_labels(*pair) for label in part.labels} == {float}
    classes = Dataset.of([Example("一", "良"), Example("五", "5")])
    assert with_like_labels(classes, broken)[0] is classes


def test_every_label_that_gold_lacks_is_named(gold_file: Path, tmp_path: Path) -> None:
    rows = [{"text": "一", "label": "交換"}, {"text": "二", "label": "請求"}]
    synthetic = write_jsonl(tmp_path / "synthetic.jsonl", rows)
    with pytest.raises(JapagenError, match=r"gold never has: 交換, 請求; gold has 返品, 配送"):
        align_files(synthetic, gold_file, tmp_path / "out.jsonl", registers=False)
