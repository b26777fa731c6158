from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from japagen.training.descriptions import label_phrases


def test_a_description_is_a_list_of_phrases() -> None:
    described = {"請求": "請求額、明細、 明細。", "配送": "", "技術": "動かない\n遅い; 落ちる"}
    phrases, labels = label_phrases(["請求", "配送", "技術", "他"], described)
    assert phrases == ["請求額", "明細", "配送", "動かない", "遅い", "落ちる", "他"]
    assert labels == [0, 0, 1, 2, 2, 2, 3]


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=30), min_size=1))
def test_every_label_has_a_phrase(described: dict[str, str]) -> None:
    phrases, labels = label_phrases(list(described), described)
    assert sorted(set(labels)) == list(range(len(described)))
    assert all(phrases)
    assert labels == sorted(labels)
