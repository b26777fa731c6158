from __future__ import annotations

import itertools
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.config.generation import KINDS, Knowledge, UntilKept
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.dataset import Dataset, Example
from japagen.generation import planner
from japagen.generation.coverage import passages_in
from japagen.generation.planner import RequestPlanner, round_sizes
from japagen.generation.topics import apportion, assign_topics, fitted, spread
from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, Request
from japagen.llm.client import run_requests
from japagen.llm.ledger import Ledger
from japagen.llm.prompts import builtin_prompts
from japagen.pipeline.steps.generate import next_registers
from tests.scripted import ScriptedGenerator

EVEN = {"polite": 0.25, "plain": 0.25, "casual": 0.25, "honorific": 0.25}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 1), min_size=1),
    st.integers(0, 500),
)
def test_apportioning_adds_up_and_is_within_one_of_exact(
    shares: dict[str, float], total: int
) -> None:
    counts = apportion(shares, total)
    mass = sum(shares.values())
    assert sum(counts.values()) == total
    for name, count in counts.items():
        assert abs(count - shares[name] / mass * total) < 1


def _plan(task: Task, kind: str = "document") -> list[Request]:
    gold = load_data(task).gold
    assert gold is not None
    gold = gold.with_registers([Register.of("polite")] * len(gold))
    generator = ScriptedGenerator(kind=kind)  # type: ignore[arg-type]
    shares = dict.fromkeys(task.labels, EVEN)
    return RequestPlanner(task, gold, builtin_prompts(), generator.info).plan(shares)


def _with_generation(task: Task, **values: int) -> Task:
    return task.model_copy(update={"generation": task.generation.model_copy(update=values)})


def test_every_label_and_register_gets_its_requests(task: Task) -> None:
    cells = Counter((r.label, r.register.name) for r in _plan(task))
    assert cells == {(label, name): 3 for label in task.labels for name in EVEN}


def test_a_plan_repeats_and_its_ids_are_unique(task: Task) -> None:
    plan = _plan(task)
    assert [r.id for r in plan] == [r.id for r in _plan(task)]
    assert len({r.id for r in plan}) == len(plan)


def test_asking_for_more_keeps_what_was_asked(task: Task) -> None:
    few = {r.id for r in _plan(task)}
    more = {r.id for r in _plan(_with_generation(task, per_label=90))}
    assert few < more


def test_a_shot_set_serves_at_most_its_completions_and_stands_together(task: Task) -> None:
    plan = _plan(_with_generation(task, per_label=40, completions_per_shot_set=4))
    prompts = [r.prompt for r in plan]
    assert max(Counter(prompts).values()) <= 4
    changes = sum(a != b for a, b in itertools.pairwise(prompts))
    assert changes == len(set(prompts)) - 1


def test_shots_come_from_training_gold_of_the_same_label(task: Task) -> None:
    data = load_data(task)
    assert data.gold is not None
    assert data.test is not None
    label_of = dict(zip(data.gold.column("id"), data.gold.labels, strict=True))
    held_out = set(data.test.column("id"))
    for request in _plan(task):
        assert request.shot_ids
        assert {label_of[i] for i in request.shot_ids} == {request.label}
        assert not held_out & set(request.shot_ids)


def test_chat_prompts_have_a_system_and_a_user_turn(task: Task) -> None:
    prompt = _plan(task, "chat")[0].prompt
    assert not isinstance(prompt, str)
    assert [m.role for m in prompt] == ["system", "user"]


def test_only_what_has_no_answer_is_sent(task: Task, tmp_path: Path) -> None:
    plan = _plan(task)
    first, second = ScriptedGenerator(), ScriptedGenerator()
    with closing(Ledger(tmp_path / "l.sqlite")) as ledger:
        run_requests(plan[:10], first, ledger)
        answers = run_requests(plan, second, ledger)
    assert [r.id for r in second.asked] == [r.id for r in plan[10:]]
    assert set(answers) == {r.id for r in plan}


