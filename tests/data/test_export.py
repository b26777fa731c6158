from __future__ import annotations

import builtins
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from japagen.data.dataset import Dataset
from japagen.data.export import export_dataset
from japagen.data.formats import read_examples
from japagen.data.summary import RunSummary
from japagen.errors import JapagenError, MissingExtraError
from japagen.reporting.cards import dataset_card
from japagen.reporting.text import Words
from tests.report_sample import LABELS, from_file, sample_run

Run = tuple[dict[str, Any], Dataset]


@pytest.fixture(scope="module")
def run() -> Run:
    return sample_run()


@pytest.mark.parametrize("form", ["jsonl", "csv", "xlsx", "parquet"])
def test_files_read_back_as_they_were(run: Run, form: Any, tmp_path: Path) -> None:
    if form == "xlsx":
        pytest.importorskip("openpyxl")
    _, dataset = run
    path = tmp_path / f"out.{form}"
    written = export_dataset(dataset, path, form, card="# 説明\n")
    assert written == [path, tmp_path / "out.card.md"]
    assert written[1].read_text(encoding="utf-8") == "# 説明\n"
    back = read_examples(path)
    assert back.texts == dataset.kept.texts
    assert back.labels == dataset.kept.labels
    assert back.weights == pytest.approx(dataset.kept.weights, abs=1e-6)
    assert back.kept_mask.all()


@pytest.mark.parametrize("form", ["argilla", "label-studio"])
def test_annotation_tools_get_json_and_their_interface(run: Run, form: Any, tmp_path: Path) -> None:
    _, dataset = run
    path = tmp_path / "out.json"
    written = export_dataset(dataset, path, form, card="# 説明\n")
    names = [p.name for p in written]
    interface = ["out.config.xml"] if form == "label-studio" else []
    assert names == ["out.json", *interface, "out.card.md"]
    assert len(json.loads(path.read_text(encoding="utf-8"))) == len(dataset.kept)
    with pytest.raises(JapagenError, match="is there already"):
        export_dataset(dataset, path, form, card="# 説明\n")
    with pytest.raises(JapagenError, match=r"ends in \.json"):
        export_dataset(dataset, tmp_path / "out.csv", form, card="")


def test_rejected_examples_only_when_asked_for(run: Run, tmp_path: Path) -> None:
    _, dataset = run
    path = tmp_path / "all.parquet"
    export_dataset(dataset, path, "parquet", card="", include_rejected=True)
    back = read_examples(path)
    assert len(back) == len(dataset) > len(dataset.kept)
    assert (back.kept_mask == dataset.kept_mask).all()


def test_byte_order_mark_is_for_the_asking(run: Run, tmp_path: Path) -> None:
    for bom in (True, False):
        path = tmp_path / f"{bom}.csv"
        export_dataset(run[1], path, "csv", card="", bom=bom)
        assert path.read_bytes().startswith(b"\xef\xbb\xbf") is bom


@pytest.mark.parametrize(
    ("form", "options", "told"),
    [
        ("csv", {}, False),
        ("csv", {"bom": True}, True),
        ("csv", {"bom": True, "escape_formulas": False}, False),
        ("csv", {"escape_formulas": True}, True),
        ("jsonl", {"escape_formulas": True}, False),
    ],
)
def test_the_card_says_where_formulas_are_escaped(
    run: Run, form: str, options: dict[str, bool], told: bool, tmp_path: Path
) -> None:
    _, card = export_dataset(run[1], tmp_path / f"out.{form}", form, card="# 説明\n", **options)
    assert ("## Formulas" in card.read_text(encoding="utf-8")) is told


