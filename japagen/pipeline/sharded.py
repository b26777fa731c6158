"""The commands on files for more rows than one process should do: in shards, on any engine.

Each function goes through the steps of a `ShardedRun`. Kernels are functions whose settings are
filled in by `partial`, which can be pickled.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

import japagen
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
from japagen.data.records import log_taken, usual_columns
from japagen.data.shards import (
    ROW,
    SHARD_ROWS,
    Kernel,
    Part,
    Piece,
    Shard,
    ShardedRun,
    Waiting,
)
from japagen.data.tables import open_table
from japagen.errors import DamagedError, JapagenError
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
        columns: Our column name to the file's.
        encoding: Of a text file.
    """

    engine: str = "processes"
    address: str | None = None
    part: str | None = None
    workers: int | None = None
    shard_rows: int = SHARD_ROWS
    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None

    def run(
        self,
        source: Path,
        output: Path,
        listener: Listener,
        made_of: Mapping[str, Any],
        make: Callable[[ShardedRun], dict[str, Any]],
        *on_the_way: str,
    ) -> dict[str, Any]:
        """What a run came to, now or before, or what this part waits for.

        Args:
            source: A file, or a directory of Parquet files.
            output: The run directory.
            listener: Told of every step.
            made_of: Everything that the result depends on.
            make: Goes through the steps.
            *on_the_way: Those whose files nobody needs in the end.
        """
        part = Part.parse(self.part)
        with open_engine(self.engine, address=self.address, workers=self.workers) as engine:
            run = ShardedRun.open(
                output,
                source,
                {**made_of, "version": japagen.__version__},
                engine,
                part,
                listener,
                encoding=self.encoding,
                shard_rows=self.shard_rows,
            )
            try:
                if (known := run.result) is not None:
                    return known
                found = make(run)
                run.finish(found, *on_the_way)
                return found
            except Waiting as waiting:
                return {"waiting": {"step": waiting.step, "shards": waiting.left}}
            finally:
                run.release()

    def one_step(
        self,
        source: Path,
        output: Path,
        listener: Listener,
        made_of: Mapping[str, Any],
        step: str,
        kernel: Kernel,
        *ours: str,
    ) -> dict[str, Any]:
        """What a run of one step, which reads some of our columns, came to; see `run`."""

        def make(run: ShardedRun) -> dict[str, Any]:
            _say_taken(run, source, self.columns, *ours)
            run.step(step, kernel, run.input())
            return {"output": str(output / step), "rows": run.rows, "steps": run.summary(step)}

        return self.run(source, output, listener, made_of, make)


def curate_shards(
    source: Path,
    output: Path,
    settings: Curation,
    gold: Dataset | None,
    sharding: Sharding,
    listener: Listener,
) -> dict[str, Any]:
    """Registers, filters and near-duplicates of any number of rows.

    Args:
        source: A file of examples, or a directory of Parquet files.
        output: The run directory; ``OUTPUT/curated`` has the result, every row of it.
        settings: Thresholds.
        gold: Training gold, for copies.
        sharding: How it is run.
        listener: Told of every step.

    Returns:
        JSON-ready: rows, kept, rejected by filter, and what each step took.
    """
    if settings.max_meaning_similarity is not None:
        raise JapagenError(
            "max_meaning_similarity compares every text with every other one, which is not done in "
            "shards.",
            "Leave it out here.",
        )
    columns = dict(sharding.columns)
    made_of = {
        "command": "curate",
        "settings": digest(settings.model_dump(mode="json")),
        "gold": None if gold is None else gold.fingerprint,
        "columns": columns,
    }

    def curated(run: ShardedRun) -> dict[str, Any]:
        _say_taken(run, source, columns, "text", "text_pair", "label")
        run.step("rows", RowCuration(settings, gold, columns, run.typed), run.input())
        _check_labels(run, "rows")
        near = _find_near(run, Golden.of(gold), settings.max_similarity)
        given = run.output("rows")
        for shard in run.shards:
            given[shard.name].append(Piece(near, between=_rows_of(shard)))
        run.step("curated", Rejected(settings.validators), given)
        return {
            "output": str(output / "curated"),
            **_counted(run, "curated"),
            "steps": run.summary("rows", *_NEAR_STEPS, "near", "curated"),
        }

    return sharding.run(source, output, listener, made_of, curated, "rows", *_NEAR_STEPS)


def _say_taken(run: ShardedRun, source: Path, columns: Mapping[str, str], *ours: str) -> None:
    """Says once which columns are taken for ours, as far as the first shard shows."""
    names = pq.read_schema(run.shards[0].path).names if run.shards else []
    taken = usual_columns(names, columns, pairs="text_pair" in ours)
    log_taken({name: taken[name] for name in ours if name in taken}, source)


