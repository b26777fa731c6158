"""Sentences that look like another register than theirs, written for this test."""

from pathlib import Path

import pytest

from japagen.japanese.register.detector import analyze_register

KEIGO = {"s": "sonkeigo", "1": "kenjogo1", "2": "kenjogo2", "b": "bikago", "g": "gozaru"}
NAMED = {"spoken", "written", "dialect", "double_keigo"}


def _cases() -> list[tuple[str, str, set[str], set[str]]]:
    lines = Path(__file__).with_name("hard_cases.txt").read_text(encoding="utf-8").splitlines()
    cases = []
    for line in lines:
        if line and not line.startswith("#"):
            text, style, keigo, *others = (part.strip() for part in line.split(" | "))
            cases.append((text, style, {KEIGO[k] for k in keigo if k != "-"}, set(others)))
    return [(t, s, k, {name for other in o for name in other.split()}) for t, s, k, o in cases]


CASES = _cases()


def test_there_are_enough_of_them() -> None:
    assert len({text for text, *_ in CASES}) == len(CASES) >= 150


@pytest.mark.parametrize(("text", "style", "keigo", "others"), CASES, ids=[c[0] for c in CASES])
def test_hard_case(text: str, style: str, keigo: set[str], others: set[str]) -> None:
    report = analyze_register(text)
    named = {e.kind for e in report.evidence if e.certain and e.kind in NAMED}
    assert (report.style, set(report.keigo), named) == (style, keigo, others)
