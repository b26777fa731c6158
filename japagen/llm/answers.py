"""What a model's answer says: thoughts taken off, JSON decoded, texts and labels taken out.

Every caller reads answers here. An answer is walked through once from the front, so that whatever
stands inside a JSON string is part of that string: a brace, a fence or a tag in a text is text.
What a model writes beside the object it was asked for does not count. Of several objects that are
of the kind asked for, the last one does, since models draft before they answer.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from japagen.config.fields import FieldSet, folded
from japagen.data.dataset import Rejection
from japagen.data.files import encodable
from japagen.llm.backend import Answer, Request

UNREADABLE = "unreadable"
_BULLET = re.compile(r"^(?:[-*・•●]|\d{1,3}[.)．、]|[①-⑳])\s*")

# How models mark thoughts: DeepSeek, Qwen and others <think>, Mistral [THINK], Kimi ◁think▷, Cohere
# <|START_THINKING|>, Open WebUI <details type="reasoning">, gpt-oss channels, of which servers may
# leave the bare words, Gemma <|channel>thought…<channel|>, Granite sentences.
_NAME = (
    r"(?:\w+:)?(?:think(?:ing)?|thoughts?|thought_?process|reason(?:ing)?|reflection|reflect|"
    r"scratch_?pad|analysis|(?:inner_?|internal_?)?monologue|antthinking|"
    r"chain_?of_?thought|cot|思考(?:過程)?)"
)
_OPENING = (
    rf"[<＜]\|?\s*{_NAME}(?:\s[^<>＜＞]*)?(?<!/)\|?[>＞]|\[{_NAME}\]|◁{_NAME}▷"
    r"|<\|(?:begin_of_thought|start_thinking)\|>|<details\s+type=[^<>]*>|<unused94>"
    r"|<\|channel>\s*(?:thought|analysis)|Here(?: is|'s) my thought process:"
    r"|^\s*(?-i:analysis(?=[A-Z]|[^\x00-\x7f：]))"
)
_CLOSING = (
    rf"[<＜]\|?\s*[/／]\s*{_NAME}\s*\|?[>＞]|\[[/／]{_NAME}\]|◁[/／]{_NAME}▷"
    r"|<\|(?:end_of_thought|end_thinking)\|>|</details>|<unused95>|<channel\|>"
    r"|Here(?: is|'s) my response:|assistantfinal"
)
_CHANNEL = r"<\|channel\|>\s*(?P<name>\w*)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
_QUOTES = {
    '"': '"', "＂": "＂", "“": "”“\"", "”": "”“\"", "'": "'", "‘": "’‘'", "「": "」", "『": "』"
}  # fmt: skip
_QUOTE = f"[{''.join(_QUOTES)}]"
_COMMENT = r"(?:(?://|#)[^\n]{0,300}|/\*(?s:.{0,300}?)\*/)"
_VALUE = (
    rf"[{{｛](?=\s*(?:{_COMMENT}\s*)?(?:{_QUOTE}|[}}｝]|[A-Za-z_]\w*\s*[:：]))"
    rf"|[\[［](?=\s*(?:{_COMMENT}\s*)?(?:{_QUOTE}|[{{｛\[［\]］]))"
)
_ESCAPED = r'[{\[](?=(?:\s|\\n)*\\")'  # in an object that is written as a string
_MARK = re.compile(
    f"(?P<opening>{_OPENING})|(?P<closing>{_CLOSING})|(?P<channel>{_CHANNEL})|(?P<value>{_VALUE})"
    f"|(?P<escaped>{_ESCAPED})",
    re.IGNORECASE,
)
_CLOSED = re.compile(_CLOSING, re.IGNORECASE)
_CHANNEL_END = re.compile(r"(?=<\|(?:end|start|channel|return|call)\|>)|\Z")
# Markup of chat templates, of fences, and tags that wrap an answer.
_MARKUP = re.compile(r"<\|[^<>|]*\|>|```\w*|</?[A-Za-z][\w:-]{0,30}>|\\(?:boxed|text)\b")
# How far behind its beginning all JSON of an answer is looked at, in lengths of the answer: one
# of nothing but brackets would else be looked at from each of them.
_MOST_PASSES = 4


@dataclass(slots=True)
class Said:
    """What an answer holds beside its thoughts.

    Attributes:
        text: All of it outside JSON, without markup.
        values: The JSON values in it, in order.
        cut: The value at the end that is not closed, as far as it goes; None where all are.
        rest: The string in which that ends; None where it ends between two.
    """

    text: str = ""
    values: list[Any] = field(default_factory=list)
    cut: Any = None
    rest: str | None = None


def decode(text: str) -> Said:
    """Takes thoughts off an answer and decodes the JSON values in the rest."""
    said, outside = Said(), list[str]()
    text, at = encodable(text), 0
    left = _MOST_PASSES * len(text) + 50_000
    while found := _MARK.search(text, at):
        outside.append(text[at : found.start()])
        at, kind = found.end(), found.lastgroup
        if kind == "closing" or (kind == "channel" and found["name"].lower() == "final"):
            said, outside = Said(), []
        elif kind == "opening":
            closed = _CLOSED.search(text, at)
            at, outside = closed.end() if closed else len(text), []
        elif kind == "escaped":
            inside = decode(_BACKSLASH.sub(_unescaped, text[found.start() :]))
            said.values, said.cut, said.rest = said.values + inside.values, inside.cut, inside.rest
            at = len(text)
        elif kind == "channel":
            ended = _CHANNEL_END.search(text, at)
            at = ended.end() if ended else len(text)
        elif left > 0:
            value, end = _decoded(text, found.start())
            left -= (end if end > at else len(text)) - found.start()
            if isinstance(value, Said):
                said.cut, said.rest, at = value.cut, value.rest, end
            elif value is not None:
                said.values.append(value)
                at = end
            else:
                outside.append(found.group())
    outside.append(text[at:])
    said.text = _MARKUP.sub("", "".join(outside)).strip().removeprefix("\ufeff").strip()
    return said


_BACKSLASH = re.compile(r"\\(.)", re.DOTALL)


def _unescaped(found: re.Match[str]) -> str:
    return "\\u" if found[1] == "u" else _ESCAPES.get(found[1], found[1])


_STRICT = json.JSONDecoder(strict=False, parse_int=float)  # float: no number has too many digits


def _decoded(text: str, at: int) -> tuple[Any, int]:
    """The value that begins at a place, and where it ends.

    Returns:
        None as the value where there is none; a `Said` with nothing but its cut where it is cut.
    """
    try:
        return _STRICT.raw_decode(text, at)
    except (ValueError, RecursionError):
        return _mended(text, at)


_ASCII = str.maketrans("｛｝［］：，、", "{}[]:,,")
_BARE = re.compile(r"[^\s\"'“”＂‘’「」『』{}\[\]｛｝［］:：,，、]+")
_NAMES = {"True": "true", "False": "false", "None": "null"}
_COMMENTED = re.compile(_COMMENT)
# What may follow the end of a string: a quotation mark before anything else is part of the text.
_BEHIND = re.compile(
    r"\s*\n\s*[\"“{]|[\s\u3000]*(?:\Z|[:：}\]｝］]|[,，、]?\s+(?:(?://|#)[^\n\"]*\n|/\*)"
    r"|[,，、]\s*(?:\Z|[\"'“”＂‘「『{\[｛［}\]｝］]|[-\w]+\s*[:：]|[-\d.…]+\s*[,\]}]))",
    re.ASCII,
)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_CODE = re.compile(r"u([0-9a-fA-F]{4})")


def _mended(text: str, at: int) -> tuple[Any, int]:
    """As `_decoded`, for JSON as models write it.

    Commas before a bracket, raw control characters, quotation marks inside a string, full-width
    and curly punctuation, single quotes and names without quotes do no harm.
    """
    tokens: list[str] = []
    open_: list[str] = []
    rest: str | None = None
    while at < len(text):
        sign = text[at].translate(_ASCII)
        if sign in _QUOTES:
            string, at, closed = _string(text, at)
            _separate(tokens)
            tokens.append(json.dumps(string))
            if not closed:
                rest = string
            if not open_:
                return (string if closed else None), at
            continue
        if sign.isspace() or sign == "\ufeff":
            at += 1
            continue
        if comment := _COMMENTED.match(text, at):
            at = comment.end()
            continue
        if sign in "{[":
            _separate(tokens)
            open_.append("}" if sign == "{" else "]")
        elif sign in "}]":
            if sign not in open_:
                return None, at
            if tokens[-1] == ",":
                tokens.pop()
            while (closer := open_.pop()) != sign:  # a model forgot that one
                tokens.append(closer)
        elif sign not in ":,":
            word = _BARE.match(text, at)
            if word is None:  # a closing quotation mark that nothing opened
                return None, at
            at = word.end()
            if _BEHIND_NAME.match(text, at):
                tokens.append(json.dumps(word[0]))
            elif word[0].strip(".…"):  # else what stands for more of them
                tokens.append(_scalar(word[0]))
            continue
        tokens.append(sign)
        at += 1
        if not open_:
            return _loaded("".join(tokens)), at
    if open_[-1] == "}" and tokens[-1].startswith('"') and tokens[-2] in ("{", ","):
        tokens.pop()  # a name without a value
        rest = None
    end = "null" if tokens[-1] == ":" else ""
    value = _loaded("".join(tokens).rstrip(",") + end + "".join(reversed(open_)))
    return (None if value is None else Said(cut=value, rest=rest)), at


def _scalar(word: str) -> str:
    """A value without quotation marks; what no JSON has, such as a date or +1, says nothing."""
    word = _NAMES.get(word, word)
    return word if _loaded(word) is not None or not word.isascii() else "null"


def _separate(tokens: list[str]) -> None:
    """Puts the comma that a model forgot between two values."""
    if tokens and tokens[-1] not in ("{", "[", ":", ","):
        tokens.append(",")


_BEHIND_NAME = re.compile(r"\s*[:：]")


def _string(text: str, at: int) -> tuple[str, int, bool]:
    """A string that begins at a quotation mark, where it ends, and whether it is closed."""
    closers, found = _QUOTES[text[at]], list[str]()
    if text.startswith('"""', at) and (end := text.find('"""', at + 3)) > 0:
        return text[at + 3 : end], end + 3, True
    at += 1
    while at < len(text):
        sign = text[at]
        if sign in closers and _BEHIND.match(text, at + 1):
            return _paired(found), at + 1, True
        if sign == "\\":
            at += 1
            if code := _CODE.match(text, at):
                found.append(chr(int(code[1], 16)))
                at = code.end()
                continue
            sign = text[at : at + 1]
            sign = _ESCAPES.get(sign, sign)
        found.append(sign)
        at += 1
    return _paired(found), at, False


def _paired(signs: Sequence[str]) -> str:
    """Joins characters, and the halves of those that JSON writes in two."""
    return "".join(signs).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _loaded(text: str) -> Any:
    try:
        return _STRICT.decode(text)
    except (ValueError, RecursionError):
        return None


_DEEPEST = 6  # objects inside objects in which what was asked for is looked for


def _opened(value: Any) -> Any:
    """A value, or the one that a string of JSON holds."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    said = decode(value)
    return value if said.text or not said.values else said.values[-1]


