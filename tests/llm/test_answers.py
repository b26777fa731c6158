from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.task import Task
from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.llm.answers import (
    decode,
    read_answer,
    read_label,
    read_scores,
    read_texts,
    why_unreadable,
    why_unusable,
)
from japagen.llm.backend import Answer, Message, Request, Sampling
from japagen.llm.client import run_requests
from japagen.llm.ledger import Ledger
from japagen.pipeline.run import run
from tests.conftest import Heard
from tests.scripted import ScriptedGenerator

TEXT = "在庫が戻る日を知りたいです。"
WHOLE = json.dumps({"text": TEXT}, ensure_ascii=False)
DRAFT = '{"text": "下書きの文です。"}'
LABELS = ("在庫", "会計")


def asked(number: int = 0, options: tuple[str, ...] = (), id: str = "r") -> Request:
    turns = (Message("user", f"書いてください。{id}"),)
    each = tuple(() for _ in range(number))
    return Request(id, turns, Sampling(), 1, "在庫", Register(), "t", each=each, options=options)


def said(text: str, finish: Any = "stop") -> Answer:
    return Answer("r", text, finish, 5, 30)


THOUGHTS = {
    "think": f"<think>\n{DRAFT}\n</think>\n",
    "with an attribute": f'<think time="3">{DRAFT}</think>',
    "thinking": f"<thinking>{DRAFT}</thinking>\n\n",
    "thought": f"<thought>{DRAFT} でよいか。</thought>",
    "reasoning": f"<reasoning>\n{DRAFT}\n</reasoning>",
    "in capitals": f"<THINK>{DRAFT}</THINK>",
    "Mistral": f"[THINK]{DRAFT}[/THINK]",
    "Kimi": f"◁think▷{DRAFT}◁/think▷",
    "Cohere": f"<|START_THINKING|>{DRAFT}<|END_THINKING|>",
    "Sky": f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>",
    "Seed": f"<seed:think>{DRAFT}</seed:think>",
    "full width": f"＜think＞{DRAFT}＜／think＞",
    "Open WebUI": f'<details type="reasoning" done="true"><summary>x</summary>{DRAFT}</details>',
    "closed alone": f"まず {{text}} の形を考える。{DRAFT}\n</think>\n",
    "two": f"<think>{DRAFT}</think>もう一度。<think>{DRAFT}</think>",
    "one in another": f"<think>a<think>{DRAFT}</think>{DRAFT}</think>",
    "harmony": f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant"
    "<|channel|>final<|message|>",
    "harmony for JSON": f"<|channel|>analysis<|message|>{DRAFT}<|end|>"
    "<|channel|>final <|constrain|>json<|message|>",
    "harmony without its tokens": f"analysisユーザーは文を求めている。{DRAFT}assistantfinal",
    "Gemma": f"<|channel>thought\n{DRAFT}<channel|>",
    "harmony's other channels": f"<|channel|>commentary<|message|>{DRAFT}<|end|>"
    "<|start|>assistant<|channel|>final<|constrain|>json<|message|>",
    "Granite": f"Here is my thought process: {DRAFT} Here is my response: ",
}


@pytest.mark.parametrize("before", THOUGHTS.values(), ids=THOUGHTS)
def test_what_was_only_thought_of_does_not_count(before: str) -> None:
    assert read_answer(asked(), said(before + WHOLE)) == (TEXT, None)
    # Nothing but thoughts is no answer.
    _, rejected = read_answer(asked(), said(before))
    assert rejected is not None
    assert rejected.filter == "unreadable"
    thought = before.replace("text", "label").replace("下書きの文です。", "在庫")
    assert read_label(thought + '{"label": "会計"}', LABELS) == "会計"
    assert read_label(thought + "会計", LABELS) == "会計"
    assert read_label(thought, LABELS) == ""


