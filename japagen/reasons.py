"""Sentences that say why: English for whoever reads them, and a code for who translates them."""

from __future__ import annotations

from typing import Any

_ENGLISH = {
    "no_rows": "There are no synthetic rows to weight.",
    "uniform": "Every label as often, as asked.",
    "gold_asked": "Gold's own shares of {n} texts, as asked.",
    "given": "Shares given by the user.",
    "unequal": "Gold's counts ({counts}) are too unequal for a design, so gold is taken for a "
    "random sample of the target; give a mapping if it is not.",
    "kept_design": "Gold's counts are equal by design and say nothing about how often labels "
    "occur: synthetic shares are left as they are.",
    "kept_no_gold": "There is no gold: synthetic shares are left as they are.",
    "rates_given": "Rates given by the user.",
    "rates_undefined": "'{mode}' is not defined for lists of labels: their rates are left as they "
    "are.",
    "rates_design": "Gold's counts are equal by design or absent: label rates are left as they "
    "are.",
    "rates_gold": "Each label's rate among {n} gold texts.",
    "no_texts": "There are no target texts, so words are neither matched nor compared.",
    "absent_label": "Synthetic has no text of '{label}': no weight can make up for that.",
    "no_tolerance": "Even the loosest match broke the floor or could not be met.",
    "tempered": "Weights were tempered to keep the floor in: {labels}.",
}


class Sentence(str):
    """An English sentence that another language can be made from.

    Attributes:
        code: Which sentence it is; empty for a text that has no translation.
        values: What stands in its places, JSON-ready.
    """

    code: str
    values: dict[str, Any]

    def __new__(cls, text: str, code: str = "", values: dict[str, Any] | None = None) -> Sentence:
        """Takes a text, and what it says where that is known."""
        made = super().__new__(cls, text)
        made.code, made.values = code, values or {}
        return made

    @classmethod
    def of(cls, code: str, **values: Any) -> Sentence:
        """Writes the sentence ``code`` with its places filled in."""
        return cls(_ENGLISH[code].format(**values), code, values)

    def to_dict(self) -> dict[str, Any]:
        """Returns code and values, JSON-ready."""
        return {"code": self.code, "values": self.values}


def codes() -> dict[str, str]:
    """Every sentence in English, by its code."""
    return dict(_ENGLISH)


def as_dict(why: str) -> dict[str, Any] | None:
    """The code and values of a sentence, None for a plain text."""
    return why.to_dict() if isinstance(why, Sentence) and why.code else None
