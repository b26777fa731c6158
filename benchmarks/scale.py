"""Measures the commands in shards: rows per second, memory, how time grows, and Ray's overhead.

    python benchmarks/scale.py --data DIR [--rows 100000 300000 1000000] [--engines processes ray]
        [--workers 2] [--work DIR] [--predicted 30000 100000]

DIR holds JSONL files, at any depth, whose objects have a "text" and a "label". Rows are one to
three clauses of the texts in a row, drawn at random, and a tenth are copies of earlier rows with
one character changed, as in dedup.py: most rows share a band with others, as in what a model
writes. Each command is run from the start in a directory of its own; near-duplicates are the steps
keys to pairs of curation. Predictions are of a classifier that is trained on 16 texts per label
and exported in 8 bits. Rows per second and core are of processor time, of the workers and of this
process; other programs make it longer too, where cores share a cache. Growth is the slope of its
logarithm over that of rows. Seconds are those of a clock; "start" are those outside the steps, of
the engine mostly. Engines may be named more than once, to be measured in turns. The result is one
JSON object on standard output.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from japagen.config.curation import Curation
from japagen.data.dataset import Dataset
from japagen.data.engines import ENGINES
from japagen.data.formats import read_examples, write_examples
from japagen.listener import Silent
from japagen.pipeline.sharded import Sharding, align_shards, curate_shards, predict_shards
from japagen.training.onnx import export_onnx
from japagen.training.trainer import train

GOLD_PER_LABEL = 16
NEAR_STEPS = ("keys", "shared", "texts", "pairs", "near")
BATCH = 100_000


def read_pool(folder: Path) -> Dataset:
    files = sorted(folder.rglob("*.jsonl"))
    return Dataset.concat([read_examples(file) for file in files])


def write_rows(path: Path, pool: Dataset, number: int, seed: int) -> None:
    """Writes a Parquet file of made rows, a batch at a time."""
    rng = random.Random(seed)
    clauses: dict[str, list[str]] = {}
    for text, label in zip(pool.texts, pool.labels, strict=True):
        clauses.setdefault(label, []).extend(c for c in re.split("[。、]", text) if len(c) > 3)
    labels = sorted(clauses)
    characters = sorted({c for text in pool.texts for c in text})
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, number, BATCH):
            size = min(BATCH, number - start)
            texts: list[str] = []
            asked: list[str] = []
            for _ in range(size):
                if texts and rng.random() < 0.1:
                    at = rng.randrange(len(texts))
                    place = rng.randrange(len(texts[at]))
                    changed = rng.choice(characters)
                    texts.append(texts[at][:place] + changed + texts[at][place + 1 :])
                    asked.append(asked[at])
                    continue
                label = rng.choice(labels)
                chosen = rng.choices(clauses[label], k=rng.randint(1, 3))
                texts.append("、".join(chosen) + "。")
                asked.append(label)
            ids = [f"r{n}" for n in range(start, start + size)]
            writer.write_table(pa.table([ids, texts, asked], schema=schema))


class Clock(Silent):
    """Adds up the seconds of the steps."""

    seconds = 0.0

    def stage(self, name: str, news: str, detail: str) -> None:
        """Takes those of one."""
        self.seconds += float(detail) if news == "done" else 0


def timed(run: Callable[[Clock], dict[str, Any]]) -> dict[str, Any]:
    """What it comes to, with seconds, those outside the steps, and processor time."""
    clock = Clock()
    started, worked = time.perf_counter(), time.process_time()
    found = run(clock)
    seconds, own = time.perf_counter() - started, time.process_time() - worked
    # What is decided on near-duplicates is decided here.
    kernels = sum(step["cpu_seconds"] for n, step in found["steps"].items() if n != "near")
    start = round(seconds - clock.seconds, 1)
    return {"seconds": round(seconds, 1), "start": start, "cpu": round(kernels + own, 1), **found}


def measure(
    folder: Path, pool: Dataset, gold: Dataset, rows: int, sharding: Sharding, sample: int
) -> dict[str, Any]:
    source = folder / "in.parquet"
    write_rows(source, pool, rows, rows)
    write_examples(folder / "gold.jsonl", gold)
    curated = timed(
        lambda clock: curate_shards(source, folder / "curated", Curation(), gold, sharding, clock)
    )
    kept = folder / "curated" / "curated"
    aligned = timed(
        lambda clock: align_shards(
            kept, folder / "gold.jsonl", folder / "aligned", sharding, clock, sample=sample
        )
    )
    near = [curated["steps"][name] for name in NEAR_STEPS]
    return {
        "rows": rows,
        "engine": sharding.engine,
        "kept": curated["kept"],
        "curate_seconds": curated["seconds"],
        "curate_start": curated["start"],
        "curate_cpu": curated["cpu"],
        "rows_per_core_second": round(rows / curated["cpu"], 1),
        "near_cpu": round(sum(step["cpu_seconds"] for step in near), 1),
        "curate_steps": curated["steps"],
        "align_seconds": aligned["seconds"],
        "align_start": aligned["start"],
        "align_cpu": aligned["cpu"],
        "align_steps": aligned["steps"],
        "align_all": {k: v for k, v in aligned["all"].items() if k != "effective_sample_size"},
        "peak_mb": max(
            step["peak_mb"] for one in (curated, aligned) for step in one["steps"].values()
        ),
    }


def predict(folder: Path, pool: Dataset, model: Path, rows: int, sharding: Sharding) -> Any:
    source = folder / "texts.parquet"
    write_rows(source, pool, rows, rows)
    found = timed(lambda clock: predict_shards(model, source, folder / "out", sharding, clock))
    return {"engine": sharding.engine, "predicted": rows, **found}


def export(path: Path, gold: Dataset) -> Path:
    """Trains a classifier and exports it in 8 bits."""
    export_onnx(train(None, gold, calibrated=False, progress=False), path)
    return path


def growth(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of log seconds over log rows, by least squares; None of one number of rows."""
    if len({rows for rows, _ in points}) < 2:
        return None
    logs = [(math.log(rows), math.log(seconds)) for rows, seconds in points]
    mean_x, mean_y = (sum(part) / len(logs) for part in zip(*logs, strict=True))
    over = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return round(float(over / sum((x - mean_x) ** 2 for x, _ in logs)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--engines", nargs="+", default=["processes"], choices=ENGINES[1:])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shard-rows", type=int, default=20_000)
    parser.add_argument("--sample", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="Where to write; emptied as it goes.")
    parser.add_argument("--predicted", type=int, nargs="*", default=[])
    given = parser.parse_args()
    pool = read_pool(given.data)
    shots: list[int] = []
    for label in sorted(set(pool.labels)):
        shots += [at for at, own in enumerate(pool.labels) if own == label][:GOLD_PER_LABEL]
    gold = pool.take(sorted(shots))
    found: list[dict[str, Any]] = []
    predicted: list[Any] = []
    exported = tempfile.TemporaryDirectory(dir=given.work)
    model = export(Path(exported.name) / "model", gold) if given.predicted else Path()
    for engine in given.engines:
        sharding = Sharding(engine, workers=given.workers, shard_rows=given.shard_rows)
        for rows in given.rows:
            with tempfile.TemporaryDirectory(dir=given.work) as name:
                found.append(measure(Path(name), pool, gold, rows, sharding, given.sample))
                print(json.dumps(found[-1]), flush=True)
        for rows in given.predicted:
            with tempfile.TemporaryDirectory(dir=given.work) as name:
                predicted.append(predict(Path(name), pool, model, rows, sharding))
                print(json.dumps(predicted[-1]), flush=True)
    first = [one for one in found if one["engine"] == given.engines[0]]
    exponents = {
        name: growth([(one["rows"], max(one[f"{name}_cpu"], 0.1)) for one in first])
        for name in ("curate", "near", "align")
    }
    exponents["predict"] = growth(
        [(one["predicted"], one["cpu"]) for one in predicted if one["engine"] == given.engines[0]]
    )
    exported.cleanup()
    print(json.dumps({"growth": exponents, "measured": found, "predicted": predicted}, indent=1))


if __name__ == "__main__":
    main()
