from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from japagen.alignment.weights import align_datasets
from japagen.config.curation import Curation
from japagen.curation.filters import curate
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.formats import load_dataset, write_examples
from japagen.errors import JapagenError
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.listener import Silent
from japagen.pipeline.sharded import (
    Sharding,
    align_shards,
    curate_shards,
    register_shards,
)
from tests.command_line import japagen
from tests.conftest import write_jsonl
from tests.curation.test_bands import varied

ENGINES = ["here", "processes", pytest.param("ray", marks=[pytest.mark.slow])]


def read(folder: Path) -> Dataset:
    return Dataset.concat([load_dataset(path) for path in sorted(folder.glob("*.parquet"))])


@pytest.fixture
def texts(tmp_path: Path) -> Dataset:
    found = Dataset.of(
        [
            *varied(180, 3),
            Example("短い", "良", id="short"),
            Example("電話は03-1234-5678です、よろしくお願いします。", "良", id="phone"),
            Example("This is all English.", "良", id="english"),
        ]
    )
    write_examples(tmp_path / "in.parquet", found)
    return found


@pytest.fixture
def gold(tmp_path: Path) -> Dataset:
    found = Dataset.of(varied(10, 4))
    write_examples(tmp_path / "gold.jsonl", found)
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_curation_in_shards_is_curation(
    engine: str, texts: Dataset, gold: Dataset, tmp_path: Path
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    settings = Curation(personal_data="reject", max_gold_overlap=0.9)
    registers = [report.register for report in RegisterAnalyzer().analyze_all(texts.texts)]
    expected = curate(texts.with_registers(registers), settings, gold)
    out = tmp_path / "out"
    sharding = Sharding(engine, workers=2, shard_rows=50)
    found = curate_shards(tmp_path / "in.parquet", out, settings, gold, sharding, Silent())
    assert read(out / "curated").table.equals(expected.table)
    assert found["rejected"] == expected.rejection_counts
    assert {"duplicate", "near_duplicate", "near_duplicate_of_gold", "personal_data"} <= set(
        found["rejected"]
    )
    assert found["kept"] == int(expected.kept_mask.sum())
    assert not (out / "rows").exists()  # what was on the way is gone
    schema = pq.read_schema(out / "curated" / "00000.parquet")
    assert schema.names == texts.table.column_names
    again = curate_shards(tmp_path / "in.parquet", out, settings, gold, sharding, Silent())
    assert again == found


def test_parts_come_to_the_same(texts: Dataset, tmp_path: Path) -> None:
    whole = Sharding("here", shard_rows=30)
    curate_shards(tmp_path / "in.parquet", tmp_path / "whole", Curation(), None, whole, Silent())
    waited = []
    for turn in range(30):
        part = Sharding("here", part=f"{turn % 2 + 1}/2", shard_rows=30)
        out = tmp_path / "parts"
        found = curate_shards(tmp_path / "in.parquet", out, Curation(), None, part, Silent())
        if "waiting" not in found:
            break
        waited.append(found["waiting"]["step"])
    assert waited[:3] == ["rows", "keys", "shared"]
    assert read(tmp_path / "parts" / "curated").table.equals(
        read(tmp_path / "whole" / "curated").table
    )


def test_meanings_are_not_compared_in_shards(tmp_path: Path) -> None:
    settings = Curation(max_meaning_similarity=0.9)
    with pytest.raises(JapagenError, match="max_meaning_similarity"):
        curate_shards(tmp_path, tmp_path, settings, None, Sharding("here"), Silent())


def test_a_csv_is_cut_and_its_rows_get_ids(tmp_path: Path) -> None:
    lines = ["本文,分類", *(f"{n}番の荷物が届きません。,配送" for n in range(5))]
    (tmp_path / "in.csv").write_text("\n".join([*lines, lines[1]]), encoding="cp932")
    curate_shards(
        tmp_path / "in.csv", tmp_path / "out", Curation(max_similarity=1), None,
        Sharding("here", shard_rows=2), Silent(),
    )  # fmt: skip
    found = read(tmp_path / "out" / "curated")
    assert found.texts[:2] == ["0番の荷物が届きません。", "1番の荷物が届きません。"]
    assert found.labels == ["配送"] * 6
    assert len(set(found.column("id"))) == 6
    assert [r and r.filter for r in found.rejections] == [None] * 5 + ["duplicate"]


def test_labels_of_two_kinds_are_refused(tmp_path: Path) -> None:
    rows = [{"text": "荷物が届きません。", "label": label} for label in ("一", "二", 1.5, 2.5)]
    write_jsonl(tmp_path / "in.jsonl", rows)
    with pytest.raises(JapagenError, match="double in shard 00001, string in shard 00000"):
        curate_shards(
            tmp_path / "in.jsonl", tmp_path / "out", Curation(), None,
            Sharding("here", shard_rows=2), Silent(),
        )  # fmt: skip


def test_registers_stand_beside_all_columns(tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "in.jsonl",
        [{"本文": "お荷物が届きません。", "番号": 1}, {"本文": "届いてないよ。", "番号": 2}],
    )
    sharding = Sharding("here", shard_rows=1, columns={"text": "本文"})
    found = register_shards(tmp_path / "in.jsonl", tmp_path / "out", sharding, Silent())
    table = pq.read_table(tmp_path / "out" / "registers")
    assert table.column("style").to_pylist() == ["teinei", "kudaketa"]
    assert table.column("番号").to_pylist() == [1, 2]
    assert found["rows"] == 2
    register_shards(tmp_path / "in.jsonl", tmp_path / "x", Sharding("here", shard_rows=1), Silent())
    assert pq.read_table(tmp_path / "x" / "registers") == table  # 本文 is found, too
    write_jsonl(tmp_path / "other.jsonl", [{"文言": "お荷物が届きません。"}])
    with pytest.raises(JapagenError, match="a column 'text', found 文言"):
        register_shards(tmp_path / "other.jsonl", tmp_path / "y", Sharding("here"), Silent())


def labelled(n: int, seed: int) -> Dataset:
    found = Dataset.of(varied(n, seed))
    rng = np.random.default_rng(seed)
    labels = [("良", "悪")[int(rng.random() < 0.3 + 0.4 * ("画面" in t))] for t in found.texts]
    return found.with_columns(label=labels, weight_label=rng.uniform(0.5, 1, n))


@pytest.mark.parametrize("method", ["entropy", "labels", "none"])
def test_alignment_of_all_rows_is_alignment(method: str, tmp_path: Path) -> None:
    synthetic, gold = labelled(300, 5), labelled(40, 6)
    write_examples(tmp_path / "in.parquet", synthetic)
    write_examples(tmp_path / "gold.jsonl", gold)
    expected = align_datasets(synthetic, gold, method=method, label_prior="gold")
    found = []
    for rows in (70, 300) if method == "entropy" else (70,):
        told = align_shards(
            tmp_path / "in.parquet", tmp_path / "gold.jsonl", tmp_path / str(rows),
            Sharding("here", shard_rows=rows), Silent(), method=method, label_prior="gold",
        )  # fmt: skip
        found.append(read(tmp_path / str(rows) / "aligned"))
    assert found[0].table.equals(found[-1].table)  # to the last bit
    weights = np.array(found[0].column("weight_distribution"))
    np.testing.assert_allclose(weights, expected.weights, rtol=1e-7)
    size = told["all"]["effective_sample_size"]["rows"]
    assert size == pytest.approx(expected.diagnostics.effective_sample_size.rows, rel=1e-6)
    written = pq.read_table(tmp_path / "70" / "aligned").column("weight").to_numpy()
    aligned = synthetic.with_columns(weight_distribution=expected.weights)
    np.testing.assert_allclose(written, aligned.weights, rtol=1e-7)


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_from_a_sample_are_the_same_for_any_shards(engine: str, tmp_path: Path) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    synthetic, gold = labelled(600, 7), labelled(40, 8)
    synthetic = synthetic.with_rejections([None] * 599 + [curate(
        Dataset.of([Example("短", "良")]), Curation()).rejections[0]])  # fmt: skip
    write_examples(tmp_path / "in.parquet", synthetic)
    write_examples(tmp_path / "gold.jsonl", gold)
    runs = []
    for name, rows, kind in (("one", 600, "here"), ("many", 90, engine)):
        told = align_shards(
            tmp_path / "in.parquet", tmp_path / "gold.jsonl", tmp_path / name,
            Sharding(kind, workers=2, shard_rows=rows), Silent(), sample=250,
        )  # fmt: skip
        runs.append((told["all"], told["alignment"], read(tmp_path / name / "aligned").table))
    assert runs[0][0] == runs[1][0]
    assert runs[0][1] == runs[1][1]
    assert runs[0][2].equals(runs[1][2])
    weights = np.array(runs[0][2].column("weight_distribution"))
    assert weights[-1] == 0
    assert weights[:-1].mean() == pytest.approx(1.0, abs=1e-6)
    report = runs[0][0]
    assert 200 < report["sample"] < 300
    assert report["rows"] == 599
    assert 0 < report["sampling_error"]["after"] < 3


def test_a_fit_of_another_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    write_examples(tmp_path / "in.parquet", labelled(60, 7))
    write_examples(tmp_path / "gold.jsonl", labelled(20, 8))
    files = (tmp_path / "in.parquet", tmp_path / "gold.jsonl", tmp_path / "out")
    align_shards(*files, Sharding("here"), Silent())
    # As a run is left that was cut off after the fit.
    (tmp_path / "out" / "result.json").unlink()
    shutil.rmtree(tmp_path / "out" / "done")
    fit = tmp_path / "out" / "fit.json"
    fit.write_text('{"kind": "class", "keys": []}', encoding="utf-8")
    with pytest.raises(JapagenError, match=r"fit\.json is damaged") as caught:
        align_shards(*files, Sharding("here"), Silent())
    assert "another version of japagen" in caught.value.hint
    fit.unlink()
    align_shards(*files, Sharding("here"), Silent())


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_a_sample_is_drawn_of_what_curation_kept(suffix: str, tmp_path: Path) -> None:
    synthetic, gold = labelled(600, 7), labelled(40, 8)
    short = Rejection("length", 2, 6)
    rejected = synthetic.with_rejections([short if at % 3 else None for at in range(600)])
    write_examples(tmp_path / f"in.{suffix}", rejected)
    write_examples(tmp_path / "gold.jsonl", gold)
    for size, least, most in ((100, 70, 130), (300, 200, 200)):
        told = align_shards(
            tmp_path / f"in.{suffix}", tmp_path / "gold.jsonl", tmp_path / str(size),
            Sharding("here", shard_rows=90), Silent(), sample=size,
        )  # fmt: skip
        assert told["all"]["rows"] == 200
        assert least <= told["all"]["sample"] <= most


def test_a_label_that_gold_lacks_is_named(tmp_path: Path) -> None:
    write_examples(tmp_path / "in.parquet", Dataset.of(varied(20, 1)))
    write_jsonl(tmp_path / "gold.jsonl", [{"text": "荷物が届きません。", "label": "悪"}] * 8)
    with pytest.raises(JapagenError, match="Synthetic has the label '良'"):
        align_shards(
            tmp_path / "in.parquet", tmp_path / "gold.jsonl", tmp_path / "out",
            Sharding("here"), Silent(),
        )  # fmt: skip


def test_options_about_shards_need_an_engine(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"text": "荷物が届きません。"}])
    code, _, err = japagen("data", "register", tmp_path / "in.jsonl", "--part", "1/2")
    assert code == 2
    assert "--part is about shards, and no --engine is given." in err
    code, _, err = japagen("data", "register", tmp_path / "in.jsonl", "--engine", "here")
    assert code == 2
    assert "Expected --engine, --output and a file together" in err


