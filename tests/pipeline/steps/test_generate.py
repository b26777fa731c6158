"""The closed loop from end to end, on a generator that answers from a script."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.generation import Knowledge
from japagen.config.task import Task
from japagen.data.formats import load_dataset
from japagen.data.summary import Covered, LabelCoverage
from japagen.generation.coverage import due
from japagen.llm.backend import Answer, Request
from tests.conftest import write_jsonl
from tests.pipeline.test_run import Heard
from tests.scripted import ScriptedGenerator

TOPICS = {
    "配送": ["追跡番号", "再配達", "伝票"],
    "返品": ["返送先", "定期便", "解約"],
}
FRAMES = [
    "{}を確認したいのですが、どうすればよいでしょうか。",
    "昨日{}について問い合わせました。",
    "{}のことで困っています。",
    "{}はどこで分かりますか。",
]


@pytest.fixture
def raw(tmp_path: Path, raw_task: dict[str, Any]) -> dict[str, Any]:
    """Gold that is about three things a label, each as often."""
    rows = [
        {"text": f"{frame.format(topic)}（{number}）", "label": label}
        for label, topics in TOPICS.items()
        for number, frame in enumerate(FRAMES)
        for topic in topics
    ]
    test = [{"text": f"{t}の件です。", "label": k} for k, ts in TOPICS.items() for t in ts]
    raw_task["gold"] = {"path": str(write_jsonl(tmp_path / "gold.jsonl", rows))}
    raw_task["test"] = {"path": str(write_jsonl(tmp_path / "test.jsonl", test))}
    raw_task["generation"] = {"per_label": 60, "rounds": 3, "shots": 4}
    raw_task["curation"] |= {"max_gold_overlap": 1.0, "register_miss": "ignore"}
    return raw_task


def obedient(request: Request) -> str:
    """Writes about what it is asked to name, and otherwise only of a label's first topic."""
    rng = random.Random(request.seed)
    topic = TOPICS[request.label][0]
    for named in map(Knowledge.parse, request.knowledge):
        if named.kind not in ("ending", "length_band"):
            topic = named.item
    frame = rng.choice(FRAMES)
    return f"{frame.format(topic)}番号は{rng.randint(1000, 9999)}です。"


def deaf(request: Request) -> str:
    rng = random.Random(request.seed)
    topic = TOPICS[request.label][0]
    return f"{rng.choice(FRAMES).format(topic)}番号は{rng.randint(1000, 9999)}です。"


def _generate(
    raw: dict[str, Any], out: Path, answer: Any = obedient
) -> tuple[jg.Run, Heard, ScriptedGenerator]:
    heard, generator = Heard(), ScriptedGenerator(answer)
    run = jg.run(Task.parse(raw), out, generator=generator, listener=heard, until="generate")
    return run, heard, generator


def _found(run: jg.Run, number: int) -> dict[str, Any]:
    from japagen.data.files import read_json

    return dict(read_json(run.path / "rounds" / f"{number}.json"))


