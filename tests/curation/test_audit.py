from __future__ import annotations

from japagen.curation.audit import audit, find_memories, groups_in, measure_bias, summarize_memories
from japagen.curation.filters import treat_personal_data
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.japanese.overlap import OverlapIndex

SECRET = "合言葉は青い鯨9931-XK"
GOLD = Dataset.of(
    [
        Example("荷物はいつ届きますか。追跡番号を教えてください。", "配送", id="g1"),
        Example(f"私の{SECRET}です。早く返品させてください。", "返品", id="g2"),
    ]
)


def _rows(*texts: str) -> Dataset:
    return Dataset.of(Example(t, "配送", id=f"s{i}") for i, t in enumerate(texts))


def test_a_planted_secret_is_found_when_it_is_copied() -> None:
    rows = _rows("荷物が壊れていたので返金を希望します。", f"係の方、{SECRET}で合っていますか。")
    harmless, leaky = find_memories(rows, GOLD)
    assert SECRET not in harmless.copied
    assert SECRET.replace("Ｘ", "X") in leaky.copied
    assert leaky.copied_from == leaky.gold_id == "g2"
    found = summarize_memories(rows, [harmless, leaky], GOLD)
    assert found is not None
    assert found["worst"][0]["id"] == "s1"
    assert found["long_copies"] == 1
    assert found["longest_copied"] == len(leaky.copied) >= len(SECRET)


def test_the_longest_copy_is_that_of_every_pair_tried_out() -> None:
    references = ["あいうえおかきくけこ", "かきくけこさしすせそ", "うえおかきくけ"]
    index = OverlapIndex(references)
    for text in ("いうえおかきくけこさ", "かきくけこさしす", "ん", "", "おかきくけたちつて"):
        runs = {
            text[i:j]
            for i in range(len(text))
            for j in range(i + 5, len(text) + 1)
            if any(text[i:j] in r for r in references)
        }
        assert len(index.longest_copy(text).text) == max(map(len, runs), default=0)


def test_every_accepted_example_has_a_row_and_rejected_ones_have_none() -> None:
    written = Dataset.of(
        [
            Example("担当の山田さんは親切でした。", "配送", id="a"),
            Example("佐藤様に電話した。", "配送", id="b", rejected=Rejection("failed", 1, 0)),
        ]
    )
    masked = treat_personal_data(written, "mask")
    found = audit(written, masked, GOLD, ["配送", "返品"], "mask")
    assert found.table.column("id").to_pylist() == ["a"]
    assert found.table.column("personal_data").to_pylist() == [["name"]]
    assert found.summary["personal_data"] == {
        "action": "mask",
        "synthetic": {"name": 1},
        "gold": {},
        "texts": {"synthetic": 1, "gold": 0},
    }
    ignored = audit(written, written, None, ["配送"], "ignore")
    assert ignored.summary["personal_data"] is None
    assert ignored.summary["memorization"] is None


def test_groups_are_read_from_words_not_from_parts_of_words() -> None:
    assert groups_in("母が東京の看護師さんに相談した。") == {
        ("gender", "female"),
        ("region", "kanto"),
        ("profession", "medical"),
    }
    assert groups_in("東京都のホテル") == {("region", "kanto")}
    assert groups_in("彼女は大学生です。") == {("gender", "female"), ("age", "youth")}
    assert groups_in("酵母パンの分母と主人公") == set()
    assert groups_in("荷物が届きません。") == set()


def test_a_planted_skew_is_named_and_chance_is_not() -> None:
    gold = [Example(f"担当が丁寧だった{i}", "良い", id=f"p{i}") for i in range(100)]
    gold += [Example(f"対応が悪い{i}", "悪い", id=f"n{i}") for i in range(100)]
    made = [Example(f"女性の担当が丁寧{i}", "良い", id=f"a{i}") for i in range(30)]
    made += [Example(f"担当が丁寧{i}", "良い", id=f"b{i}") for i in range(70)]
    made += [Example(f"対応が悪い{i}", "悪い", id=f"c{i}") for i in range(98)]
    made += [Example(f"東京の対応が悪い{i}", "悪い", id=f"d{i}") for i in range(2)]
    found = measure_bias(Dataset.of(made), Dataset.of(gold), ["良い", "悪い"])
    assert found is not None
    named = {(s["kind"], s["group"], s["label"]) for s in found["skews"]}
    assert ("gold", "female", "良い") in named
    assert ("label", "female", "良い") in named
    assert not any(group == "kanto" for _, group, _ in named)
    assert measure_bias(Dataset.of(gold), Dataset.of(gold), ["良い", "悪い"])["skews"] == []  # type: ignore[index]
