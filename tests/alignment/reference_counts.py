"""Counts texts one by one, in plain Python: what the block counts must agree with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from japagen.japanese.morphology import Morpheme, tokenize
from japagen.japanese.normalization import normalize

SCRIPTS = (
    re.compile("[々-〇㐀-䶿一-鿿豈-\ufaff\U00020000-\U0002ffff]"),
    re.compile("[ぁ-\u309f]"),
    re.compile("[ァ-\u30ff]"),
    re.compile("[A-Za-z]"),
    re.compile("[0-9]"),
)


def words(text: str) -> Counter[str]:
    return Counter(m.lemma for m in tokenize(normalize(text)))


def pos(text: str) -> Counter[str]:
    tags = ["BOS", *(m.pos1 for m in tokenize(normalize(text))), "EOS"]
    return Counter(f"{a} {b}" for a, b in pairwise(tags))


def scripts(text: str) -> list[float]:
    clean = normalize(text)
    return [len(p.findall(clean)) / max(1, len(clean)) for p in SCRIPTS]


def endings(text: str) -> Counter[str]:
    found = []
    sentence: list[Morpheme] = []
    for morpheme in tokenize(normalize(text)):
        if morpheme.pos1 not in ("補助記号", "記号", "空白"):
            sentence.append(morpheme)
        elif morpheme.surface[:1] in "。．！？!?…♪" and sentence:
            found.append(_ending(sentence))
            sentence = []
    return Counter([*found, _ending(sentence)] if sentence else found)


def _ending(sentence: Sequence[Morpheme]) -> str:
    functional = [m.pos1 in ("助動詞", "助詞") for m in sentence[-2:]]
    if not functional[-1]:
        return sentence[-1].pos1
    pairs = zip(sentence[-2:], functional, strict=True)
    return "+".join(m.orth_base for m, keep in pairs if keep)