FORMS = {
    "alone": WHOLE,
    "fenced": f"はい。\n```json\n{WHOLE}\n```\n以上です。",
    "braces behind it": f"{WHOLE}\nこの {{text}} は {{自由}} に変えられます。",
    "the form behind it": f'{WHOLE}\n形式: {{"text": "..."}}',
    "the last of several": f"{DRAFT}\n{WHOLE}",
    "the last of a list": f"[{DRAFT}, {WHOLE}]",
    "a list of one": f"[{WHOLE}]",
    "inside another": f'{{"result": {WHOLE}}}',
    "under its own name": f'{{"text": {WHOLE}}}',
    "of another case": WHOLE.replace("text", "Text"),
    "beside others": WHOLE.replace("{", '{"id": 3, "note": null, "labels": ["a"], '),
    "written as a string": json.dumps(WHOLE),
    "a raw line break": WHOLE.replace("在庫が", "在庫が\n"),
    "raw control characters": WHOLE.replace("在庫が", "\x00在庫が\x0b\x1f"),
    "a comma too many": WHOLE.replace("}", ",}"),
    "commas missing": f'[{DRAFT}\n{WHOLE}\n{{"text": "..."}}]',
    "full-width signs": f"｛＂text＂：＂{TEXT}＂，｝",
    "curly quotation marks": f"{{“text”：“{TEXT}”}}",
    "Japanese brackets": f"{{「text」：「{TEXT}」}}",
    "single quotes": f"{{'text': '{TEXT}'}}",
    "a name without quotes": f'{{text: "{TEXT}"}}',
    "doubled braces": f"{{{WHOLE}}}",
    "a byte order mark": f"\ufeff{WHOLE}",
    "too long a number": WHOLE.replace("{", '{"n": ' + "9" * 5000 + ", "),
    "Python's names": WHOLE.replace("{", '{"ok": True, "x": None, ').replace("}", ",}"),
    "escaped": WHOLE.replace('"', '\\"'),
    "escaped on lines": "\\n{\\n  " + WHOLE[1:].replace('"', '\\"'),
    "arguments of a call": json.dumps({"name": "out", "arguments": WHOLE}),
    "a string of JSON under its name": json.dumps({"text": WHOLE}),
    "a list under its name": f'{{"text": ["{TEXT}"]}}',
    "a list of texts": f'{{"texts": ["{TEXT}"]}}',
    "a list alone": f'```json\n["{TEXT}"]\n```',
    "comments": f'{{ // 例文\n "text": "{TEXT}", /* 在庫 */\n "id": 1 # 番号\n}}',
    "a comment behind the text": f'{{\n "text": "{TEXT}" // 例文\n}}',
    "numbers and words of no JSON": WHOLE.replace(
        "{", '{"a": 007, "b": +1, "c": .5, "d": 2024-01-02, "e": undefined, '
    ),
    "dots for more of them": WHOLE.replace("}", ", ...}"),
    "ideographic spaces": f'{{\u3000"text":\u3000"{TEXT}"\u3000}}',
    "three quotation marks": f'{{"text": """{TEXT}"""}}',
    "a bracket forgotten": f'{{"texts": ["{TEXT}"}}',
    "no braces": f'"text": "{TEXT}"',
    "no opening brace": f'"text": "{TEXT}"}}',
    "YAML": f"text: {TEXT}",
    "a block of YAML": f"```yaml\ntext: |\n  {TEXT}\n```",
    "wrapped in a tag": f"<answer>{WHOLE}</answer>",
    "cut behind it": f"{WHOLE}\n次の例は {{",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_object_is_read_as_models_write_it(form: str) -> None:
    text, rejected = read_answer(asked(), said(form))
    assert text.replace(" ", "") == TEXT
    assert rejected is None


@pytest.mark.parametrize(
    "inner", ["{a} と </think> と <think>", "[\\\\] ```", 'と\\"言う\\"', "「」"]
)
def test_what_stands_in_a_string_is_text(inner: str) -> None:
    whole = f'<think>{DRAFT}</think>{{"text": "{inner}"}}'
    assert read_answer(asked(), said(whole)) == (json.loads(f'"{inner}"'), None)


@pytest.mark.parametrize(
    "form",
    [
        f'申し訳ありませんが、["{LABELS[0]}"] についての文は書けません。',
        f"text: {TEXT}\nlabel: 在庫",
        '{"reason": "書けません。"}',
        "| text |\n|---|\n| 文 |",
        "<!doctype html><html><body>502 Bad Gateway</body></html>",
    ],
)
def test_what_is_not_of_the_form_is_not_guessed_at(form: str) -> None:
    _, rejected = read_answer(asked(), said(form))
    assert rejected is not None
    assert rejected.filter == "unreadable"


def test_a_text_that_begins_like_json_is_a_text() -> None:
    for text in (
        '["在庫"] の件です。',
        "[至急] 在庫の件です。",
        "{在庫}",
        '{"a": 1} とは何ですか。',
    ):
        whole = json.dumps({"text": text}, ensure_ascii=False)
        assert read_answer(asked(), said(whole)) == (text, None)
    assert read_answer(asked(), said('{"text": "在庫は"多い" #棚卸 です。"}'))[0] == (
        '在庫は"多い" #棚卸 です。'
    )


def test_quotation_marks_in_a_text_do_not_end_it() -> None:
    assert read_answer(asked(), said('{"text": "彼は"はい"と言った。"}')) == (
        '彼は"はい"と言った。',
        None,
    )


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize(
    ("form", "part"),
    [
        ('{"text": "在庫が戻', "在庫が戻"),
        ('{"text": "在庫が戻る。"', "在庫が戻る。"),
        ('<think>長い考え</think>{"text": "在庫が', "在庫が"),
        ('{"text"', ""),
        ('{"te', ""),
        ("{", ""),
        ('```json\n{"text": "在庫\n', "在庫"),
    ],
)
def test_an_object_that_is_not_closed_is_truncated(form: str, part: str, finish: str) -> None:
    text, rejected = read_answer(asked(), said(form, finish))
    assert rejected is not None
    if form == "{" and finish == "stop":
        assert rejected.filter == "unreadable"
        return
    assert (rejected.filter, rejected.value, rejected.threshold) == ("truncated", 30, 120)
    assert text == part or not part


def test_the_limit_before_any_object_is_truncation() -> None:
    thought = "analysisユーザーは文を求めている。"
    for form in (
        "<think>まだ",
        "はい、次の文は",
        f"<think>{DRAFT}",
        f"{thought}{DRAFT}",
        "text: 在庫",
    ):
        _, rejected = read_answer(asked(), said(form, "length"))
        assert rejected is not None
        assert rejected.filter == "truncated"
        assert why_unreadable(asked(), said(form, "length")) == ""
    # A draft does not stand in for the answer that was cut; a whole answer needs no end.
    _, cut = read_answer(asked(), said(f'{DRAFT} 改めて: {{"text": "在庫', "length"))
    assert cut is not None
    assert read_answer(asked(), said(f"{WHOLE}\n解説すると", "length")) == (TEXT, None)


@pytest.mark.parametrize(
    "form",
    [
        '{"texts": ["一つ。", "二つ。"]}',
        '<think>{"texts": ["案"]}</think>["一つ。", "二つ。"]',
        '{"text": "一つ。"}\n{"text": "二つ。"}',
        '[{"text": "一つ。"},\n {"text": "二つ。"},]',
        '{"texts": ["案。"]} 直すと {"texts": ["一つ。", "二つ。"]}',
        '{"texts": {"1": "一つ。", "2": "二つ。"}}',
        '{"texts": ["一つ。"\n"二つ。"]}',
        "｛“texts”：［“一つ。”、“二つ。”］｝",
        '{"texts": ["一つ。", "二つ。", "…"]}',
        '{"texts": ["一つ。", // 1\n "二つ。" // 2\n]}',
        '{"texts": ["一つ。", "二つ。", ...]}',
        '{"texts": ["一つ。", "二つ。"}',
        '{"texts": [["一つ。"], ["二つ。"]]}',
        '{"texts": "[\\"一つ。\\", \\"二つ。\\"]"}',
        '{"text": ["一つ。", "二つ。"]}',
        '{"1": "一つ。", "2": "二つ。"}',
        '{"text1": "一つ。", "text2": "二つ。"}',
        '1. {"text": "一つ。"}\n2. {"text": "二つ。"}',
    ],
)
def test_lists_are_read_as_models_write_them(form: str) -> None:
    assert read_texts(asked(3), said(form)) == [("一つ。", None), ("二つ。", None)]


def test_as_many_lines_of_a_list_as_were_asked_for_are_its_texts() -> None:
    listed = "はい、2件です。\n\n1. 一つ。\n2. 「二つ。」"
    assert read_texts(asked(2), said(listed)) == [("一つ。", None), ("二つ。", None)]
    for number, finish in ((3, "stop"), (2, "length")):
        ((_, rejected),) = read_texts(asked(number), said(listed, finish))
        assert rejected is not None


@pytest.mark.parametrize("form", ['{"texts": ["一つ。", "二', '{"text": "一つ。"}\n{"text": "二'])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_cut_list_gives_what_is_whole(form: str, finish: str) -> None:
    (first, kept), (second, cut) = read_texts(asked(3), said(form, finish))
    assert (first, kept, second) == ("一つ。", None, "二")
    assert cut is not None
    assert cut.filter == "truncated"


@pytest.mark.parametrize(
    ("form", "label"),
    [
        ('{"label": "会計"}', "会計"),
        ('{"label": "在庫"} ではなく {"label": "会計"}', "会計"),
        ('{"label": "会計"} の形で {"label": "..."}', "会計"),
        ('｛"label"：" 会計。"｝', "会計"),
        ('{"label": "会計"', "会計"),
        ("**会計**", "会計"),
        ("「会計」", "会計"),
        ("ラベル：会計", "会計"),
        ("Label: 会計。", "会計"),
        ('{"label": "不明"}', ""),
        ("会計：在庫ではない", ""),
        ("会計か在庫", ""),
        ("会計\n在庫", ""),
        ("会計ではない", ""),
        ('{"label": "不明", "text": "会計"}', ""),
        ('{"label": ["会計"]}', "会計"),
        ('{"labels": ["会計"]}', "会計"),
        ('{"ラベル": "会計"}', "会計"),
        ('["会計"]', "会計"),
        ("{label: 会計}", "会計"),
        ("1. 会計", "会計"),
        ("【会計】", "会計"),
        ("\\boxed{会計}", "会計"),
        ("会計\n\n理由：金額の話で、在庫には触れていない。", "会計"),
        ("答えは「会計」です。", "会計"),
    ],
)
def test_labels_are_read_as_texts_are(form: str, label: str) -> None:
    assert read_label(form, LABELS) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ('{"label": 1}', ("0", "1"), "1"),
        ('{"label": 1234567}', ("1234567", "1234568"), "1234567"),
        ('{"label": true}', ("true", "false"), "true"),
        ("[重要]", ("[重要]", "重要"), "[重要]"),
        ('{"label": "重要"}', ("[重要]", "重要"), "重要"),
        ("「重要」", ("[重要]", "重要"), "重要"),
        ("【重要】", ("[重要]", "「重要」"), ""),
        ("<B>", ("<A>", "<B>"), "<B>"),
        ("障害：重", ("障害：重", "重"), "障害：重"),
        ("はい", ("はい", "いいえ"), "はい"),
        ("", ("-", "+"), ""),
    ],
)
def test_labels_of_any_kind_are_told_apart(
    answer: str, labels: tuple[str, ...], label: str
) -> None:
    assert read_label(answer, labels) == label


