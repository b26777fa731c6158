"""From a text to its register, with the evidence for it: predicates, keigo, signs of speech."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.register.keico import KeicoEstimate, keico_model, register_features
from japagen.japanese.register.keigo import OwnHonorifics, check_honorifics, find_keigo, lemmas
from japagen.japanese.register.rules import (
    Evidence,
    SentenceStyle,
    Words,
    has_old_kana,
    read_sentence,
)
from japagen.japanese.registers import KEIGO_ORDER, Channel, Keigo, Register, Style

_FINALS = lemmas("よ ね な ぞ ぜ さ わ け じゃん 物 もん かしら の ねん ばい べい")
_CONTRACTIONS = frozenset({"ちゃう", "てる", "とく", "ちまう", "たげる"})
_FILLERS = frozenset({"ええと", "えー", "えっと", "うーん", "んー", "あー"})
_DRAWN_OUT = frozenset({"形容詞", "助詞", "助動詞", "感動詞"})
_WRITTEN = lemmas("及び 並びに 又は 若しくは 即ち 従って 故に 尚 但し 且つ 然るに")
_DIALECT_PARTICLES = lemmas("ねん ばい べい さかい けん けえ とん っちゃ")
_DIALECT_AUXILIARIES = frozenset({"とる", "へん", "ちょる", "よる", "ずら", "はる", "ちゃる"})
_DIALECT_WORDS = frozenset({"本真", "大きに", "生ら", "しゃあない", "せや"})
_CASUAL_WORDS = lemmas("まじ めっちゃ めちゃ ちっちゃい でっかい やばい うざい") | {
    "やっぱ",
    "すげえ",
    "すげー",
}

# A face is a bracket without letters before its eyes: (^_^) and (T_T), not (T_Shirt) or (C++).
_PLAIN = r"()\sA-Za-z0-9ぁ-んァ-ヶ一-龠、。"
_FACE = r"(?:[\^´`∀ωдД≧≦]|T_T|;_;|-_-|>_<)"

# Orthography, not grammar, hence expressions and not morphemes.
_ORTHOGRAPHY: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("長音", re.compile(r"ー{2,}|〜{2,}|[ぁ-ん][ぁぅぇぉ]|(?<=[ぁ-ん])[〜~](?=[。!?\s]|$)")),
    ("促音止め", re.compile(r"(?<=[ぁ-ん])っ(?=[。!?\s]|$)")),
    ("顔文字", re.compile(rf"\([^{_PLAIN}]{{0,4}}{_FACE}[^()\n。]{{0,8}}\)|[mM_]\(_ _\)")),
    ("絵文字", re.compile("[\U0001f300-\U0001faff\u2600-\u2604\u2607-\u2668\u2670-\u27bf]+")),
    ("笑い", re.compile(r"\((?:笑|爆笑|爆|泣|汗)\)|(?<=[ぁ-んァ-ヶ一-龠ー!?。])w+(?![A-Za-z])")),
    ("笑い", re.compile(r"(?<=[ぁ-んー!?。])笑+(?=[。!?\s]|$)")),
    ("感嘆符", re.compile(r"[!?]{2,}")),
)
_ANY_ORTHOGRAPHY = re.compile("|".join(f"(?:{pattern.pattern})" for _, pattern in _ORTHOGRAPHY))
_QUIET_WORDS = lemmas("を に が は も へ から まで で と です ます まし ませ た 、 。")

# What makes a text casual that would be plain, or that has no predicate to tell by.
CASUAL_SIGNS = frozenset({"長音", "促音止め", "顔文字", "絵文字", "笑い", "くだけた語"})


def find_speech(words: Words) -> list[Evidence]:
    """Returns the signs of speech, writing and dialect in the order of the text."""
    found: list[Evidence] = []
    for i, word in enumerate(words.morphemes):
        # Most words say nothing here, and calling a rule costs more than asking first.
        if word.surface not in _QUIET_WORDS:
            found.extend(_at(words, i))
    for rule, pattern in _ORTHOGRAPHY if _ANY_ORTHOGRAPHY.search(words.text) else ():
        for match in pattern.finditer(words.text):
            found.append(Evidence("spoken", match.start(), match.end(), match[0], rule))
    return sorted(found, key=_place)


def _place(evidence: Evidence) -> tuple[int, int]:
    return evidence.start, evidence.end


def _at(words: Words, i: int) -> Iterator[Evidence]:
    word = words[i]
    # すごーい and よー are drawn out; ルーキー and らーめん are spelt that way.
    if "ー" in word.surface and word.pos1 in _DRAWN_OUT:
        yield words.evidence("spoken", i, i, "長音")
    if word.pos1 == "助詞":
        yield from _particle(words, i)
    elif word.pos1 == "助動詞":
        yield from _auxiliary(words, i)
    elif word.surface == "あ" and words[i + 1].surface.startswith("かん"):
        yield words.evidence("dialect", i, i + 1, "あかん")
    elif word.surface in _FILLERS or (word.pos2 == "フィラー" and len(word.surface) > 1):
        yield words.evidence("spoken", i, i, "フィラー")
    elif word.pos1 == "接続詞" and word.surface in ("じゃ", "じゃあ", "だって", "でも"):
        yield words.evidence("spoken", i, i, "話し言葉の接続詞", certain=word.surface != "でも")
    elif word.lemma == "有る" and words[i - 1].lemma == "だ" and words[i - 1].surface == "で":
        yield words.evidence(
            "written", i - 1, i, "である", certain=words[i + 1].ctype != "助動詞-マス"
        )
    elif word.lemma in _WRITTEN and word.pos1 in ("接続詞", "副詞"):
        yield words.evidence("written", i, i, "書き言葉の接続詞")
    elif not _DIALECT_WORDS.isdisjoint((word.lemma, word.surface)) or (
        word.surface in ("ええ", "おもろい") and word.pos1 == "形容詞"
    ):
        yield words.evidence("dialect", i, i, word.surface)
    elif (
        not _CASUAL_WORDS.isdisjoint((word.lemma, word.surface))
        or word.surface == "ぽ"
        or (word.surface == "草" and words[i + 1].surface[:1] == "w")
        or (word.lemma == "御免" and words[i + 1].surface in ("ね", "、", "。", "!", ""))
    ):
        yield words.evidence("spoken", i, i, "くだけた語")
    elif word.surface == "あか" and words[i + 1].surface in ("ん", "へん"):
        yield words.evidence("dialect", i, i + 1, "あかん")
    elif word.surface == "やろ" and words[i - 1].pos1 in ("副詞", "名詞", "代名詞", "形容詞"):
        yield words.evidence("dialect", i, i, "やろ")


def _particle(words: Words, i: int) -> Iterator[Evidence]:
    word = words[i]
    if word.lemma in _DIALECT_PARTICLES or word.surface in _DIALECT_PARTICLES:
        yield words.evidence("dialect", i, i, f"助詞 {word.surface}")
    elif word.surface == "ちょ" and words[i + 1].surface == "る":
        yield words.evidence("dialect", i, i + 1, "ちょる")
    elif word.pos2 == "終助詞" and word.surface == "や" and words[i + 1].surface == "ん":
        yield words.evidence("dialect", i, i + 1, "やん")
    elif word.pos2 == "終助詞" and word.lemma in _FINALS:
        yield words.evidence("spoken", i, i, f"終助詞 {word.surface}")
    elif word.surface == "って":
        yield words.evidence("spoken", i, i, "って")
    elif word.surface == "けど":
        yield words.evidence("spoken", i, i, "けど", certain=False)
    elif word.pos2 == "準体助詞" and word.surface == "ん":
        # んです is the polite spoken form, んだ the casual one.
        yield words.evidence("spoken", i, i, "のだ→んだ", certain=words[i + 1].lemma == "だ")


def _auxiliary(words: Words, i: int) -> Iterator[Evidence]:
    word, before = words[i], words[i - 1]
    if word.ctype in ("助動詞-ヤ", "助動詞-ヘン") or word.lemma in _DIALECT_AUXILIARIES:
        # 雨やった is だった in the west, 宿題やった the past of やる anywhere.
        yield words.evidence(
            "dialect", i, i, f"助動詞 {word.surface}", certain=word.surface != "やっ"
        )
    elif word.ctype == "助動詞-タイ" and (
        before.pos1 in ("名詞", "副詞", "代名詞") or before.cform.startswith("終止形")
    ):
        yield words.evidence("dialect", i, i, "たい(九州)")
    elif word.lemma == "です" and word.orth_base in ("っす", "す"):
        yield words.evidence("spoken", i, i, "っす")
    elif word.lemma in _CONTRACTIONS:
        yield words.evidence("spoken", i, i, f"縮約 {word.orth_base}")
    elif word.cform.endswith("融合"):
        yield words.evidence("spoken", i, i, f"縮約 {word.surface}")
    elif word.ctype == "助動詞-ヌ" and word.surface == "ん" and before.ctype != "助動詞-マス":
        yield words.evidence("dialect", i, i, "打消し ん", certain=False)


_JAPANESE = re.compile("[ぁ-ゖァ-ヺー々一-鿿]")
_BATCH = 64
_KEIGO: dict[str, Keigo] = {name: name for name in KEIGO_ORDER}


@dataclass(frozen=True, slots=True)
class RegisterReport:
    """A register with everything that speaks for it.

    Attributes:
        text: The normalised text that all offsets refer to; lines are kept.
        register: The register as a whole.
        evidence: Forms found, in the order of the text.
        sentences: The style of each sentence.
        keico: KeiCO's level and flags as a linear model estimates them, whichever forms were
            found; None where the style is unknown.
        why: Why the style is unknown, or where it changes when mixed; else empty.
    """

    text: str
    register: Register
    evidence: tuple[Evidence, ...]
    sentences: tuple[SentenceStyle, ...]
    keico: KeicoEstimate | None
    why: str = ""

    @property
    def keico_level(self) -> int | None:
        """1 (most honorific) to 4 (casual) on KeiCO's scale; None where the style is unknown."""
        return self.keico.level if self.keico else None

    @property
    def style(self) -> Style:
        """The text's predicate style."""
        return self.register.style

    @property
    def keigo(self) -> frozenset[Keigo]:
        """The honorific classes with certain evidence."""
        return self.register.keigo

    @property
    def channel(self) -> Channel:
        """Whether the text reads as written or spoken."""
        return self.register.channel

    @property
    def dialect(self) -> bool:
        """True when dialect forms were found."""
        return self.register.dialect

    @property
    def sonkeigo(self) -> tuple[Evidence, ...]:
        """The forms of 尊敬語 found for certain, each with its place; empty without one."""
        return self._forms("sonkeigo")

    @property
    def kenjogo(self) -> tuple[Evidence, ...]:
        """The forms of 謙譲語 (I or II) found for certain, each with its place."""
        return self._forms("kenjogo1", "kenjogo2")

    @property
    def bikago(self) -> tuple[Evidence, ...]:
        """The forms of 美化語 found for certain, each with its place."""
        return self._forms("bikago")

    def _repr_html_(self) -> str:
        """What a notebook shows: the text, with every form that was found marked and named."""
        shown, at = [], 0
        for found in sorted(self.evidence, key=lambda e: (e.start, -e.end)):
            if found.start < at:
                continue  # within one that is marked already
            shown.append(escape(self.text[at : found.start]))
            named = escape(f"{found.kind} {found.rule}" + ("" if found.certain else " ?"))
            surface = escape(self.text[found.start : found.end])
            shown.append(f'<mark title="{named}">{surface}</mark><sub>{escape(found.kind)}</sub>')
            at = found.end
        shown.append(escape(self.text[at:]))
        register = self.register.to_dict()
        facts = [self.style, "+".join(register["keigo"]), self.channel, self.why]
        listed = ", ".join(escape(fact) for fact in facts if fact)
        return f"<div><b>{listed}</b><p>{''.join(shown)}</p></div>"

    def _forms(self, *kinds: str) -> tuple[Evidence, ...]:
        return tuple(e for e in self.evidence if e.certain and e.kind in kinds)

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        return {
            "text": self.text,
            **self.register.to_dict(),
            "keico_level": self.keico_level,
            "keico": self.keico._asdict() if self.keico else None,
            "sonkeigo": [e.to_dict() for e in self.sonkeigo],
            "kenjogo": [e.to_dict() for e in self.kenjogo],
            "why": self.why,
            "sentences": [s._asdict() for s in self.sentences],
            "evidence": [e.to_dict() for e in self.evidence],
        }


