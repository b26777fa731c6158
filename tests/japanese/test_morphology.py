import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import fugashi
import pytest
import unidic_lite
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.errors import JapagenError
from japagen.japanese import morphology
from japagen.japanese.morphology import (
    Morpheme,
    Tagger,
    default_tagger,
    tokenize,
)


def surfaces(text: str) -> list[str]:
    return [m.surface for m in tokenize(text)]


def test_features_by_name() -> None:
    (computer,) = tokenize("コンピュータ")
    assert (computer.lemma, computer.orth_base) == ("コンピューター-computer", "コンピュータ")
    go, _ = tokenize("行った")
    assert go == Morpheme(
        "行っ", "動詞", "非自立可能", "*", "五段-カ行", "連用形-促音便", "行く", "行く", False
    )


def test_unknown_words_are_their_own_lemma() -> None:
    (word,) = tokenize("qwzrtx")
    assert word.is_unknown
    assert word.lemma == word.orth_base == "qwzrtx"
    assert not tokenize("猫")[0].is_unknown


def test_agrees_with_fugashi_node_by_node() -> None:
    text = "先生は「3,000円です。」とおっしゃったっけ？ ｶﾀｶﾅとABC、ご覧ください〜♪"
    nodes = fugashi.Tagger()(text)
    assert [(m.surface, m.pos1, m.cform) for m in tokenize(text)] == [
        (n.surface, n.feature.pos1, n.feature.cForm or "*") for n in nodes
    ]
    assert [m.lemma for m in tokenize(text)] == [n.feature.lemma or n.surface for n in nodes]


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\0", "\r\n"])
def test_nothing_to_read(text: str) -> None:
    assert tokenize(text) == ()


def test_lines_nul_and_surrogates() -> None:
    assert surfaces("犬\n猫\r\n鳥\0魚") == ["犬", "猫", "鳥", "魚"]
    assert surfaces("犬\ud800猫") == ["犬", "\ufffd", "猫"]


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_surfaces_are_the_text_without_white_space(text: str) -> None:
    expected = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    assert "".join(surfaces(text)) == "".join(c for c in expected if c not in "\0 \t\n\v\r")


def test_long_texts_are_read_in_chunks() -> None:
    sentence = "明日は晴れるでしょう。"
    assert surfaces(sentence * 4_000) == surfaces(sentence) * 4_000
    assert "".join(surfaces("a" * 50_000)) == "a" * 50_000


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(morphology, "_CACHE_LIMIT", 3)
    tagger = Tagger()
    text = "猫と犬と鳥と魚を飼う"
    first = tagger.tokenize(text)
    assert first == tokenize(text)
    assert len(tagger._cache) <= 3


def test_tagger_survives_pickling_and_forking() -> None:
    expected = tokenize("猫が鳴く")
    assert pickle.loads(pickle.dumps(default_tagger())).tokenize("猫が鳴く") == expected
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(tokenize, ("猫が鳴く",)) == expected


def build_user_dictionary(
    folder: Path, word: str = "ジャパゲン君", kind: tuple[str, str] = ("一般", "*")
) -> Path:
    # In a process of its own: MeCab's dictionary builder exits on errors.
    row = [word, "4786", "4786", "1", "名詞", "固有名詞", *kind, "*", "*", "ジャパゲンクン"]
    row += [word, word, "ジャパゲンクン", word, "ジャパゲンクン", "固", *["*"] * 4]
    row += ["ジャパゲンクン"] * 4 + ["*", "*", "0", "*", "*"]
    (folder / "words.csv").write_text(",".join(row) + "\n", encoding="utf-8")
    target = folder / "user name.dic"
    code = "import sys, fugashi; fugashi.build_dictionary(sys.argv[1])"
    arguments = f"build -d {unidic_lite.DICDIR} -u '{target}' -f utf8 -t utf8 '{folder}/words.csv'"
    subprocess.run([sys.executable, "-c", code, arguments], check=True, capture_output=True)
    return target


def test_user_dictionary_adds_words_and_changes_the_identity(tmp_path: Path) -> None:
    tagger = Tagger(build_user_dictionary(tmp_path))
    assert [m.surface for m in tagger.tokenize("ジャパゲン君だ")] == ["ジャパゲン君", "だ"]
    assert len(surfaces("ジャパゲン君だ")) > 2
    assert tagger.identity != default_tagger().identity
    assert tagger.identity.startswith(default_tagger().identity)


def test_a_missing_user_dictionary_is_a_clear_error(tmp_path: Path) -> None:
    tagger = Tagger(tmp_path / "none.dic")
    with pytest.raises(JapagenError, match="Expected a user dictionary"):
        tagger.tokenize("猫")
    with pytest.raises(JapagenError, match="Expected a user dictionary"):
        _ = tagger.identity


def test_identity_names_the_dictionary() -> None:
    assert default_tagger().identity.startswith("unidic-lite ")