def test_half_an_emoji_and_control_characters_can_be_written(tmp_path: Path) -> None:
    text, rejected = read_answer(asked(), said('{"text": "困ります\\ud83d\\u0000\\u0085です"}'))
    assert (text, rejected) == ("困ります\ufffd です", None)
    assert text.encode()


@given(st.text(), st.sampled_from([*THOUGHTS.values(), *FORMS.values()]), st.integers(0, 400))
def test_no_answer_is_too_odd_to_be_read(noise: str, form: str, at: int) -> None:
    for text in (noise, noise + form, form[:at] + noise + form[at:], form[:at]):
        for finish in ("stop", "length"):
            for line, _ in read_texts(asked(2), said(text, finish)):
                assert "\n" not in line
                line.encode()
        read_label(text, LABELS)


@pytest.mark.parametrize(
    "piece",
    ["[", '{"a":', '{"', '"', '{"text":"', "<think>", '["a",', "{'", "{//", "{/*", '{\\"', '"""'],
)
def test_an_answer_of_nothing_but_brackets_takes_no_time(piece: str) -> None:
    began = time.process_time()
    read_texts(asked(2), said(piece * 20_000))
    assert time.process_time() - began < 5
    assert decode(piece).values == []


class _Mended(ScriptedGenerator):
    """Gives each request the answers that stand for it, in turn."""

    def __init__(self, *answers: str) -> None:
        super().__init__(self._next, "chat")
        self._left = list(answers)

    def _next(self, request: Request) -> str:
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]