@pytest.mark.parametrize("taken", ["out.jsonl", "out.card.md"])
def test_nothing_is_overwritten_unasked(run: Run, taken: str, tmp_path: Path) -> None:
    (tmp_path / taken).write_text("mine")
    path = tmp_path / "out.jsonl"
    with pytest.raises(JapagenError, match=f"{taken} is there already"):
        export_dataset(run[1], path, "jsonl", card="# card")
    assert [p.name for p in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"
    export_dataset(run[1], path, "jsonl", card="# card", overwrite=True)
    assert len(read_examples(path)) == len(run[1].kept)


def test_unknown_and_unfitting_formats(run: Run, tmp_path: Path) -> None:
    form: Any = "parket"
    with pytest.raises(JapagenError, match="did you mean 'parquet'"):
        export_dataset(run[1], tmp_path / "out.parket", form, card="")
    with pytest.raises(JapagenError, match=r"ends in \.csv, found 'out\.jsonl'"):
        export_dataset(run[1], tmp_path / "out.jsonl", "csv", card="")
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_export(run: Run, tmp_path: Path) -> None:
    rejected = run[1].where(~run[1].kept_mask)
    with pytest.raises(JapagenError, match="found none that curation kept"):
        export_dataset(rejected, tmp_path / "out.csv", "csv", card="")


def test_hugging_face_directory(run: Run, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "hub"
    written = export_dataset(run[1], path, "hf", card="# 一枚目\n")
    assert written == [path, path / "README.md"]
    found = datasets.load_from_disk(str(path))
    kept = run[1].kept
    assert list(found) == ["synthetic"]
    assert found["synthetic"]["text"][:] == kept.texts
    assert found["synthetic"]["weight"][:] == pytest.approx(kept.weights)
    assert found["synthetic"][0]["register_seen"] == kept.column("register_seen")[0]
    with pytest.raises(JapagenError, match="is there already"):
        export_dataset(run[1], path, "hf", card="# 二枚目\n")
    assert (path / "README.md").read_text(encoding="utf-8") == "# 一枚目\n"
    del found
    export_dataset(run[1].take([1, 2]), path, "hf", card="# 二枚目\n", overwrite=True)
    assert (path / "README.md").read_text(encoding="utf-8") == "# 二枚目\n"
    assert len(datasets.load_from_disk(str(path))["synthetic"]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["hub"]


def test_only_earlier_exports_are_replaced(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(JapagenError, match="found something else"):
        export_dataset(run[1], home, "hf", card="", overwrite=True)
    assert (home / "thesis.tex").read_text() == "years of work"


def test_splits_are_kept_apart(run: Run, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    kept = run[1].kept
    mixed = kept.with_columns(split=["train"] * 10 + ["synthetic"] * (len(kept) - 10))
    export_dataset(mixed, tmp_path / "mixed", "hf", card="")
    found = datasets.load_from_disk(str(tmp_path / "mixed"))
    assert {name: len(rows) for name, rows in found.items()} == {
        "train": 10,
        "synthetic": len(kept) - 10,
    }


def test_missing_extra_says_which(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_datasets(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_datasets)
    with pytest.raises(MissingExtraError, match=r"japagen\[hf\]"):
        export_dataset(run[1], tmp_path / "hub", "hf", card="")
    assert list(tmp_path.iterdir()) == []


def _front(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    found: dict[str, Any] = YAML(typ="safe").load(front)
    return found


def test_card_says_what_was_made_and_how(run: Run) -> None:
    metrics, dataset = run
    card = dataset_card(RunSummary.model_validate(metrics), dataset, "en")
    front, words = _front(card), Words("en")
    assert front["language"] == ["ja"]
    assert front["size_categories"] == ["n<1K"]
    assert "synthetic" in front["tags"]
    assert metrics["generator"]["terms"]["summary"] in card
    assert metrics["generator"]["terms"]["url"] in card
    scores, diagnostics = metrics["scores"], metrics["alignment"]["diagnostics"]
    wanted = [
        *(f"| {label} | {about} |" for label, about in LABELS.items()),
        *(f"| {words.name('filter', k)} | {n} |" for k, n in metrics["rejections"].items()),
        *(f"| {words(f'counts.{k}')} | {metrics['counts'][k]:,} |" for k in ("gold", "kept")),
        f"| macro-f1 | {scores['gold_only']['macro_f1']:.3f} |",
        f"{scores['with_synthetic']['macro_f1']:.3f}",
        f"{scores['gain']['value']:+.3f} [{scores['gain']['low']:+.3f}, ",
        f"{diagnostics['word_divergence']['after']['value']:.3f} [",
        f"{diagnostics['effective_sample_size']['share']:.1%}",
        f"{metrics['registers']['match']:.1%}",
        f"{metrics['leakage']['max_overlap']:.1%}",
        "few_shot@0a1b2c3d4e5f",
        metrics["generator"]["identity"],
        metrics["dictionary"],
        metrics["encoder"],
        metrics["versions"]["python"],
        f"| seed | {metrics['task']['seed']} |",
    ]
    assert [w for w in wanted if w not in card] == []
    assert "not measured" not in card


def test_card_without_the_optional_parts(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    metrics |= dict.fromkeys(("generator", "registers", "alignment", "scores", "leakage"))
    metrics |= {"sources": from_file("llm.csv"), "rejections": {}}
    metrics["counts"]["test"] = 0
    card = dataset_card(RunSummary.model_validate(metrics), run[1], "en")
    assert card.count("Not measured.") == 3
    assert "Written by an unknown model (file llm.csv). Filtered by japagen" in card
    assert "| 他社 | llm.csv | 165 | 150 | 82.0% | 0.913 | 40.0% |" in card
    assert "Weighted towards gold" not in card
    assert "test texts took no part" not in card
    assert "check the terms of the model that wrote them" in card


def test_card_cannot_be_broken_by_names(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    hostile = "a|b\n---\n<script>x</script>"
    metrics["task"]["name"] = metrics["task"]["description"] = hostile
    metrics["per_label"] = {hostile: next(iter(metrics["per_label"].values()))}
    card = dataset_card(RunSummary.model_validate(metrics), run[1], "en")
    assert _front(card)["pretty_name"] == "a|b --- <script>x</script>"
    body = card.split("\n# ", 1)[1]
    assert "<script" not in body
    assert "| a\\|b --- &lt;script>x&lt;/script> |" in body


@pytest.mark.parametrize(
    ("rows", "size"), [(3, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (10_000, "10K<n<100K")]
)
def test_card_size_category(run: Run, rows: int, size: str) -> None:
    kept = run[1].kept
    many = kept.take([i % len(kept) for i in range(rows)])
    assert _front(dataset_card(RunSummary.model_validate(run[0]), many, "en"))[
        "size_categories"
    ] == [size]
