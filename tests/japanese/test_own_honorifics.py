from pathlib import Path

import pytest

from japagen.errors import JapagenError
from japagen.japanese.morphology import Tagger
from japagen.japanese.own_honorifics import read_honorifics
from japagen.japanese.register_detection import (
    RegisterAnalyzer,
    analyze_register,
    analyze_registers,
)
from tests.japanese.test_morphology import build_user_dictionary

OWN = {"ご来駕": "sonkeigo", "捧読する": "kenjogo1", "当方": "kenjogo2", "おみおつけ": "bikago"}


@pytest.mark.parametrize(
    ("text", "kind", "surface"),
    [
        ("皆様のご来駕をお待ちします。", "sonkeigo", "ご来駕"),
        ("お手紙を捧読しました。", "kenjogo1", "捧読し"),
        ("当方で用意します。", "kenjogo2", "当方"),
        ("朝はおみおつけに限る。", "bikago", "おみおつけ"),
    ],
)
def test_own_words_are_found_in_any_inflection(text: str, kind: str, surface: str) -> None:
    report = analyze_register(text, honorifics=OWN)
    assert kind in report.keigo
    assert (kind, surface) in {(e.kind, e.surface) for e in report.evidence}
    assert any(e.rule.startswith("own: ") for e in report.evidence)
    assert not any(e.rule.startswith("own: ") for e in analyze_register(text).evidence)


def test_own_words_and_dictionaries_change_the_identity(tmp_path: Path) -> None:
    plain, own = RegisterAnalyzer(), RegisterAnalyzer(honorifics=OWN)
    assert plain.identity == Tagger().identity
    assert own.identity.startswith(f"{plain.identity} + honorifics ")
    assert own.identity == RegisterAnalyzer(honorifics=dict(reversed(OWN.items()))).identity
    extended = RegisterAnalyzer(build_user_dictionary(tmp_path), OWN)
    assert extended.identity not in (plain.identity, own.identity)


def test_a_user_dictionary_and_own_words_work_together(tmp_path: Path) -> None:
    dictionary = build_user_dictionary(tmp_path)
    classes = {"ジャパゲン君": "sonkeigo"}
    report = analyze_register("ジャパゲン君です。", user_dictionary=dictionary, honorifics=classes)
    assert [(e.kind, e.surface) for e in report.evidence if e.rule.startswith("own")] == [
        ("sonkeigo", "ジャパゲン君")
    ]


def test_an_unknown_class_names_the_nearest() -> None:
    with pytest.raises(JapagenError) as caught:
        analyze_register("行く。", honorifics={"ご来駕": "sonkego"})
    assert "'ご来駕'" in str(caught.value)
    assert "found 'sonkego' (did you mean 'sonkeigo'?)" in str(caught.value)
    assert caught.value.hint


def test_an_empty_word_is_refused() -> None:
    with pytest.raises(JapagenError, match="holds no letters"):
        RegisterAnalyzer(honorifics={" ": "sonkeigo"})


def test_a_list_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "honorifics.yaml"
    path.write_text("ご来駕: sonkeigo\n当方: kenjogo2\n", encoding="utf-8")
    assert read_honorifics(path) == {"ご来駕": "sonkeigo", "当方": "kenjogo2"}
    path.write_text("", encoding="utf-8")
    assert read_honorifics(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- ご来駕\n", "to map words to classes, found list"),
        ("ご来駕: polite\n", "to be one of sonkeigo, kenjogo1, kenjogo2, bikago, found 'polite'"),
        ("a: [b\n", "Expected a YAML list of honorifics"),
        (None, "Expected a YAML list of honorifics"),
    ],
)
def test_a_wrong_list_is_a_clear_error(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "honorifics.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(JapagenError, match=message):
        read_honorifics(path)


@pytest.mark.parametrize("content", [None, b"", b"not a dictionary" * 100])
def test_a_wrong_user_dictionary_is_a_clear_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "user.dic"
    if content is not None:
        path.write_bytes(content)
    expected = "Expected a compiled MeCab dictionary" if content is not None else "found none"
    with pytest.raises(JapagenError, match=expected) as caught:
        analyze_register("行く。", user_dictionary=path)
    assert caught.value.hint


def test_batches_agree_with_single_texts() -> None:
    texts = [
        "先生がお帰りになりました。",
        "",
        "😀",
        "行くよ。\n来ます。",
        "お待ちしております。",
    ] * 40
    one_by_one = [analyze_register(text) for text in texts]
    for batched, single in zip(analyze_registers(texts), one_by_one, strict=True):
        assert batched.to_dict() == single.to_dict()
        if single.keico and batched.keico:
            assert batched.keico.sonkeigo == pytest.approx(single.keico.sonkeigo)
