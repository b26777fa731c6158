"""Datasets for others to use: a file or a `datasets` directory, with a card beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from japagen.data.dataset import SPLITS, Dataset
from japagen.data.files import atomic_directory, refuse_existing, write_text
from japagen.data.registry import EXPORTS, Entry
from japagen.data.tables import write_rows
from japagen.errors import JapagenError, MissingExtraError

_HF_MARKER = "dataset_dict.json"
_ESCAPED = (
    "\n## Formulas\n\nIn the CSV, texts that a spreadsheet would take for formulas (they begin "
    "with =, +, -, @, also in full width, or a tab or line break) have a ' before them; "
    "`japagen.read_examples` takes it off again.\n"
)


def export_dataset(
    dataset: Dataset,
    path: str | Path,
    form: str,
    *,
    card: str,
    bom: bool = False,
    escape_formulas: bool | None = None,
    include_rejected: bool = False,
    overwrite: bool = False,
    roles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes a dataset and its card.

    Args:
        dataset: The examples; their final weights are written with them.
        path: A file with the suffix of the form; for ``hf`` a directory that
            ``datasets.load_from_disk`` reads, one split for each split of the examples.
        form: A name of `EXPORTS`.
        card: Markdown; ``README.md`` in the directory or ``NAME.card.md`` beside the file.
        bom: Write a CSV for Excel; see `write_examples`.
        escape_formulas: Leave no formulas in a CSV; as ``bom`` when None. The card says so.
        include_rejected: Write rejected examples too, with weight 0.
        overwrite: Replace what an earlier export left there.
        roles: For ``chat``: field to the role of who says it, in order.

    Returns:
        What was written, the data first.

    Raises:
        JapagenError: If the form is unknown or does not fit the path, there is nothing to
            write, or something is there already.
        MissingExtraError: If ``hf`` is asked for without the package `datasets`.
    """
    path, found = Path(path), EXPORTS.find(form)
    check_suffix(found, path)
    escape = bom if escape_formulas is None else escape_formulas
    if escape and found.suffix == ".csv":
        card += _ESCAPED
    chosen = dataset if include_rejected else dataset.kept
    if not len(chosen):
        raise JapagenError(
            "Expected examples to export, found none that curation kept.",
            "Loosen curation in the task file, or include rejected examples.",
        )
    if "one_label" in found.traits and not isinstance(chosen.labels[0], str):
        raise JapagenError(
            f"Expected one label per text for {form}, found numbers or several labels.",
            "Export as jsonl, csv, xlsx or parquet.",
        )
    if found.suffix:
        refuse_existing(path, overwrite and not path.is_dir())
        card_path = card_beside(path, card, overwrite)
    write = found.bind(
        {
            "path": path,
            "dataset": chosen,
            "card": card,
            "bom": bom,
            "escape_formulas": escape,
            "overwrite": overwrite,
            "roles": roles or {},
        }
    )
    written = [path, *(write() or ())]
    if found.suffix:
        write_text(card_path, card)
        written.append(card_path)
    return written


def check_suffix(form: Entry, path: Path) -> None:
    """Raises an error if a path has not the suffix of a format."""
    if form.suffix and path.suffix.lower() != form.suffix:
        raise JapagenError(
            f"Expected a path that ends in {form.suffix}, found '{path.name}'.",
            f"Name it {path.stem}{form.suffix}, or choose another format.",
        )


def card_beside(path: Path, card: str, overwrite: bool) -> Path:
    """Where the card of a file goes.

    Raises:
        JapagenError: If something else is there; exports of one run in several formats share it.
    """
    beside = path.with_name(f"{path.stem}.card.md")
    if not (beside.is_file() and beside.read_bytes() == card.encode()):
        refuse_existing(beside, overwrite)
    return beside


def form_of(path: Path) -> str:
    """The form that a path's suffix says.

    Raises:
        JapagenError: If it says none.
    """
    suffixes = [entry.suffix for entry in EXPORTS.values()]
    implied = {
        e.suffix: e.name
        for e in EXPORTS.values()
        if suffixes.count(e.suffix) == 1 or e.suffix == f".{e.name}"
    }
    implied.pop("", None)
    if path.suffix.lower() not in implied:
        others = ", ".join(name for name in EXPORTS if name not in implied.values())
        raise JapagenError(
            f"Expected a path that ends in {', '.join(implied)}, found '{path.name}'.",
            f"Give such a path, or say one of --format {others}.",
        )
    return implied[path.suffix.lower()]


def write_chat(path: Path, dataset: Dataset, roles: Mapping[str, str]) -> None:
    """Writes what is said in the fields as chat messages, a conversation a line.

    Beside ``messages`` (``role`` and ``content``) a line has ``id``, ``label``, ``weight`` and, of
    fields without a role, ``fields``.

    Raises:
        JapagenError: If there is nobody who says anything.
    """
    if not roles or not dataset.field_names:
        raise JapagenError(
            "Expected fields with a role (generation.fields) for chat messages, found none.",
            "Give role: user, assistant or system to what each of them says, or export as jsonl.",
        )
    names = ("id", "label", "weight")
    rows = (
        {
            "messages": [
                {"role": role, "content": row["fields"][name]}
                for name, role in roles.items()
                if row["fields"].get(name)
            ],
            **{name: row[name] for name in names},
            "fields": {k: v for k, v in row["fields"].items() if k not in roles},
        }
        for row in dataset.iter_records()
        if row["fields"]
    )
    write_rows(path, rows)


def write_directory(path: Path, dataset: Dataset, card: str, overwrite: bool) -> list[Path]:
    """Writes a `datasets` directory, whole or not at all; returns where its card is.

    Raises:
        JapagenError: If something else than an earlier export is there.
        MissingExtraError: If the package `datasets` is not installed.
    """
    occupied = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if occupied:
        refuse_existing(path, overwrite)
        if not (path / _HF_MARKER).is_file():
            raise JapagenError(
                f"Expected an earlier export at {path}, found something else.",
                "Choose another path: only earlier exports are replaced.",
            )
    with atomic_directory(path) as made:
        _save_to_disk(dataset, made)
        write_text(made / "README.md", card)
    return [path / "README.md"]


def _save_to_disk(dataset: Dataset, path: Path) -> None:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "hf", "Export to a datasets directory") from None
    import pyarrow.compute as pc

    table = dataset.weighted_table
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
