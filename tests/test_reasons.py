from __future__ import annotations

import json
import re

import pytest

from japagen.reasons import Sentence, as_dict, codes
from japagen.reporting.text import Words, strings


@pytest.mark.parametrize("code", codes())
def test_every_sentence_is_known_to_the_report(code: str) -> None:
    said = strings()[f"reason.{code}"]
    assert said["en"] == codes()[code]
    places = [re.findall(r"{(\w+)", said[language]) for language in ("ja", "en")]
    assert sorted(places[0]) == sorted(places[1])


def test_a_sentence_is_translated_with_its_values() -> None:
    why = Sentence.of("gold_asked", n=30)
    said = json.loads(json.dumps(as_dict(why)))
    assert "30 件" in Words("ja").reason(str(why), said)
    assert Words("en").reason(str(why), said) == why


def test_an_earlier_runs_sentence_within_a_sentence_is_left_out() -> None:
    old = {"code": "few_unlabelled", "values": {"needed": 30, "found": 4}}
    said = {"code": "kept_design", "values": {"obstacle": old}}
    assert "by design" in Words("en").reason("", said)


def test_a_plain_text_stays_as_it_is() -> None:
    assert as_dict("because") is None
    assert Words("ja").reason("because", None) == "because"
    assert Words("ja").reason("because", {"code": "unheard", "values": {}}) == "because"