class RegisterAnalyzer:
    """Finds registers with one dictionary and one list of honorifics.

    Args:
        user_dictionary: A compiled MeCab user dictionary added to UniDic-lite.
        honorifics: A user's own honorific words: base form to ``sonkeigo``, ``kenjogo1``,
            ``kenjogo2`` or ``bikago``.
        tagger: A tagger to use in place of one made from ``user_dictionary``.

    Raises:
        JapagenError: If the dictionary cannot be read or a class is unknown.
    """

    def __init__(
        self,
        user_dictionary: str | Path | None = None,
        honorifics: Mapping[str, str] | None = None,
        *,
        tagger: Tagger | None = None,
    ) -> None:
        if tagger is None:
            tagger = Tagger(Path(user_dictionary)) if user_dictionary else default_tagger()
        self.tagger = tagger
        if user_dictionary:
            tagger.tokenize("")  # A dictionary that cannot be read should stop us here.
        self._classes = check_honorifics(honorifics or {})
        self._own = OwnHonorifics(self._classes, tagger) if self._classes else None

    @property
    def identity(self) -> str:
        """The dictionaries and the list, for fingerprints: another one finds other registers."""
        if not self._classes:
            return self.tagger.identity
        listed = json.dumps(sorted(self._classes.items()), ensure_ascii=False).encode()
        return f"{self.tagger.identity} + honorifics {hashlib.sha256(listed).hexdigest()[:16]}"

    def analyze(self, text: str) -> RegisterReport:
        """Finds the register of one text; see `analyze_register`."""
        return next(self.analyze_all([text]))

    def analyze_all(self, texts: Iterable[str]) -> Iterator[RegisterReport]:
        """Yields the register of each text in turn, faster than one call a text.

        Each step is done for a batch before the next one starts: the dictionary, the rules and
        the coefficients are too large to stay in a processor's cache together.
        """
        for batch, signs in self._signs(texts):
            features = (register_features(w, *s) for w, s in zip(batch, signs, strict=True))
            estimates = keico_model().estimate_all(features)
            for words, (evidence, sentences), keico in zip(batch, signs, estimates, strict=True):
                register, why = _register(words.text, evidence, sentences)
                estimate = None if register.style == "unknown" else keico
                yield RegisterReport(words.text, register, evidence, sentences, estimate, why)

    def registers(self, texts: Iterable[str]) -> Iterator[Register]:
        """Yields the register alone of each text in turn: KeiCO's estimate takes a third longer."""
        for batch, signs in self._signs(texts):
            for words, found in zip(batch, signs, strict=True):
                yield _register(words.text, *found)[0]

    def _signs(self, texts: Iterable[str]) -> Iterator[tuple[list[Words], list[_Signs]]]:
        rest = iter(texts)
        while batch := [Words(text, self.tagger) for text in islice(rest, _BATCH)]:
            yield batch, [find_register_signs(words, self._own) for words in batch]