def test_an_interrupted_run_ends_as_an_undisturbed_one(task: Task, tmp_path: Path) -> None:
    plan = _plan(task)

    def dataset(path: Path, stops: list[int]) -> Dataset:
        for stop in stops:
            with closing(Ledger(path)) as ledger:
                sent = 0

                def interrupted(request: Request, limit: int = stop) -> str:
                    nonlocal sent
                    sent += 1
                    if sent > limit:
                        raise KeyboardInterrupt
                    return f"{request.label}の話です、{request.seed}番。"

                try:
                    run_requests(plan, ScriptedGenerator(interrupted), ledger)
                except KeyboardInterrupt:
                    continue
        with closing(Ledger(path)) as ledger:
            answers = run_requests(plan, ScriptedGenerator(), ledger)
            assert len(answers) == len(plan)
            assert ledger.totals()["answers"] == len(plan)
        return planner.to_dataset(plan, answers, {}, "scripted")

    whole = dataset(tmp_path / "a.sqlite", [1000])
    pieces = dataset(tmp_path / "b.sqlite", [3, 0, 7, 1000])
    assert pieces.fingerprint == whole.fingerprint


def test_failures_stay_as_rows_with_their_reason(task: Task, tmp_path: Path) -> None:
    plan = _plan(task)[:2]

    def answer(request: Request) -> Answer | str:
        if request.id == plan[0].id:
            return Answer(request.id, "", "error", error="refused")
        return Answer(request.id, "- 途中で切れた", "length", 5, 120, 0.1)

    with closing(Ledger(tmp_path / "l.sqlite")) as ledger:
        answers = run_requests(plan, ScriptedGenerator(answer), ledger)
        dataset = planner.to_dataset(plan, answers, ledger.failures([plan[0].id]), "scripted")
    failed, cut = dataset
    assert failed.rejected is not None
    assert (failed.rejected.filter, failed.rejected.detail) == ("failed", "refused")
    assert cut.text == "途中で切れた"
    assert cut.rejected is not None
    assert cut.rejected.filter == "truncated"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (" 荷物が届きません。", "荷物が届きません。"),
        ("- 荷物が届きません。\n- 次", "荷物が届きません。"),
        ("「荷物が届きません。」", "荷物が届きません。"),
        ("「荷物」が「届かない」", "「荷物」が「届かない」"),
        ("① 荷物", "荷物"),
        ("3. 荷物", "荷物"),
        ("3日経っても届きません。", "3日経っても届きません。"),
        ("", ""),
    ],
)
def test_one_line_is_taken_out_of_a_document(task: Task, raw: str, text: str) -> None:
    request = _plan(task)[0]
    answers = {request.id: Answer(request.id, raw, "stop")}
    assert planner.to_dataset([request], answers, {}, "scripted").texts == [text]


@pytest.mark.parametrize(
    ("raw", "text", "filter_name"),
    [
        ('{"text": "荷物が\\n届きません。"}', "荷物が 届きません。", None),
        ('```json\n{"text": "荷物"}\n```', "荷物", None),
        ("荷物です", "荷物です", "unreadable"),
        ('{"text": "荷物', "荷物", "truncated"),
        ('{"text": ""}', '{"text": ""}', "unreadable"),
    ],
)
def test_chat_answers_are_read_as_json(
    task: Task, raw: str, text: str, filter_name: str | None
) -> None:
    request = _plan(task, "chat")[0]
    answers = {request.id: Answer(request.id, raw, "stop")}
    example = planner.to_dataset([request], answers, {}, "scripted")[0]
    assert example.text == text
    assert (example.rejected and example.rejected.filter) == filter_name


EVENLY = {"polite": 0.5, "plain": 0.3, "casual": 0.2}
known = st.builds(Knowledge, st.sampled_from(KINDS), st.text("あいう", min_size=1, max_size=3))


@given(st.dictionaries(known, st.floats(0, 20), max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_dealing_gives_every_request_one_thing_and_every_thing_its_part(
    wanted: dict[Knowledge, float], size: int, fillers: int
) -> None:
    filler = Knowledge("knowledge", "題材そのもの")
    dealt = assign_topics(wanted, size, iter([filler] * fillers))
    assert len(dealt) == size
    counts = Counter(k for k in dealt if k is not None)
    total = sum(wanted.values())
    scale = min(1.0, size / total) if total else 1.0
    for thing, number in wanted.items():
        assert abs(counts[thing] - number * scale) < 1
    left = size - sum(counts[k] for k in wanted)
    assert counts[filler] == min(left, fillers)
    kinds = [k.kind for k in dealt if k in wanted and k is not None]
    assert kinds == sorted(kinds, key=KINDS.index)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=4), st.data())
