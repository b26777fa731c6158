from __future__ import annotations

import numpy as np
import pytest

from japagen.alignment.counting import measure
from japagen.alignment.features import FeatureSpace
from japagen.data.dataset import Dataset, Example
from japagen.japanese.morphology import default_tagger
from japagen.japanese.registers import Register

TEXTS = [
    "ｺﾝﾋﾟｭｰﾀが壊れた。",
    "コンピュータを買いました。",
    "猫がねこと遊ぶ!",
    "",
    "駅まで10分です。",
]


def fit(first: Dataset, *others: Dataset) -> tuple[FeatureSpace, list]:
    measured, vocabulary = measure([first, *others], default_tagger())
    space = FeatureSpace.fit(measured[0], measured[1:], vocabulary, default_tagger().identity)
    return space, [space.transform(m, vocabulary) for m in measured]


def test_texts_are_counted_after_normalisation_and_words_told_apart_by_lemma() -> None:
    (measured,), vocabulary = measure([Dataset.of([Example(t) for t in TEXTS])], default_tagger())
    column = vocabulary.words["コンピューター-computer"]
    assert measured.words[:, [column]].toarray().ravel().tolist() == [1, 1, 0, 0, 0]
    assert vocabulary.readable_words()[column] == "コンピュータ"
    assert measured.first.lengths[0] == len("コンピュータが壊れた。")
    assert measured.first.scripts[3].tolist() == [0] * 5
    assert measured.first.scripts[4][4] == pytest.approx(2 / 9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("駅まで歩きました。", ["ます+た"]),
        ("行くよね!今日は雨。", ["よ+ね", "名詞"]),
        ("静かだ", ["だ"]),
        ("走る。。", ["動詞"]),
        ("", []),
    ],
)
def test_sentence_endings(text: str, expected: list[str]) -> None:
    (measured,), vocabulary = measure([Dataset.of([Example(text)])], default_tagger())
    assert list(vocabulary.endings) == sorted(expected)
    assert measured.first.endings.sum() == len(expected)


def test_features_are_bounded_and_named_readably() -> None:
    data = Dataset.of([Example(t, id=f"{i}-{t}") for i in range(4) for t in TEXTS])
    space, (rows,) = fit(data)
    assert rows.shape == (20, len(space.names)) == (20, len(space.groups))
    assert "word:コンピュータ" in space.names
    assert "ending:ます+た" in space.names
    bounded = [i for i, g in enumerate(space.groups) if g != "pair"]
    assert rows[:, bounded].min() >= 0
    assert rows[:, bounded].max() <= 1
    bands = [i for i, g in enumerate(space.groups) if g == "length"]
    assert rows[:, bands].sum(axis=1).tolist() == [1] * 20
    assert "unidic-lite" in space.dictionary


def test_a_word_is_a_presence_whatever_its_count() -> None:
    data = Dataset.of([Example("猫と猫と猫。" if i % 2 else "猫。", id=str(i)) for i in range(8)])
    space, (rows,) = fit(data)
    column = rows[:, [space.names.index("word:猫")]].toarray().ravel()
    assert column.tolist() == [1.0] * 8


def test_rare_words_are_cut_over_both_sides_together() -> None:
    common = Dataset.of([Example("猫が鳴く。", id=str(i)) for i in range(5)])
    rare = Dataset.of([Example("猫が林檎を見る。", id="a"), Example("猫が寝る。", id="b")])
    space, _ = fit(common, rare)
    assert "word:猫" in space.names
    assert "word:林檎" not in space.names


def test_register_is_used_only_where_every_row_has_one() -> None:
    known = Dataset.of(
        [Example("文です。", register_seen=Register("teinei"), id=str(i)) for i in range(4)]
    )
    unknown = Dataset.of([Example("文です。", id=str(i)) for i in range(4)])
    space, (rows, _) = fit(known, known)
    assert space.registers == ("polite",)
    assert rows[:, [space.names.index("register:polite")]].sum() == 4
    assert fit(known, unknown)[0].registers == ()


def test_pairs_have_both_sides_and_their_overlap() -> None:
    rows = [
        Example("猫が走る。", text_pair="猫が走る。", id="same"),
        Example("猫が走る。", text_pair="今日、東京では大雨でした", id="other"),
        *(Example("犬が鳴く。", text_pair="犬が鳴く。", id=str(i)) for i in range(3)),
    ]
    space, (features,) = fit(Dataset.of(rows))
    overlap = features[:, [space.names.index("pair:word overlap")]].toarray().ravel()
    ratio = features[:, [space.names.index("pair:log length ratio")]].toarray().ravel()
    assert overlap[0] == 1.0
    assert overlap[1] < 0.2
    assert ratio[0] == 0.0
    assert ratio[1] == pytest.approx(np.log(13 / 6))
    assert "1:word:犬" in space.names
    assert "2:word:犬" in space.names
