"""Measures the commands in shards: rows per second, memory, how time grows, and Ray's overhead.

    python benchmarks/scale.py --data DIR [--rows 100000 300000 1000000] [--engines processes ray]
        [--workers 2] [--work DIR] [--model ONNX_DIRECTORY --predicted 20000]

DIR holds JSONL files, at any depth, whose objects have a "text" and a "label". Rows are one to
three clauses of the texts in a row, drawn at random, and a tenth are copies of earlier rows with
one character changed, as in dedup.py: most rows share a band with others, as in what a model
writes. Each command is run from the start in a directory of its own; near-duplicates are the steps
keys to pairs of curation. Rows per second and core are of the workers' processor time, which other
programs on the machine do not change, and growth is the slope of its logarithm over that of rows;
seconds are those of a clock. The result is one JSON object on standard output.
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
from japagen.data.formats import read_examples, write_examples
from japagen.listener import Silent
from japagen.pipeline.sharded import Sharding, align_shards, curate_shards, predict_shards

GOLD_PER_LABEL = 16
NEAR_STEPS = ("keys", "shared", "texts", "pairs")
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


def timed(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    found = run()
    return {"seconds": round(time.perf_counter() - started, 1), **found}


def cpu(found: dict[str, Any]) -> float:
    return round(float(sum(step["cpu_seconds"] for step in found["steps"].values())), 1)


def measure(
    folder: Path, pool: Dataset, gold: Dataset, rows: int, sharding: Sharding, sample: int
) -> dict[str, Any]:
    source = folder / "in.parquet"
    write_rows(source, pool, rows, rows)
    write_examples(folder / "gold.jsonl", gold)
    silent = Silent()
    curated = timed(
        lambda: curate_shards(source, folder / "curated", Curation(), gold, sharding, silent)
    )
    kept = folder / "curated" / "curated"
    aligned = timed(
        lambda: align_shards(
            kept, folder / "gold.jsonl", folder / "aligned", sharding, silent, sample=sample
        )
    )
    near = [curated["steps"][name] for name in NEAR_STEPS]
    return {
        "rows": rows,
        "engine": sharding.engine,
        "curate_seconds": curated["seconds"],
        "kept": curated["kept"],
        "curate_steps": curated["steps"],
        "curate_cpu": cpu(curated),
        "near_cpu": round(sum(step["cpu_seconds"] for step in near), 1),
        "align_cpu": cpu(aligned),
        "rows_per_core_second": round(rows / cpu(curated), 1),
        "align_seconds": aligned["seconds"],
        "align_steps": aligned["steps"],
        "align_all": {k: v for k, v in aligned["all"].items() if k != "effective_sample_size"},
        "peak_mb": max(
            step["peak_mb"] for one in (curated, aligned) for step in one["steps"].values()
        ),
    }


def predict(folder: Path, pool: Dataset, model: Path, rows: int, sharding: Sharding) -> Any:
    source = folder / "texts.parquet"
    write_rows(source, pool, rows, rows)
    found = timed(lambda: predict_shards(model, source, folder / "out", sharding, Silent()))
    return {"engine": sharding.engine, "rows": rows, **found}


def growth(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of log seconds over log rows, by least squares."""
    if len(points) < 2:
        return None
    logs = [(math.log(rows), math.log(seconds)) for rows, seconds in points]
    mean_x, mean_y = (sum(part) / len(logs) for part in zip(*logs, strict=True))
    over = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return round(float(over / sum((x - mean_x) ** 2 for x, _ in logs)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--engines", nargs="+", default=["processes"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shard-rows", type=int, default=20_000)
    parser.add_argument("--sample", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="Where to write; emptied as it goes.")
    parser.add_argument("--model", type=Path, help="An exported classifier, for predictions.")
    parser.add_argument("--predicted", type=int, default=20_000)
    given = parser.parse_args()
    pool = read_pool(given.data)
    shots: list[int] = []
    for label in sorted(set(pool.labels)):
        shots += [at for at, own in enumerate(pool.labels) if own == label][:GOLD_PER_LABEL]
    gold = pool.take(sorted(shots))
    found: list[dict[str, Any]] = []
    predicted: list[Any] = []
    for engine in given.engines:
        sharding = Sharding(engine, workers=given.workers, shard_rows=given.shard_rows)
        for rows in given.rows:
            with tempfile.TemporaryDirectory(dir=given.work) as name:
                found.append(measure(Path(name), pool, gold, rows, sharding, given.sample))
                print(json.dumps(found[-1]), flush=True)
        if given.model:
            with tempfile.TemporaryDirectory(dir=given.work) as name:
                folder = Path(name)
                predicted.append(predict(folder, pool, given.model, given.predicted, sharding))
    first = [one for one in found if one["engine"] == given.engines[0]]
    exponents = {
        name: growth([(one["rows"], max(one[f"{name}_cpu"], 0.1)) for one in first])
        for name in ("curate", "near", "align")
    }
    print(json.dumps({"growth": exponents, "measured": found, "predicted": predicted}, indent=1))


if __name__ == "__main__":
    main()
