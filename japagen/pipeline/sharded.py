"""The commands on files for more rows than one process should do: in shards, on any engine.

Each function goes through the steps of a `ShardedRun`; the kernels are beside what they do.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from japagen.alignment.sampling import (
    MOST_SAMPLED,
    Factors,
    Fit,
    find_factors,
    fit_sample,
    sampled,
    score_rows,
)
from japagen.config.curation import Curation
from japagen.curation.bands import (
    KEY,
    Golden,
    Rejected,
    SharedKeys,
    SimilarPairs,
    decide,
    find_keys,
    join_texts,
    key_ranges,
)
from japagen.curation.filters import RowCuration
from japagen.data.dataset import Dataset
from japagen.data.engines import open_engine
from japagen.data.files import digest, read_json, write_json
from japagen.data.formats import dataset_of_shard, read_table
from japagen.data.records import usual_columns
from japagen.data.shards import ROW, SHARD_ROWS, Kernel, Part, Piece, ShardedRun, Waiting
from japagen.errors import JapagenError
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.listener import Listener
from japagen.pipeline.run_directory import open_classifier
from japagen.pipeline.steps.align import (
    columns_of,
    read_targets,
    with_like_labels,
    with_registers,
)

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier, Prediction


@dataclass(frozen=True)
class Sharding:
    """How a command on a file is run in shards.

    Attributes:
        engine: One of `japagen.data.engines.ENGINES`.
        address: Of a Ray cluster.
        part: Which part of the work this process does, as in ``2/5``.
        workers: How many shards at a time.
        shard_rows: Rows of a shard, where the input is cut.
    """

    engine: str = "processes"
    address: str | None = None
    part: str | None = None
    workers: int | None = None
    shard_rows: int = SHARD_ROWS

    @contextmanager
    def open(
        self,
        output: Path,
        source: Path,
        made_of: Mapping[str, Any],
        listener: Listener,
        encoding: str | None = None,
    ) -> Iterator[ShardedRun]:
        """The run directory, with the engine; see `ShardedRun.open`."""
        part = Part.parse(self.part)
        with open_engine(self.engine, address=self.address, workers=self.workers) as engine:
            run = ShardedRun.open(
                output,
                source,
                made_of,
                engine,
                part,
                listener,
                encoding=encoding,
                shard_rows=self.shard_rows,
            )
            try:
                yield run
            finally:
                run.release()


def _result(
    run: ShardedRun, make: Callable[[], dict[str, Any]], *on_the_way: str
) -> dict[str, Any]:
    """What a run came to, now or before, or what this part waits for.

    Args:
        run: The run.
        make: Goes through its steps.
        on_the_way: Those whose files nobody needs in the end.
    """
    if (known := run.result) is not None:
        return known
    try:
        found = make()
    except Waiting as waiting:
        return {"waiting": {"step": waiting.step, "shards": waiting.left}}
    run.finish(found, *on_the_way)
    return found


def curate_shards(
    source: Path,
    output: Path,
    settings: Curation,
    gold: Dataset | None,
    sharding: Sharding,
    listener: Listener,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> dict[str, Any]:
    """Registers, filters and near-duplicates of any number of rows.

    Args:
        source: A file of examples, or a directory of Parquet files.
        output: The run directory; ``OUTPUT/curated`` has the result, every row of it.
        settings: Thresholds.
        gold: Training gold, for copies.
        sharding: How it is run.
        listener: Told of every step.
        columns: Our column name to the input's.
        encoding: Of a text file.

    Returns:
        JSON-ready: rows, kept, rejected by filter, and what each step took.
    """
    if settings.max_meaning_similarity is not None:
        raise JapagenError(
            "max_meaning_similarity compares every text with every other one, which is not done in "
            "shards.",
            "Leave it out here.",
        )
    made_of = {
        "command": "curate",
        "settings": digest(settings.model_dump(mode="json")),
        "gold": None if gold is None else gold.fingerprint,
        "columns": dict(columns or {}),
    }
    with sharding.open(output, source, made_of, listener, encoding) as run:
        kernel = RowCuration(settings, gold, dict(columns or {}), run.typed)

        def curated() -> dict[str, Any]:
            run.step("rows", kernel, run.input())
            _check_labels(run, "rows")
            near = _find_near(run, Golden.of(gold), settings.max_similarity)
            given = run.output("rows")
            for shard in run.shards:
                rows = (ROW, shard.first, shard.first + shard.rows)
                given[shard.name].append(Piece(near, between=rows))
            run.step("curated", Rejected(settings.validators), given)
            return {
                "output": str(output / "curated"),
                **_counted(run, "curated"),
                "steps": run.summary("rows", *_NEAR_STEPS, "curated"),
            }

        return _result(run, curated, "rows", *_NEAR_STEPS)


_NEAR_STEPS = ("keys", "shared", "texts", "pairs")


def _find_near(run: ShardedRun, golden: Golden, threshold: float) -> Path:
    """Leaves a file of the rows that are too near to others."""
    names = [shard.name for shard in run.shards]
    ranges = {f"{n:05d}": bounds for n, bounds in enumerate(key_ranges(run.rows))}

    def across(step: str) -> dict[str, list[Piece]]:
        """What every shard has of each range."""
        files = [run.file(step, f"{name}.parquet") for name in names]
        return {r: [Piece(f, between=(KEY, *b)) for f in files] for r, b in ranges.items()}

    columns = (ROW, "id", "text", "text_pair")
    run.step("keys", find_keys, run.output("rows", *columns, "rejected"))
    run.step("shared", SharedKeys(golden), across("keys"))
    texts = run.output("rows", *columns)
    for shard in run.shards:
        rows = (ROW, shard.first, shard.first + shard.rows)
        shared = [Piece(run.file("shared", f"{name}.parquet"), between=rows) for name in ranges]
        texts[shard.name] += shared
    run.step("texts", join_texts, texts)
    run.step("pairs", SimilarPairs(golden, threshold), across("texts"))

    def all_decided() -> pa.Table:
        edges = [read_table(run.file("pairs", f"{name}.parquet")) for name in ranges]
        return decide(pa.concat_tables(edges), golden, threshold)

    return run.alone("near", all_decided)


def _check_labels(run: ShardedRun, step: str) -> None:
    """Refuses labels of one kind in one shard and of another in the next."""
    kinds: dict[str, str] = {}
    for shard in run.shards:
        if shard.rows:
            schema = pq.read_schema(run.file(step, f"{shard.name}.parquet"))
            kinds.setdefault(str(schema.field("label").type), shard.name)
    if len(kinds) > 1:
        told = ", ".join(f"{kind} in shard {name}" for kind, name in sorted(kinds.items()))
        raise JapagenError(
            f"Expected labels of one kind, found {told}.",
            "Write them all as text, or all as numbers with a point.",
        )


def _counted(run: ShardedRun, step: str) -> dict[str, Any]:
    """How many rows there are, how many are kept, and why the others are not."""
    rejected: Counter[str] = Counter()
    rows = 0
    for shard in run.shards:
        table = pq.read_table(run.file(step, f"{shard.name}.parquet"), columns=["rejected"])
        rows += len(table)
        names = table.column("rejected").combine_chunks().field("filter").drop_null()
        rejected.update({r["values"]: r["counts"] for r in names.value_counts().to_pylist()})
    by_filter = dict(sorted(rejected.items(), key=lambda item: (-item[1], item[0])))
    return {"rows": rows, "kept": rows - sum(rejected.values()), "rejected": by_filter}


@dataclass(frozen=True)
class Registers:
    """A kernel: the register of each row's text, beside all that the row has.

    Attributes:
        text: The column of texts.
        user_dictionary: A compiled MeCab user dictionary.
        honorifics: Own honorific words with their class.
    """

    text: str
    user_dictionary: Path | None = None
    honorifics: Mapping[str, str] | None = None

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds the columns style, keigo, channel, dialect and keico_level."""
        if self.text not in rows.column_names:
            raise JapagenError(
                f"Expected a column '{self.text}', found {', '.join(rows.column_names)}.",
                "Name it: --column text=本文.",
            )
        analyzer = RegisterAnalyzer(self.user_dictionary, self.honorifics)
        texts = [str(text or "") for text in rows.column(self.text).to_pylist()]
        reports = list(analyzer.analyze_all(texts))
        told = [report.register.to_dict() for report in reports]
        table = rows.drop_columns([n for n in (ROW, *_REGISTER) if n in rows.column_names])
        for name, kind in _REGISTER.items():
            values = (
                [report.keico_level for report in reports]
                if name == "keico_level"
                else [row[name] for row in told]
            )
            table = table.append_column(name, pa.array(values, kind))
        return table