def analyze_register(
    text: str,
    tagger: Tagger | None = None,
    *,
    user_dictionary: str | Path | None = None,
    honorifics: Mapping[str, str] | None = None,
) -> RegisterReport:
    """Finds the register of a Japanese text.

    Any string has an answer: without Japanese predicates the style is "unknown" and `why`
    says so.

    >>> report = analyze_register("先生がお帰りになりました。")
    >>> report.style, sorted(report.keigo)
    ('teinei', ['sonkeigo'])

    Args:
        text: Any text.
        tagger: The tagger to use; the default one when None.
        user_dictionary: A compiled MeCab user dictionary; see `RegisterAnalyzer`.
        honorifics: A user's own honorific words; see `RegisterAnalyzer`.

    Raises:
        JapagenError: If the dictionary cannot be read or a class is unknown.
    """
    if tagger is not None:
        return RegisterAnalyzer(honorifics=honorifics, tagger=tagger).analyze(text)
    own = tuple(sorted(check_honorifics(honorifics).items())) if honorifics else ()
    return _analyzer(Path(user_dictionary) if user_dictionary else None, own).analyze(text)


def analyze_registers(
    texts: Iterable[str], analyzer: RegisterAnalyzer | None = None
) -> Iterator[RegisterReport]:
    """Yields the register of each text in turn; see `analyze_register`."""
    return (analyzer or _analyzer(None, ())).analyze_all(texts)


