"""Refinement: the better of a text and its child stays, and the other is kept as rejected."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.config.curation import Curation
from japagen.curation.filters import curate
from japagen.curation.refinement import Rewriter, refine
from japagen.data.dataset import Dataset, Example
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, Request
from japagen.llm.prompts import builtin_prompts
from tests.scripted import ScriptedGenerator

ANALYZER = RegisterAnalyzer()
POLITE = Register.of("polite")
BAD, GOOD = "昨日のことで連絡しました。", "注文した荷物がまだ届いていません。"


def _row(text: str, row: str = "s-1", **more: Any) -> Example:
    known = {"label": "配送", "source": "claude", "register_asked": POLITE, "register_seen": POLITE}
    return Example(text, id=row, request_id=row, shot_ids=("g1",), **{**known, **more})


def _child(row: Example, number: int, text: str) -> Example:
    from dataclasses import replace

    return replace(row, text=text, id=f"{row.id}-f{number}", parent_id=row.id, derived="rewritten")


def _refined(
    rows: Sequence[Example], texts: Mapping[str, str], scores: Mapping[str, float], rounds: int = 1
) -> Dataset:
    return refine(
        Dataset.of(rows),
        rounds,
        0.7,
        lambda data: np.array([scores[e.text] for e in data]),
        lambda parents, n: [
            _child(e, n, texts[e.text]) if e.text in texts else None for e in parents
        ],
        lambda data, first: curate(data, Curation(), first=first),
        ANALYZER,
    )


def test_a_better_child_takes_its_parents_place() -> None:
    made = _refined([_row(BAD)], {BAD: GOOD}, {BAD: 0.3, GOOD: 0.8})
    parent, child = made
    assert parent.rejected is not None
    assert (parent.rejected.filter, parent.rejected.value) == ("refined", 0.3)
    assert parent.rejected.detail == "in s-1-f1"
    assert (child.text, child.parent_id, child.shot_ids, child.rejected) == (
        GOOD,
        "s-1",
        ("g1",),
        None,
    )


@pytest.mark.parametrize(
    ("text", "score", "why"),
    [
        ("遅いので困っています。", 0.2, "not_better"),
        ("荷物まだ来ないんだけど。", 0.9, "not_better"),
        ("困ります。", 0.9, "too_short"),
    ],
)
def test_a_child_that_is_no_better_leaves_its_parent(text: str, score: float, why: str) -> None:
    parent, child = _refined([_row(BAD)], {BAD: text}, {BAD: 0.3, text: score})
    assert parent.rejected is None
    assert child.rejected is not None
    assert child.rejected.filter == why


def test_a_child_like_another_text_leaves_its_parent() -> None:
    rows = [_row(GOOD, "s-0"), _row(BAD)]
    first, parent, child = _refined(rows, {BAD: GOOD}, {BAD: 0.3, GOOD: 0.8})
    assert first.rejected is None
    assert parent.rejected is None
    assert child.rejected is not None
    assert child.rejected.filter == "duplicate"


def test_rounds_go_on_from_the_child_and_end() -> None:
    better = "注文した荷物のことで連絡しました。"
    made = _refined(
        [_row(BAD)], {BAD: better, better: GOOD}, {BAD: 0.1, better: 0.5, GOOD: 0.9}, rounds=5
    )
    assert [e.id for e in made] == ["s-1", "s-1-f1", "s-1-f1-f2"]
    assert [e.text for e in made.kept] == [GOOD]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_one_of_each_family_is_kept_and_no_score_falls(chances: list[tuple[float, float]]) -> None:
    numbers = "一二三四五六七八"
    old = [f"{numbers[i] * 12}番のことで連絡しました。" for i in range(len(chances))]
    new = [f"{numbers[i] * 12}番の荷物がまだ届きません。" for i in range(len(chances))]
    scores = dict(zip(old, (a for a, _ in chances), strict=True))
    scores |= dict(zip(new, (b for _, b in chances), strict=True))
    rows = [_row(text, f"s-{i}") for i, text in enumerate(old)]
    made = refine(
        Dataset.of(rows),
        1,
        0.7,
        lambda data: np.array([scores[e.text] for e in data]),
        lambda parents, n: [_child(e, n, new[old.index(e.text)]) for e in parents],
        lambda data, first: data,
        ANALYZER,
    )
    kept = {e.id.removesuffix("-f1"): e.text for e in made.kept}
    assert len(kept) == len(made.kept) == len(rows)
    for i, (before, after) in enumerate(chances):
        best = after if before < 0.7 and after > before else before
        assert scores[kept[f"s-{i}"]] == best


def test_the_model_criticises_and_then_writes_by_what_it_said() -> None:
    asked: list[Request] = []

    def send(requests: Sequence[Request]) -> dict[str, Answer]:
        asked.extend(requests)
        said = {"criticise": "配送の話だと分からない。", "refine": GOOD}
        return {
            r.id: Answer(r.id, _json(said[r.template.partition(".")[0]]), "stop")
            for r in requests
            if "答えなし" not in r.prompt[-1].content
        }

    info = ScriptedGenerator(kind="chat").info
    shown = {
        "text_type": "問い合わせ",
        "domain": "通信販売",
        "label_type": "分類",
        "label": "配送",
        "label_description": "荷物について",
        "other_labels": ["返品"],
    }
    rewriter = Rewriter(builtin_prompts(), info, send, lambda _: shown, 0, 120)
    children = rewriter.rewrite([_row(BAD), _row("答えなし。", "s-2")], 1)
    assert children[1] is None
    child = children[0]
    assert child is not None
    assert (child.text, child.parent_id, child.id) == (GOOD, "s-1", "s-1-f1")
    assert (child.derived, child.generator) == ("rewritten", "scripted")
    assert child.source == "claude"
    last = asked[-1]
    assert [turn.role for turn in last.prompt] == ["system", "user", "assistant", "user"]
    assert last.prompt[2].content == _json("配送の話だと分からない。")
    for said in (BAD, "荷物について", "返品", "丁寧体"):
        assert said in last.prompt[1].content
    assert len({r.id for r in asked}) == 3
    assert rewriter.rewrite([_row(BAD)], 2)[0].seed != child.seed  # type: ignore[union-attr]


def _json(text: str) -> str:
    return json.dumps({"text": text}, ensure_ascii=False)