def _member(value: Any, name: str, depth: int = _DEEPEST) -> Any:
    """What stands under a name in an object, or else in the last one inside that has the name."""
    value = _opened(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            if folded(key) == name:
                # {"text": {"text": …}}
                nested = depth and isinstance(inner, dict)
                within = _member(inner, name, depth - 1) if nested else None
                return inner if within is None else within
        value = list(value.values())
    if not isinstance(value, list) or not depth:
        return None
    found = (_member(inner, name, depth - 1) for inner in reversed(value))
    return next((inner for inner in found if inner is not None), None)


def _is_said(text: str) -> bool:
    """Whether a text is more than the dots of the form that the model was shown."""
    return bool(text.strip(" .…・_"))


def _text_of(value: Any) -> str:
    """The text of an object asked for as ``{"text": …}``, on one line; empty without one."""
    for one in reversed(value if isinstance(value, list) else [value]):
        text = _only(_member(one, "text"))
        if isinstance(text, str) and _is_said(line := one_line(text)):
            return line
    return ""


def _only(value: Any) -> Any:
    """What a list, object or string of JSON holds that holds one value alone, or the value."""
    value = _opened(value)
    for _ in range(_DEEPEST):
        if not isinstance(value, list | dict) or len(value) != 1:
            break
        value = _opened(next(iter(value.values() if isinstance(value, dict) else value)))
    return value


def _texts_of(value: Any) -> list[str]:
    """The texts of an object asked for as ``{"texts": […]}``, or of the list alone."""
    texts = value if isinstance(value, list) else _opened(_member(value, "texts"))
    if texts is None and isinstance(value, dict):
        inner = _member(value, "text")
        numbered = [value[name] for name in value if _NUMBERED.fullmatch(name)]
        texts = inner if isinstance(inner, list) else numbered
    if isinstance(texts, dict):
        texts = list(texts.values())
    if not isinstance(texts, list):
        texts = [texts]
    texts = [t[0] if isinstance(t, list) and len(t) == 1 else t for t in texts]
    found = [one_line(t) if isinstance(t, str) else _text_of(t) for t in texts]
    return list(filter(_is_said, found))


_NUMBERED = re.compile(r"(?:texts?)?[ _-]?\d{1,3}", re.IGNORECASE)
# text: …, as YAML has it, or without the braces.
_NAMED = re.compile(
    r"\W{0,2}text[\"'*]{0,3}\s*[:：]\s*(?:[|>]-?\s*\n\s*)?([\"'`「]?)(.+?)[\"'`」]?\s{0,9}}?",
    re.IGNORECASE,
)


def read_answer(request: Request, answer: Answer) -> tuple[str, Rejection | None]:
    """Takes the text out of an answer: one line of a document, or a JSON object's ``text``.

    Returns:
        The text on one line, and why it cannot be used as it is (None when it can).
    """
    if isinstance(request.prompt, str):
        line = _clean_line(answer.text)
        return line, _cut(request, answer) if answer.finish == "length" else None
    said = decode(answer.text)
    partial = _text_of(said.cut) or one_line(said.rest or "")
    whole = [text for value in said.values if (text := _text_of(value))]
    if not (whole or said.text):
        whole = [texts[0] for value in said.values if len(texts := _texts_of(value)) == 1]
    if answer.finish == "stop" and not said.values and (named := _NAMED.fullmatch(said.text)):
        whole.append(one_line(named[2]))
    if whole and not (partial and answer.finish == "length"):
        return whole[-1], None
    if said.cut is not None or answer.finish == "length":
        return partial or one_line(said.text), _cut(request, answer)
    return one_line(answer.text), _unreadable("no JSON object with a text")


def read_texts(request: Request, answer: Answer) -> list[tuple[str, Rejection | None]]:
    """Takes all texts out of an answer; no more than were asked for.

    A list that was cut off gives the texts before the cut, and what there is of the next one as
    a rejected text. What a list is short of is not in it.

    Returns:
        One or more texts, each on one line, with why it cannot be used as it is.
    """
    if request.fields:
        read = read_records(request, answer)
        return [(request.fields.text_of(values), rejected) for values, rejected in read]
    if not request.each:
        return [read_answer(request, answer)]
    said = decode(answer.text)
    lists = [texts for value in said.values if (texts := _texts_of(value))]
    singles = [text for value in said.values if (text := _text_of(value))]
    cut, partial = _texts_of(said.cut) or [_text_of(said.cut)], one_line(said.rest or "")
    if partial and cut[-1] == partial:
        cut.pop()
    # An answer that ends in the middle of its list was not to end with an earlier one.
    texts = [*filter(None, cut)] or (lists[-1] if lists else [])
    if len(texts) < 2 and len(singles) > len(texts):  # an object for each
        texts = [*singles, *(text for text in texts if text not in singles)]
    if not said.values and answer.finish == "stop":
        items = [line for line in said.text.splitlines() if _BULLET.match(line.strip())]
        if len(items) == request.texts:
            texts = list(filter(None, map(_clean_line, items)))
    found: list[tuple[str, Rejection | None]] = [(text, None) for text in texts]
    if partial or (not found and (said.cut is not None or answer.finish == "length")):
        found.append((partial or one_line(said.text), _cut(request, answer)))
    if not found:
        return [(one_line(answer.text), _unreadable("no JSON object with texts"))]
    return found[: request.texts]


def read_records(request: Request, answer: Answer) -> list[tuple[dict[str, Any], Rejection | None]]:
    """Takes the fields of all texts out of an answer; no more than were asked for.

    Returns:
        One or more records, name to value, with why one cannot be used as it is. What is cut off,
        and what a list is short of, is as in `read_texts`.
    """
    asked = request.fields
    assert asked is not None
    said = decode(answer.text)
    groups = [group for value in said.values if (group := _records(value, asked))]
    cut = _records(said.cut, asked)
    last = cut.pop() if cut else None
    if last is not None and said.rest is None and not asked.read(last)[1]:
        cut, last = [*cut, last], None
    records = cut or (groups[-1] if groups else [])
    if request.each and last is None and len(records) < 2:  # an object for each
        records = [record for group in [*groups, *([cut] if cut else [])] for record in group]
    found: list[tuple[dict[str, Any], Rejection | None]] = []
    for record in records if request.each else records[-1:]:
        values, wrong = asked.read(record)
        found.append((values, _unreadable(wrong) if wrong else None))
    if last is not None and (request.each or not found):
        found.append((asked.read(last)[0], _cut(request, answer)))
    if not found:
        at_limit = said.cut is not None or answer.finish == "length"
        names = ", ".join(asked.fields)
        lacking = _unreadable(f"no JSON object with {names}")
        return [({}, _cut(request, answer) if at_limit else lacking)]
    found = found[: max(1, request.texts)]
    return found if asked.verbatim else [(_lines(values), why) for values, why in found]


def _records(value: Any, asked: FieldSet, depth: int = _DEEPEST) -> list[dict[str, Any]]:
    """The objects with the fields asked for in a value, in order."""
    value = _opened(value)
    if asked.is_record(value):
        return [value]
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or not depth:
        return []
    return [record for one in inner for record in _records(one, asked, depth - 1)]


def _lines(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values whose texts are clean, with their line breaks; no two empty lines follow."""

    def clean(text: str) -> str:
        lines = "\n".join(map(one_line, text.splitlines()))
        return re.sub(r"\n{3,}", "\n\n", lines).strip()

    return {name: clean(v) if isinstance(v, str) else v for name, v in values.items()}


def read_label(text: str, labels: Sequence[str]) -> str:
    """The label that an answer names, as an object or alone; empty where it names none."""
    said, known = decode(text), _names_of(tuple(labels))
    # The end of an object says nothing about a name that is whole.
    last = [said.cut] if said.rest is None else []
    found = list[str]()
    for value in [*said.values, *last]:
        named = _member(value, "label")
        found.append(_label(_word(_only(value if named is None else named)), known))
    if any(found):
        return next(filter(None, reversed(found)))
    if label := _label(text, known):
        return label
    if said.values or said.cut is not None:
        return ""
    alone = {_label(part, known) for line in said.text.split("\n") for part in _parts(line)} - {""}
    return alone.pop() if len(alone) == 1 else ""


_SCORE = re.compile(r"\s*([1-5](?:\.\d{1,9})?)\s*(?:/\s*5|点)?\s*")


def read_scores(text: str, criteria: Sequence[str]) -> dict[str, float]:
    """What an answer gives each criterion, 1 to 5; empty unless it gives something to all."""
    said = decode(text)
    for value in reversed([*said.values, said.cut]):
        found = {name: _score(_member(value, folded(name))) for name in criteria}
        scores = {name: score for name, score in found.items() if score is not None}
        if len(scores) == len(found):
            return scores
    return {}


def _score(value: Any) -> float | None:
    """A score as models write it: 4, "４", "4/5", or an object with a reason beside it."""
    inner = _member(value, "score") if isinstance(value, dict) else value
    found = _SCORE.fullmatch(unicodedata.normalize("NFKC", _word(_only(inner))))
    score = float(found[1]) if found else 0.0
    return score if 1 <= score <= 5 else None


def _parts(line: str) -> list[str]:
    """Where a label may stand in a line: all of it, or behind ラベル： or 答えは."""
    stated = re.sub(r"(?:です|である|だ|[にと]なります)[。.]?\s*$", "", line)
    return [line, re.split("[:：=＝]", line)[-1], re.split("[:：=＝は]", stated)[-1]]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    return f"{value:.15g}" if isinstance(value, int | float) else str(value)


@functools.lru_cache(maxsize=8)
def _names_of(labels: tuple[str, ...]) -> dict[str, str]:
    """The ways of writing each label; nothing for one that may be two of them."""
    names = dict[str, str]()
    for label in labels:
        names[_key(label)] = "" if _key(label) in names else label
    return names | {"": ""} | {folded(label): label for label in labels}


def _label(text: str, known: Mapping[str, str]) -> str:
    return known.get(folded(text)) or known.get(_key(text), "")


def _key(text: str) -> str:
    """What two ways of writing a label have in common: not what models put round it."""
    return folded(_BULLET.sub("", text.strip())).strip(" \n「」『』【】[](){}<>\"'`*#。.!→➡-")


def why_unreadable(request: Request, answer: Answer) -> str:
    """Why an answer should be asked for again: it is whole, and not of the form asked for.

    Returns:
        The reason, or nothing where it can be read, where it is an error, or where it was cut off
        by the limit, at which another one would be too.
    """
    if answer.finish != "stop" or isinstance(request.prompt, str):
        return ""
    if request.criteria:
        return "" if read_scores(answer.text, request.criteria) else "not a score for each"
    if request.options:
        named = len(answer.scores) == len(request.options) or read_label(
            answer.text, request.options
        )
        return "" if named else "none of the labels"
    rejected = [rejected for _, rejected in read_texts(request, answer)]
    return "" if rejected[0] is None else rejected[0].detail


def why_unusable(request: Request, answer: Answer) -> str:
    """Name of what no text of an answer passes, ``unreadable`` or ``truncated``; empty if one does.

    What an answer names a label or scores for is used wherever these can be read.
    """
    if request.options or request.criteria:
        return UNREADABLE if why_unreadable(request, answer) else ""
    rejected = [rejected for _, rejected in read_texts(request, answer)]
    return "" if None in rejected or rejected[0] is None else rejected[0].filter


def _unreadable(why: str) -> Rejection:
    return Rejection(UNREADABLE, 1, 0, why)


def _cut(request: Request, answer: Answer) -> Rejection:
    limit, at_limit = request.sampling.max_tokens, answer.finish == "length"
    why = "cut off at the token limit" if at_limit else "the JSON is not closed"
    return Rejection("truncated", answer.completion_tokens, limit, why)


_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


def one_line(text: str) -> str:
    """Returns ``text`` with every run of white space as one space, without control characters."""
    return " ".join(_CONTROL.sub("", encodable(text)).split())


def _clean_line(text: str) -> str:
    """Takes one list item out of a continued document."""
    line = _BULLET.sub("", text.strip().split("\n", 1)[0].strip())
    if len(line) > 1 and line[0] == "「" and line[-1] == "」" and "「" not in line[1:]:
        line = line[1:-1]
    return one_line(line)
