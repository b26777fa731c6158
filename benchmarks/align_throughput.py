"""How fast alignment is, against MeCab alone and against data-selection (DSIR).

    python benchmarks/align_throughput.py [--rows N] [--workers N] [--data DIR] [--json FILE]

Rows are sentences of a small grammar or, with DIR, texts of its hotel_sentiment and
software_topics pools with small edits. All figures come from one run on the same rows:

raw fugashi     nodes without features in N processes, start and loading not counted; measured
                before and after everything else, the better one counts
features        reading, normalising and counting the texts, start of the workers included
weights         everything else in `align_datasets`: features, label shares, balancing, diagnostics
data-selection  HashedNgramDSIR as it comes, fit + weights + resample, with N processes; only its
                minimum of 100 tokens is set to 0, since it would leave no short row

"wall" is rows per second by the clock and "CPU" rows per second of processor time times N, which a
machine busy with other work disturbs less; shares of raw fugashi are like by like. Memory is that
of all processes together (Linux: proportional set size, sampled) and the kernel's own maxima.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from japagen.alignment.weights import align_datasets
from japagen.data.dataset import Dataset, Example

GOLD, UNLABELLED, RAW_ROWS = 200, 500, 200_000
SUBJECTS = ("部屋", "朝食", "スタッフの対応", "お風呂", "駅からの道", "景色", "値段", "夕食の量")
TAILS = {
    "positive": (
        "がとても良かったです。",
        "に満足しました!",
        "は期待以上でした。",
        "が素晴らしい。",
    ),
    "negative": (
        "が残念でした。",
        "には正直がっかりした。",
        "は二度と御免です。",
        "が気になりました。",
    ),
}
OPENINGS = ["", "今回は", "先週、", "家族で泊まりましたが、", "出張で利用。", "正直に言うと"]


def grammar(rng: random.Random) -> tuple[str, str]:
    label = rng.choice(("positive", "positive", "negative"))
    parts = [rng.choice(OPENINGS)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        parts.append(rng.choice(SUBJECTS) + rng.choice(TAILS[label]))
    return "".join(parts), label


class Pool:
    """Texts of a folder's pools, slightly changed each time."""

    def __init__(self, folder: Path) -> None:
        lines = [
            line
            for task in ("hotel_sentiment", "software_topics")
            for line in (folder / task / "pool.jsonl").read_text("utf-8").splitlines()
        ]
        self._rows = [json.loads(line) for line in lines]

    def __call__(self, rng: random.Random) -> tuple[str, str]:
        """Returns a text and its label."""
        row = rng.choice(self._rows)
        text = row["text"]
        if rng.random() < 0.5:
            text = (
                text.replace("です", "でした")
                if rng.random() < 0.5
                else f"{text}{rng.choice('!。♪')}"
            )
        if rng.random() < 0.3:
            text = rng.choice(OPENINGS) + text
        return text, row["label"]


def datasets(rows: int, source: Any) -> tuple[Dataset, Dataset, Dataset]:
    """Synthetic, gold and unlabelled rows, built in pieces so that they set no memory record."""
    rng = random.Random(0)
    pieces = []
    for start in range(0, rows, 50_000):
        size = min(50_000, rows - start)
        made = [source(rng) for _ in range(size)]
        ids = [f"s{start + i:08d}" for i in range(size)]
        empty = Dataset.of([Example("", "", id="0")]).take(np.zeros(size, dtype=np.int64))
        texts, labels = zip(*made, strict=True)
        pieces.append(empty.with_columns(id=ids, text=list(texts), label=list(labels)))
    gold = [source(rng) for _ in range(GOLD)]
    more = [source(rng) for _ in range(UNLABELLED)]
    return (
        Dataset.concat(pieces),
        Dataset.of([Example(t, label, id=f"g{i}") for i, (t, label) in enumerate(gold)]),
        Dataset.of([Example(t, id=f"u{i}") for i, (t, _) in enumerate(more)]),
    )


def cpu() -> float:
    """Processor seconds of this process and of those that it waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


class Memory(threading.Thread):
    """Samples the memory of this process and its children; the peak in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Samples until stopped."""
        while not self._over.wait(1.0):
            self.peak = max(self.peak, sum(map(_set_size, _family(os.getpid()))))

    def stop(self) -> int:
        """Returns the peak."""
        self._over.set()
        self.join()
        return self.peak


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                yield from _family(int(child))


def _set_size(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _read_raw(pipe: Any) -> None:
    import fugashi

    tagger = fugashi.Tagger()
    texts = pipe.recv()
    tagger(texts[0])
    pipe.send(None)
    pipe.recv()
    start, used = time.perf_counter(), time.process_time()
    for text in texts:
        tagger(text)
    pipe.send((time.perf_counter() - start, time.process_time() - used))


def raw_fugashi(texts: list[str], workers: int) -> tuple[float, float]:
    """Wall and processor seconds a row; the wall is that of the slowest process."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for i in range(workers):
        ours, theirs = context.Pipe()
        process = context.Process(target=_read_raw, args=(theirs,))
        process.start()
        ours.send(texts[i::workers])
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send(None)
    spent = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    return max(s[0] for s in spent) / len(texts), sum(s[1] for s in spent) / len(texts)


