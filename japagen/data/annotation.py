"""Examples for annotation tools, and their answers back: Label Studio and Argilla.

Both are given each text's label as a suggestion, with the trust in it as its score, and one more
choice beside the labels: that the text is no good. They serve tasks with one label per text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from japagen.data.dataset import Dataset, Example
from japagen.data.files import parse_json, refuse_existing, write_json, write_text
from japagen.errors import JapagenError

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
