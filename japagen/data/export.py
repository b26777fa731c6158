"""Datasets for others to use: a file or a `datasets` directory, with a card beside it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from japagen.data.annotation import label_studio_config, to_argilla, to_label_studio
from japagen.data.dataset import SPLITS, Dataset
from japagen.data.files import write_json, write_text
from japagen.data.formats import write_examples
from japagen.errors import JapagenError, MissingExtraError, nearest

ExportForm = Literal["jsonl", "csv", "parquet", "hf", "argilla", "label-studio"]
_SUFFIXES: Mapping[str, ExportForm] = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_HF_MARKER = "dataset_dict.json"


def export_dataset(
    dataset: Dataset,
    path: str | Path,
    form: ExportForm,
    *,
    card: str,
    bom: bool = False,
    include_rejected: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Writes a dataset and its card.

    Args:
        dataset: The examples; their final weights are written with them.
        path: A file whose suffix is the form; for ``argilla`` and ``label-studio`` a .json
            file; for ``hf`` a directory that ``datasets.load_from_disk`` reads, one split for
            each split of the examples.
        form: What to write.
        card: Markdown; ``README.md`` in the directory or ``NAME.card.md`` beside the file.
        bom: Start a CSV with a byte order mark, which Excel needs to see UTF-8.
        include_rejected: Write rejected examples too, with weight 0.
        overwrite: Replace what an earlier export left there.

    Returns:
        What was written, the data first.

    Raises:
        JapagenError: If the form is unknown or does not fit the path, there is nothing to
            write, or something is there already.
        MissingExtraError: If ``hf`` is asked for without the package `datasets`.
    """
    path = Path(path)
    _check_form(path, form)
    chosen = dataset if include_rejected else dataset.kept
    if not len(chosen):
        raise JapagenError(
            "Expected examples to export, found none that curation kept.",
            "Loosen curation in the task file, or include rejected examples.",
        )
    if form == "hf":
        return _export_directory(chosen, path, card, overwrite)
    card_path = path.with_name(f"{path.stem}.card.md")
    if path.is_dir():
        _refuse_existing(path, overwrite=False)
    _refuse_existing(path, overwrite)
    # Exports of one run in several formats share the card.
    if not (card_path.is_file() and card_path.read_bytes() == card.encode()):
        _refuse_existing(card_path, overwrite)
    written = _write_file(chosen, path, form, bom=bom, overwrite=overwrite)
    write_text(card_path, card)
    return [*written, card_path]


def _write_file(
    dataset: Dataset, path: Path, form: ExportForm, *, bom: bool, overwrite: bool
) -> list[Path]:
    if form in ("argilla", "label-studio") and not isinstance(dataset.labels[0], str):
        raise JapagenError(
            f"Expected one label per text for {form}, found numbers or several labels.",
            "Export as jsonl, csv or parquet.",
        )
    if form == "argilla":
        write_json(path, to_argilla(dataset))
    elif form == "label-studio":
        interface = path.with_suffix(".config.xml")
        _refuse_existing(interface, overwrite)
        labels = list(dataset.label_counts())
        write_json(path, to_label_studio(dataset))
        write_text(interface, label_studio_config(labels, pair=dataset.is_pair))
        return [path, interface]
    else:
        write_examples(path, dataset, bom=bom)
    return [path]


def _check_form(path: Path, form: str) -> None:
    known = get_args(ExportForm)
    if form not in known:
        raise JapagenError(
            f"Unknown export format '{form}'{nearest(form, known)}.",
            f"Use one of: {', '.join(known)}.",
        )
    suffix = next((end for end, name in _SUFFIXES.items() if name == form), ".json")
    if form != "hf" and path.suffix.lower() != suffix:
        raise JapagenError(
            f"Expected a path that ends in {suffix}, found '{path.name}'.",
            f"Name it {path.stem}{suffix}, or choose another format.",
        )


def form_of(path: Path) -> ExportForm:
    """The form that a path's suffix says.

    Raises:
        JapagenError: If it says none.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise JapagenError(
            f"Expected a path that ends in {', '.join(_SUFFIXES)}, found '{path.name}'.",
            "Give such a path, or say --format hf for a `datasets` directory, or argilla or "
            "label-studio for a .json file.",
        )
    return _SUFFIXES[path.suffix.lower()]


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise JapagenError(
            f"{path} is there already.",
            "Choose another path, or say overwrite (--overwrite) to replace it.",
        )


def _export_directory(dataset: Dataset, path: Path, card: str, overwrite: bool) -> list[Path]:
    """Writes next to the goal and moves it there, so that the goal is whole or untouched."""
    occupied = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if occupied:
        _refuse_existing(path, overwrite)
        if not (path / _HF_MARKER).is_file():
            raise JapagenError(
                f"Expected an earlier export at {path}, found something else.",
                "Choose another path: only earlier exports are replaced.",
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        made = Path(scratch) / "dataset"
        _save_to_disk(dataset, made)
        write_text(made / "README.md", card)
        if path.exists():
            shutil.move(path, Path(scratch) / "old")
        made.rename(path)
    return [path, path / "README.md"]


def _save_to_disk(dataset: Dataset, path: Path) -> None:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "hf", "Export to a datasets directory") from None
    import pyarrow as pa
    import pyarrow.compute as pc

    table = dataset.table.append_column("weight", pa.array(dataset.weights, pa.float64()))
    splits = {}
    for split in SPLITS:
        rows = table.filter(pc.equal(table.column("split"), split))
        if rows.num_rows:
            splits[split] = datasets.Dataset(datasets.table.InMemoryTable(rows))
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        datasets.DatasetDict(splits).save_to_disk(path)
    finally:
        if shown:
            datasets.enable_progress_bars()
