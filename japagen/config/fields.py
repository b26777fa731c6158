"""Fields of a text: what a structured text consists of beside its label (docs/fields.md)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from japagen.data.dataset import COLUMNS
from japagen.errors import nearest
from japagen.japanese.registers import PRESETS

Role = Literal["user", "assistant", "system"]
_NAME = re.compile(r"[^\W\d]\w*")
# What answers and chat files have beside the fields.
_TAKEN = (*COLUMNS, "texts", "messages")


def _preset(name: str | None) -> str | None:
    if name is not None and name not in PRESETS:
        raise ValueError(
            f"expected one of {', '.join(PRESETS)}, found '{name}'{nearest(name, PRESETS)}"
        )
    return name


FieldRegister = Annotated[str | None, AfterValidator(_preset)]


class Speaker(BaseModel, extra="forbid", frozen=True):
    """Somebody in a dialogue.

    Attributes:
        role: ``user``, ``assistant`` or ``system``, as chat formats call it.
        in_register: As of a field.
    """

    role: Role
    in_register: FieldRegister = None


class TextField(BaseModel, extra="forbid", frozen=True):
    """One field of every text; a description alone will do.

    Attributes:
        description: What it holds, in Japanese, as prompts say it.
        type: ``string``, ``enum`` (one of ``values``) or ``integer``.
        values: What an ``enum`` may be.
        optional: Whether it may be empty.
        in_register: The register that it is written in, whatever the text's is: polite, plain,
            casual or honorific.
        role: Who says it, as chat formats call them: ``user``, ``assistant`` or ``system``.
        request: The request that asks for it. Fields of 2 and above are asked for when the texts
            are there, in requests of their own whose prompts show the fields before.
        turns: So many fields in place of this one, ``NAME_1``, ``NAME_2`` and so on: what the
            ``speakers`` say in turn.
        speakers: Name in Japanese to ``role`` and ``in_register``, in the order in which they
            speak.
    """

    description: str = ""
    type: Literal["string", "enum", "integer"] = "string"
    values: tuple[str, ...] = ()
    optional: bool = False
    in_register: FieldRegister = None
    role: Role | None = None
    request: Annotated[int, Field(ge=1, le=10)] = 1
    turns: Annotated[int, Field(ge=2, le=20)] | None = None
    speakers: dict[str, Speaker] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_description(cls, raw: Any) -> Any:
        return {"description": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _is_whole(self) -> TextField:
        if (self.type == "enum") != bool(self.values):
            raise ValueError("type: enum and values go together")
        if self.values and (len(set(self.values)) < len(self.values) or len(self.values) < 2):
            found = ", ".join(self.values)
            raise ValueError(f"values: expected two or more different ones, found {found}")
        if self.type != "string" and (self.in_register or self.role):
            raise ValueError(f"only strings have in_register or role, found type: {self.type}")
        if (self.turns is not None) != bool(self.speakers):
            raise ValueError("turns and speakers go together")
        if self.turns and (self.role or self.in_register or self.type != "string"):
            raise ValueError("of turns the speakers have role and in_register, and all are strings")
        return self

    def parts(self, name: str) -> Iterator[tuple[str, TextField]]:
        """The field itself under its name, or one for each of its turns."""
        if self.turns is None:
            yield name, self
            return
        speakers = list(self.speakers.items())
        for turn in range(self.turns):
            who, speaker = speakers[turn % len(speakers)]
            said = f"{turn + 1}番目の発言。話すのは{who}"
            update: dict[str, Any] = {
                "description": f"{said}。{self.description}" if self.description else said,
                "role": speaker.role,
                "in_register": speaker.in_register,
                "turns": None,
                "speakers": {},
            }
            yield f"{name}_{turn + 1}", self.model_copy(update=update)

    @property
    def json_type(self) -> dict[str, Any]:
        """JSON schema of its values."""
        kind = "integer" if self.type == "integer" else "string"
        found: dict[str, Any] = {"type": [kind, "null"] if self.optional else kind}
        if self.values:
            found["enum"] = [*self.values, None] if self.optional else list(self.values)
        return found

    def read(self, value: Any) -> tuple[str | int | None, str]:
        """What a model wrote as a value, and what is wrong with it, or nothing."""
        if value is None or (isinstance(value, str) and not value.strip(" .…・_\n")):
            return None, "" if self.optional else "is empty"
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None, f"is no text: {value!r:.40}"
        if self.type == "integer":
            try:
                number = float(value)
            except ValueError:
                number = 0.5
            whole = number.is_integer()
            return (int(number), "") if whole else (None, f"is no whole number: {value!r:.40}")
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if self.type == "string":
            return text, ""
        known = {folded(one): one for one in self.values}
        wrong = f"is none of {', '.join(self.values)}: '{text:.40}'"
        return known.get(folded(text)), "" if folded(text) in known else wrong


def folded(text: str) -> str:
    """The form in which what models write is compared with names: NFKC, in lower case."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def _expanded(fields: dict[str, TextField]) -> dict[str, TextField]:
    found: dict[str, TextField] = {}
    for given, field in fields.items():
        for name, part in field.parts(given):
            if not _NAME.fullmatch(name):
                raise ValueError(f"expected a name of letters, digits and _, found '{name}'")
            if name.casefold() in _TAKEN:
                raise ValueError(f"'{name}' is a column of every dataset; take another name")
            if name in found:
                raise ValueError(f"two fields are called '{name}'")
            found[name] = part
    return found