def test_what_cannot_be_read_is_asked_for_once_more_with_another_seed() -> None:
    generator = _Mended("書けません。", WHOLE)
    with closing(Ledger(":memory:")) as ledger:
        answers = run_requests([asked()], generator, ledger)
        assert answers["r"].text == WHOLE
        assert ledger.totals()["attempts"] == 2
        assert len({r.seed for r in generator.asked}) == len(generator.asked) == 2
        assert {r.id for r in generator.asked} == {"r"}
        assert run_requests([asked()], generator, ledger) == answers
    assert len(generator.asked) == 2


def test_what_cannot_be_read_twice_stays_and_is_asked_for_by_the_next_run() -> None:
    with closing(Ledger(":memory:")) as ledger:
        generator = _Mended("書けません。")
        answers = run_requests([asked()], generator, ledger)
        assert len(generator.asked) == 2
        assert why_unusable(asked(), answers["r"]) == "unreadable"
        assert ledger.failures(["r"]) == {"r": "unreadable"}
        assert run_requests([asked()], _Mended(WHOLE), ledger)["r"].text == WHOLE


def test_an_answer_that_an_older_run_kept_is_asked_for_again() -> None:
    with closing(Ledger(":memory:")) as ledger:
        ledger.plan([asked()], "scripted:1")
        ledger.record(said("書けません。"))
        assert ledger.answers(["r"])
        assert run_requests([asked()], _Mended(WHOLE), ledger)["r"].text == WHOLE