def test_every_register_gets_its_number_and_an_even_part(counts: list[int], data: Any) -> None:
    named = dict(zip("abcd", counts, strict=False))
    size = sum(counts)
    share = data.draw(st.integers(0, size))
    concept = Knowledge("concept", "語")
    cells = spread([*([concept] * share), *([None] * (size - share))], named)
    assert {name: len(items) for name, items in cells.items()} == {
        name: n for name, n in named.items() if n
    }
    for items in cells.values():
        assert abs(items.count(concept) - len(items) * share / max(size, 1)) <= 1


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("abcn"), max_size=6)))
def test_endings_move_to_registers_that_have_them(drawn: dict[str, list[str]]) -> None:
    cells: dict[str, list[Knowledge | None]] = {
        register: [None if x == "n" else Knowledge("ending", x) for x in items]
        for register, items in drawn.items()
    }

    def fits(known: Knowledge | None, register: str) -> bool:
        return known is None or known.item == register

    found = fitted(cells, fits)
    assert {r: len(items) for r, items in found.items()} == {r: len(x) for r, x in cells.items()}
    assert all(fits(k, register) for register, items in found.items() for k in items)
    wanted = Counter(k.item for items in cells.values() for k in items if k)
    for register, items in found.items():
        if not set(wanted) - {register}:
            assert len([k for k in items if k]) == min(len(items), wanted[register])


@given(
    st.dictionaries(st.sampled_from(list(EVENLY)), st.integers(0, 80), max_size=3),
    st.integers(1, 100),
)
def test_register_shares_of_a_round_are_shares(seen: dict[str, int], size: int) -> None:
    shares = next_registers(EVENLY, seen, size)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values())


def test_a_register_that_is_lacking_is_asked_for_more_and_noise_is_left_alone() -> None:
    assert next_registers(EVENLY, {"polite": 21, "plain": 11, "casual": 8}, 40) == EVENLY
    shares = next_registers(EVENLY, {"polite": 35, "plain": 5}, 40)
    assert shares["polite"] < EVENLY["polite"]
    assert shares["plain"] > EVENLY["plain"]
    assert shares["casual"] > EVENLY["casual"]


def _with(task: Task, generation_values: dict[str, Any], **values: Any) -> Task:
    raw = task.model_dump(mode="json")
    raw["generation"] |= generation_values
    return Task.parse(raw | values)


def _planned(task: Task, kind: str = "document") -> list[Request]:
    gold = load_data(task).gold
    assert gold is not None
    gold = gold.with_registers([Register.of("polite")] * len(gold))
    generator = ScriptedGenerator(kind=kind)  # type: ignore[arg-type]
    shares = dict.fromkeys(task.labels, EVENLY)
    return RequestPlanner(task, gold, builtin_prompts(), generator.info).plan(shares)


def _named(requests: list[Request], label: str) -> Counter[str]:
    return Counter(k for r in requests if r.label == label for k in r.knowledge)


WISHES = {
    "concepts": {"配送": {"再配達": 0.2, "置き配": 0.1}},
    "rare_cases": {"返品": ["届いた箱が空だった", "贈り物を受け取った側から"]},
    "boundary_cases": [{"labels": ["返品", "配送"], "share": 0.15}],
}


@settings(max_examples=15)
@given(st.integers(10, 30), st.integers(1, 4))
def test_wishes_get_their_shares_in_every_round(per_label: int, rounds: int) -> None:
    task = Task.parse({"name": "t", "labels": ["配送", "返品"], **WISHES})
    task = _with(task, {"per_label": per_label, "rounds": rounds, "texts_per_request": 1})
    info = ScriptedGenerator(kind="chat").info
    planning = RequestPlanner(task, None, builtin_prompts(), info)
    plan = planning.plan(dict.fromkeys(task.labels, EVENLY))
    assert Counter(r.label for r in plan) == dict.fromkeys(task.labels, per_label)
    assert len({r.id for r in plan}) == len(plan)
    sizes = round_sizes(task)
    assert sum(sizes) == per_label
    for number, size in enumerate(sizes):
        asked = [r for r in plan if r.round == number]
        for label in task.labels:
            for thing, share in task.wanted_shares(label).items():
                assert abs(_named(asked, label)[str(thing)] - share * size) < 1


