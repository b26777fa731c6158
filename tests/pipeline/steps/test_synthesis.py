"""The strategy gradient_matching in a run, with small random models of the real classes."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.dataset import SYNTHESISED
from japagen.errors import JapagenError
from japagen.gradmm import synthesis
from japagen.llm.backend import Request
from japagen.pipeline.estimate import estimate
from japagen.pipeline.run_directory import Run
from japagen.pipeline.steps.synthesis import REFUSED
from japagen.review.decisions import FILE, Decision, Decisions, Verdict, text_hash
from tests.llm.backends.tiny_checkpoint import write_checkpoint
from tests.pipeline.test_run import Heard
from tests.scripted import ScriptedGenerator

TEXTS = {
    "配送": ["商品を家に送る。", "便で人に渡す。", "荷物を品と送る。", "日に家で待つ。"],
    "返品": ["品を店に返す。", "色を変える。", "日に会社で買う。", "人に金を返す。"],
}


def _write(request: Request) -> str:
    texts = TEXTS[request.label]
    return f"{texts[request.seed % 4]}{'先日の件で話す。' * (request.seed // 4 % 2)}"


# Without a predicate, as most of what random models write: a change of register refuses few.
LISTS = {
    "配送": ["商品と家と便。", "人と荷物と便。", "荷物と品と家。", "日と家と荷物。"],
    "返品": ["品と店と色。", "色と日と会社。", "日と会社と人。", "人と金と店。"],
}


def _list(request: Request) -> str:
    return f"{LISTS[request.label][request.seed % 4]}{'先日の件。' * (request.seed // 4 % 2)}"


def _put_first(groups: list[Any], *_: Any) -> list[tuple[list[str], list[float]]]:
    """Stands in for synthesis, for tests of what follows it."""
    return [([f"今、{text}" for text in g.texts], [1.2] * len(g.texts)) for g in groups]


@pytest.fixture(scope="session")
def tiny_reader(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("reader"), "gemma3"))


@pytest.fixture
def matching(raw_task: dict[str, Any], tiny_encoder: str, tiny_reader: str) -> dict[str, Any]:
    """A task as a mapping: few models are as unsure as a random one, so much is allowed."""
    raw_task["generation"] |= {"strategy": "gradient_matching"}
    return raw_task | {
        "generator": {"backend": "hf", "model": tiny_reader},
        "gradient_matching": {"perplexity": 1000},
        "curation": {"max_similarity": 1.0, "register_miss": "ignore"},
        "alignment": {"method": "labels", "label_trust": "none"},
        "training": {
            "encoder": tiny_encoder,
            "synthetic_share": 0.4,
            "min_steps": 1,
            "max_steps": 3,
        },
    }


def test_what_was_selected_is_changed_towards_the_same_gold(
    matching: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "synthesise", _put_first)
    matching["selection"] = {"per_label": 3}
    task = Task.parse(matching)
    run = jg.run(task, tmp_path / "run", until="align", generator=ScriptedGenerator(_write))
    kept = [e for e in run.dataset if e.rejected is None]
    assert len(kept) == 6
    children = [e for e in kept if e.derived == SYNTHESISED]
    parents = {e.id: e for e in run.dataset}
    assert children
    for child in children:
        assert set(child.shot_ids) == set(parents[str(child.parent_id)].shot_ids)


def test_a_run_changes_texts_and_trains_on_them(matching: dict[str, Any], tmp_path: Path) -> None:
    task, heard = Task.parse(matching), Heard()
    run = jg.run(task, tmp_path / "run", generator=ScriptedGenerator(_list), listener=heard)
    rows = {e.id: e for e in run.dataset}
    children = [e for e in run.dataset if e.derived == SYNTHESISED]
    gold = load_data(task).gold
    assert gold is not None
    for child in children:
        parent = rows[str(child.parent_id)]
        own = {e.id for e in gold if e.label == child.label}
        assert child.text != parent.text
        assert (child.label, child.request_id) == (parent.label, parent.request_id)
        assert child.prompt_id == "gradient_matching"
        assert set(parent.shot_ids) < set(child.shot_ids) | own
        # It was matched to three texts of four, and a fold that holds out the fourth can use it.
        assert len(own & set(child.shot_ids)) == len(own) - 1 == 3
        if child.rejected is None:
            assert parent.rejected is not None
            assert parent.rejected.filter == SYNTHESISED
            assert parent.rejected.detail == f"in {child.id}"
            assert 0 < parent.rejected.value <= parent.rejected.threshold == 1000
    found, counts = run.metrics["gradient_matching"], run.metrics["counts"]
    kept = [e for e in children if e.rejected is None]
    assert found["synthesised"] == len(kept) > 0
    assert counts["synthesised"] == len(children)
    assert counts["requested"] == counts["generated"] == 24
    assert f"Gradient matching rewrote {len(kept)} of {found['texts']} texts." in heard.notes

    again = Heard()
    jg.run(task, tmp_path / "run", generator=ScriptedGenerator(_list), listener=again)
    assert {news for _, news, _ in again.stages} == {"kept"}
    assert Run.open(tmp_path / "run").dataset.fingerprint == run.dataset.fingerprint


@pytest.mark.parametrize("verdict", ["accept", "reject"])
def test_decisions_of_people_hold(
    matching: dict[str, Any], tmp_path: Path, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "synthesise", _put_first)
    task, out = Task.parse(matching), tmp_path / "run"

    def go() -> Any:
        return jg.run(task, out, until="align", generator=ScriptedGenerator(_write)).dataset

    rows = {e.id: e for e in go()}
    child = next(e for e in rows.values() if e.derived == SYNTHESISED and e.rejected is None)
    # What a person accepts is not changed any more; a changed text that is refused stays refused.
    judged = rows[str(child.parent_id)] if verdict == "accept" else child
    with closing(Decisions(out / FILE)) as decisions:
        made = Decision(judged.id, verdict, text_hash(judged.text, None), str(judged.label))
        decisions.save(made, 0)
    after = {e.id: e for e in go()}
    if verdict == "accept":
        assert after[judged.id].rejected is None
        assert child.id not in after
    else:
        assert after[child.id].rejected is not None
        assert after[child.id].rejected.filter == "review"


@pytest.mark.parametrize(
    ("made", "detail"),
    [
        ("荷物の配達が{n}件届きませんでした。", ""),
        ("荷物の配達が{n}件届かない。", "polite before, plain after"),
    ],
)
def test_a_change_of_register_is_turned_down(
    matching: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: str,
    detail: str,
) -> None:
    # Enough gold, and plain enough, for a random encoder to tell the labels by.
    about = {"配送": "荷物の配達が{n}件届きません。", "返品": "返品と交換を{n}件頼みます。"}
    rows = [f"{text.format(n=n)},{label}" for n in range(30) for label, text in about.items()]
    (tmp_path / "gold.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    matching["gold"] = {"path": str(tmp_path / "gold.csv")}
    matching["curation"] |= {"max_gold_overlap": 1.0, "label_miss": "keep"}
    matching["alignment"]["label_trust"] = "encoder"

    drawn = count(2000)

    def change(groups: list[Any], *_: Any) -> list[tuple[list[str], list[float]]]:
        new = [
            g.texts if g.label else [made.format(n=next(drawn)) for _ in g.texts] for g in groups
        ]
        return [(texts, [1.1] * len(texts)) for texts in new]

    monkeypatch.setattr(synthesis, "synthesise", change)
    generator = ScriptedGenerator(lambda r: about[r.label].format(n=100 + r.seed % 1000))
    run = jg.run(Task.parse(matching), tmp_path / "run", until="align", generator=generator)
    children = [e for e in run.dataset if e.derived == SYNTHESISED]
    assert children
    for child in children:
        refused = child.rejected and (child.rejected.filter, child.rejected.detail)
        assert refused in ((None,) if not detail else ((REFUSED, detail),))
    # A label is trusted as before.
    trust = {e.id: e.weight_label for e in run.dataset}
    assert all(trust[e.id] == trust[str(e.parent_id)] > 0 for e in children)
    # A parent stays where its child does not.
    gone = {e.id for e in run.dataset if e.rejected and e.rejected.filter == SYNTHESISED}
    assert gone == {e.parent_id for e in run.dataset.kept if e.derived == SYNTHESISED}


def test_texts_of_a_file_are_changed_and_stay_of_unknown_descent(
    matching: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "synthesise", _put_first)
    path = tmp_path / "texts.csv"
    rows = [f"{text},{label}" for label, texts in TEXTS.items() for text in texts]
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    run = jg.run(Task.parse(matching), tmp_path / "run", synthetic=path, until="align")
    children = [e for e in run.dataset if e.derived == SYNTHESISED]
    assert children
    assert not any(e.shot_ids for e in children)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gold": None}, "expected gold"),
        ({"kind": "multi_label"}, "found multi_label"),
        ({"pair": {}}, "found pairs"),
        ({"scale": {0: "低い", 5: "高い"}, "labels": None}, "found regression"),
        ({"selection": {"per_label": 3, "privacy": {"epsilon": 1}}}, "no selection.privacy"),
        ({"generator": {"backend": "openai", "model": "m"}}, "embedded or hf, found openai"),
        ({"gradient_matching": {"perplexty": 2}}, "unknown key 'gradient_matching.perplexty'"),
    ],
)
def test_what_cannot_be_matched_is_refused_with_the_task(
    matching: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    raw = {key: value for key, value in (matching | changes).items() if value is not None}
    with pytest.raises(JapagenError, match=message):
        Task.parse(raw)


@pytest.mark.parametrize("backend", ["embedded", "hf"])
def test_a_missing_model_is_found_before_anything_is_asked(
    matching: dict[str, Any], tmp_path: Path, backend: str
) -> None:
    matching["generator"] = {"backend": backend, "model": str(tmp_path / "nothing.gguf")}
    generator = ScriptedGenerator(_write)
    with pytest.raises(JapagenError, match=r"nothing\.gguf") as raised:
        jg.run(Task.parse(matching), tmp_path / "run", generator=generator)
    assert raised.value.hint == "Check generator.model."
    assert generator.asked == []
    assert not (tmp_path / "run").exists()


def test_a_plan_asks_as_few_shot_does_and_says_what_follows(
    matching: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "japagen.pipeline.estimate.load_generator", lambda _: ScriptedGenerator(_write)
    )
    task = Task.parse(matching)
    found = estimate(task, sample=0)
    plain = matching | {"generation": matching["generation"] | {"strategy": "few_shot"}}
    other = estimate(Task.parse(plain), sample=0)
    assert found["steps"] == other["steps"]
    assert any("no requests" in note for note in found["notes"])
    assert not any("no requests" in note for note in other["notes"])
