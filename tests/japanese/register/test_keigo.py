from pathlib import Path

import pytest

from japagen.config.yaml_file import read_honorifics
from japagen.errors import JapagenError
from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.register.detector import RegisterAnalyzer, analyze_register, analyze_registers
from japagen.japanese.register.keigo import find_keigo
from japagen.japanese.register.rules import Evidence, Words
from tests.japanese.test_morphology import build_user_dictionary


def found(text: str) -> list[Evidence]:
    return [e for e in find_keigo(Words(text, default_tagger())) if e.kind != "teineigo"]


def certain(text: str) -> set[tuple[str, str]]:
    return {(e.kind, e.surface) for e in found(text) if e.certain}


@pytest.mark.parametrize(
    ("text", "surface"),
    [
        ("先生がお帰りになる。", "お帰りになる"),
        ("ご利用になれます。", "ご利用になれ"),
        ("お召しになりましたか。", "お召しになり"),
        ("少々お待ちください。", "お待ちください"),
        ("先生がお着きです。", "お着きです"),
        ("チケットをお持ちの方", "お持ちの"),
        ("ご当選されたそうです。", "ご当選され"),
        ("庭を見ていらっしゃる。", "見ていらっしゃる"),
        ("部長は待っておられる。", "おられる"),
        ("丁寧に教えてくださった。", "教えてくださっ"),
        ("何とおっしゃいましたか。", "おっしゃい"),
        ("どうなさいますか。", "なさい"),
        ("もう召し上がったそうだ。", "召し上がっ"),
        ("資料をご覧になりましたか。", "ご覧になり"),
        ("社長がお見えになる。", "お見えになる"),
        ("ご存じですか。", "ご存じです"),
        ("田中様に渡す。", "田中様"),
        ("御社の方針", "御社"),
        ("貴社の方針", "貴社"),
        ("ご住所を書く。", "ご住所"),
        ("お忙しいところ", "お忙しい"),
    ],
)
def test_sonkeigo(text: str, surface: str) -> None:
    assert ("sonkeigo", surface) in certain(text)


@pytest.mark.parametrize(
    ("text", "surface"),
    [
        ("荷物をお持ちする。", "お持ちする"),
        ("こちらからご連絡する。", "ご連絡する"),
        ("ご説明いたします。", "ご説明いたし"),
        ("お願い申し上げます。", "お願い申し上げ"),
        ("しばらくお待ちいただく。", "お待ちいただく"),
        ("使い方を教えていただく。", "教えていただく"),
        ("読ませていただく。", "読ませていただく"),
        ("明日伺う。", "伺う"),
        ("花を差し上げる。", "差し上げる"),
        ("お手紙を拝見しました。", "拝見"),
        ("社長にお目にかかる。", "お目にかかる"),
        ("ご紹介にあずかりました。", "ご紹介にあずかり"),
        ("よく存じ上げる。", "存じ上げる"),
        ("宅配便でお届けできます。", "お届けでき"),
        ("品物をお届けに上がりました。", "お届けに上がり"),
    ],
)
def test_kenjogo1(text: str, surface: str) -> None:
    assert ("kenjogo1", surface) in certain(text)


@pytest.mark.parametrize(
    ("text", "surface"),
    [
        ("私が参ります。", "参り"),
        ("田中と申します。", "申し"),
        ("出発致します。", "致し"),
        ("家におります。", "おり"),
        ("そう存じます。", "存じ"),
        ("弊社の製品", "弊社"),
        ("小生も行く。", "小生"),
        ("拙著を送る。", "拙著"),
    ],
)
def test_kenjogo2(text: str, surface: str) -> None:
    assert ("kenjogo2", surface) in certain(text)


@pytest.mark.parametrize(
    ("text", "surface"),
    [
        ("お茶を飲む。", "お茶"),
        ("ご飯を食べる。", "ご飯"),
        ("お掃除をお手伝いさんがする。", "お掃除"),
        ("お金になる。", "お金"),
    ],
)
def test_bikago_honours_nobody(text: str, surface: str) -> None:
    assert certain(text) >= {("bikago", surface)}
    assert not {kind for kind, s in certain(text) if s.startswith(surface)} - {"bikago"}


@pytest.mark.parametrize(
    "text",
    ["ますます増える。", "早くしなさい。", "お休みなさい。", "お疲れ様です。", "神様", "この様な"],
)
def test_everyday_forms_are_not_honorific(text: str) -> None:
    assert certain(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "先生が来られた。",
        "東京に住んでおり、",
        "これには参った。",
        "行ってください。",
        "ご連絡です",
    ],
)
def test_ambiguous_forms_are_shown_but_not_certain(text: str) -> None:
    assert found(text)
    assert certain(text) == set()


@pytest.mark.parametrize(
    "text", ["お召し上がりになられる。", "先生がおっしゃられる。", "ご覧になられる。"]
)
def test_double_keigo(text: str) -> None:
    assert [e for e in found(text) if e.kind == "double_keigo" and e.certain]


@pytest.mark.parametrize(
    "text",
    [
        "お帰りになる。",
        "おっしゃる。",
        "ご覧になる。",
        "おられる。",
        "お召し上がりになる。",
        "お伺いいたします。",
        "お元気になられた。",
        "お世話になられた。",
    ],
)
def test_single_keigo_is_not_double(text: str) -> None:
    assert not [e for e in found(text) if e.kind == "double_keigo"]


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
        ("a: [b\n", r"Expected YAML in .*honorifics\.yaml', found line 2"),
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
