"""Countable signs of unnatural writing.

Each rule counts one thing in one text and names what it found. Limits are settings
(`japagen.config.curation.Naturalness`); docs/curation.md has how often each rule meets real texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from japagen.config.curation import Naturalness
from japagen.data.dataset import Example, Rejection
from japagen.japanese.morphology import Morpheme, default_tagger
from japagen.japanese.normalization import normalize

Words = Sequence[Morpheme]
Rule = Callable[[str, Words], list[str]]

_N = 4
_CONTENT = frozenset({"名詞", "動詞", "形容詞", "形状詞", "副詞", "代名詞"})
_OPENING = re.compile(
    r"^(?:もちろん(?:です|、)|承知(?:しました|いたしました)|かしこまりました[。、]?(?:以下|こちら)|"
    r"はい、(?:以下|こちら|承知)|以下(?:に|は|の(?:よう|通り|とおり))|こちら(?:が|は)[^。]{0,12}(?:例|文章|テキスト)|"
    r"(?:例文?|回答|出力|文章|タイトル|本文|レビュー|質問|答え|サンプル)\d*(?::|は以下)|"
    r"近年、|現代社会(?:では|において)|本記事では|この記事では|今回は[^。]{0,20}(?:紹介|解説))"
)
_CAN = re.compile(r"することが(?:でき|可能)")
_BULLET = re.compile(
    r"(?:^|\s)(?:[・•●■◆▪*-]\s?|\d{1,2}[.)．]\s|[①-⑳])(?=\S)|\*\*|(?:^|\s)#{1,6}\s|【[^】]{1,20}】"
)
_TRANSLATED = re.compile(
    r"のうちの(?:1つ|一つ|ひとつ)|最も[^、。]{1,15}の(?:1つ|一つ|ひとつ)|を可能に(?:し|する)|"
    r"(?:^|[。、])(?:彼|彼女|彼ら|それら|これら|あなた)(?:は|が|の)|によって(?:行われ|提供され|作成され)|"
    r"という事実|に焦点を当て|することを意味し|ことを確認してください|であることに注意|する必要があるでしょう"
)
_MACHINE = re.compile(
    r"と言える(?:で|の)|(?:重要|不可欠|大切)(?:である|です)(?:。|$)|といっても過言|いかがでし(?:た|ょう)か|"
    r"これ(?:により|によって)、|まとめると|総じて|総括すると|さまざまな[^。]{1,12}を提供|"
    r"幅広い(?:ニーズ|層)|お客様のニーズ|ニーズに応え|AI(?:言語)?モデル|言語モデルとして|お役に立て(?:れば|ると)"
)
_CLOSED = re.compile(
    r"・・$|[。．.!！?？…♪☆★♡♥〜ー」』)）】\]w笑]$|[\U0001f300-\U0001faff\u2600-\u27bf]$"
)
_BRACKETS = (("「", "」"), ("『", "』"), ("(", ")"), ("【", "】"))
# Particles that a sentence does not end with unless it was cut off; の, から and と may end one.
_OPEN_PARTICLES = frozenset({"が", "を", "に", "へ", "は", "も", "より"})
_NO_PARTICLE_NEEDED = frozenset(
    {"為る", "出来る", "為さる", "致す", "頂く", "下さる", "有る", "無い"}
)


def _repeated(text: str, words: Words) -> list[str]:
    """Runs of four words, two of them with content, that come again."""
    surfaces = [w.surface for w in words]
    every = list(zip(*(surfaces[i:] for i in range(_N)), strict=False))
    if len(set(every)) == len(every):
        return []  # as of most texts; looking which have content takes longer
    content = [w.pos1 in _CONTENT and w.pos2 != "非自立可能" for w in words]
    runs = Counter(run for i, run in enumerate(every) if sum(content[i : i + _N]) >= 2)
    return ["".join(run) for run, count in runs.items() for _ in range(count - 1)]


def _unfinished(text: str, words: Words) -> list[str]:
    """A last word that leaves the sentence open, without a mark that closes it."""
    if not words or _CLOSED.search(text):
        return []
    last = words[-1]
    particle = last.pos2 in ("格助詞", "係助詞", "副助詞") and last.surface in _OPEN_PARTICLES
    cut = last.pos1 in ("動詞", "助動詞") and last.cform.startswith(("連用形-一般", "未然形"))
    opened = (
        particle
        or cut
        or last.pos1 in ("接頭辞", "連体詞", "接続詞")
        or last.surface in ("、", "・", ",", "「", "(", "『")
    )
    return [last.surface] if opened else []


def _unclosed(text: str, words: Words) -> list[str]:
    """Brackets without their partner, and characters that were lost on the way."""
    odd = [a for a, b in _BRACKETS if text.count(a) != text.count(b)]
    # A face or a list, as in 1), closes what it did not open.
    return [b for b in odd if b != "(" or text.count("(") > text.count(")")] + ["\ufffd"] * (
        text.count("\ufffd")
    )


def _missing_particles(text: str, words: Words) -> list[str]:
    """Common nouns that run into a verb or adjective without a particle."""
    found = []
    for noun, word in pairwise(words):
        if noun.pos1 != "名詞" or noun.pos2 != "普通名詞" or noun.pos3 != "一般":
            continue
        verb = word.pos1 == "動詞" or (word.pos1 == "形容詞" and word.pos2 == "一般")
        if (
            verb
            and word.lemma not in _NO_PARTICLE_NEEDED
            and f"{noun.surface}{word.surface}" in text
        ):
            found.append(f"{noun.surface}{word.surface}")
    return found


def _matches(pattern: re.Pattern[str]) -> Rule:
    return lambda text, words: [m[0].strip() for m in pattern.finditer(text)]


RULES: dict[str, Rule] = {
    "repeated_words": _repeated,
    "unfinished": _unfinished,
    "unclosed": _unclosed,
    "opening_formula": _matches(_OPENING),
    "can_do": _matches(_CAN),
    "bullets": _matches(_BULLET),
    "missing_particles": _missing_particles,
    "translationese": _matches(_TRANSLATED),
    "machine_phrases": _matches(_MACHINE),
}


def count_signs(text: str) -> dict[str, list[str]]:
    """What each rule finds in a text; rules that find nothing are left out.

    >>> count_signs("以下に例を示します。予約することができます。")
    {'opening_formula': ['以下に'], 'can_do': ['することができ']}
    """
    plain = normalize(text)
    words = [w for w in default_tagger().tokenize(plain) if w.pos1 != "空白"]
    found = {name: rule(plain, words) for name, rule in RULES.items()}
    return {name: hits for name, hits in found.items() if hits}


def unnatural(example: Example, naturalness: Naturalness) -> Rejection | None:
    """Rejects a text with more of a sign than its limit allows, by the sign's name.

    >>> unnatural(Example("以下に例を示します。"), Naturalness(opening_formula=0))
    Rejection(filter='opening_formula', value=1, threshold=0, detail='以下に')
    """
    for text in example.texts:
        for name, hits in count_signs(text).items():
            most = getattr(naturalness, name)
            if most is not None and len(hits) > most:
                return Rejection(name, len(hits), most, "、".join(dict.fromkeys(hits))[:80])
    return None