def japagen(synthetic: Dataset, gold: Dataset, unlabelled: Dataset, workers: int) -> dict[str, Any]:
    """Seconds (wall, processor) of each part, and the memory that it took."""
    memory = Memory()
    memory.start()
    marks: list[tuple[float, float]] = []

    def mark() -> None:
        marks.append((time.perf_counter(), cpu()))

    def progress(blocks: Iterable[Any], total: int) -> Iterator[Any]:
        mark()
        yield from blocks
        _stop_joblib()
        mark()

    mark()
    found = align_datasets(synthetic, gold, unlabelled, workers=workers, progress=progress)
    mark()
    (a, b, c, d) = (np.array(m) for m in marks)
    return {
        "features": c - b,
        "weights": (b - a) + (d - c),
        "whole run": d - a,
        "peak": memory.stop(),
        "maximum": [
            resource.getrusage(who).ru_maxrss * 1024
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ],
        "tolerance": found.diagnostics.tolerance,
    }


def data_selection(synthetic: Dataset, gold: Dataset, workers: int) -> Any:
    """Wall and processor seconds, or why there are none."""
    try:
        from data_selection import HashedNgramDSIR
    except ImportError as error:
        return f"not measured: {error} (pip install data-selection)"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dataset, path in ((synthetic, folder / "raw.jsonl"), (gold, folder / "target.jsonl")):
            with path.open("w", encoding="utf-8") as file:
                file.writelines(
                    json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in dataset.texts
                )
        start, used = time.perf_counter(), cpu()
        with contextlib.redirect_stderr(io.StringIO()):
            dsir = HashedNgramDSIR(
                [str(folder / "raw.jsonl")],
                [str(folder / "target.jsonl")],
                cache_dir=str(folder / "cache"),
                num_proc=workers,
                min_example_length=0,
            )
            dsir.fit_importance_estimator()
            dsir.compute_importance_weights()
            dsir.resample(str(folder / "out"), len(synthetic) // 10, str(folder / "drawn"))
        wall = time.perf_counter() - start
        _stop_joblib()
        return np.array([wall, cpu() - used])


def _stop_joblib() -> None:
    """Ends joblib's processes, whose processor time counts once they are waited for."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--data", type=Path, help="folder with hotel_sentiment, software_topics")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--skip-dsir", action="store_true", help="leave out data-selection")
    arguments = parser.parse_args()
    n, workers = arguments.rows, arguments.workers
    source = Pool(arguments.data) if arguments.data else grammar
    synthetic, gold, unlabelled = datasets(n, source)
    texts = synthetic.table.column("text").slice(0, RAW_ROWS).to_pylist()
    raw = [raw_fugashi(texts, workers)]
    ours = japagen(synthetic, gold, unlabelled, workers)
    raw.append(raw_fugashi(texts, workers))
    theirs = "skipped" if arguments.skip_dsir else data_selection(synthetic, gold, workers)
    wall, used = (min(r[i] for r in raw) for i in (0, 1))
    speeds = {"raw fugashi": (1 / wall, workers / used)}
    for name in ("features", "weights", "whole run"):
        speeds[name] = (n / ours[name][0], n / ours[name][1] * workers)
    if not isinstance(theirs, str):
        speeds["data-selection"] = (n / theirs[0], n / theirs[1] * workers)
    base = speeds["raw fugashi"]
    mean = sum(map(len, texts)) / len(texts)
    print(f"{n:,} rows of {mean:.0f} characters on average, {workers} processes, rows per second")
    print(f"{'':16}{'wall':>10}{'of raw':>8}{'CPU':>10}{'of raw':>8}")
    for name, (by_wall, by_cpu) in speeds.items():
        shares = by_wall / base[0], by_cpu / base[1]
        print(f"{name:16}{by_wall:10,.0f}{shares[0]:8.0%}{by_cpu:10,.0f}{shares[1]:8.0%}")
    if isinstance(theirs, str):
        print(f"data-selection: {theirs}")
    print(
        f"peak memory: {ours['peak'] / 1e9:.2f} GB in all processes; maxima "
        f"{ours['maximum'][0] / 1e9:.2f} GB here, {ours['maximum'][1] / 1e9:.2f} GB in a child"
    )
    if arguments.json:
        figures = {
            "rows": n,
            "workers": workers,
            "characters": mean,
            "rows_per_second": {k: {"wall": w, "cpu": c} for k, (w, c) in speeds.items()},
            "raw_fugashi_seconds_per_row": raw,
            "peak_bytes": ours["peak"],
            "maxrss_bytes": ours["maximum"],
            "tolerance": ours["tolerance"],
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
