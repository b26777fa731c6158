import pytest

from japagen.japanese.keigo import find_keigo
from japagen.japanese.morphology import default_tagger
from japagen.japanese.register_rules import Evidence, Words


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
    ("text", "sure"),
    [
        ("お召し上がりになられる。", True),
        ("先生がおっしゃられる。", True),
        ("ご覧になられる。", True),
        ("お召し上がりになる。", False),
        ("お伺いいたします。", False),
    ],
)
def test_double_keigo(text: str, sure: bool) -> None:
    double = [e for e in found(text) if e.kind == "double_keigo"]
    assert any(e.certain for e in double) == sure
    assert double


@pytest.mark.parametrize("text", ["お帰りになる。", "おっしゃる。", "ご覧になる。", "おられる。"])
def test_single_keigo_is_not_double(text: str) -> None:
    assert not [e for e in found(text) if e.kind == "double_keigo"]