def test_a_vote_that_names_no_label_is_asked_for_again() -> None:
    question = asked(options=LABELS)
    generator = _Mended('{"label": "不明"}', '{"label": "会計"}')
    with closing(Ledger(":memory:")) as ledger:
        assert "会計" in run_requests([question], generator, ledger)["r"].text
    # Where the server says how likely each label is, that is the vote.
    assert why_unreadable(question, replace(said("不明"), scores=(-1.0, -2.0))) == ""


def test_a_run_of_which_nothing_can_be_read_says_so_and_its_directory_is_of_use(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    task = Task.parse({**raw_task, "generation": {"per_label": 3, "texts_per_request": 1}})
    silent = ScriptedGenerator(lambda request: "書けません。", "chat")
    with pytest.raises(
        JapagenError, match="None of 6 answers can be used: unreadable: 6"
    ) as caught:
        run(task, tmp_path / "run", until="generate", generator=silent)
    assert "書けません。" in caught.value.hint
    assert len(silent.asked) == 12
    cut = ScriptedGenerator(lambda r: Answer(r.id, '{"text": "在', "length", 9, 9), "chat")
    with pytest.raises(JapagenError, match="can be used: truncated: 6") as caught:
        run(task, tmp_path / "cut", until="generate", generator=cut)
    assert "max_tokens" in caught.value.hint
    assert len(cut.asked) == 6

    heard = Heard()

    def mostly(request: Request) -> str:
        if request.id == silent.asked[0].id:
            return "書けません。"
        return json.dumps({"text": f"荷物{request.seed}が届きません。"}, ensure_ascii=False)

    again = ScriptedGenerator(mostly, "chat")
    found = run(task, tmp_path / "run", until="generate", generator=again, listener=heard)
    assert len(again.asked) == 7
    assert int(found.after("generate").kept_mask.sum()) == 5
    assert any("1 of 6 answers cannot be used (unreadable: 1)" in note for note in heard.notes)


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ('{"自然さ": 4, "label": 5}', (4, 5)),
        ('```json\n{"自然さ": "４", "LABEL": "5点"}\n```', (4, 5)),
        ('{"scores": {"自然さ": "3/5", "label": 2.5}}', (3, 2.5)),
        ('{"自然さ": {"score": 1, "reason": "機械的"}, "label": {"score": 5}}', (1, 5)),
        ('<think>{"自然さ": 1, "label": 1}</think>{"自然さ": 5, "label": 4}', (5, 4)),
        ('{"自然さ": 2, "label": 3', (2, 3)),
        ('{"自然さ": 6, "label": 3}', None),
        ('{"自然さ": 4}', None),
        ('{"自然さ": true, "label": 3}', None),
        ("どちらも5です。", None),
        ("", None),
    ],
)
def test_scores_are_read_whole_or_not_at_all(text: str, scores: tuple[float, float] | None) -> None:
    found = read_scores(text, ("自然さ", "label"))
    assert found == (dict(zip(("自然さ", "label"), scores, strict=True)) if scores else {})
    request = replace(asked(), criteria=("自然さ", "label"))
    answer = Answer("r", text, "stop")
    assert bool(why_unreadable(request, answer)) == (not scores)
    assert bool(why_unusable(request, answer)) == (not scores)
