"""Successive halving over ways to ask, and a last comparison on requests of its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from japagen.errors import JapagenError
from japagen.generators.base import Generator
from japagen.listeners import Listener, Silent
from japagen.running.data import load_data
from japagen.running.runs import RunDirectory
from japagen.running.stage_runner import StageRunner
from japagen.stages.asking import Asker
from japagen.storage.files import read_json, write_json
from japagen.tasks.tasks import Task
from japagen.tuning.space import Changes, draw_arms, plan_rungs, space_of
from japagen.tuning.trials import Asking, Bench, trial_row

_LAST_ROUND = 99  # a round of requests that no rung has


def tune(
    task: Task,
    budget: int,
    out: str | Path | None = None,
    *,
    arms: int | None = None,
    vary: Mapping[str, Any] | None = None,
    generator: Generator | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Searches how to ask, on a budget of requests, by gold alone.

    Settings that score worst are dropped, and the others asked with more; the last one is
    compared with the task as it stands, on requests that chose neither. Everything is kept in
    ``out``: the same call goes on there.

    Args:
        task: A classification of single texts, with gold.
        budget: Requests in all; `Budget` bounds their tokens and yen besides.
        out: A directory; ``runs/NAME-tune`` when None.
        arms: How many settings to try, the task as it stands among them; see `plan_rungs`.
        vary: Keys of ``generation`` to the values to try; see `space_of`.
        generator: A backend to use in place of the task's.
        listener: Told of the progress.

    Returns:
        ``trials`` (a row for each rung and settings, the best of a rung first: ``rung``,
        ``changes``, ``requests``, ``kept``, ``agreement``, ``distance``, ``score``, ``error``),
        ``winner`` (changes; empty for the task as it stands), ``gain`` (None where that won,
        else ``value``, ``low``, ``high`` and ``requests`` of each side), ``verdict`` (``better``,
        ``worse``, ``no_clear_difference`` or ``unchanged``), ``chosen`` (the winner, or nothing
        where it is worse), ``out`` and ``cost``.

    Raises:
        JapagenError: If the task does not go with it, or the budget is too small.
    """
    if task.kind != "classification" or task.pair:
        raise JapagenError(
            "Only tasks whose texts are alone and have one label each can be tuned.",
            "Set shots, temperature and instruction by hand; japagen preview shows the prompts.",
        )
    data = load_data(task)
    if data.gold is None:
        raise JapagenError(
            "Tuning judges by gold, and the task has none.", "Set gold: {path: FILE}."
        )
    rungs, last = plan_rungs(budget, len(task.labels), arms)
    space = space_of(task, data.gold, vary)
    directory = RunDirectory(out or Path("runs") / f"{task.name}-tune", f"{task.name}-tune")
    listener = listener or Silent()
    asker = Asker(task, generator, directory.file("ledger.sqlite"), listener)
    try:
        with closing(asker):
            search = _Search(Bench(task, data, asker), StageRunner(directory, listener))
            drawn = draw_arms(task, space, rungs[0][0], task.seed)
            found = search.run(drawn, [each for _, each in rungs], last)
            cost, _ = asker.cost()
    finally:
        directory.release()
    return {**found, "out": str(directory.path), "cost": dict(cost)}


class _Search:
    """One search: the rungs, the last comparison, and what is written of them."""

    def __init__(self, bench: Bench, stages: StageRunner) -> None:
        self._bench = bench
        self._stages = stages
        self._trials: list[dict[str, Any]] = []

    def run(self, arms: list[Changes], rungs: list[int], last: int) -> dict[str, Any]:
        askings = [Asking(changes) for changes in arms]
        for number, per_label in enumerate(rungs):
            askings = [self._bench.extended(a, number, per_label) for a in askings]
            rows = self._rung(number, askings)
            self._trials += rows
            write_json(self._stages.directory.file("trials.json"), self._trials)
            left = [row["changes"] for row in rows[: -(-len(rows) // 2)]]
            askings = [a for changes in left for a in askings if a.changes == changes]
            if len(askings) == 1:
                break
        winner = askings[0].changes
        gain = self._gain(winner, last) if winner else None
        verdict = _verdict(gain)
        return {
            "trials": self._trials,
            "winner": winner,
            "gain": gain,
            "verdict": verdict,
            "chosen": {} if verdict == "worse" else winner,
        }

    def _rung(self, number: int, askings: list[Asking]) -> list[dict[str, Any]]:
        def make() -> list[dict[str, Any]]:
            measure = self._bench.measure()
            rows = [
                trial_row(number + 1, asking.changes, texts, measure.score(texts))
                for asking, texts in zip(askings, self._bench.texts(askings), strict=True)
            ]
            return sorted(rows, key=lambda row: -row["score"])

        result: list[dict[str, Any]] = self._stages.run(
            f"rung-{number + 1}",
            [f"rungs/{number + 1}.json"],
            self._bench.fingerprint(askings),
            make,
            write_json,
            read_json,
        )
        return result

    def _gain(self, winner: Changes, per_label: int) -> dict[str, Any]:
        """How much better the winner is than the task as it stands, on requests of its own."""
        askings = [self._bench.extended(Asking(c), _LAST_ROUND, per_label) for c in (winner, {})]

        def make() -> dict[str, Any]:
            better, than = self._bench.texts(askings)
            measure = self._bench.measure()
            sides = {
                name: trial_row(0, {}, texts, measure.score(texts))
                for name, texts in (("winner", better), ("now", than))
            }
            shown = ("requests", "kept", "agreement", "distance", "score", "error")
            return {
                **measure.gain(better, than),
                **{name: {key: row[key] for key in shown} for name, row in sides.items()},
            }

        result: dict[str, Any] = self._stages.run(
            *("gain", ["gain.json"], self._bench.fingerprint(askings), make),
            *(write_json, read_json),
        )
        return result


def _verdict(gain: Mapping[str, Any] | None) -> str:
    if gain is None:
        return "unchanged"
    if gain["low"] > 0:
        return "better"
    return "worse" if gain["high"] < 0 else "no_clear_difference"