@lru_cache(8)
def _analyzer(user_dictionary: Path | None, own: tuple[tuple[str, str], ...]) -> RegisterAnalyzer:
    """Keeps the last analyzers: opening a dictionary takes longer than reading a text."""
    return RegisterAnalyzer(user_dictionary, dict(own))


_Signs = tuple[tuple[Evidence, ...], tuple[SentenceStyle, ...]]


def _register(
    text: str, evidence: Sequence[Evidence], sentences: Sequence[SentenceStyle]
) -> tuple[Register, str]:
    """The register of a text, and why its style is unknown or mixed."""
    style, why = style_of_signs(text, evidence, sentences)
    certain: set[str] = {e.kind for e in evidence if e.certain}
    register = Register(
        style=style,
        keigo=frozenset([_KEIGO[k] for k in certain if k in _KEIGO]),
        channel=_channel(style, certain),
        dialect="dialect" in certain,
    )
    return register, why


def find_register_signs(words: Words, own: OwnHonorifics | None = None) -> _Signs:
    """Returns what the rules find, before any judgement of the text as a whole."""
    evidence = sorted([*find_keigo(words, own), *find_speech(words)], key=_place)
    sentences = tuple([read_sentence(words, a, b) for a, b in words.sentences()])
    return tuple(evidence), sentences


