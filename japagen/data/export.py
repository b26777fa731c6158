"""Datasets for others to use: a file or a `datasets` directory, with a card beside it.

The annotation tools Label Studio and Argilla are given each text's label as a suggestion, with the
trust in it as its score, and one more choice beside the labels: that the text is no good. They
serve tasks with one label per text; what they answered is read back.

Datasets that are not labelled texts have their files of rows, exports and summaries here too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar
from xml.etree import ElementTree

from pydantic import BaseModel

from japagen.data.dataset import SPLITS, Dataset, Example, Rejection
from japagen.data.files import (
    atomic_directory,
    parse_json,
    read_json,
    refuse_existing,
    write_json,
    write_text,
)
from japagen.data.registry import EXPORTS, Entry, Registry
from japagen.data.tables import write_rows
from japagen.errors import DamagedError, JapagenError, MissingExtraError

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


# Stands beside the task's labels for a text that nobody should learn from.
REJECT = "使えない"
_QUESTION = "label"
_TEXT = "text"
_PAIR = "text_pair"


def to_label_studio(dataset: Dataset) -> list[dict[str, Any]]:
    """Returns tasks with predictions, in the Basic Label Studio JSON format.

    Args:
        dataset: Labelled examples.
    """
    return [
        {
            "data": {"id": e.id, **_fields(e)},
            "predictions": [
                {
                    "model_version": e.generator or e.source or "japagen",
                    "score": _score(e),
                    "result": [
                        {
                            "from_name": _QUESTION,
                            "to_name": _TEXT,
                            "type": "choices",
                            "value": {"choices": _choices(e.label)},
                        }
                    ],
                }
            ],
        }
        for e in dataset
    ]


def label_studio_config(labels: Sequence[str], *, pair: bool = False) -> str:
    """Returns the labelling interface (XML) that belongs to the tasks.

    Args:
        labels: The task's labels.
        pair: Show a second text.
    """
    view = ElementTree.Element("View")
    for name in (_TEXT, _PAIR) if pair else (_TEXT,):
        ElementTree.SubElement(view, "Text", name=name, value=f"${name}")
    choices = ElementTree.SubElement(
        view, "Choices", name=_QUESTION, toName=_TEXT, choice="single", showInline="true"
    )
    for label in (*labels, REJECT):
        ElementTree.SubElement(choices, "Choice", value=label)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def to_argilla(dataset: Dataset) -> list[dict[str, Any]]:
    """Returns records as ``rg.Dataset.records.from_json`` reads them (Argilla 2).

    The dataset there needs a text field ``text`` (and ``text_pair``) and a label question
    ``label`` whose labels are the task's and `REJECT`.

    Args:
        dataset: Labelled examples.
    """
    return [
        {
            "id": e.id,
            "fields": _fields(e),
            "metadata": {"label_asked": _shown(e.label_asked), "source": e.source},
            "suggestions": {
                _QUESTION: {
                    "value": e.label,
                    "score": _score(e),
                    "agent": e.generator or e.source or "japagen",
                }
            },
            "responses": {},
            "vectors": {},
        }
        for e in dataset
    ]


def write_label_studio(path: Path, dataset: Dataset, overwrite: bool = False) -> list[Path]:
    """Writes tasks, and beside them the labelling interface, whose path is returned.

    Raises:
        JapagenError: If the interface is there already and not to be replaced.
    """
    interface = path.with_suffix(".config.xml")
    refuse_existing(interface, overwrite)
    write_json(path, to_label_studio(dataset))
    write_text(interface, label_studio_config(list(dataset.label_counts()), pair=dataset.is_pair))
    return [interface]


def write_argilla(path: Path, dataset: Dataset) -> None:
    """Writes the records of `to_argilla`."""
    write_json(path, to_argilla(dataset))


def read_annotations(path: str | Path) -> dict[str, Any]:
    """Reads what people answered in either tool; the tool is told by the file.

    Args:
        path: A JSON export of Label Studio, or ``records.to_json`` of Argilla.

    Returns:
        Example id to the label that most people chose, or to `REJECT`. Examples that nobody
        answered are left out.

    Raises:
        JapagenError: If the file is neither, or people tie on an example.
    """
    path = Path(path)
    if not path.is_file():
        raise JapagenError(f"There is no file at {path}.", "Check the path.")
    try:
        rows = parse_json(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise JapagenError(
            f"{path} is not JSON: {error}.", "Export it from the tool as JSON."
        ) from (None)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _unknown(path)
    answers: dict[str, list[Any]] = {}
    for row in rows:
        if "annotations" in row and isinstance(row.get("data"), dict):
            name, found = row["data"].get("id"), list(_label_studio_answers(row))
        elif isinstance(row.get("responses"), dict) and "fields" in row:
            given = (response.get("value") for response in _objects(row["responses"], _QUESTION))
            name, found = row.get("id"), [value for value in given if value is not None]
        else:
            raise _unknown(path)
        if found and name is not None:
            answers.setdefault(str(name), []).extend(found)
    others = sorted({name for row in rows for name in _asked(row)} - {_QUESTION})
    if others and not answers:
        raise JapagenError(
            f"Expected answers to '{_QUESTION}' in {path}, found answers to {', '.join(others)} "
            "alone.",
            "Give the choices in the tool that name again; nothing was taken in.",
        )
    ties = {name: most for name, found in answers.items() if len(most := _most_given(found)) > 1}
    if ties:
        listed = "\n".join(
            f"  - {name}: {', '.join(map(str, most))}" for name, most in ties.items()
        )
        raise JapagenError(
            f"Expected one answer to win for every text of {path}, found a tie on {len(ties)}:\n"
            f"{listed}",
            "Nothing was taken in. Settle them in the tool and export again.",
        )
    return {name: _most_given(found)[0] for name, found in answers.items()}


def _asked(row: Mapping[str, Any]) -> Iterable[str]:
    """The names of the questions that a row has answers to."""
    for annotation in _objects(row, "annotations"):
        yield from (str(result.get("from_name")) for result in _objects(annotation, "result"))
    yield from (str(name) for name in row.get("responses") or ())


def _objects(parent: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list that a file may have there."""
    found = parent.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _label_studio_answers(row: Mapping[str, Any]) -> Iterable[Any]:
    for annotation in _objects(row, "annotations"):
        if annotation.get("was_cancelled"):
            continue
        for result in _objects(annotation, "result"):
            if result.get("from_name") == _QUESTION and result.get("type") == "choices":
                value = result.get("value")
                choices = value.get("choices") if isinstance(value, dict) else None
                chosen = [str(one) for one in choices] if isinstance(choices, list) else []
                if chosen:
                    yield chosen[0] if len(chosen) == 1 else sorted(chosen)


