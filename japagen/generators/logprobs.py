"""How likely a model found each of a few options, read from the log-probabilities of its tokens.

An answer names one option. At its first token the server lists what else could have stood there;
the mass of a listed token goes to the option that goes on so. Where several do (技術 and 技術部),
the token that was written is followed to the place where they part, and any other is shared
equally among them. Tokens are compared as bytes: many tokenizers cut a kanji in two.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_LISTED = 20  # OpenAI's own limit for chat turns
MOST_LISTED_OPENAI_COMPLETIONS = 5
_LEAST = 1e-6
_VALUE = re.compile(rb'"label"\s*:\s*"')


@dataclass(frozen=True, slots=True)
class _Place:
    """One token of an answer.

    Attributes:
        written: Its bytes.
        listed: Bytes and log-probability of what could have stood there, itself included.
    """

    written: bytes
    listed: tuple[tuple[bytes, float], ...]


def option_scores(
    choice: Mapping[str, Any], options: Sequence[str], *, in_json: bool
) -> tuple[float, ...]:
    """Log-probability of every option, or nothing where the answer does not tell.

    Args:
        choice: Of the reply: with ``logprobs`` as of the chat or of the completions API.
        options: What could be chosen.
        in_json: Whether the option stands in ``{"label": ...}`` or is all of the text.

    Returns:
        One figure an option. One that is not listed where it parts from the others gets the most
        that it can have there: as much as the least likely token that is, or what all of them
        leave.
    """
    places = _places(choice.get("logprobs"))
    text = b"".join(place.written for place in places)
    begin = 0
    if in_json:
        found = _VALUE.search(text)
        if found is None:
            return ()
        begin = found.end()
    while places and len(places[0].written) <= begin:
        begin -= len(places.pop(0).written)
    names = [_written(option, in_json) for option in options]
    mass, most = _masses(places, begin, names, strip=not in_json)
    if not any(mass):
        return ()
    return tuple(_log_sum(parts) if parts else most[k] for k, parts in enumerate(mass))


def _written(option: str, in_json: bool) -> bytes:
    return (json.dumps(option, ensure_ascii=False)[1:] if in_json else option).encode()


def _masses(
    places: Sequence[_Place], skip: int, names: Sequence[bytes], *, strip: bool
) -> tuple[list[list[float]], dict[int, float]]:
    """Log-probabilities whose sum is each name's, and the most that those unlisted can have.

    ``skip`` bytes of the first place come before the names.
    """
    mass: list[list[float]] = [[] for _ in names]
    most: dict[int, float] = {}
    rests = dict(enumerate(names))
    so_far = 0.0
    for place in places:
        own = _piece(place.written, place.written[:skip], strip)
        for token, score in place.listed:
            piece = _piece(token, place.written[:skip], strip)
            fitting = [k for k, rest in rests.items() if piece and _fits(rest, piece)]
            if token == place.written and len(fitting) > 1:
                continue  # the places behind it tell
            for k in fitting:
                mass[k].append(so_far + score - math.log(len(fitting)))
        going_on = {k: r[len(own or b"") :] for k, r in rests.items() if _fits(r, own or b"")}
        most |= dict.fromkeys(rests.keys() - going_on.keys(), so_far + _unlisted(place))
        rests = going_on
        so_far += dict(place.listed).get(place.written, 0.0)
        if len(rests) < 2:
            return mass, most
        skip, strip = 0, strip and not own
    ended = [k for k, rest in rests.items() if not rest] or list(rests)
    for k in ended:
        mass[k].append(so_far - math.log(len(ended)))
    # The text ended here: it is not told how likely it was to go on, only that this was less so.
    return mass, most | dict.fromkeys(rests, so_far - math.log(2))


def _unlisted(place: _Place) -> float:
    scores = [score for _, score in place.listed]
    left = 1.0 - sum(map(math.exp, scores))
    return min(*scores, math.log(max(left, _LEAST)))


def _piece(token: bytes, before: bytes, strip: bool) -> bytes | None:
    """What a token adds to the option; None if it does not begin with what comes before that."""
    if not token.startswith(before):
        return None
    piece = token[len(before) :]
    return piece.lstrip() if strip else piece


def _fits(rest: bytes, piece: bytes) -> bool:
    return rest.startswith(piece) or (bool(rest) and piece.startswith(rest))


def _log_sum(values: Sequence[float]) -> float:
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))


def _places(found: Any) -> list[_Place]:
    """The tokens of an answer in order; none where the server sent no usable list."""
    if not isinstance(found, dict):
        return []
    try:
        if isinstance(found.get("content"), list):
            return [
                _place(item, [(_bytes(top), float(top["logprob"])) for top in item["top_logprobs"]])
                for item in found["content"]
            ]
        columns = (found["tokens"], found["token_logprobs"], found["top_logprobs"])
        return [
            _place(
                {"token": token, "logprob": score},
                [(text.encode(), float(value)) for text, value in (listed or {}).items()],
            )
            for token, score, listed in zip(*columns, strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def _place(item: Mapping[str, Any], listed: Sequence[tuple[bytes, float]]) -> _Place:
    written = _bytes(item)
    others = [(token, score) for token, score in listed if token != written]
    return _Place(written, ((written, float(item["logprob"])), *others))


def _bytes(item: Mapping[str, Any]) -> bytes:
    given = item.get("bytes")
    return bytes(given) if given else str(item["token"]).encode()