@pytest.mark.parametrize("engine", ["here", "processes"])
def test_columns_with_usual_names_are_taken_and_told_of_once(engine: str, tmp_path: Path) -> None:
    lines = ["本文,分類", *(f"{n}番の荷物がまだ届いていません。,配送" for n in range(6))]
    path = tmp_path / "in.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    options = ("--engine", engine, "--shard-rows", 2, "--workers", 1)
    content = path.read_bytes()
    for command, told in (("register", ["text"]), ("curate", ["text", "label"])):
        # What was said of one file is not said again.
        path = tmp_path / f"{command}-{engine}.csv"
        path.write_bytes(content)
        code, _, err = japagen("data", command, path, "-o", tmp_path / command, *options)
        assert code == 0, err
        said = [line for line in err.splitlines() if line.startswith("Took")]
        assert [line.rpartition(" ")[2] for line in said] == [f"{name}." for name in told]
        assert all(f"of {path} for" in line for line in said)
    labels = [e.label for e in read(tmp_path / "curate" / "curated")]
    assert labels == ["配送"] * 6
    for content, wrong in {
        "番号\n1\n2\n": "Expected a column 'text', found 番号.",
        "premise,hypothesis\n一,二\n": "Expected a column 'text', found premise, hypothesis.",
        "text\n": f"Expected examples in {path}, found none.",
    }.items():
        path.write_text(content, encoding="utf-8")
        code, _, err = japagen("data", "register", path, "-o", tmp_path / wrong[-9:], *options)
        assert code == 2
        assert wrong in err
        assert "Took" not in err
    assert not (tmp_path / wrong[-9:]).exists()  # what is filled in may go there


