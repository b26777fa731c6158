"""Commands on trained classifiers."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from japagen.cli import terminal
from japagen.cli.terminal import (
    Address,
    Encoding,
    Engine,
    FileColumns,
    Json,
    Overwrite,
    PartOf,
    ShardRows,
    Workers,
)
from japagen.cli.terminal import model as group
from japagen.data.formats import TextRow, check_new, read_rows
from japagen.data.labels import NO_TAGS
from japagen.data.tables import TABLES, format_of, is_missing, write_rows
from japagen.errors import JapagenError
from japagen.i18n import localized

if TYPE_CHECKING:
    from japagen.training.classifier import Prediction

ABSTAINED = "保留"
"""What stands in place of a label that the classifier does not give."""
OUT_OF_SCOPE = "対象外"
"""What stands in place of the label of a text that the classifier was not made for."""


@group.command()
def predict(
    model: Annotated[
        Path, typer.Argument(help="A run, or a saved or exported classifier.", show_default=False)
    ],
    file: Annotated[
        Path | None, typer.Argument(help="A file of texts; by default standard input.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts at a time.", min=1)] = 32,
    abstain_below: Annotated[
        float, typer.Option(help="Abstain below this probability.", min=0, max=1)
    ] = 0.0,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Abstain below the confidence that reached this precision on held-out gold.",
            min=0,
            max=1,
            show_default=False,
        ),
    ] = None,
    scope: Annotated[
        bool,
        typer.Option(
            "--out-of-scope",
            help="Give no label to texts unlike any that the classifier was trained for.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write all columns and the predictions: .csv, .tsv, .jsonl, .parquet or .xlsx; "
            "with --engine a directory.",
        ),
    ] = None,
    engine: Engine = None,
    address: Address = None,
    part: PartOf = None,
    workers: Workers = None,
    shard_rows: ShardRows = None,
    column: FileColumns = None,
    encoding: Encoding = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Print the label and probability of each line, or the number, and then the text.

    Pairs are read from the columns text and text_pair, or from lines with a tab between them.
    """
    from japagen.config.sources import column_options
    from japagen.pipeline.run_directory import open_classifier

    sharding = terminal.sharding(engine, address, part, workers, shard_rows, column, encoding)
    if sharding and (file is None or output is None):
        raise JapagenError(
            "Expected a file and an --output directory with --engine, found one alone.",
            "Lines are printed as they are read; files are read in shards.",
        )
    if output is not None and not sharding:
        check_new(output, overwrite=overwrite)
    with terminal.Terminal(doing="predict"):
        classifier = open_classifier(model)
    if scope and classifier.scope is None:
        raise JapagenError(
            "Expected a classifier that knows what it was made for, found one that does not.",
            "Those trained on gold of single texts do, unless they were exported to ONNX.",
        )
    if precision is not None:
        abstain_below = max(abstain_below, classifier.confidence_for(precision))
    if sharding and file and output:
        from japagen.pipeline.sharded import predict_shards
        from japagen.training.classifier import OnnxClassifier

        with terminal.Terminal(doing="predict") as listener:
            if not isinstance(classifier, OnnxClassifier):
                listener.note("Exported by japagen model onnx, it would be some 2.5 times as fast.")
            done = predict_shards(
                model,
                file,
                output,
                sharding,
                listener,
                batch_size=batch_size,
                abstain_below=abstain_below,
                scope=scope,
            )
        terminal.print_shards(done, as_json=as_json)
        return
    # What a file says under these names is written with another name.
    ours = {"label", "confidence", "probabilities", "out_of_scope"}
    ours.update(f"probability_{label}" for label in classifier.space.names)
    told = Counter[str]()
    quiet = output is None and terminal.out.is_terminal
    with terminal.Terminal(quiet=quiet, doing="predict") as listener:
        rows, contents = tee(
            read_rows(
                file,
                sys.stdin,
                pairs=classifier.is_pair,
                columns=column_options(column),
                encoding=encoding,
            )
        )
        found = classifier.predict_stream(
            (row.text if row.text_pair is None else (row.text, row.text_pair) for row in contents),
            batch_size,
            abstain_below,
        )
        answers = zip(listener.track(rows, None, "predict"), _told(found, told, scope), strict=True)
        if output is not None:
            write_rows(
                output,
                ({**_beside(row, ours), **_columns(p, output)} for row, p in answers),
            )
        else:
            for row, prediction in answers:
                if as_json:
                    terminal.print_json_line({**_beside(row, ours), **prediction.to_dict()})
                else:
                    texts = (row.text,) if row.text_pair is None else (row.text, row.text_pair)
                    cells = _cells(prediction, scope, classifier.space.kind != "regression")
                    terminal.print_tsv((*cells, *texts))
    if told["long"]:
        how = "their ends were not read" if classifier.is_pair else "they were read in parts"
        terminal.say(
            f"{told['long']} of {told['texts']} texts are longer than the "
            f"{classifier.max_length} tokens that the encoder reads: {how}.",
            terminal.err,
        )
    if told["blank"]:
        terminal.say(
            f"{told['blank']} of {told['texts']} have no text, and no label.", terminal.err
        )
    if told["strange"]:
        terminal.say(
            f"{told['strange']} of {told['texts']} texts are like nothing that the classifier was "
            "made for (out_of_scope).",
            terminal.err,
        )
    if output is not None:
        terminal.say(f"wrote {output}")


