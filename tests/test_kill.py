"""Kill -9 at random moments: the dataset is the undisturbed one, and no attempt goes uncounted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from japagen.data.files import to_yaml
from japagen.data.formats import load_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="forks and sends SIGKILL"),
]
KILLS = 40

# One process imports everything and forks the runs that are killed, or most of the time, and
# most of the kills, would go to imports.
SCRIPT = """
    import contextlib, importlib, json, os, random, signal, sys, time
    from pathlib import Path

    import japagen as jg
    from japagen.llm.backends.replay import ReplayGenerator
    from japagen.japanese.morphology import default_tagger

    config, record, out, kills = sys.argv[1:]
    out = Path(out)
    random.seed(0)

    class Slow:
        '''Replays with several requests in flight, and keeps a journal of what was sent.'''

        def __init__(self, journal):
            self._replay = ReplayGenerator(record)
            self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            self.info = self._replay.info
            self.count_tokens, self.close = self._replay.count_tokens, self._replay.close

        def stream(self, requests):
            waiting = []
            for request in requests:
                os.write(self._journal, (request.id + "\\n").encode())
                waiting.append(request)
                if len(waiting) == 4:
                    yield self._answer(waiting.pop(random.randrange(4)))
            yield from map(self._answer, waiting)

        def _answer(self, request):
            time.sleep(0.004)
            return next(iter(self._replay.stream([request])))

    def run(name):
        '''Runs the task in a process of its own and returns its id.'''
        pid = os.fork()
        if pid == 0:
            try:
                task = jg.Task.load(config)
                jg.run(task, out / name, until="curate", generator=Slow(out / f"{name}.sent"))
                (out / f"{name}.imported").write_text("\\n".join(sys.modules))
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        return pid

    default_tagger()
    assert os.waitstatus_to_exitcode(os.waitpid(run("first"), 0)[1]) == 0
    for module in (out / "first.imported").read_text().split():
        with contextlib.suppress(ImportError):  # what compiled modules made up
            importlib.import_module(module)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(run("whole"), 0)[1]) == 0
    whole = time.monotonic() - began

    killed, trial, counts = 0, 0, []
    while killed < int(kills):
        killed_before = killed
        while True:
            pid = run(f"trial{trial}")
            # After some kills a run may end: what is left of it can take longer than any delay.
            spared = killed - killed_before >= 8
            until = time.monotonic() + (60 if spared else random.uniform(0, 0.7 * whole))
            ended = 0
            while time.monotonic() < until and not ended:
                ended, status = os.waitpid(pid, os.WNOHANG)
                time.sleep(0.005)
            if ended:
                assert os.waitstatus_to_exitcode(status) == 0
                break
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            killed += 1
        counts.append(killed - killed_before)
        trial += 1
    print(json.dumps(counts))
"""


def test_killed_runs_end_as_an_undisturbed_one(
    raw_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    import japagen as jg
    from japagen.config.task import Task
    from japagen.llm.backend import Answer, Request
    from tests.scripted import ScriptedGenerator, write_text

    def flaky(request: Request) -> str | Answer:
        if request.seed % 9 == 0:
            return Answer(request.id, "", "error", 5, 1, 0.1, "refused by the content filter")
        return write_text(request)

    raw_task["generation"]["per_label"] = 40
    config = tmp_path / "task.yaml"
    config.write_text(to_yaml(raw_task), encoding="utf-8")
    record = tmp_path / "record"
    jg.run(Task.load(config), record, until="curate", generator=ScriptedGenerator(flaky))

    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    out = tmp_path / "runs"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, str(script), str(config), str(record), str(out), str(KILLS)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout.splitlines()[-1])
    assert sum(kills) >= KILLS

    expected = [load_dataset(record / name) for name in ("generated.parquet", "registers.parquet")]
    for trial, killed in enumerate(kills):
        run = out / f"trial{trial}"
        found = [load_dataset(run / name) for name in ("generated.parquet", "registers.parquet")]
        assert [d.fingerprint for d in found] == [d.fingerprint for d in expected]
        sent = (out / f"{run.name}.sent").read_text().split()
        with sqlite3.connect(run / "ledger.sqlite") as db:
            accepted = db.execute(
                "SELECT request_id, COUNT(*) FROM attempts WHERE finish != 'error' GROUP BY 1"
            ).fetchall()
            known, kept, lost = (
                db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
                for table in ("requests", "attempts", "lost")
            )
            assert db.execute("SELECT COUNT(*) FROM in_flight").fetchone()[0] == 0
        assert all(count == 1 for _, count in accepted)
        rows = [e for e in found[0] if e.rejected is None or e.rejected.filter != "failed"]
        assert {e.request_id for e in rows} == {request for request, _ in accepted} & {
            e.request_id for e in found[0]
        }
        assert known >= len(found[0])
        # What was sent is an attempt with its cost or counted as lost. A mark is made just
        # before its request goes out, so a kill in between counts one that never went.
        assert len(sent) <= kept + lost <= len(sent) + killed
    assert sum(kills) > len(kills)