def test_more_rounds_of_a_size_keep_the_earlier_ones(task: Task) -> None:
    ids = []
    for rounds in (1, 2, 3):
        longer = _with(task, {"per_label": 16 * rounds, "rounds": rounds}, **WISHES)
        ids.append({r.id for r in _planned(longer)})
    assert ids[0] < ids[1] < ids[2]


def test_rounds_alone_ask_for_nothing_else(task: Task) -> None:
    once = _planned(_with(task, {"per_label": 40}))
    twice = _planned(_with(task, {"per_label": 40, "rounds": 2}))
    assert {r.id for r in twice if r.round == 0} < {r.id for r in once}
    assert len(twice) == len(once)


def test_the_tasks_knowledge_goes_round_where_nothing_else_is_named(task: Task) -> None:
    task = _with(
        task,
        {"per_label": 10, "knowledge": {"配送": ["家具", "食品", "衣類"]}},
        concepts={"配送": {"再配達": 0.4}},
    )
    named = _named(_planned(task), "配送")
    assert named["concept:再配達"] == 4
    assert {named[f"knowledge:{item}"] for item in ("家具", "食品", "衣類")} == {2}
    assert not _named(_planned(task), "返品")


def test_requests_of_a_shot_set_share_all_but_the_last_line(task: Task) -> None:
    task = _with(task, {"per_label": 10}, concepts={"配送": {"再配達": 0.5, "置き配": 0.5}})
    prompts = {
        (r.register.name, str(r.prompt)[: str(r.prompt).rindex("\n-")])
        for r in _planned(task)
        if r.label == "配送"
    }
    assert len(prompts) == len(EVENLY)
    assert {str(r.prompt).rsplit("\n", 1)[1] for r in _planned(task) if r.label == "配送"} == {
        "- （再配達）",
        "- （置き配）",
    }


def test_what_a_request_descends_from_is_on_record(task: Task) -> None:
    gold = load_data(task).gold
    assert gold is not None
    label_of = dict(zip(gold.column("id"), gold.labels, strict=True))
    task = _with(task, {}, boundary_cases=[{"labels": ["返品", "配送"], "share": 0.5}])
    asked = [r for r in _planned(task) if r.knowledge]
    assert len(asked) == 6
    for request in asked:
        assert Counter(label_of[i] for i in request.shot_ids)["配送"] == 1


@pytest.mark.parametrize(
    ("kind", "item", "sentence"),
    [
        ("concept", "再配達", "- 「再配達」という言葉を、文の中で自然に使う。"),
        ("word", "届く", "- 「届く」という言葉を、文の中で自然に使う。"),
        ("knowledge", "家具", "- 題材は「家具」にする。"),
        ("ending", "でしょうか", "- 少なくとも一つの文を「〜でしょうか」で終える。"),
        ("length_band", "26字以内", "- 長さは26字以内にする。"),
        ("rare", "箱が空だった", "- 次のような、めったにない状況を書く：箱が空だった"),
        (
            "boundary",
            "返品",
            "- 分類は「配送」のまま、「返品」（返品や解約）と間違えられやすい内容にする。",
        ),
    ],
)
def test_a_chat_prompt_says_it_in_one_condition(
    task: Task, kind: Any, item: str, sentence: str
) -> None:
    planner = RequestPlanner(task, None, builtin_prompts(), ScriptedGenerator(kind="chat").info)
    wanted = {"配送": {Knowledge(kind, item): 1.0}}
    request = planner.round(0, 1, {name: {"polite": 1.0} for name in task.labels}, wanted)[0]
    lines = request.prompt[1].content.split("\n")  # type: ignore[union-attr]
    conditions = lines[lines.index("条件：") + 1 :]
    assert sentence in conditions
    # It is the last condition: what stands before it is the same for other requests.
    assert conditions[conditions.index(sentence) + 1] == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_without_shots_says_it_too(task: Task, kind: Any) -> None:
    info = ScriptedGenerator().info
    planner = RequestPlanner(task, None, builtin_prompts(), info)
    registers = {name: {"polite": 1.0} for name in task.labels}
    wanted = {"配送": {Knowledge(kind, "返品"): 1.0}}
    plain, named = (planner.round(0, 1, registers, w)[0].prompt for w in ({}, wanted))
    assert isinstance(plain, str)
    assert isinstance(named, str)
    added = named.removeprefix(plain.removesuffix("\n\n-")).removesuffix("\n\n-")
    assert "返品" in added
    assert added.endswith("。") or kind == "rare"


