"""The application, and the options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a handful of labelled Japanese texts to a trained compact classifier.",
)

Config = Annotated[Path, typer.Argument(help="The task file (YAML).", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="A run directory.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", help="Run directory; runs/NAME if absent.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Replace a key of the task: --set seed=3.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
Synthetic = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]FILE",
        help="CSV, JSONL or Parquet that any LLM wrote, in place of generation; once a source.",
    ),
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="Map a column of the files: text=本文.")
]


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


class Language(Enum):
    """Languages of the pages."""

    JA = "ja"
    EN = "en"
