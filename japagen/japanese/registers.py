"""The vocabulary of Japanese register that every other module speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from japagen.errors import JapagenError, nearest

Style = Literal["teinei", "da", "dearu", "bungo", "kudaketa", "mixed", "unknown"]
Keigo = Literal["sonkeigo", "kenjogo1", "kenjogo2", "bikago", "gozaru"]
Channel = Literal["written", "spoken", "unknown"]

_STYLES, _CHANNELS = get_args(Style), get_args(Channel)
KEIGO_ORDER: tuple[Keigo, ...] = get_args(Keigo)
# Bikago (お茶, ご飯) beautifies a noun and honours nobody, so it does not make a text honorific.
# What is none of the presets: styles mixed in one text, or no predicate to tell by.
OTHER = "other"
HONOURING: frozenset[Keigo] = frozenset({"sonkeigo", "kenjogo1", "kenjogo2"})
# ございます honours nobody either, but is as formal as what does.
_FORMAL: frozenset[Keigo] = HONOURING | {"gozaru"}


@dataclass(frozen=True, slots=True)
class Register:
    """How a text speaks: predicate style, honorifics, channel, dialect.

    The five classes of keigo are those of 敬語の指針 (Agency for Cultural Affairs, 2007);
    the fifth, 丁寧語, is the style ``teinei``, and its most formal form, ございます, ``gozaru``.

    Attributes:
        style: 丁寧体 (teinei), 常体 (da, dearu), 文語 (bungo), くだけた (kudaketa), a mixture, or
            unknown.
        keigo: The honorific classes present, of 丁寧語 ございます alone.
        channel: Whether the text reads as written or spoken.
        dialect: True when dialect forms were seen or are wanted.
    """

    style: Style = "unknown"
    keigo: frozenset[Keigo] = field(default_factory=frozenset)
    channel: Channel = "unknown"
    dialect: bool = False

    @classmethod
    def of(cls, name: str) -> Register:
        """Returns the preset called ``name``; `OTHER` is a register of which nothing is known.

        Raises:
            JapagenError: If there is no such preset.
        """
        if name == OTHER:
            return cls()
        if name not in PRESETS:
            raise JapagenError(
                f"Unknown register '{name}'{nearest(name, PRESETS)}.",
                f"Use one of: {', '.join(PRESETS)}.",
            )
        return PRESETS[name]

    @property
    def preset(self) -> str | None:
        """The preset this register belongs to, or None when it is mixed or unknown."""
        if self.style == "teinei":
            return "honorific" if self.keigo & _FORMAL else "polite"
        if self.style in ("da", "dearu"):
            return "plain"
        return "casual" if self.style == "kudaketa" else None

    @property
    def name(self) -> str:
        """The preset's name, or `OTHER` for a mixed or unknown register."""
        return self.preset or OTHER

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping with keigo in a fixed order."""
        return {
            "style": self.style,
            "keigo": [k for k in KEIGO_ORDER if k in self.keigo],
            "channel": self.channel,
            "dialect": self.dialect,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Register:
        """Inverse of `to_dict`; absent keys take their defaults.

        Raises:
            JapagenError: If a value is outside the vocabulary.
        """
        style = row.get("style") or "unknown"
        channel = row.get("channel") or "unknown"
        keigo = frozenset(row.get("keigo") or ())
        for name, value, known in (
            ("style", style, _STYLES),
            ("channel", channel, _CHANNELS),
            *(("keigo", k, KEIGO_ORDER) for k in keigo),
        ):
            if value not in known:
                raise JapagenError(
                    f"Unknown {name} '{value}' in a register{nearest(str(value), known)}.",
                    f"Use one of: {', '.join(known)}.",
                )
        return cls(
            cast(Style, style), keigo, cast(Channel, channel), bool(row.get("dialect", False))
        )


PRESETS: dict[str, Register] = {
    "polite": Register("teinei"),
    "plain": Register("da", channel="written"),
    "casual": Register("kudaketa", channel="spoken"),
    "honorific": Register("teinei", frozenset({"sonkeigo", "kenjogo1"})),
}