def _rows_of(shard: Shard) -> tuple[str, int, int]:
    return ROW, shard.first, shard.first + shard.rows


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
        rows, files = _rows_of(shard), [run.file("shared", f"{name}.parquet") for name in ranges]
        texts[shard.name] += [Piece(file, between=rows) for file in files]
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


def _with_registers(
    rows: pa.Table, columns: Mapping[str, str], analyzer: Callable[[], RegisterAnalyzer]
) -> pa.Table:
    """The register of each row's text, beside all that the row has."""
    known = {**usual_columns(rows.column_names, columns, pairs=False), **columns}
    texts = _texts(rows, "text", known)
    told = [
        {**report.register.to_dict(), "keico_level": report.keico_level}
        for report in analyzer().analyze_all(texts)
    ]
    table = rows.drop_columns([n for n in (ROW, *_REGISTER) if n in rows.column_names])
    for name, kind in _REGISTER.items():
        table = table.append_column(name, pa.array([row[name] for row in told], kind))
    return table


def _texts(rows: pa.Table, ours: str, columns: Mapping[str, str]) -> list[str]:
    """A column of texts, empty where there is none."""
    theirs = columns.get(ours, ours)
    if theirs not in rows.column_names:
        found = ", ".join(name for name in rows.column_names if name != ROW)
        raise JapagenError(
            f"Expected a column '{theirs}', found {found}.", f"Name it: --column {ours}=COLUMN."
        )
    return ["" if v is None else str(v) for v in rows.column(theirs).to_pylist()]


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
    user_dictionary: Path | None = None,
    honorifics: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Registers of any number of rows, in ``OUTPUT/registers``; arguments as of `curate_shards`."""
    columns = {k: v for k, v in sharding.columns.items() if k == "text"}
    words = sorted((honorifics or {}).items())
    made_of = {
        "command": "register",
        "text": columns.get("text", "text"),
        "dictionary": str(user_dictionary),
    }
    made_of["honorifics"] = digest(words)
    analyzer = partial(RegisterAnalyzer, user_dictionary, honorifics)
    kernel = partial(_with_registers, columns=columns, analyzer=analyzer)
    return sharding.one_step(source, output, listener, made_of, "registers", kernel, "text")


ReadExamples: TypeAlias = Callable[[pa.Table], Dataset]


def _read_rows(rows: pa.Table, columns: Mapping[str, str], typed: bool, gold: Dataset) -> Dataset:
    """Examples of the input's rows, with labels as gold writes them."""
    found = dataset_of_shard(rows, columns=columns, typed=typed, require_label=True)
    return with_like_labels(found, gold)[0] if len(found) and len(gold) else found


def _sampled(rows: pa.Table, read: ReadExamples, size: int, total: int, seed: int) -> pa.Table:
    """The kept rows that are in a sample of a size, as examples."""
    drawn = sampled(rows.column(ROW).to_numpy(), size, total, seed)
    return read(rows.filter(pa.array(drawn))).kept.table


def _scored(rows: pa.Table, read: ReadExamples, fit: Fit) -> pa.Table:
    """All rows, as examples, with their scores."""
    return score_rows(fit, read(rows))


def _weighed(rows: pa.Table, factors: Factors) -> pa.Table:
    """Scored rows as they are written for others, with ``weight``."""
    texts = factors.weigh(rows)
    both = texts.table.column("weight_distribution").to_numpy() * np.array(
        texts.column("weight_label"), np.float64
    )
    return texts.table.append_column("weight", pa.array(both / factors.scale))