def style_of_signs(
    text: str, evidence: Sequence[Evidence], sentences: Sequence[SentenceStyle]
) -> tuple[Style, str]:
    """Returns a text's style from `find_register_signs`, and why it is unknown or mixed."""
    style, why = _style_of_text(text, sentences)
    if style in ("da", "dearu", "unknown", "kudaketa") and has_old_kana(text):
        return "bungo", ""
    # あかん、寝坊した is talk; the auxiliaries of a dialect were judged with the predicate.
    speaks = "「" not in text
    signs = style in ("da", "unknown") and any(
        e.rule in CASUAL_SIGNS
        or (e.kind == "dialect" and style == "unknown")
        or (e.kind == "dialect" and speaks and e.certain and not e.rule.startswith("助動詞"))
        for e in evidence
    )
    if signs and _JAPANESE.search(text):
        return "kudaketa", ""
    return style, why


def _channel(style: Style, certain: set[str]) -> Channel:
    if "spoken" in certain or style == "kudaketa":
        return "spoken"
    return "written" if "written" in certain or style in ("dearu", "bungo") else "unknown"


def _style_of_text(text: str, sentences: Sequence[SentenceStyle]) -> tuple[Style, str]:
    known = [s for s in sentences if s.style != "unknown"]
    if not known:
        return "unknown", _why_unknown(text)
    styles = {s.style for s in known}
    if len(styles) == 1:
        return known[0].style, ""
    # だ and bare verbs occur in である texts and in casual talk alike.
    if styles == {"da", "dearu"}:
        return "dearu", ""
    if styles == {"da", "kudaketa"}:
        return "kudaketa", ""
    if styles <= {"da", "dearu", "bungo"}:
        return "bungo", ""
    first = known[0]
    other = next(s for s in known if s.style != first.style)
    place = f"{first.style} at {first.start}, {other.style} at {other.start}: "
    return "mixed", place + text[other.start : other.end]


def _why_unknown(text: str) -> str:
    if not text:
        return "The text is empty."
    if not _JAPANESE.search(text):
        return "The text holds no Japanese."
    return "No sentence ends in a predicate."
