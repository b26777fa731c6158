from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from japagen.data.files import resource_dir
from japagen.errors import JapagenError
from japagen.japanese.register.detector import analyze_register
from japagen.japanese.register.lint import check_keigo
from japagen.japanese.registers import OTHER, PRESETS
from japagen.llm.backend import Message
from japagen.llm.prompts import SHOWN, PromptLibrary, builtin_prompts

VARIABLES = {
    "text_type": "問い合わせ",
    "description": "通販の問い合わせ",
    "domain": "家電の通販",
    "instruction": "",
    "label": "配送",
    "label_description": "届く日や届け先",
    "label_type": "分類",
    "mark": "",
    "other_labels": ["返品"],
    "register": builtin_prompts().registers["casual"],
    "shots": ["まだ届いてないんだけど。", "{{ 7 * 7 }}"],
    "knowledge": None,
    "cues": ["", ""],
    "cue": "",
    "number": 0,
    "each": [],
    "settings": (),
    "seed": {},
    "seed_role": "",
    "fields": (),
}


@pytest.mark.parametrize("strategy", ["few_shot", "zero_shot"])
def test_a_document_ends_where_the_next_item_begins(strategy: str) -> None:
    document = builtin_prompts().render(strategy, "document", VARIABLES)
    assert isinstance(document, str)
    assert document.endswith("\n-")
    assert "配送" in document
    assert builtin_prompts().registers["casual"]["description"] in document


@pytest.mark.parametrize("strategy", ["few_shot", "zero_shot"])
def test_a_chat_prompt_asks_for_json_in_the_register(strategy: str) -> None:
    turns = builtin_prompts().render(strategy, "chat", VARIABLES)
    assert isinstance(turns, tuple)
    assert [t.role for t in turns] == ["system", "user"]
    user = turns[1]
    assert isinstance(user, Message)
    for expected in ("くだけた話し言葉", "昨日お店行ったんだけど", '{"text":', "返品"):
        assert expected in user.content


def test_texts_are_not_templates() -> None:
    document = builtin_prompts().render("few_shot", "document", VARIABLES)
    assert "- {{ 7 * 7 }}\n" in document


def test_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(JapagenError, match=r"label_description, label_type, mark, register, shots"):
        builtin_prompts().render("few_shot", "document", {"label": "配送", "domain": ""})


def test_every_preset_is_described() -> None:
    registers = builtin_prompts().registers
    assert set(registers) == {*PRESETS, OTHER}
    # The n-th examples say the same in every preset: rewriting shows them side by side.
    assert len({len(registers[name]["examples"]) for name in PRESETS}) == 1


@pytest.mark.parametrize("name", PRESETS)
def test_examples_are_in_the_register_they_stand_for(name: str) -> None:
    for example in builtin_prompts().registers[name]["examples"]:
        assert analyze_register(example).register.name == name, example
        assert check_keigo(example) == []


@pytest.fixture
def own_prompts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resource_dir("prompts_ja"), tmp_path / "prompts"))


def test_a_template_cannot_reach_the_interpreter(own_prompts: Path) -> None:
    (own_prompts / "few_shot.document.j2").write_text(
        "{{ label.__class__.__mro__[1].__subclasses__() }}", encoding="utf-8"
    )
    with pytest.raises(JapagenError, match="cannot be rendered"):
        PromptLibrary(own_prompts).render("few_shot", "document", VARIABLES)


def test_a_changed_template_has_another_hash(own_prompts: Path) -> None:
    before = PromptLibrary(own_prompts).template_hash("few_shot.document")
    assert before == builtin_prompts().template_hash("few_shot.document")
    path = own_prompts / "few_shot.document.j2"
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert PromptLibrary(own_prompts).template_hash("few_shot.document") != before


def test_a_missing_template_names_what_is_there(own_prompts: Path) -> None:
    with pytest.raises(JapagenError, match=r"did you mean 'few_shot.chat'"):
        PromptLibrary(own_prompts).render("few_shots", "chat", VARIABLES)


def test_incomplete_registers_are_refused(own_prompts: Path) -> None:
    (own_prompts / "registers.yaml").write_text("polite: {name: 丁寧}\n", encoding="utf-8")
    with pytest.raises(JapagenError, match="incomplete: polite, plain, casual, honorific, other"):
        PromptLibrary(own_prompts)


def test_as_the_examples_shown_is_not_contradicted() -> None:
    said = "実例の文体ではなく、指定の文体で書く。"
    for name, there in (("casual", True), ("other", False)):
        variables = {**VARIABLES, "register": builtin_prompts().registers[name]}
        turns = builtin_prompts().render("few_shot", "chat", variables)
        assert isinstance(turns[1], Message)
        assert (said in turns[1].content) == there


def test_prompts_of_a_draw_show_all_examples_and_voices_about_as_often() -> None:
    prompts = builtin_prompts()
    base = prompts.registers["casual"]["examples"]
    styles = [prompts.style("casual", "0/配送", n, voices=True) for n in range(60)]
    assert styles == [prompts.style("casual", "0/配送", n, voices=True) for n in range(60)]
    descriptions = Counter(style["description"] for style in styles)
    assert descriptions[prompts.registers["casual"]["description"]] == 30
    voices = prompts.registers["casual"]["voices"]
    assert [descriptions[voice["description"]] for voice in voices] == [30 // len(voices)] * len(
        voices
    )
    plain = [prompts.style("casual", "0/配送", n, voices=False) for n in range(42)]
    shown = Counter(example for style in plain for example in style["examples"][:SHOWN])
    assert set(shown) == set(base)
    assert max(shown.values()) - min(shown.values()) <= 6
    assert all(sorted(style["examples"]) == sorted(base) for style in plain)
    assert prompts.style("other", "0", 3, voices=True)["examples"] == []