def test_what_is_missing_is_named_and_the_distance_falls(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    run, _, generator = _generate(raw, tmp_path / "run")
    first, second = _found(run, 1), _found(run, 2)
    missing = {m["item"] for m in first["missing"]["配送"] if m["kind"] == "word"}
    assert set(TOPICS["配送"][1:]) & missing
    named = [r for r in generator.asked if r.knowledge]
    assert {r.round for r in generator.asked} >= {0, 1}
    assert {r.round for r in named} >= {1}
    assert not [r for r in named if r.round == 0]
    words = [row["distances"]["words"]["value"] for row in (first, second)]
    assert words[1] < words[0]
    assert not second["stopped"]
    texts = run.after("generate")
    assert set(texts.column("round")) >= {0, 1}
    gold = {e.id: e for e in jg.read_examples(tmp_path / "gold.jsonl")}
    word = next(r for r in named if r.knowledge[0] == "word:再配達")
    assert {i for i, e in gold.items() if "再配達" in e.text} <= set(word.shot_ids)


def test_rounds_end_when_the_distance_no_longer_falls(raw: dict[str, Any], tmp_path: Path) -> None:
    run, heard, generator = _generate(raw, tmp_path / "run", deaf)
    assert Counter(r.round for r in generator.asked) == {0: 40, 1: 40}
    assert _found(run, 2)["stopped"]
    assert heard.notes == [
        "Round 2 of 3 brought the texts no closer to gold; 40 requests were saved."
    ]
    again, _, asked = _generate(raw, tmp_path / "run", deaf)
    assert asked.asked == []
    assert again.after("generate").fingerprint == run.after("generate").fingerprint


def test_a_second_run_asks_and_compares_nothing(raw: dict[str, Any], tmp_path: Path) -> None:
    first, _, generator = _generate(raw, tmp_path / "run")
    second, heard, asked = _generate(raw, tmp_path / "run")
    assert generator.asked
    assert asked.asked == []
    assert heard.ran() == set()
    assert second.after("generate").fingerprint == first.after("generate").fingerprint


def _stopping(
    answer: Callable[[Request], str], stop: int
) -> tuple[list[str], Callable[[Request], str]]:
    """The ids of answered requests, and an answerer that Ctrl-C stops after so many of them."""
    sent: list[str] = []

    def stopping(request: Request) -> str:
        if len(sent) == stop:
            raise KeyboardInterrupt
        sent.append(request.id)
        return answer(request)

    return sent, stopping


@pytest.mark.parametrize("stop", [39, 40, 55, 80])
def test_a_run_stopped_in_any_round_goes_on_and_asks_nothing_twice(
    raw: dict[str, Any], tmp_path: Path, stop: int
) -> None:
    sent, stopping = _stopping(obedient, stop)
    with pytest.raises(KeyboardInterrupt):
        _generate(raw, tmp_path / "run", stopping)
    run, _, generator = _generate(raw, tmp_path / "run")
    assert not {r.id for r in generator.asked} & set(sent)
    whole, _, undisturbed = _generate(raw, tmp_path / "whole")
    assert {r.id for r in undisturbed.asked} == {r.id for r in generator.asked} | set(sent)
    found = [load_dataset(r.path / "generated.parquet").fingerprint for r in (run, whole)]
    assert found[0] == found[1]


def test_an_answer_that_comes_late_changes_nothing_already_asked(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    failing: set[str] = set()

    def flaky(request: Request) -> str | Answer:
        if request.round == 0 and len(failing) < 3:
            failing.add(request.id)
            return Answer(request.id, "", "error", error="HTTP 503")
        return obedient(request)

    _, _, first = _generate(raw, tmp_path / "run", flaky)
    _, _, second = _generate(raw, tmp_path / "run")
    assert {r.id for r in second.asked} == failing
    assert len(first.asked) > 40


def test_rounds_are_looked_back_on_anew_with_another_encoder(
    raw: dict[str, Any], tmp_path: Path, tiny_encoder: str
) -> None:
    raw["curation"]["max_meaning_similarity"] = 0.9999
    raw["training"] = {"encoder": tiny_encoder}
    _generate(raw, tmp_path / "run")
    raw["training"]["encoder"] = str(shutil.copytree(tiny_encoder, tmp_path / "other"))
    settings = json.loads((tmp_path / "other" / "config.json").read_text(encoding="utf-8"))
    settings["layer_norm_eps"] = 1e-6
    (tmp_path / "other" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    _, heard, _ = _generate(raw, tmp_path / "run")
    assert "round-1" in heard.ran()
    del raw["curation"]["max_meaning_similarity"]
    _generate(raw, tmp_path / "run")
    raw["training"]["encoder"] = tiny_encoder
    _, heard, _ = _generate(raw, tmp_path / "run")
    # Without comparing meanings no encoder is read.
    assert "round-1" in heard.kept()


def test_concepts_are_asked_for_until_they_are_there(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["concepts"] = {"配送": {"代引き": 0.3}}

    def forgetful(request: Request) -> str:
        """Names what it is asked for half of the time."""
        return obedient(request) if request.seed % 2 else deaf(request)

    run, _, generator = _generate(raw, tmp_path / "run", forgetful)
    asked = Counter(r.round for r in generator.asked if "concept:代引き" in r.knowledge)
    assert asked[0] == 6
    found = _found(run, 1)["coverage"]["配送"]["covered"][0]
    assert found["asked"] == 6
    assert found["met"] == found["found"] < 6
    # Of 40 texts 12 are wanted; what the first round missed is asked for in the second.
    assert asked[1] == 12 - found["found"]


def test_without_gold_rounds_still_cover_what_is_wanted(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    del raw["gold"], raw["test"]
    raw["concepts"] = {"配送": ["代引き"]}
    run, heard, _ = _generate(raw, tmp_path / "run")
    assert _found(run, 3)["distances"] == {}
    assert _found(run, 3)["coverage"]["配送"]["covered"][0]["share"] == pytest.approx(0.1)
    assert heard.notes == []


def test_due_is_what_is_left_to_find() -> None:
    found = LabelCoverage(
        kept=20,
        covered=[
            Covered("concept", "再配達", 0.2, 4, 4, 1, 1, 0.05),
            Covered("concept", "伝票", 0.1, 2, 2, 2, 9, 0.45),
        ],
    )
    assert due(found, 20) == {Knowledge("concept", "再配達"): 7.0}
    assert LabelCoverage.model_validate(found.model_dump()) == found


def test_the_report_shows_rounds_and_coverage(
    raw: dict[str, Any], tmp_path: Path, tiny_encoder: str
) -> None:
    raw["training"] = {"encoder": tiny_encoder, "min_steps": 2, "max_steps": 3}
    raw["generation"] |= {"per_label": 24, "rounds": 2}
    raw["concepts"] = {"配送": {"代引き": 0.25}}
    raw["rare_cases"] = {"返品": ["箱が空だった"]}
    run = jg.run(Task.parse(raw), tmp_path / "run", generator=ScriptedGenerator(obedient))
    found = run.metrics["rounds"]
    assert [row["requests"] for row in found["rounds"]] == [24, 24]
    assert found["rounds"][0]["named"] == {"concept": 3, "rare": 1}
    html = (run.path / "report.html").read_text(encoding="utf-8")
    for shown in ('id="loop"', "第2ラウンド", "代引き", "箱が空だった", "25.0%"):
        assert shown in html
    covered = run.metrics["coverage"]["配送"]["covered"][0]
    assert covered["met"] == covered["answered"] > 0


def _until(raw: dict[str, Any], **until: Any) -> dict[str, Any]:
    raw["generation"] = {"shots": 4, "until": {"kept": 20, **until}}
    return raw


def stubborn(request: Request) -> str:
    """Of 返品 every second text is a copy of one; of 配送 all are good."""
    number = random.Random(request.seed).randrange(10**6)
    if request.label == "返品" and number % 2:
        return "返送先はどこで分かりますか。"
    return f"{'いろは順に数えて'[number % 7 :]}{number}番の{request.label}の話です。{number % 997}"


@pytest.fixture
def alike(raw: dict[str, Any]) -> dict[str, Any]:
    """A task whose texts may be as alike as scripted ones are, but not the same."""
    raw["curation"] |= {"max_similarity": 1.0}
    return raw


def _metrics(run: jg.Run) -> dict[str, tuple[int, int]]:
    """Label to the texts asked for, and those kept by the filters, of all rounds."""
    kept = jg.run(run.task, run.path, generator=ScriptedGenerator(), until="curate").after("curate")
    asked = Counter(kept.column("label_asked"))
    return {label: (asked[label], Counter(kept.kept.labels)[label]) for label in TOPICS}


def test_labels_that_are_short_are_asked_again_until_enough_are_kept(
    alike: dict[str, Any], tmp_path: Path
) -> None:
    run, heard, generator = _generate(_until(alike), tmp_path / "run", stubborn)
    found = _metrics(run)
    assert found["配送"] == (20, 20)
    assert found["返品"][0] > 30
    assert found["返品"][1] >= 20
    assert {r.label for r in generator.asked if r.round} == {"返品"}
    assert len({r.id for r in generator.asked}) == len(generator.asked)
    assert heard.notes == [
        f"Label '{label}': {kept} texts kept of {asked} asked for, 20 wanted: enough."
        for label, (asked, kept) in found.items()
    ]
    again, _, asked_again = _generate(_until(alike), tmp_path / "run", stubborn)
    assert asked_again.asked == []
    assert again.after("generate").fingerprint == run.after("generate").fingerprint


def test_a_label_stops_at_the_most_rounds_or_where_little_is_kept(
    alike: dict[str, Any], tmp_path: Path
) -> None:
    _, heard, generator = _generate(_until(alike, rounds=1), tmp_path / "once", stubborn)
    assert len(generator.asked) == 40
    assert heard.notes[1].endswith("20 wanted: generation.until.rounds were over.")

    def spent(request: Request) -> str:
        return stubborn(request) if request.label == "配送" else "返送先はどこで分かりますか。"

    _, heard, generator = _generate(_until(alike), tmp_path / "spent", spent)
    assert len(generator.asked) == 40
    assert heard.notes[1] == (
        "Label '返品': 1 texts kept of 20 asked for, 20 wanted: too few of the last texts were "
        "kept (generation.until.least_yield)."
    )


def test_a_budget_ends_the_rounds_and_more_of_it_goes_on(
    alike: dict[str, Any], tmp_path: Path
) -> None:
    _, _, generator = _generate(_until(alike), tmp_path / "whole", stubborn)
    raw = _until(alike)
    spent = sum(10 + len(stubborn(r)) for r in generator.asked[:44])
    raw["generation"] |= {"budget": {"tokens": spent}, "max_tokens": 60}
    _, heard, _ = _generate(raw, tmp_path / "run", stubborn)
    assert heard.notes[-1].endswith("20 wanted: generation.budget is used up.")
    del raw["generation"]["budget"]
    _, heard, _ = _generate(raw, tmp_path / "run", stubborn)
    assert heard.notes[-1].endswith("20 wanted: enough.")


@pytest.mark.parametrize("stop", [39, 45])
def test_a_run_stopped_before_enough_are_kept_ends_the_same(
    alike: dict[str, Any], tmp_path: Path, stop: int
) -> None:
    sent, stopping = _stopping(stubborn, stop)
    with pytest.raises(KeyboardInterrupt):
        _generate(_until(alike), tmp_path / "run", stopping)
    run, heard, generator = _generate(_until(alike), tmp_path / "run", stubborn)
    whole, notes, _ = _generate(_until(alike), tmp_path / "whole", stubborn)
    assert not {r.id for r in generator.asked} & set(sent)
    assert heard.notes == notes.notes
    assert run.after("generate").fingerprint == whole.after("generate").fingerprint
