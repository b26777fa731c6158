from __future__ import annotations

import random

import numpy as np

from japagen.data.dataset import Dataset, Example
from japagen.generation.coverage import ALPHA, Distance, has_fallen, round_distances, shortfall
from japagen.japanese.morphology import default_tagger

TOPICS = ["荷物", "領収書", "会員", "画面", "電池", "請求", "返金", "住所", "伝票", "写真"]
ENDINGS = [
    "を確認したいです。",
    "が見当たりません。",
    "を教えてください。",
    "はどうなりますか。",
]


def _texts(
    rng: random.Random, label: str, n: int, topics: list[str], endings: list[str] = ENDINGS
) -> list[Example]:
    return [
        Example(f"{rng.choice(topics)}{rng.choice(endings)}", label, id=f"{label}-{rng.random()}")
        for _ in range(n)
    ]


def test_texts_of_one_population_lack_next_to_nothing() -> None:
    lacking = []
    for seed in range(20):
        rng = random.Random(seed)
        gold = Dataset.of(_texts(rng, "a", 16, TOPICS))
        made = Dataset.of(_texts(rng, "a", 40, TOPICS))
        lacking.append(len(shortfall(made, gold, None, ["a"], default_tagger())["a"]))
    # Some 30 traits are compared each time, most of of which α lets through one in 50 at most.
    assert np.mean(lacking) < 1


def test_what_was_taken_away_is_found_for_its_label_with_its_grounds() -> None:
    rng = random.Random(1)
    gold = Dataset.of(
        [*_texts(rng, "a", 16, ["領収書", *TOPICS[:2]]), *_texts(rng, "b", 16, TOPICS)]
    )
    made = Dataset.of([*_texts(rng, "a", 40, ["荷物"], ENDINGS[:1]), *_texts(rng, "b", 40, TOPICS)])
    found = shortfall(made, gold, None, ["a", "b"], default_tagger())
    words = {m.item: m for m in found["a"] if m.kind == "word"}
    assert "領収書" in words
    missing = words["領収書"]
    texts = dict(zip(gold.column("id"), gold.texts, strict=True))
    assert missing.gold_ids
    assert all("領収書" in texts[i] and i.startswith("a") for i in missing.gold_ids)
    assert missing.synthetic < missing.target < len(missing.gold_ids) / 16
    assert missing.chance <= ALPHA
    assert {"てください", "ますか"} & {m.item for m in found["a"] if m.kind == "ending"}
    gaps = [m.target - m.synthetic for m in found["a"]]
    assert gaps == sorted(gaps, reverse=True)


def test_one_gold_text_proves_nothing() -> None:
    gold = Dataset.of([Example(f"荷物{i}はどこですか。", "a") for i in range(15)])
    gold = Dataset.concat([gold, Dataset.of([Example("電池が切れた。", "a")])])
    made = Dataset.of([Example(f"荷物{i}はどこですか。", "a") for i in range(100, 500)])
    found = shortfall(made, gold, None, ["a"], default_tagger())
    assert "電池" not in {m.item for m in found["a"]}


def test_unlabelled_texts_lend_gold_their_number_and_gold_says_which_label() -> None:
    rng = random.Random(2)
    gold = Dataset.of([*_texts(rng, "a", 8, TOPICS[:4]), *_texts(rng, "b", 16, TOPICS[5:])])
    extra = [Example(f"電池が{n}。", "b", id=f"b-{n}") for n in ("見当たりません", "切れました")]
    gold = Dataset.concat([gold, Dataset.of(extra)])
    more = Dataset.of([Example(f"電池が{i}個ほしい。", split="unlabelled") for i in range(60)])
    made = Dataset.of([*_texts(rng, "a", 60, TOPICS[:4]), *_texts(rng, "b", 60, TOPICS[5:])])
    alone = shortfall(made, gold, None, ["a", "b"], default_tagger())
    both = shortfall(made, gold, more, ["a", "b"], default_tagger())
    assert "電池" not in {m.item for m in alone["b"]}
    assert "電池" in {m.item for m in both["b"]}
    assert "電池" not in {m.item for m in both["a"]}


def test_nothing_to_compare_is_nothing_missing() -> None:
    gold = Dataset.of([Example("荷物はどこですか。", "a")])
    assert shortfall(Dataset.of([]), gold, None, ["a"], default_tagger()) == {"a": []}
    assert shortfall(gold, Dataset.of([]), None, ["a"], default_tagger()) == {"a": []}


def test_distances_do_not_fall_with_the_number_of_texts_alone() -> None:
    rng = random.Random(3)
    target = Dataset.of(_texts(rng, "a", 200, TOPICS))
    texts = _texts(rng, "a", 200, TOPICS[:5])
    first, both = Dataset.of(texts[:60]), Dataset.of(texts)
    one, two = (r["words"] for r in round_distances([first, both], [target], default_tagger(), 0))
    assert one.texts == two.texts == 30
    assert abs(one.value - two.value) < 2 * (one.error**2 + two.error**2) ** 0.5
    assert two.error < one.error


def test_distances_fall_when_what_was_missing_comes() -> None:
    rng = random.Random(4)
    target = Dataset.of(_texts(rng, "a", 100, TOPICS))
    poor = _texts(rng, "a", 60, TOPICS[:3])
    first = Dataset.of(poor)
    both = Dataset.of([*poor, *_texts(rng, "a", 60, TOPICS[3:])])
    one, two = (r["words"] for r in round_distances([first, both], [target], default_tagger(), 0))
    assert has_fallen(one, two)
    assert not has_fallen(two, one)
    # Twice as many texts halve the variance: the margin is 0.01 · √½.
    assert not has_fallen(Distance(0.3, 0.01, 20), Distance(0.294, 0.01 * 0.5**0.5, 20))
    assert has_fallen(Distance(0.3, 0.01, 20), Distance(0.292, 0.01 * 0.5**0.5, 20))