def _beside(row: TextRow, ours: set[str]) -> dict[str, Any]:
    """All that the file says of a text, with names that leave room for the prediction."""
    found = {}
    for name, value in row.values.items():
        kept = name
        while kept in ours or (kept != name and kept in row.values):
            kept = f"given_{kept}"
        found[kept] = None if is_missing(value) else value
    return found


def _columns(prediction: Prediction, output: Path) -> dict[str, Any]:
    """A prediction in a file: its probabilities in a column each where it is a table."""
    found = {**dict.fromkeys(("label", "confidence")), **prediction.to_dict()}
    found["confidence"] = prediction.confidence
    if format_of(output) in TABLES:
        given = found.pop("probabilities", {})
        found |= {f"probability_{label}": share for label, share in given.items()}
        if isinstance(prediction.label, list):
            found["label"] = terminal.label_text(prediction.label)
    return found


def _cells(prediction: Prediction, scope: bool, confident: bool) -> list[str]:
    """The label, or why there is none, and how sure the classifier is."""
    label = ABSTAINED if prediction.probabilities else ""
    if prediction.label is not None:
        label = terminal.label_text(prediction.label) or NO_TAGS
    elif scope and prediction.out_of_scope:
        label = OUT_OF_SCOPE
    confidence = prediction.confidence
    return [label, *(["" if confidence is None else f"{confidence:.3f}"] if confident else ())]


def _told(
    found: Iterable[tuple[Any, Prediction]], told: Counter[str], scope: bool
) -> Iterator[Prediction]:
    """Counts what is to be told; takes labels out of scope away if asked."""
    for _, prediction in found:
        told["texts"] += 1
        told["long"] += prediction.parts > 1 or prediction.cut
        told["blank"] += prediction.label is None and not prediction.probabilities
        told["strange"] += bool(prediction.out_of_scope)
        outside = scope and prediction.out_of_scope
        yield replace(prediction, label=None) if outside else prediction


@group.command()
def monitor(
    model: Annotated[Path, typer.Argument(help="A run or a saved classifier.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="New texts.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    column: FileColumns = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Detect drift in new texts; exits with code 3 when retraining is recommended."""
    with terminal.Terminal(doing="monitor"):
        from japagen.config.sources import column_options
        from japagen.pipeline.deployment import watch

        found = watch(model, file, seed, columns=column_options(column), encoding=encoding)
    if as_json:
        terminal.print_json(found.to_dict())
    else:
        terminal.print_table(
            localized(f"{found.new} new texts against {found.reference}: {found.verdict}"),
            ["what", "change", "p", ""],
            [
                (c.name, f"{c.value:.3f}", f"{c.p_value:.3f}", "drifted" if c.drifted else "")
                for c in found.checks
            ],
        )
        if found.new_words:
            words = ", ".join(f"{word} ({n})" for word, n in found.new_words.items())
            terminal.say(f"words never seen before: {words}")
    if found.verdict == "retrain":
        raise typer.Exit(3)


@group.command()
def onnx(
    model: Annotated[Path, typer.Argument(help="A run or a saved classifier.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="By default RUN/onnx, or MODEL-onnx."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8/--no-int8", help="Quantise to 8-bit integers.")
    ] = True,
    check: Annotated[
        Path | None,
        typer.Option(
            help="Texts to compare with torch on; by default the kept texts of a run.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Export a classifier to ONNX for `predict`, and check it against torch."""
    with terminal.Terminal(doing="onnx") as listener:
        from japagen.pipeline.deployment import export_classifier

        found = export_classifier(model, output, int8=int8, check=check)
        agreement = found.agreement
        if agreement is None:
            listener.note("Not checked against torch: give texts with --check FILE.")
        elif not agreement.enough:
            listener.note(
                f"Only {agreement.share:.1%} of {agreement.texts} texts have the label that torch "
                "gives them. Measure it on labelled texts before use, or export with --no-int8."
            )
    if as_json:
        terminal.print_json(found.to_dict())
        return
    terminal.out.print(f"wrote {found.path} ({found.megabytes:.0f} MB)")
    if agreement is not None:
        terminal.out.print(
            f"same as torch: {agreement.share:.1%} of {agreement.texts} texts, "
            f"largest difference {agreement.largest:.3f}"
        )