def test_what_goes_wrong_in_shards_is_said_in_japanese(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAPAGEN_LANG", "ja")
    write_examples(tmp_path / "in.parquet", Dataset.of(varied(20, 2)))
    pq.write_table(
        pq.read_table(tmp_path / "in.parquet").drop_columns(["text"]), tmp_path / "b.parquet"
    )
    command = ("data", "register", tmp_path / "b.parquet", "-o", tmp_path / "out")
    code, _, err = japagen(*command, "--engine", "here")
    assert code == 2
    first, hint, *_ = err.splitlines()[-2:]
    assert first.startswith("エラー: 工程 'registers' の 1 シャードのうち 1 個を作れませんでした")
    assert "列 'text' が必要ですが" in first
    assert hint == "列を指定してください: --column text=列名"
    code, _, err = japagen(*command, "--engine", "here", "--shard-rows", 7)
    assert err.splitlines()[1:3] == ["  - --shard-rows", err.splitlines()[2]]
    code, out, err = japagen(
        "data", "curate", tmp_path / "in.parquet", "-o", tmp_path / "c", "--engine", "here"
    )
    assert code == 0, err
    assert "フィルター" in out
    assert "ほぼ同じ文面の重複" in out
    code, _, err = japagen(
        "data", "register", tmp_path / "in.parquet", "-o", tmp_path / "c", "--engine", "here"
    )
    assert "別のコマンド（japagen data curate）の実行が入っています" in err


def test_commands_go_on_and_tell_what_they_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_examples(tmp_path / "in.parquet", Dataset.of(varied(60, 2)))
    command = (
        "data", "curate", tmp_path / "in.parquet", "-o", tmp_path / "out", "--engine", "here",
        "--shard-rows", 25, "--set", "min_characters=8",
    )  # fmt: skip
    for _ in range(2):
        code, out, err = japagen(*command)
        assert code == 0, err
        assert "of 60 rows kept" in out
        assert "Near-duplicate" in out
    code, _, err = japagen(*command[:-2])
    assert code == 2
    assert "holds a run that differs in:\n  - the curation settings (--set, --task)" in err
    with monkeypatch.context() as patch:
        patch.setattr("japagen.__version__", "0.1.0")
        code, _, err = japagen(*command)
    assert code == 2
    assert "differs in:\n  - the version of japagen" in err
    code, _, err = japagen(*command[:-1], "min_characters=many")
    assert code == 2
    assert "min_characters" in err