def _most_given(answers: Sequence[Any]) -> list[Any]:
    """The answers that most people gave: several where they tie."""
    counts = Counter(json.dumps(answer, ensure_ascii=False) for answer in answers)
    most = max(counts.values())
    return [json.loads(answer) for answer, n in sorted(counts.items()) if n == most]


def _fields(example: Example) -> dict[str, str]:
    fields = {_TEXT: example.text}
    return fields if example.text_pair is None else {**fields, _PAIR: example.text_pair}


def _choices(label: Any) -> list[str]:
    return [str(part) for part in label] if isinstance(label, list) else [_shown(label)]


def _shown(label: Any) -> str:
    return "" if label is None else str(label)


def _score(example: Example) -> float:
    return round(min(1.0, example.weight_label), 4)


def _unknown(path: Path) -> JapagenError:
    return JapagenError(
        f"Expected {path} to be an export of Label Studio (JSON) or Argilla (records.to_json), "
        "found something else.",
        "Export it from the tool again.",
    )


class Row(Protocol):
    """A data class that says why it was rejected."""

    @property
    def rejected(self) -> Rejection | None:
        """Set when a filter rejected it."""


R = TypeVar("R")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes data classes or mappings as JSON Lines, atomically."""
    plain = (row if isinstance(row, Mapping) else asdict(row) for row in rows)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain))


def read_lines(path: Path, row_of: Callable[..., R]) -> list[R]:
    """Reads the data classes that `write_lines` wrote in a run; ``row_of`` makes them of fields.

    Raises:
        JapagenError: If it is not there yet.
        DamagedError: If it cannot be read.
    """
    try:
        return [row_of(**parse_json(line)) for line in path.read_text("utf-8").splitlines()]
    except FileNotFoundError:
        raise _unfinished(path) from None
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(path) from error


def rejection_of(row: Mapping[str, Any] | None) -> Rejection | None:
    """What a row of a file says of its rejection."""
    return Rejection(**row) if row else None


class RowSummary(BaseModel):
    """What a run came to that makes other rows than labelled texts.

    Attributes:
        japagen: The version.
        created: When the run began, ISO 8601.
        task: Its name.
        description: What the rows are.
        generator: Who wrote them.
        terms: What may be done with what it writes.
        cost: Totals over every attempt; empty where nobody was asked.
    """

    FILE: ClassVar[str]
    japagen: str
    created: str
    task: str
    description: str
    generator: str
    terms: str
    cost: dict[str, float]

    @classmethod
    def load(cls, run: Path) -> Self:
        """Reads the one of a run.

        Raises:
            JapagenError: If the run is not finished.
            DamagedError: If it cannot be read.
        """
        path = run / cls.FILE
        try:
            return cls.model_validate(read_json(path))
        except FileNotFoundError:
            raise _unfinished(path) from None
        except ValueError as error:
            raise DamagedError(path) from error


def _unfinished(path: Path) -> JapagenError:
    return JapagenError(
        f"{path.parent} has no {path.name} yet.", "Finish the run first: japagen run CONFIG"
    )


def export_rows(
    forms: Registry,
    form: str,
    path: Path,
    rows: Sequence[Row],
    *more: Any,
    card: str,
    rejected: bool,
    overwrite: bool,
) -> list[Path]:
    """Writes rows with their card.

    Args:
        forms: The formats that there are.
        form: The name of one.
        path: A file with its suffix, or a directory where it has none.
        rows: Rejected ones included.
        *more: What else the format's function is given.
        card: Markdown; ``README.md`` in the directory or ``NAME.card.md`` beside the file.
        rejected: Whether to write rejected rows too; only ``jsonl`` says why.
        overwrite: Replace what is there.

    Returns:
        What was written, the data first.

    Raises:
        JapagenError: If the form is unknown or does not fit the path, there is nothing to
            write, or something is there already.
    """
    found = forms.find(form)
    check_suffix(found, path)
    if rejected and form != "jsonl":
        raise JapagenError(
            f"Expected --rejected with the format jsonl, found {form}.",
            "Only there the reason stands beside what was rejected.",
        )
    chosen = [row for row in rows if rejected or row.rejected is None]
    if not chosen:
        raise JapagenError(
            "Expected rows to export, found none that the filters kept.",
            "Loosen the filters in the task file, or include rejected rows.",
        )
    refuse_existing(path, overwrite)
    beside = card_beside(path, card, overwrite) if found.suffix else path / "README.md"
    found.load()(path, chosen, *more)
    write_text(beside, card)
    return [path, beside]