def align_shards(
    source: Path,
    gold: Path,
    output: Path,
    sharding: Sharding,
    listener: Listener,
    *,
    unlabelled: Path | None = None,
    sample: int = MOST_SAMPLED,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Weights of any number of rows, in ``OUTPUT/aligned``.

    Registers are matched where the rows have them, as those that `curate_shards` made do.

    Args:
        source: As of `curate_shards`, with labels.
        gold: Labelled examples of the target.
        output: As of `curate_shards`.
        sharding: Likewise; columns as of `align_files`.
        listener: Likewise.
        unlabelled: Texts of the target.
        sample: On how many kept rows at most the weights are fitted; where there are no more,
            they are those of `align_files`.
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
    target, more = read_targets(gold, unlabelled, sharding.columns, sharding.encoding)
    own = columns_of(sharding.columns, "synthetic")
    made_of = {
        "command": "align",
        "gold": target.fingerprint,
        "unlabelled": None if more is None else more.fingerprint,
        "settings": digest({**settings, "sample": sample, "seed": seed}),
        "columns": own,
    }

    def aligned(run: ShardedRun) -> dict[str, Any]:
        _say_taken(run, source, own, "text", "text_pair", "label")
        read = partial(_read_rows, columns=own, typed=run.typed, gold=target)
        total = run.rows if sample >= run.rows else _kept_rows(run)
        chosen = partial(_sampled, read=read, size=sample, total=total, seed=seed)
        run.step("sample", chosen, run.input())
        _check_labels(run, "sample")
        fit = _fitted(run, target, more, seed, settings)
        run.step("scored", partial(_scored, read=read, fit=fit), run.input())
        files = [run.file("scored", f"{shard.name}.parquet") for shard in run.shards]
        factors = find_factors(fit, [pq.read_schema(file) for file in files])
        run.step("aligned", partial(_weighed, factors=factors), run.output("scored"))
        return {
            "output": str(output / "aligned"),
            "rows": run.rows,
            "alignment": fit.summary.model_dump(mode="json"),
            "all": factors.report,
            "steps": run.summary("sample", "scored", "aligned"),
        }

    return sharding.run(source, output, listener, made_of, aligned, "sample", "scored")


def _kept_rows(run: ShardedRun) -> int:
    """How many rows of the input are not rejected, as japagen's own files alone say."""
    kept = 0
    for shard in run.shards:
        table = open_table(shard.path)
        if not table.is_own or "rejected" not in table.names:
            kept += shard.rows
            continue
        with pq.ParquetFile(shard.path) as file:
            batches = file.iter_batches(columns=["rejected"])
            kept += sum(batch.column(0).null_count for batch in batches)
    return kept


def _fitted(
    run: ShardedRun, gold: Dataset, unlabelled: Dataset | None, seed: int, settings: dict[str, Any]
) -> Fit:
    """What the sample tells, kept in a file: later processes need it, and it takes longest."""
    path = run.file("fit.json")
    with FileLock(run.file(".lock-fit")):
        if not path.is_file():
            run.listener.stage("fit", "start", "")
            started = time.perf_counter()
            files = [run.file("sample", f"{shard.name}.parquet") for shard in run.shards]
            parts = [Dataset.from_table(read_table(file)) for file in files]
            together = Dataset.concat([p for p in parts if len(p)] or [Dataset.of([])])
            found = bool(len(together)) and not together.table.column("register_seen").null_count
            data = with_registers((together, gold, unlabelled), found)
            fit = fit_sample(*data, seed=seed, **settings)
            write_json(path, fit.model_dump(mode="json"))
            run.listener.stage("fit", "done", f"{time.perf_counter() - started:.1f}")
        try:
            return Fit.model_validate(read_json(path))
        except ValueError as error:
            hint = "It may be of another version of japagen. Delete it, and repeat the command."
            raise DamagedError(path, hint) from error


_WINDOW = 4096


def _predicted(
    rows: pa.Table,
    model: Path,
    columns: Mapping[str, str],
    batch_size: int,
    abstain_below: float,
    scope: bool,
) -> pa.Table:
    """Label, confidence and, of classes, the probability of each, beside all that a row has.

    The classifier is opened once a process; batches are of texts of like length.
    """
    classifier = _opened(model)
    rows = rows.drop_columns([name for name in rows.column_names if name == ROW])
    known = {**usual_columns(rows.column_names, columns, pairs=classifier.is_pair), **columns}
    sides = [_texts(rows, n, known) for n in ("text", "text_pair")[: 1 + classifier.is_pair]]
    found: list[Prediction] = []
    for start in range(0, len(rows), _WINDOW):
        parts = [side[start : start + _WINDOW] for side in sides]
        pairs = parts[1] if classifier.is_pair else None
        found += classifier.predict(parts[0], pairs, batch_size, abstain_below)
    return _with_predictions(rows, found, classifier, scope)


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
    batch_size: int = 32,
    abstain_below: float = 0.0,
    scope: bool = False,
) -> dict[str, Any]:
    """Predictions of any number of rows, in ``OUTPUT/predicted``.

    The model is a run, or a saved or exported classifier, at the same path for every worker; with
    ``scope`` texts out of scope get no label either. Other arguments are as of `curate_shards`.
    """
    columns = dict(sharding.columns)
    weights = {f.name: f.stat().st_size for f in sorted(model.rglob("*")) if f.is_file()}
    made_of = {
        "command": "predict",
        "model": digest(weights),
        "columns": columns,
        "settings": [abstain_below, scope],
    }
    kernel = partial(
        _predicted,
        model=model.resolve(),
        columns=columns,
        batch_size=batch_size,
        abstain_below=abstain_below,
        scope=scope,
    )
    ours = "text", "text_pair"
    return sharding.one_step(source, output, listener, made_of, "predicted", kernel, *ours)