_REGISTER = {
    "style": pa.string(),
    "keigo": pa.list_(pa.string()),
    "channel": pa.string(),
    "dialect": pa.bool_(),
    "keico_level": pa.int8(),
}


def register_shards(
    source: Path,
    output: Path,
    sharding: Sharding,
    listener: Listener,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    user_dictionary: Path | None = None,
    honorifics: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Registers of any number of rows, in ``OUTPUT/registers``; arguments as of `curate_shards`."""
    text = (columns or {}).get("text", "text")
    words = sorted((honorifics or {}).items())
    made_of = {"command": "register", "text": text, "dictionary": str(user_dictionary)}
    made_of["honorifics"] = digest(words)
    kernel = Registers(text, user_dictionary, honorifics)
    return _one_step("registers", kernel, sharding, output, source, made_of, listener, encoding)


def _one_step(
    name: str,
    kernel: Kernel,
    sharding: Sharding,
    output: Path,
    source: Path,
    made_of: Mapping[str, Any],
    listener: Listener,
    encoding: str | None,
) -> dict[str, Any]:
    with sharding.open(output, source, made_of, listener, encoding) as run:

        def made() -> dict[str, Any]:
            run.step(name, kernel, run.input())
            told = {"output": str(output / name), "rows": run.rows}
            return {**told, "steps": run.summary(name)}

        return _result(run, made)


@dataclass(frozen=True)
class Examples:
    """Reads examples of the input's rows, with labels as gold writes them.

    Attributes:
        columns: Our column name to the input's.
        typed: Whether the input tells numbers from texts.
        gold: Gold.
    """

    columns: Mapping[str, str]
    typed: bool
    gold: Dataset

    def __call__(self, rows: pa.Table) -> Dataset:
        """The examples."""
        found = dataset_of_shard(rows, columns=self.columns, typed=self.typed, require_label=True)
        return with_like_labels(found, self.gold)[0] if len(found) and len(self.gold) else found


@dataclass(frozen=True)
class Sampled:
    """A kernel: the kept rows that are in the sample.

    Attributes:
        read: Reads examples.
        size: How many rows are wanted.
        total: How many there are.
        seed: Draws them.
    """

    read: Examples
    size: int
    total: int
    seed: int

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The rows, as examples."""
        drawn = sampled(rows.column(ROW).to_numpy(), self.size, self.total, self.seed)
        return self.read(rows.filter(pa.array(drawn))).kept.table


@dataclass(frozen=True)
class Scored:
    """A kernel: all rows with their scores; see `score_rows`.

    Attributes:
        read: Reads examples.
        fit: What the sample told.
    """

    read: Examples
    fit: Fit

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The rows, as examples."""
        return score_rows(self.fit, self.read(rows))


@dataclass(frozen=True)
class Weighed:
    """A kernel: scored rows with their weights.

    Attributes:
        factors: Of all rows.
    """

    factors: Factors

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The rows as they are written for others, with ``weight``."""
        texts = self.factors.weigh(rows)
        both = texts.table.column("weight_distribution").to_numpy() * np.array(
            texts.column("weight_label"), np.float64
        )
        return texts.table.append_column("weight", pa.array(both / self.factors.scale))


def align_shards(
    source: Path,
    gold: Path,
    output: Path,
    sharding: Sharding,
    listener: Listener,
    *,
    unlabelled: Path | None = None,
    sample: int = MOST_SAMPLED,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Weights of any number of rows, in ``OUTPUT/aligned``.

    Registers are matched where the rows have them, as those that `curate_shards` made do.

    Args:
        source: A file of labelled examples, or a directory of Parquet files.
        gold: Labelled examples of the target.
        output: The run directory.
        sharding: How it is run.
        listener: Told of every step.
        unlabelled: Texts of the target.
        sample: On how many rows at most the weights are fitted; where there are no more, they are
            those of `align_files`.
        columns: As of `align_files`.
        encoding: Of text files.
        seed: Of the sample, and of all else that is random.
        **settings: ``method``, ``label_prior`` and ``floor`` of `align_datasets`.

    Returns:
        JSON-ready: what alignment reports of the sample, what all rows show, and what each step
        took.
    """
    if not 1 <= sample <= MOST_SAMPLED:
        raise JapagenError(
            f"Expected a sample of 1 to {MOST_SAMPLED:,} rows, found {sample}.",
            "It is held in memory, about 1.7 GB a million.",
        )
    target, more = read_targets(gold, unlabelled, columns, encoding)
    own = columns_of(columns, "synthetic")
    made_of = {
        "command": "align",
        "gold": target.fingerprint,
        "unlabelled": None if more is None else more.fingerprint,
        "settings": digest({**settings, "sample": sample, "seed": seed}),
        "columns": own,
    }
    with sharding.open(output, source, made_of, listener, encoding) as run:
        read = Examples(own, run.typed, target)

        def aligned() -> dict[str, Any]:
            run.step("sample", Sampled(read, sample, run.rows, seed), run.input())
            _check_labels(run, "sample")
            fit = _fitted(run, target, more, seed, settings)
            run.step("scored", Scored(read, fit), run.input())
            files = [run.file("scored", f"{shard.name}.parquet") for shard in run.shards]
            factors = find_factors(fit, [pq.read_schema(file) for file in files])
            run.step("aligned", Weighed(factors), run.output("scored"))
            return {
                "output": str(output / "aligned"),
                "rows": run.rows,
                "alignment": fit.summary.model_dump(mode="json"),
                "all": factors.report,
                "steps": run.summary("sample", "scored", "aligned"),
            }

        return _result(run, aligned, "sample", "scored")


def _fitted(
    run: ShardedRun, gold: Dataset, unlabelled: Dataset | None, seed: int, settings: dict[str, Any]
) -> Fit:
    """What the sample tells, kept in a file: later processes need it, and it takes longest."""
    path = run.file("fit.json")
    with FileLock(run.file(".lock-fit")):
        if not path.is_file():
            run.listener.stage("fit", "start", "")
            started = time.perf_counter()
            parts = [Dataset(t) for s in run.shards if len(t := _rows(run, "sample", s.name))]
            together = Dataset.concat(parts or [Dataset.of([])])
            data = with_registers((together, gold, unlabelled), _has_registers(together))
            fit = fit_sample(*data, seed=seed, **settings)
            write_json(path, fit.model_dump(mode="json"))
            run.listener.stage("fit", "done", f"{time.perf_counter() - started:.1f}")
        return Fit.model_validate(read_json(path))


def _rows(run: ShardedRun, step: str, shard: str) -> pa.Table:
    return Dataset.from_table(read_table(run.file(step, f"{shard}.parquet"))).table


def _has_registers(texts: Dataset) -> bool:
    return len(texts) > 0 and not texts.table.column("register_seen").null_count


_WINDOW = 4096


@dataclass(frozen=True)
class Predicted:
    """A kernel: predictions beside all that a row has, from a classifier opened once a process.

    Attributes:
        model: A run, or a saved or exported classifier.
        columns: Our column name to the input's.
        batch_size: Texts at a time; batches are of texts of like length.
        abstain_below: Give no label below this probability.
        scope: Give none to texts out of scope either.
    """

    model: Path
    columns: Mapping[str, str]
    batch_size: int = 32
    abstain_below: float = 0.0
    scope: bool = False

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds label, confidence and, of classes, the probability of each."""
        classifier = _opened(self.model)
        rows = rows.drop_columns([name for name in rows.column_names if name == ROW])
        given = usual_columns(rows.column_names, self.columns, pairs=classifier.is_pair)
        known = {**given, **self.columns}
        sides = []
        for name in ("text", "text_pair")[: 1 + classifier.is_pair]:
            theirs = known.get(name, name)
            if theirs not in rows.column_names:
                raise JapagenError(
                    f"Expected a column '{theirs}', found {', '.join(rows.column_names)}.",
                    f"Name it: --column {name}=COLUMN.",
                )
            sides.append(["" if v is None else str(v) for v in rows.column(theirs).to_pylist()])
        found: list[Prediction] = []
        for start in range(0, len(rows), _WINDOW):
            parts = [side[start : start + _WINDOW] for side in sides]
            pairs = parts[1] if classifier.is_pair else None
            found += classifier.predict(parts[0], pairs, self.batch_size, self.abstain_below)
        return _with_predictions(rows, found, classifier, self.scope)


def _with_predictions(
    rows: pa.Table, found: Sequence[Prediction], classifier: Classifier, scope: bool
) -> pa.Table:
    kind = {"regression": pa.float64(), "multi_label": pa.list_(pa.string())}
    labels = [None if scope and p.out_of_scope else p.label for p in found]
    columns = {"label": pa.array(labels, kind.get(classifier.space.kind, pa.string()))}
    if classifier.space.kind != "regression":
        columns["confidence"] = pa.array([p.confidence for p in found], pa.float64())
        for name in classifier.labels:
            shares = [p.probabilities.get(name) for p in found]
            columns[f"probability_{name}"] = pa.array(shares, pa.float64())
    if classifier.scope is not None:
        columns["out_of_scope"] = pa.array([p.out_of_scope for p in found], pa.bool_())
    taken = {*columns, *rows.column_names}
    names = []
    for name in rows.column_names:
        kept = name
        while kept in columns or (kept != name and kept in taken):
            kept = f"given_{kept}"
        names.append(kept)
    table = rows.rename_columns(names)
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


@lru_cache(1)
def _opened(model: Path) -> Classifier:
    return open_classifier(model)


def predict_shards(
    model: Path,
    source: Path,
    output: Path,
    sharding: Sharding,
    listener: Listener,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    batch_size: int = 32,
    abstain_below: float = 0.0,
    scope: bool = False,
) -> dict[str, Any]:
    """Predictions of any number of rows, in ``OUTPUT/predicted``.

    Args:
        model: A run, or a saved or exported classifier, at the same path for every worker.
        source: A file of texts, or a directory of Parquet files.
        output: The run directory.
        sharding: How it is run.
        listener: Told of every step.
        columns: Our column name to the input's.
        encoding: Of a text file.
        batch_size: Texts at a time.
        abstain_below: Give no label below this probability.
        scope: Give none to texts out of scope either.

    Returns:
        JSON-ready: rows, and what the step took.
    """
    weights = {f.name: f.stat().st_size for f in sorted(model.rglob("*")) if f.is_file()}
    made_of = {
        "command": "predict",
        "model": digest(weights),
        "columns": dict(columns or {}),
        "settings": [abstain_below, scope],
    }
    kernel = Predicted(model.resolve(), dict(columns or {}), batch_size, abstain_below, scope)
    return _one_step("predicted", kernel, sharding, output, source, made_of, listener, encoding)
