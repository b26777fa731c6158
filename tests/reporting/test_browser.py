from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from japagen.data.dataset import Dataset, Example, Rejection
from japagen.japanese.registers import Register
from japagen.reporting.browser import Provenance, browser, pack
from japagen.reporting.text import LANGUAGES, Words
from tests.report_sample import small_summary

_TEXTS = Dataset.of(
    [
        Example(
            "届きません。</script>",
            "配送",
            id="a",
            source="generator",
            register_seen=Register.of("polite"),
            request_id="r1",
            weight_label=0.5,
        ),
        Example("別の文", "請求", id="b", source="file", request_id="r1", parent_id="a"),
        Example("短", "配送", id="c", source="file", rejected=Rejection("too_short", 1, 8, "短い")),
    ]
)


def _unpacked(packed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
    return found


def test_every_text_is_there_with_what_is_known_of_it() -> None:
    known = Provenance(
        {"r1": {"prompt": "書いて", "answer": "届きません。"}, "r9": {"prompt": "他"}},
        {"a": {"gold_overlap": 0.25, "copied": "届き", "personal_data": ["name"]}},
    )
    found = _unpacked(pack(_TEXTS, known, 0))
    columns = found["columns"]
    assert columns["text"] == ["届きません。</script>", "別の文", "短"]
    assert columns["register"] == ["polite", "", ""]
    assert columns["reason"] == ["", "", "too_short"]
    assert columns["threshold"] == [None, None, 8]
    assert columns["parent"] == [None, "a", None]
    assert columns["confidence"] == [0.5, 1.0, 1.0]
    # One request wrote two texts, and is there once; others are left out.
    assert columns["request"] == [0, 0, -1]
    assert found["requests"] == [known.requests["r1"]]
    assert columns["overlap"] == [0.25, None, None]


def test_packed_texts_are_letters_that_html_lets_be() -> None:
    packed = pack(_TEXTS, Provenance(), 0)
    assert packed == pack(_TEXTS, Provenance(), 0)
    assert set(packed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def test_half_an_emoji_does_not_stop_the_page() -> None:
    assert _unpacked(pack(Dataset.of([Example("\ud83d"), Example("x")]), Provenance(), 0))


@pytest.mark.parametrize("language", LANGUAGES)
def test_of_more_texts_than_a_page_carries_a_sample_is_drawn(
    monkeypatch: pytest.MonkeyPatch, language: Any
) -> None:
    monkeypatch.setattr("japagen.reporting.browser.MOST", 2)
    found = _unpacked(pack(_TEXTS, Provenance(), 1))["columns"]
    assert len(found["id"]) == len(found["weight"]) == 2
    weights = dict(zip(_TEXTS.column("id"), _TEXTS.weights.tolist(), strict=True))
    assert found["weight"] == [round(weights[id_], 4) for id_ in found["id"]]
    words = Words(language)
    view = browser(small_summary(), _TEXTS, words)
    assert view is not None
    assert view["note"] == words("records.sampled", n=2, all=3)


def test_filters_offer_what_there_is() -> None:
    view = browser(small_summary(), _TEXTS, Words("en"))
    assert view is not None
    options = {column: [code for code, _ in found] for column, _, found in view["filters"]}
    assert options == {
        "state": ["kept", "rejected"],
        "label": ["配送", "請求"],
        "source": ["generator", "file"],
        "register": ["polite"],
        "reason": ["too_short"],
    }
    assert browser(small_summary(), Dataset.of([]), Words("en")) is None
