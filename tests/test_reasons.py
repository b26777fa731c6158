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


def test_a_sentence_within_a_sentence_is_translated() -> None:
    why = Sentence.of("kept_design", obstacle=Sentence.of("few_unlabelled", needed=30, found=4))
    assert "it takes 30 unlabelled texts to estimate it, found 4" in why
    said = json.loads(json.dumps(as_dict(why)))
    assert "30 件必要ですが、4 件しかありません" in Words("ja").reason(str(why), said)
    assert Words("en").reason(str(why), said) == why


def test_a_plain_text_stays_as_it_is() -> None:
    assert as_dict("because") is None
    assert Words("ja").reason("because", None) == "because"
    assert Words("ja").reason("because", {"code": "unheard", "values": {}}) == "because"
