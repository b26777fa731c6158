"""From a text to its register, with the evidence for it."""

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
from japagen.japanese.register.keigo import OwnHonorifics, check_honorifics, find_keigo
from japagen.japanese.register.rules import (
    Evidence,
    SentenceStyle,
    Words,
    has_old_kana,
    read_sentence,
)
from japagen.japanese.register.spoken import CASUAL_SIGNS, find_speech
from japagen.japanese.registers import KEIGO_ORDER, Channel, Keigo, Register, Style

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
        rest = iter(texts)
        while batch := [Words(text, self.tagger) for text in islice(rest, _BATCH)]:
            signs = [find_register_signs(words, self._own) for words in batch]
            features = (register_features(w, *s) for w, s in zip(batch, signs, strict=True))
            estimates = keico_model().estimate_all(features)
            for words, (evidence, sentences), keico in zip(batch, signs, estimates, strict=True):
                yield _report(words.text, evidence, sentences, keico)


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


def _report(
    text: str,
    evidence: tuple[Evidence, ...],
    sentences: tuple[SentenceStyle, ...],
    keico: KeicoEstimate,
) -> RegisterReport:
    style, why = style_of_signs(text, evidence, sentences)
    certain: set[str] = {e.kind for e in evidence if e.certain}
    register = Register(
        style=style,
        keigo=frozenset([_KEIGO[k] for k in certain if k in _KEIGO]),
        channel=_channel(style, certain),
        dialect="dialect" in certain,
    )
    estimate = None if style == "unknown" else keico
    return RegisterReport(text, register, evidence, sentences, estimate, why)


def find_register_signs(
    words: Words, own: OwnHonorifics | None = None
) -> tuple[tuple[Evidence, ...], tuple[SentenceStyle, ...]]:
    """Returns what the rules find, before any judgement of the text as a whole."""
    evidence = sorted([*find_keigo(words, own), *find_speech(words)], key=_place)
    sentences = tuple([read_sentence(words, a, b) for a, b in words.sentences()])
    return tuple(evidence), sentences


def _place(evidence: Evidence) -> tuple[int, int]:
    return evidence.start, evidence.end


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
