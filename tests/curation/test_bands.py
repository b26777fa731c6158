"""Near-duplicates by files are those that memory finds."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from japagen.curation.bands import (
    _DUPLICATE,
    _SAME,
    KEY,
    Golden,
    SharedKeys,
    SimilarPairs,
    decide,
    find_keys,
    join_texts,
    key_ranges,
)
from japagen.curation.near_duplicates import reject_near_duplicates
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.shards import ROW

CLAUSES = [
    "荷物がまだ届いておりません", "返品の手続きを教えてください", "請求書の金額が違うようです",
    "画面が真っ暗になりました", "会員証を再発行したいです", "説明書が見当たりません",
    "電池がすぐに切れてしまいます", "部品が一つ足りませんでした",
]  # fmt: skip


def varied(number: int, seed: int) -> list[Example]:
    """Texts of one or two clauses, of which many differ in a letter or a mark."""
    rng = random.Random(seed)
    found = []
    for at in range(number):
        text = "。".join(rng.sample(CLAUSES, rng.choice((1, 2, 2)))) + "。"
        if rng.random() < 0.6:
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice("あのでも一二三") + text[place + rng.choice((0, 1)) :]
        text = text.replace("。", rng.choice(("。", "！", "。", "")))
        found.append(Example(text, "良", id=f"e{at}"))
    return found


def by_files(
    texts: Dataset, gold: Dataset | None, threshold: float, *, shards: int, ranges: int
) -> dict[int, tuple[str, float, str]]:
    """Goes through the kernels: row to filter, value and detail."""
    numbered = texts.table.append_column(ROW, pa.array(np.arange(len(texts))))
    cuts = [numbered.take(at) for at in np.array_split(np.arange(len(texts)), shards)]
    golden = Golden.of(gold)
    keys = pa.concat_tables([find_keys(cut) for cut in cuts])
    edges = []
    bounds = key_ranges(len(texts), max(1, len(texts) // ranges))
    assert len(bounds) >= ranges

    def within(table: pa.Table, name: str, low: int, high: int) -> pa.Table:
        values = table.column(name).to_numpy()
        return table.filter(pa.array((values >= low) & (values < high)))

    shared = pa.concat_tables([SharedKeys(golden)(within(keys, KEY, *b)) for b in bounds])
    found = []
    for cut in cuts:
        if len(cut):
            first = cut.column(ROW)[0].as_py()
            mine = within(shared, ROW, first, first + len(cut))
            found.append(join_texts(pa.concat_tables([cut, mine], promote_options="permissive")))
    joined = pa.concat_tables(found)
    edges = [SimilarPairs(golden, threshold)(within(joined, KEY, *b)) for b in bounds]
    every = pa.concat_tables(edges)
    # What equals another shares all its keys, and is told of in one range alone.
    equal = every.filter(pc.is_in(every.column("kind"), pa.array([_SAME, _DUPLICATE], pa.int8())))
    assert len(equal.column(ROW).unique()) == len(equal)
    decided = decide(every, golden, threshold)
    names = (ROW, "near_filter", "near_value", "near_detail")
    rows = zip(*(decided.column(name).to_pylist() for name in names), strict=True)
    return {row: tuple(rest) for row, *rest in rows}


def in_memory(
    texts: Dataset, gold: Dataset | None, threshold: float
) -> dict[int, tuple[str, float, str]]:
    """What `filters.curate` does, without the filters."""
    seen: dict[str, str] = {}
    rejections = []
    for example in texts:
        first = seen.setdefault(example.text, example.id)
        rejections.append(None if first == example.id else Rejection("duplicate", 1, 0, first))
    found = reject_near_duplicates(texts.with_rejections(rejections), threshold, gold)
    return {
        row: (r.filter, r.value, r.detail)
        for row, r in enumerate(found.rejections)
        if r is not None
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("threshold", [0.5, 0.7, 1.0])
def test_files_find_what_memory_finds(seed: int, threshold: float) -> None:
    texts = Dataset.of(varied(150, seed))
    gold = Dataset.of(varied(12, seed + 10)) if seed else None
    expected = in_memory(texts, gold, threshold)
    kinds = {kind for kind, *_ in expected.values()}
    assert kinds >= {"duplicate", "near_duplicate"}
    assert ("near_duplicate_of_gold" in kinds) == (gold is not None)
    for shards, ranges in ((1, 4), (7, 4), (3, 9)):
        assert by_files(texts, gold, threshold, shards=shards, ranges=ranges) == expected


def test_pairs_are_compared_together() -> None:
    rows = [
        ("荷物が届きません。", "配送の遅れ"),
        ("荷物が届きません。", "返品の方法"),
        ("荷物が届きません！", "配送の遅れ"),
    ]
    texts = Dataset.of(
        Example(first, "良", second, id=str(n)) for n, (first, second) in enumerate(rows)
    )
    found = by_files(texts, None, 0.9, shards=2, ranges=4)
    assert found == {2: ("near_duplicate", 1.0, "0")}


def test_a_crowd_that_shares_a_band_follows_its_first() -> None:
    """More than 32 unlike texts with one key: what is like a first one goes with it."""
    rng = random.Random(0)
    kana = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほ"
    base = "お問い合わせの件につきましては担当者から折り返しご連絡いたします"
    texts = Dataset.of(
        Example(base + "".join(rng.sample(kana, 3)), "良", id=f"e{n}") for n in range(200)
    )
    memory = in_memory(texts, None, 0.7)
    files = by_files(texts, None, 0.7, shards=4, ranges=4)
    assert set(files) == set(memory) == set(range(1, 200))
    assert {detail for kind, _, detail in files.values() if kind != "duplicate"} == {"e0"}


@pytest.mark.parametrize("length", [20, 150, 900])
def test_texts_of_any_length_are_compared_exactly(length: int) -> None:
    """Bitmaps of long texts are full, and must tell none apart that are alike."""
    rng = random.Random(length)
    kana = [chr(code) for code in range(ord("ぁ"), ord("ん"))]
    texts = []
    for number in range(120):
        if number % 8 == 0:
            base = rng.choices(kana, k=length)
        changed = rng.sample(range(length), rng.randrange(length // 5))
        text = "".join(rng.choice(kana) if at in changed else c for at, c in enumerate(base))
        texts.append(Example(text, "良", id=f"e{number}"))
    memory = in_memory(Dataset.of(texts), None, 0.7)
    assert 20 < len(memory) < 110
    assert by_files(Dataset.of(texts), None, 0.7, shards=3, ranges=4) == memory


def test_nothing_is_like_nothing() -> None:
    texts = Dataset.of([Example("荷物が届きません。", "良"), Example("画面が暗いです。", "良")])
    assert by_files(texts, None, 0.7, shards=2, ranges=4) == {}