Fields = Annotated[dict[str, TextField], AfterValidator(_expanded)]


def _placeholders(template: str) -> list[str]:
    """The names in braces.

    Raises:
        ValueError: If there is anything but names in the braces.
    """
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError:
        parts = [("", "", "", "")]
    if not all(_NAME.fullmatch(str(name)) and not (form or how) for _, name, form, how in parts):
        raise ValueError(f"generation.text: expected names of fields in braces, found '{template}'")
    return [str(name) for _, name, _, _ in parts]


def check_text(text: str | None, fields: Mapping[str, TextField], register_miss: bool) -> None:
    """Checks what the classifier's text is made of.

    Args:
        text: Template with the names of fields in braces.
        fields: All of them.
        register_miss: Whether texts are held to the register asked for.

    Raises:
        ValueError: If the template names something else than fields of the first request, or
            nothing at all.
    """
    if not fields:
        if text is not None:
            raise ValueError("generation.text: expected generation.fields, which it names")
        return
    named = [next(iter(fields))] if text is None else _placeholders(text)
    if not named:
        raise ValueError(f"generation.text: expected a field in braces, found '{text}'")
    for name in named:
        if name not in fields:
            raise ValueError(
                f"generation.text names the field '{name}'{nearest(name, fields)}; expected one "
                f"of {', '.join(fields)}"
            )
        if fields[name].request > 1:
            raise ValueError(
                f"generation.text names '{name}', which is asked for later; expected fields of "
                "request: 1"
            )
        if fields[name].in_register and register_miss:
            raise ValueError(
                f"generation.text names '{name}', which has a register of its own; take fields "
                "without one, whose register is drawn from registers, or set "
                "curation.register_miss: ignore"
            )


class FieldSet(BaseModel, frozen=True):
    """The fields that one request asks for.

    Attributes:
        fields: Name to field.
        text: Template of the classifier's text; empty where a request asks for none.
        verbatim: Whether values keep their white space, as programs do; an answer then is the
            object with the fields itself.
    """

    fields: dict[str, TextField]
    text: str = ""
    verbatim: bool = False

    @classmethod
    def of(
        cls, fields: Mapping[str, TextField], text: str | None, request: int = 1
    ) -> FieldSet | None:
        """The fields of one request; None where there are none."""
        found = {name: field for name, field in fields.items() if field.request == request}
        if not found:
            return None
        first = text or "{" + next(iter(found)) + "}"
        return cls(fields=found, text=first if request == 1 else "")

    @property
    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of one text; what is optional may be null."""
        return {
            "type": "object",
            "properties": {name: field.json_type for name, field in self.fields.items()},
            "required": list(self.fields),
            "additionalProperties": False,
        }

    def read(self, record: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Reads one record.

        Returns:
            Name to value of what can be read, and the first thing that is wrong, or nothing.
        """
        given = {folded(name): value for name, value in record.items()}
        values: dict[str, Any] = {}
        wrong = ""
        for name, field in self.fields.items():
            value, why = field.read(given.get(folded(name)))
            if why:
                wrong = wrong or f"the field {name} {why}"
            else:
                values[name] = value
        return values, wrong

    def is_record(self, value: Any) -> bool:
        """Whether a JSON value is an object with any of the fields."""
        names = {folded(name) for name in self.fields}
        return isinstance(value, dict) and any(folded(str(key)) in names for key in value)

    def text_of(self, values: Mapping[str, Any]) -> str:
        """The classifier's text, without empty lines."""
        said = {name: values.get(name) for name in self.fields}
        return _tidy(self.text.format(**{k: "" if v is None else v for k, v in said.items()}))

    def edited(self, values: Mapping[str, Any], text: str, edited: str) -> dict[str, Any]:
        """The values of all fields after a person has edited the text.

        The fields that the text is made of take their parts of the edited one, those that are
        no part of it stay. Where the parts cannot be told, they are empty: no field says what
        the text does not.

        Args:
            values: Name to value as the text was made.
            text: The text made of them.
            edited: What became of it.
        """
        parts = re.compile(self._pattern, re.DOTALL)
        before, after = parts.fullmatch(text), parts.fullmatch(_tidy(edited))
        found = dict.fromkeys(parts.groupindex)
        if before and after and all(_tidy(str(values.get(k))) == before[k] for k in found):
            found |= {name: self.fields[name].read(after[name])[0] for name in found}
        return {**values, **found}

    @property
    def _pattern(self) -> str:
        """Regular expression of the text with a group for each field in it."""
        pattern, seen = "", set[str]()
        for literal, name, _, _ in Formatter().parse(self.text):
            pattern += re.escape(literal)
            if name:
                pattern += f"(?P={name})" if name in seen else f"(?P<{name}>.+?)"
                seen.add(name)
        return pattern


def _tidy(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def last_request(fields: Mapping[str, TextField]) -> int:
    """The number of the last request that asks for fields; 1 without any."""
    return max((field.request for field in fields.values()), default=1)
