from __future__ import annotations

import threading
from pathlib import Path

import pytest

from japagen.errors import JapagenError
from japagen.reviewing.decisions import Decision, Decisions, StaleError


def accept(example_id: str, comment: str = "") -> Decision:
    return Decision(example_id, "accept", "h", comment=comment)


def test_the_latest_decision_counts_and_survives(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    decisions = Decisions(path)
    first = decisions.save(accept("a"), 0)
    decisions.save(Decision("a", "reject", "h"), first.number)
    decisions.save(accept("b"), 0)
    decisions.close()
    again = Decisions(path).latest()
    assert {name: d.verdict for name, d in again.items()} == {"a": "reject", "b": "accept"}


def test_two_tabs_do_not_overwrite_each_other(tmp_path: Path) -> None:
    one, two = (Decisions(tmp_path / "review.sqlite") for _ in range(2))
    saved = one.save(accept("a"), 0)
    with pytest.raises(StaleError) as stale:
        two.save(Decision("a", "reject", "h"), 0)
    assert stale.value.current == saved
    assert two.latest()["a"].verdict == "accept"
    two.save(Decision("a", "reject", "h"), saved.number)
    assert one.latest()["a"].verdict == "reject"


def test_taking_back_leaves_nothing_and_can_be_decided_anew() -> None:
    decisions = Decisions(":memory:")
    first = decisions.save(accept("a"), 0)
    decisions.save(Decision("a", "none", "h"), first.number)
    assert decisions.latest() == {}
    decisions.save(accept("a"), 0)
    assert decisions.latest()["a"].verdict == "accept"


def test_of_many_at_once_exactly_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    Decisions(path).close()
    won: list[int] = []

    def decide(at: int) -> None:
        decisions = Decisions(path)
        try:
            decisions.save(accept("a", str(at)), 0)
            won.append(at)
        except StaleError:
            pass
        finally:
            decisions.close()

    threads = [threading.Thread(target=decide, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert Decisions(path).latest()["a"].comment == str(won[0])


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    path.write_text("not a database, but long enough to be read as one" * 40)
    with pytest.raises(JapagenError, match="Cannot use"):
        Decisions(path)