GRID = {"話題": ["箱", "伝票", "時間"], "立場": ["送る人", "受け取る人"]}


def test_attributes_are_asked_for_evenly(task: Task) -> None:
    task = task.model_copy(
        update={"generation": task.generation.model_copy(update={"attributes": GRID})}
    )
    gold = load_data(task).gold
    shares = {name: {"polite": 1.0} for name in task.labels}
    for kind in ("chat", "document"):
        info = ScriptedGenerator(kind=kind).info  # type: ignore[arg-type]
        planner = RequestPlanner(task, gold, builtin_prompts(), info)
        requests = planner.round(0, 12, shares, {})
        counts = Counter(k for r in requests if r.label == "配送" for k in r.knowledge)
        for value in GRID["話題"]:
            assert counts[f"attribute:話題：{value}"] == 4
        for value in GRID["立場"]:
            assert counts[f"attribute:立場：{value}"] == (6 if kind == "chat" else 0)
        for request in requests:
            values = [k.partition("：")[2] for k in request.knowledge]
            if isinstance(request.prompt, str):
                assert request.prompt.endswith(f"- （{values[0]}）")
            else:
                said = "／".join(k.removeprefix("attribute:") for k in request.knowledge)
                assert f"- 次の設定に沿って書く。{said}\n" in request.prompt[-1].content


def test_passages_come_from_the_words_of_the_shots_and_once(task: Task) -> None:
    gold = load_data(task).gold
    texts = [f"荷物の配達は{n}時に始まり、返品の受付は{n + 1}時に終わる。" for n in range(9, 19)]
    corpus = Dataset.of(Example(text) for text in texts)
    shares = {name: {"polite": 1.0} for name in task.labels}
    info = ScriptedGenerator(kind="chat").info
    planner = RequestPlanner(task, gold, builtin_prompts(), info, corpus=corpus)
    requests = planner.round(0, 8, shares, {})
    shown = passages_in(requests)
    assert 0 < len(shown) <= len(texts)
    assert set(shown) <= set(texts)
    named = [r for r in requests if r.knowledge]
    assert len(named) == len(shown)
    for request in named:
        passage = request.knowledge[0].removeprefix("passage:")
        assert isinstance(request.prompt, tuple)
        assert f"資料：{passage}" in request.prompt[-1].content


def test_knowledge_attributes_and_passages_take_turns(task: Task) -> None:
    changed = {"attributes": GRID, "knowledge": ("宅配",)}
    task = task.model_copy(update={"generation": task.generation.model_copy(update=changed)})
    gold = load_data(task).gold
    corpus = Dataset.of(Example(f"荷物{n}の配達と返品についての説明。") for n in range(30))
    planner = RequestPlanner(
        task, gold, builtin_prompts(), ScriptedGenerator(kind="chat").info, corpus=corpus
    )
    requests = planner.round(0, 12, {name: {"polite": 1.0} for name in task.labels}, {})
    kinds = Counter(Knowledge.parse(r.knowledge[0]).kind for r in requests if r.label == "配送")
    assert kinds == {"knowledge": 4, "attribute": 4, "passage": 4}


@pytest.mark.parametrize(
    ("kept", "wanted"),
    [
        ([(20, 20, 20)], (0, "enough")),
        ([(20, 20, 16)], (5, None)),
        ([(20, 20, 4)], (20, None)),
        ([(20, 20, 1)], (0, "yield")),
        ([(20, 0, 0)], (0, "unanswered")),
        ([(20, 10, 9)], (13, None)),
        # Of two texts none was kept: that is chance, of ten it is not.
        ([(20, 20, 18), (22, 22, 18)], (3, None)),
        ([(20, 20, 18), (30, 30, 18)], (0, "yield")),
        ([(20, 20, 10), (30, 30, 15), (40, 40, 18)], (0, "rounds")),
    ],
)
def test_a_label_is_asked_for_what_is_short_by_its_last_yield(
    kept: list[tuple[int, int, int]], wanted: tuple[int, str | None]
) -> None:
    tallies = [planner.Tally(*row) for row in kept]
    assert planner.to_ask(UntilKept(kept=20, rounds=3), tallies) == wanted
