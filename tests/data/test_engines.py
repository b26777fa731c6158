"""What holds for every engine; those of Ray are slow, for they start a cluster of two cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from japagen.data.engines import Died, Engine, open_engine
from japagen.errors import JapagenError, MissingExtraError
from tests.conftest import ROOT

ENGINES = [
    "here",
    "processes",
    pytest.param("ray", marks=[pytest.mark.slow]),
]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "ray":
        pytest.importorskip("ray")
    with open_engine(request.param, workers=2) as opened:
        yield opened


def squared(number: int) -> int:
    return number * number


def refused(number: int) -> int:
    if number == 3:
        raise ArithmeticError("three is too much")
    return number


def deadly(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def deadly_once(mark: Path) -> str:
    """Ends its worker the first time."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark.name


def niceness(_: int) -> int:
    return os.nice(0)


def test_workers_give_way_to_others_no_more_than_this_process_does(engine: Engine) -> None:
    assert {found for _, found in engine.map(niceness, range(4))} == {os.nice(0)}


def test_every_input_has_its_result(engine: Engine) -> None:
    assert sorted(engine.map(squared, range(20))) == [(n, n * n) for n in range(20)]
    assert list(engine.map(squared, [])) == []


def test_what_a_function_raises_is_raised(engine: Engine) -> None:
    with pytest.raises(ArithmeticError, match="three is too much"):
        list(engine.map(refused, range(6)))
    assert len(list(engine.map(squared, range(6)))) == 6  # it goes on


def test_who_stops_early_waits_for_nothing(engine: Engine) -> None:
    results = engine.map(squared, iter(range(10**9)))
    next(results)
    results.close()
    assert dict(engine.map(squared, [2])) == {2: 4}


def test_an_input_that_ends_its_worker_is_told_from_those_beside_it(engine: Engine) -> None:
    if type(engine).__name__ == "Here":
        pytest.skip("it would end this process")
    found = dict(engine.map(deadly, range(8)))
    assert isinstance(found.pop(3), Died)
    assert found == {n: n for n in range(8) if n != 3}


def deadly_pair(number: int) -> int:
    if number in (2, 3):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_after_one_that_dies_alone_the_others_have_their_turn(engine: Engine) -> None:
    if type(engine).__name__ == "Here":
        pytest.skip("it would end this process")
    found = dict(engine.map(deadly_pair, [2, 3, 4, 5]))
    assert sorted(found) == [2, 3, 4, 5]
    assert {n for n, result in found.items() if isinstance(result, Died)} == {2, 3}
    assert (found[4], found[5]) == (4, 5)


def test_a_worker_that_ends_once_costs_nothing(engine: Engine, tmp_path: Path) -> None:
    if type(engine).__name__ == "Here":
        pytest.skip("it would end this process")
    marks = [tmp_path / str(n) for n in range(3)]
    marks[0].touch()
    found = dict(engine.map(deadly_once, marks))
    again = [mark for mark, result in found.items() if isinstance(result, Died)]
    found |= dict(engine.map(deadly_once, again))
    assert found == {mark: mark.name for mark in marks}


def test_processes_start_once(tmp_path: Path) -> None:
    with open_engine("processes", workers=1) as engine:
        pids = {result for _, result in engine.map(lambda _: os.getpid(), range(4))}
        pids |= {result for _, result in engine.map(lambda _: os.getpid(), range(4))}
    assert len(pids) == 1
    assert os.getpid() not in pids


def grown(megabytes: int) -> int:
    HELD.append(b"x" * (megabytes << 20))
    time.sleep(1.1)  # how often a worker's memory is looked at, in seconds
    return os.getpid()


HELD: list[bytes] = []


def test_a_worker_that_has_grown_is_started_anew_without_a_word() -> None:
    pytest.importorskip("psutil")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with open_engine("processes", workers=1) as engine:
            pids = [pid for _, pid in engine.map(grown, [10, 400, 10, 10])]
    assert len(pids) == 4
    assert len(set(pids)) > 1
    assert not told


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(JapagenError, match="Unknown engine 'dask'"), open_engine("dask"):
        pass


def test_an_address_is_for_ray() -> None:
    with (
        pytest.raises(JapagenError, match="--address for the engine 'processes'"),
        open_engine("processes", address="auto"),
    ):
        pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"japagen\[ray\]"), open_engine("ray"):
        pass


CONNECTED = """
import os
from japagen.data.engines import open_engine
from japagen.errors import JapagenError
import ray

try:
    with open_engine("ray", address="127.0.0.1:1"):
        pass
except JapagenError as error:
    print(error.message)
with open_engine("ray", workers=2):
    with open_engine("ray") as inner:
        print(dict(inner.map(abs, [-3])))
    print(ray.is_initialized(), os.environ["RAY_USAGE_STATS_ENABLED"], os.environ["RAY_AUTH_MODE"])
print(ray.is_initialized())
"""


@pytest.mark.slow
def test_a_connection_is_closed_by_who_opened_it_and_a_closed_door_is_named(
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CONNECTED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].startswith("Cannot reach a Ray cluster at '127.0.0.1:1'")
    assert said[1:] == ["{-3: 3}", "True 0 disabled", "False"]
    assert not (tmp_path / ".ray").exists()  # no token is left
