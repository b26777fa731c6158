"""What is predicted is printed and written as it is, with all that its file says."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from japagen.cli.main import app
from japagen.config.sections import Training
from japagen.data.dataset import Dataset, Example
from japagen.data.tables import open_table
from japagen.training.trainer import train
from tests.conftest import GOLD


@pytest.fixture(scope="module")
def model(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    gold = Dataset.of(Example(text, label) for label, texts in GOLD.items() for text in texts)
    path = tmp_path_factory.mktemp("models") / "model"
    settings = Training(tune="never", max_length=32)
    train(None, gold, encoder=tiny_encoder, settings=settings).save(path)
    return path


def predict(model: Path, *arguments: object, stdin: str | bytes = b"") -> Result:

    return CliRunner().invoke(
        app, ["model", "predict", str(model), *map(str, arguments)], input=stdin
    )


def _tsv(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return list(csv.reader(io.StringIO(result.stdout), delimiter="\t"))


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


ROWS = [
    {"受付": "k1", "本文": "荷物は\nいつ届きますか。", "label": "配送"},
    {"受付": "k2", "本文": "返品の\t手続き :smile: 10:100:20 [bold]", "label": "返品"},
    {"受付": "k3", "本文": "", "label": "返品"},
]


def test_texts_are_printed_as_they_are(model: Path, tmp_path: Path) -> None:
    path = _write(tmp_path / "texts.csv", ROWS)
    rows = _tsv(predict(model, path, "--column", "text=本文"))
    assert [row[2] for row in rows] == [row["本文"] for row in ROWS]
    assert [len(row) for row in rows] == [3, 3, 3]
    assert rows[0][0] in GOLD
    assert 0 < float(rows[0][1]) <= 1
    assert rows[2][:2] == ["", ""]


@pytest.mark.parametrize("encoding", ["utf-8", "cp932", "euc_jp", "utf-16"])
def test_standard_input_is_decoded(model: Path, encoding: str) -> None:
    lines = ["荷物はいつ届きますか。", "返品したいです。"]
    rows = _tsv(predict(model, stdin=("\n".join(lines) + "\n").encode(encoding)))
    assert [row[2] for row in rows] == lines


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_a_file_of_predictions_keeps_all_columns(model: Path, suffix: str, tmp_path: Path) -> None:
    if suffix == "xlsx":
        pytest.importorskip("openpyxl")
    path, output = _write(tmp_path / "texts.csv", ROWS), tmp_path / f"out.{suffix}"
    result = predict(model, path, "--column", "text=本文", "-o", output)
    assert result.exit_code == 0, result.output
    found = [row for _, row in open_table(output).rows(None)]
    assert [row["受付"] for row in found] == ["k1", "k2", "k3"]
    assert [row.get("本文") or "" for row in found] == [row["本文"] for row in ROWS]
    # The file's own label is not the classifier's.
    assert [row["given_label"] for row in found] == ["配送", "返品", "返品"]
    assert found[0]["label"] in GOLD
    assert found[2].get("label") is None
    first = found[0].get("probabilities") or {
        name: found[0][f"probability_{name}"] for name in GOLD
    }
    assert sum(map(float, first.values())) == pytest.approx(1)
    assert found[0]["out_of_scope"] in (True, False, "True", "False")
    refused = predict(model, path, "--column", "text=本文", "-o", output)
    assert "is there already" in str(refused.exception)


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl.gz", "xlsx"])
def test_columns_called_as_ours_are_kept(model: Path, suffix: str, tmp_path: Path) -> None:
    if suffix == "xlsx":
        pytest.importorskip("openpyxl")
    theirs = {"given_label": "a", "label": "b", "probability_配送": "c", "confidence": "d"}
    path = _write(tmp_path / "texts.csv", [{"text": "荷物", **theirs}])
    output = tmp_path / f"out.{suffix}"
    assert predict(model, path, "-o", output).exit_code == 0
    ((_, row),) = open_table(output).rows(None)
    assert set(theirs.values()) <= {value for value in row.values() if isinstance(value, str)}
    assert row["label"] in GOLD
    assert ("probabilities" in row) is (suffix in ("json", "jsonl.gz"))


def test_json_is_json_whatever_the_file_holds(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    at = datetime(2026, 11, 30, tzinfo=UTC)
    pq.write_table(pa.table({"text": ["荷物"], "price": [float("nan")], "at": [at]}), path)
    line = predict(model, path, "--json").stdout
    row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (row["price"], row["at"]) == (None, "2026-11-30 00:00:00+00:00")


def test_json_keeps_ids(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(
        '{"id": 12345678901234567890, "text": "荷物"}\n{"id": 2, "text": null}\n', "utf-8"
    )
    rows = [json.loads(line) for line in predict(model, path, "--json").stdout.splitlines()]
    assert [row["id"] for row in rows] == [12345678901234567890, 2]
    assert rows[1]["label"] is None
    assert set(rows[0]["probabilities"]) == set(GOLD)


def test_long_and_blank_texts_are_counted_and_told(model: Path) -> None:
    long = "荷物が届きません。" * 20
    result = predict(model, stdin=f"{long}\n荷物\n\n".encode())
    assert "1 of 3 texts are longer than the 32 tokens" in result.stderr
    assert "they were read in parts" in result.stderr
    assert "1 of 3 have no text, and no label" in result.stderr
    assert _tsv(result)[0][2] == long


def test_a_text_like_none_is_out_of_scope_when_asked(model: Path) -> None:
    texts = ["荷物はいつ届きますか。", "Zwölf Boxkämpfer jagen Viktor quer über den Deich"]
    plain = _tsv(predict(model, stdin="\n".join(texts).encode()))
    asked = _tsv(predict(model, "--out-of-scope", stdin="\n".join(texts).encode()))
    assert [row[0] for row in asked] == [plain[0][0], "対象外"]
    assert plain[1][0] in GOLD


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--column", "本文"], "Expected --column key=value, found '本文'"),
        (["--column", "body=本文"], "'body' is none of text"),
        (["--encoding", "utf-9"], "Unknown encoding 'utf-9'"),
        (["--encoding", "euc_jp"], "Expected standard input to be euc_jp"),
        (["-o", "out.doc"], ".xlsx file, found 'out.doc'"),
    ],
)
def test_wrong_options_are_refused(model: Path, options: list[str], message: str) -> None:
    result = predict(model, *options, stdin="返品".encode("cp932"))
    assert message in str(result.exception)


def test_shards_hold_what_one_file_holds(model: Path, tmp_path: Path) -> None:
    rows = [{**ROWS[n % 3], "受付": f"k{n}"} for n in range(11)]
    path = _write(tmp_path / "texts.csv", rows)
    one = tmp_path / "one.parquet"
    how = (path, "--column", "text=本文", "--abstain-below", 0.4)
    assert predict(model, *how, "-o", one).exit_code == 0
    command = (*how, "-o", tmp_path / "out", "--engine", "here", "--shard-rows", 4)
    first = predict(model, *command)
    assert first.exit_code == 0, first.output
    expected, found = pq.read_table(one), pq.read_table(tmp_path / "out" / "predicted")
    assert found.num_rows == 11
    assert set(found.column_names) == set(expected.column_names)
    for name in expected.column_names:
        ours, theirs = found.column(name).to_pylist(), expected.column(name).to_pylist()
        if name == "confidence" or name.startswith("probability_"):
            assert ours == pytest.approx(theirs, abs=1e-5)
        else:
            assert [v or None for v in ours] == [v or None for v in theirs]
    done = {f: f.stat().st_mtime_ns for f in (tmp_path / "out" / "predicted").iterdir()}
    assert predict(model, *command).exit_code == 0
    assert {f: f.stat().st_mtime_ns for f in done} == done
    refused = predict(model, "--engine", "here")
    assert "an --output directory with --engine" in str(refused.exception)