def test_voices_are_in_their_register_and_known_as_what_prompts_show() -> None:
    prompts = builtin_prompts()
    for name in PRESETS:
        for voice in prompts.registers[name].get("voices", ()):
            assert len(voice["examples"]) > SHOWN
            for example in voice["examples"]:
                assert analyze_register(example).register.name == name, example
                assert example in prompts.phrases


def test_what_a_text_was_told_of_its_writer_counts_as_shown() -> None:
    phrases = builtin_prompts().phrases
    assert "前にも連絡したが、まだ解決していない" in phrases
    assert "メール" not in phrases


def test_a_hash_changes_with_what_an_included_template_includes(own_prompts: Path) -> None:
    before = PromptLibrary(own_prompts).template_hash("few_shot.chat")
    path = own_prompts / "knowledge_clause.chat.j2"
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert PromptLibrary(own_prompts).template_hash("few_shot.chat") != before


@pytest.mark.parametrize(
    "content",
    [
        "{{ label + 1 }}",
        "{{ 1 / 0 }}",
        "{{ '%d'|format(label) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{{ 'a' * 10000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ [label] * 99999999 }}",
        "{% include 'few_shot.document.j2' %}",
        "{{ range(10**9)|list }}",
    ],
)
def test_a_template_that_fails_or_does_not_end_is_named(own_prompts: Path, content: str) -> None:
    (own_prompts / "few_shot.document.j2").write_text(content, encoding="utf-8")
    with pytest.raises(JapagenError, match=r"few_shot\.document\.j2 cannot be rendered"):
        PromptLibrary(own_prompts).render("few_shot", "document", VARIABLES)


@pytest.mark.parametrize(
    ("content", "part", "mentioned"),
    [
        ("{{ number }}", "", True),
        ('{% include "part.j2" %}', "{{ number }}", True),
        ('{% include "part.j2" %}', "{% for number in shots %}{{ number }}{% endfor %}", False),
        ('{% include "part.j2" %}', "{% set number = 2 %}{{ number }}", False),
        ('{% include "part.j2" %}', "{{ number }}{% block user %}一つ{% endblock %}", True),
        ('{% for number in shots %}{% include "part.j2" %}{% endfor %}', "{{ number }}。", False),
        ('{% with number = 2 %}{% include "part.j2" %}{% endwith %}', "{{ number }}", False),
        ('{% with number = 2 %}{% endwith %}{% include "part.j2" %}', "{{ number }}", True),
        ('{% include "part.j2" without context %}', "{{ number }}", False),
        ('{% include ["part.j2", "none.j2"] ignore missing %}', "{{ number }}", True),
        ("{% include part %}", "{{ number }}", False),
        ('{% import "part.j2" as part %}{{ part.say(1) }}', "{{ number }}", False),
        ('{% import "part.j2" as part with context %}{{ part.say(1) }}', "{{ number }}", True),
        (
            '{% from "part.j2" import say %}{{ say(1) }}',
            "{% macro say(number) %}{{ number }}{% endmacro %}",
            False,
        ),
    ],
)
def test_a_template_uses_what_it_is_given_and_not_what_it_sets(
    own_prompts: Path, content: str, part: str, mentioned: bool
) -> None:
    """Wherever a variable of that name stands, also in what is included."""
    whole = f"{{% block system %}}書き手{{% endblock %}}{{% block user %}}{content}{{% endblock %}}"
    (own_prompts / "own.chat.j2").write_text(whole, encoding="utf-8")
    (own_prompts / "part.j2").write_text(part, encoding="utf-8")
    (own_prompts / "none.j2").write_text("", encoding="utf-8")
    assert PromptLibrary(own_prompts).mentions("own.chat", "number") is mentioned


def test_what_extends_a_template_uses_what_that_uses(own_prompts: Path) -> None:
    for name, content in {
        "own.chat": '{% extends "base.j2" %}{% block user %}一つ{% endblock %}',
        "base": "{% block system %}{{ number }}件{% endblock %}{% block user %}{% endblock %}",
        "around.chat": '{% block user %}{% include "own.chat.j2" %}{% endblock %}',
        "set.chat": '{% set number = 1 %}{% include "own.chat.j2" %}',
    }.items():
        (own_prompts / f"{name}.j2").write_text(content, encoding="utf-8")
    prompts = PromptLibrary(own_prompts)
    found = [prompts.mentions(f"{name}.chat", "number") for name in ("own", "around", "set")]
    assert found == [True, True, False]


def test_a_template_that_includes_itself_has_no_hash(own_prompts: Path) -> None:
    path = own_prompts / "few_shot.document.j2"
    path.write_text("{% include 'few_shot.document.j2' %}", encoding="utf-8")
    with pytest.raises(JapagenError, match="includes itself"):
        PromptLibrary(own_prompts).template_hash("few_shot.document")


def test_templates_in_another_encoding_are_named(own_prompts: Path) -> None:
    for name in ("few_shot.document.j2", "registers.yaml"):
        (own_prompts / name).write_bytes("返品".encode("cp932"))
        with pytest.raises(JapagenError, match=rf"{name} to be UTF-8"):
            PromptLibrary(own_prompts).render("few_shot", "document", VARIABLES)
    (own_prompts / "registers.yaml").write_text("- a\n", encoding="utf-8")
    with pytest.raises(JapagenError, match="incomplete"):
        PromptLibrary(own_prompts)
