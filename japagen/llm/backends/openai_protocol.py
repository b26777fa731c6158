"""Requests to and replies from OpenAI-compatible servers."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from japagen.data.files import parse_json
from japagen.errors import JapagenError
from japagen.llm.answers import read_label
from japagen.llm.backend import Answer, Request, answer_format, prompt_texts

if TYPE_CHECKING:
    from japagen.llm.backends.openai_server import Endpoint, Server


@dataclass(eq=False)
class Failure(Exception):  # noqa: N818 - it is one attempt's outcome, not a fault of the program
    """Why an attempt brought no text.

    Attributes:
        reason: For the user, in one phrase.
        retry: ``later`` after the server has had a rest, ``again`` a few times, ``now``
            because the request has been changed, or ``never``.
        after: Seconds that the server asked to be left alone.
        reached: False when there was no connection at all.
        astray: True when it came from something that does not speak the API.
    """

    reason: str
    retry: Literal["later", "again", "now", "never"] = "never"
    after: float | None = None
    reached: bool = True
    astray: bool = False


@dataclass(slots=True)
class Usage:
    """Tokens that the attempts at one request have cost, by the server's own count."""

    prompt: int = 0
    completion: int = 0

    def add(self, reply: Any) -> int:
        """Adds what a reply reports, if it does, and returns its prompt tokens."""
        usage = reply.get("usage") if isinstance(reply, dict) else None
        counts = usage if isinstance(usage, dict) else {}
        found = [_count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens")]
        self.prompt += found[0]
        self.completion += found[1]
        return found[0]


_MOST_TOKENS = 10**9  # that one reply can have cost, whatever the server says


def _count(value: Any) -> int:
    return int(min(value, _MOST_TOKENS)) if isinstance(value, int | float) and value > 0 else 0


def prompt_of(request: Request, api: Api) -> dict[str, Any]:
    """Returns the part of the body that holds the prompt.

    Raises:
        JapagenError: If the prompt is of the other kind than the API takes.
    """
    if isinstance(request.prompt, str) != (api == "completions"):
        raise JapagenError(
            f"Expected {'a document' if api == 'completions' else 'chat turns'} for the "
            f"{api} API, found the other kind of prompt.",
            "Plan requests with this generator's info.prompt_kind.",
        )
    if isinstance(request.prompt, str):
        return {"prompt": request.prompt}
    return {"messages": [{"role": m.role, "content": m.content} for m in request.prompt]}


def options_of(request: Request, endpoint: Endpoint, refused: set[str]) -> dict[str, Any]:
    """Returns the part of the body that says how to answer.

    Args:
        request: What is asked.
        endpoint: Whom.
        refused: Options that this server has refused.
    """
    sampling = request.sampling
    options: dict[str, Any] = {
        "seed": request.seed,
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    if not endpoint.is_openai:
        options |= {"top_k": sampling.top_k, "min_p": sampling.min_p}
    if endpoint.api == "chat":
        # Not all of their models take bounds of a list; a short answer is made up for.
        counted = not endpoint.is_openai and endpoint.backend != "anthropic"
        options["response_format"] = answer_format(request, counted=counted)
        # OpenAI's newer models know the limit under this name alone, most other servers do not.
        if endpoint.is_openai or "max_tokens" in refused:
            options["max_completion_tokens"] = options.pop("max_tokens")
    if request.options and "logprobs" not in refused:
        openai_completions = endpoint.is_openai and endpoint.api == "completions"
        most = MOST_LISTED_OPENAI_COMPLETIONS if openai_completions else MOST_LISTED
        chat = {"logprobs": True, "top_logprobs": most}
        options |= chat if endpoint.api == "chat" else {"logprobs": most}
    left_out = refused | endpoint.omit
    options = {name: value for name, value in options.items() if name not in left_out}
    return options | endpoint.extra_body


def answer_of(reply: Any, request: Request, server: Server, usage: Usage) -> Answer:
    """Reads a reply, and takes note of the tokens that it counts.

    Raises:
        Failure: If there is no text in it.
    """
    endpoint = server.endpoint
    if tokens := usage.add(reply):
        server.characters += sum(map(len, prompt_texts(request.prompt)))
        server.tokens += tokens
    # Gateways send 200 for whatever the provider said.
    error = _error_of(reply)
    status = 401 if _ABOUT_KEY.search(_said(reply)) else error.get("code")
    if "choices" not in error and isinstance(status, int) and 400 <= status < 600:
        raise read_failure(status, {}, reply, endpoint)
    text, finish = read_reply(reply, endpoint.api)
    scores = read_scores(reply, text, request, endpoint.api)
    return Answer(request.id, text, finish, usage.prompt, usage.completion, scores=scores)


def failed_answer(
    request: Request, reason: str, usage: Usage | None = None, seconds: float = 0.0
) -> Answer:
    """The answer to a request that has none, with what the attempts have cost."""
    used = usage or Usage()
    return Answer(request.id, "", "error", used.prompt, used.completion, seconds, reason)


def read_scores(reply: Any, text: str, request: Request, api: Api) -> tuple[float, ...]:
    """How likely the model found each option; nothing without options or log-probabilities.

    Args:
        reply: A reply that `read_reply` has found a text in.
        text: That text.
        request: What was asked.
        api: Which API it answers.
    """
    # What names no option holds no token of one, but maybe of one that was only thought of.
    if not request.options or (api == "chat" and not read_label(text, request.options)):
        return ()
    return option_scores(reply["choices"][0], request.options, in_json=api == "chat")


def read_reply(reply: Any, api: Api) -> tuple[str, Literal["stop", "length"]]:
    """Returns the text of a reply and why it ended there.

    Args:
        reply: The decoded body of a 200 response.
        api: Which API it answers.

    Raises:
        Failure: If there is no text in it.
    """
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        said = _said(reply)
        astray = bool(_NO_SUCH_PATH.search(said))
        raise Failure(said or "the reply has no choices", "again", astray=astray)
    choice = choices[0]
    message = choice.get("message") if api == "chat" else choice
    message = message if isinstance(message, dict) else {}
    text = _joined(message.get("content" if api == "chat" else "text"))
    finish = str(choice.get("finish_reason") or "").lower()
    if finish == "error" or choice.get("error"):
        raise Failure(_said({"error": choice.get("error") or "the model failed"}), "again")
    if finish.startswith(_FILTERED):
        raise Failure("refused by the content filter")
    finish = "length" if finish in ("max_tokens", "model_length") else finish
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        raise Failure(f"refused by the model: {message['refusal']}")
    if not text.strip():
        if finish == "length":
            raise Failure(
                "the token limit came before any text (a model that thinks first needs a "
                "larger generation.max_tokens)"
            )
        for name in ("reasoning_content", "reasoning", "reasoning_details", "thinking"):
            if message.get(name):
                raise Failure(
                    f"the reply has no text, all of it went to {name}: turn thinking off "
                    "(generator.extra_body) or the server's reasoning parser"
                )
        raise Failure("the reply has no text", "again")
    return text, "length" if finish == "length" else "stop"


# OpenAI's word, and Gemini's, which servers in front of it hand on.
_FILTERED = ("content_filter", "safety", "prohibited_content", "blocklist", "recitation", "spii")


def _joined(content: Any) -> str:
    """The text of a message, which may be in parts; those that hold thoughts are left out."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [
        part.get("text") if isinstance(part, dict) else part
        for part in parts
        if not isinstance(part, dict)
        or (part.get("type", "text") in ("text", "output_text") and not part.get("thought"))
    ]
    return "".join(text for text in texts if isinstance(text, str))


def read_failure(status: int, headers: Mapping[str, str], body: Any, endpoint: Endpoint) -> Failure:
    """Says what an HTTP error means for the request.

    Raises:
        JapagenError: If it means that no request can work.
    """
    error = _error_of(body)
    said = endpoint.clean(_said(body) or f"HTTP {status}")
    reason = f"HTTP {status}: {said}"
    # A filtered prompt: Azure and OpenAI give a code, OpenRouter says so in words with 403.
    filtered = error.get("code") in ("content_filter", "content_policy_violation")
    if filtered or (status in (400, 403) and "flagged" in said):
        return Failure("refused by the content filter")
    if status in (401, 403) or (status == 400 and _ABOUT_KEY.search(said)):
        raise JapagenError(
            f"{endpoint.url} refuses the key in {endpoint.key_variable} ({reason}).",
            "Check the key, and that its account may use the model.",
        )
    if status == 404 or (status in (400, 422) and _ABOUT_MODEL.search(said)):
        raise JapagenError(
            f"{endpoint.url} does not know the model '{endpoint.model}' or the {endpoint.api} "
            f"API ({reason}).",
            "Check generator.model, and generator.base_url, which usually ends in /v1."
            if endpoint.backend == "openai"
            else "Check generator.model.",
        )
    # OpenAI answers 429 for an empty account too, and no waiting will fill it.
    if status == 402 or error.get("code") == "insufficient_quota":
        raise JapagenError(
            f"The account at {endpoint.url} has nothing left to spend ({reason}).",
            "Add credit, then run the same command again: what is answered is kept.",
        )
    if status in (408, 409, 425, 429) or status >= 500:
        return Failure(reason, "later", retry_after(headers, time.time()))
    return Failure(reason)


_ABOUT_KEY = re.compile(
    r"api[ _-]?key\W+(?:\w+\W+){0,3}(?:not valid|invalid|expired|missing)"
    r"|(?:invalid|incorrect|missing|wrong|expired|no)\W+api[ _-]?key|API_KEY_INVALID",
    re.IGNORECASE,
)
_ABOUT_MODEL = re.compile(
    r"\bmodel\b(?:[^.;]|\.\b){0,80}?\bnot (?:exist|found)|not a valid model|"
    r"\b(?:unknown|invalid|no such) model\b",
    re.IGNORECASE,
)
_NO_SUCH_PATH = re.compile(
    r"unexpected endpoint|no such (?:route|path|endpoint)|(?:route|path|page|endpoint|url) not "
    r"found|(?:unknown|invalid) (?:route|path|url|endpoint)|cannot (?:post|get)\b|^not found",
    re.IGNORECASE,
)
_NOT_TAKEN = re.compile(
    r"unsupported|not (?:yet )?(?:support|permitted|allowed|available|enabled|recogni[sz]ed|valid)"
    r"|(?:does|do)n?['o ]?t support|unrecogni[sz]ed|unknown|unexpected|extra|cannot find field"
    r"|deprecated|no such|only the default",
    re.IGNORECASE,
)
_ABOUT_FORMAT = re.compile(
    r"response_?(?:format|schema)|json_?schema|json (?:schema|mode)|structured output|grammar"
    r"|guided|additionalProperties|output[_ ]?(?:config|format)",
    re.IGNORECASE,
)


# Sent unasked, for the better: no value of theirs is the user's to correct.
_OWN = ("top_k", "min_p", "seed")


def refused_option(body: str, options: Mapping[str, Any], answered: bool) -> str | None:
    """Returns the option that a 400 or 422 is about, or None when it is about something else.

    A value out of range (a temperature of 3) is the user's to correct and not meant here.

    Args:
        body: The response.
        options: What was sent.
        answered: Whether this server has ever answered. If not, and it does not say what it
            refuses, the response format is the likeliest.
    """
    error, said = _error_of(body), _said(body)
    text = " ".join([str(error.get("code") or ""), str(error.get("param") or ""), said])
    if _ABOUT_KEY.search(said) or _ABOUT_MODEL.search(said):
        return None
    # They only help; so whatever it is that the server has against them, they are left out.
    if "logprobs" in options and "logprob" in text:
        return "logprobs"
    if "response_format" in options and _ABOUT_FORMAT.search(text):
        return "response_format"
    taken_off = [name for name in options if name in _OWN or _NOT_TAKEN.search(text)]
    if error.get("param") in taken_off:
        return str(error["param"])
    # The first one that is named: what comes behind may be the list of those that are taken.
    places = {name: re.search(rf"\b{name}\b", said, re.ASCII) for name in taken_off}
    named = {name: found.start() for name, found in places.items() if found}
    if named:
        return min(named, key=named.__getitem__)
    return "response_format" if "response_format" in options and not answered else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Returns the seconds that a server asks to wait (RFC 9110, 10.2.3), or None.

    Args:
        headers: Of the response, names in lower case or case-insensitive.
        now: Unix time.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return seconds if 0 < seconds < float("inf") else None
    try:
        at = email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return max(0.0, at - now) or None


def _decoded(body: Any) -> Any:
    if not isinstance(body, str):
        return body
    try:
        return parse_json(body)
    except ValueError:
        return None


def _error_of(body: Any) -> dict[str, Any]:
    """The error object: under ``error`` as OpenAI has it, or the body; Gemini's is in a list."""
    decoded = _decoded(body)
    if isinstance(decoded, list):
        decoded = next((one for one in decoded if isinstance(one, dict)), None)
    if not isinstance(decoded, dict):
        return {}
    inner = decoded.get("error", decoded)
    return inner if isinstance(inner, dict) else {"message": inner}


def _said(body: Any) -> str:
    """What a server says is wrong: its message where that is all, or else its whole answer."""
    decoded = _decoded(body)
    if decoded is None:
        return body.strip() if isinstance(body, str) else ""
    error = _error_of(decoded)
    # A gateway's own words say little; beside them stand the provider's.
    message = error.get("message") or error.get("detail")
    if isinstance(message, str) and message.strip() and "metadata" not in error:
        return message.strip()
    is_reply = isinstance(decoded, dict) and "choices" in decoded
    return "" if is_reply or not decoded else json.dumps(decoded, ensure_ascii=False)


Api = Literal["chat", "completions"]


def batch_line(request: Request, server: Server) -> str:
    """A request as a line of a batch: JSON with its id, where it goes, and the body."""
    endpoint = server.endpoint
    prompt, options = prompt_of(request, endpoint.api), server.options(request)
    body = {"model": endpoint.model, **prompt, **options}
    row = {"custom_id": request.id, "method": "POST", "url": endpoint.batch_url, "body": body}
    return json.dumps(row, ensure_ascii=False)


def read_batch_row(
    row: Mapping[str, Any], request: Request, server: Server, refused: set[str]
) -> Answer | None:
    """The answer in a row of a batch; None where an option is refused, and left out from now on.

    Args:
        row: Of an output or error file.
        request: What it is about.
        server: Who answered.
        refused: Options that this batch did without.
    """
    endpoint = server.endpoint
    response = row.get("response") or {}
    status, body = response.get("status_code"), response.get("body")
    usage = Usage()
    try:
        if status == 200:
            return answer_of(body, request, server, usage)
        error = row.get("error")
        error = error if isinstance(error, dict) else {}
        if not status:
            told = [str(error[name]) for name in ("code", "message") if error.get(name)]
            raise Failure(": ".join(told) or "the row has no response")
        # vLLM puts what was wrong beside the response.
        said = json.dumps(body or error, ensure_ascii=False)
        if server.drops(status, said, options_of(request, endpoint, refused)):
            return None
        raise read_failure(status, {}, said, endpoint)
    except (Failure, JapagenError) as failure:
        reason = failure.reason if isinstance(failure, Failure) else failure.message
    return failed_answer(request, endpoint.clean(reason), usage)


# How likely a model found each of a few options, read from the log-probabilities of its tokens.
#
# An answer names one option. At its first token the server lists what else could have stood there;
# the mass of a listed token goes to the option that goes on so. Where several do (技術 and 技術部),
# the token that was written is followed to the place where they part, and any other is shared
# equally among them. Tokens are compared as bytes: many tokenizers cut a kanji in two.

MOST_LISTED = 20  # OpenAI's own limit for chat turns
MOST_LISTED_OPENAI_COMPLETIONS = 5
_LEAST = 1e-6
_VALUE = re.compile(rb'"label"\s*:\s*"')


# A token that was written, and bytes and log-probability of what could have stood there, itself
# included.
_Place = tuple[bytes, list[tuple[bytes, float]]]


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
    text = b"".join(written for written, _ in places)
    quoted = [json.dumps(option, ensure_ascii=False)[1:] for option in options]
    names = [name.encode() for name in (quoted if in_json else options)]
    begin = 0
    if in_json:
        found = list(_VALUE.finditer(text))
        if not found:
            return ()
        # Models draft before they answer, and quote the form behind it.
        named = [m for m in found if any(text.startswith(n, m.end()) for n in names)]
        begin = (named or found)[-1].end()
    while places and len(places[0][0]) <= begin:
        begin -= len(places.pop(0)[0])
    mass, most = _masses(places, begin, names, strip=not in_json)
    if not any(mass):
        return ()
    return tuple(
        float(np.logaddexp.reduce(parts)) if parts else most[k] for k, parts in enumerate(mass)
    )


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
    for written, listed in places:
        own = _piece(written, written[:skip], strip)
        for token, score in listed:
            piece = _piece(token, written[:skip], strip)
            fitting = [k for k, rest in rests.items() if piece and _fits(rest, piece)]
            if token == written and len(fitting) > 1:
                continue  # the places behind it tell
            for k in fitting:
                mass[k].append(so_far + score - math.log(len(fitting)))
        going_on = {k: r[len(own or b"") :] for k, r in rests.items() if _fits(r, own or b"")}
        most |= dict.fromkeys(rests.keys() - going_on.keys(), so_far + _unlisted(listed))
        rests = going_on
        so_far += dict(listed).get(written, 0.0)
        if len(rests) < 2:
            return mass, most
        skip, strip = 0, strip and not own
    ended = [k for k, rest in rests.items() if not rest] or list(rests)
    for k in ended:
        mass[k].append(so_far - math.log(len(ended)))
    # The text ended here: it is not told how likely it was to go on, only that this was less so.
    return mass, most | dict.fromkeys(rests, so_far - math.log(2))


def _unlisted(listed: Sequence[tuple[bytes, float]]) -> float:
    """The most that a token can have that is not listed."""
    scores = [score for _, score in listed]
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


def _places(found: Any) -> list[_Place]:
    """The tokens of an answer in order; none where the server sent no usable list."""
    if not isinstance(found, dict):
        return []
    try:
        if isinstance(found.get("content"), list):
            return [
                _place(item, [(_bytes(top), top["logprob"]) for top in item["top_logprobs"]])
                for item in found["content"]
            ]
        columns = (found["tokens"], found["token_logprobs"], found["top_logprobs"])
        return [
            _place(
                {"token": token, "logprob": score},
                [(text.encode(), value) for text, value in (listed or {}).items()],
            )
            for token, score, listed in zip(*columns, strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return []


def _place(item: Mapping[str, Any], listed: Sequence[tuple[bytes, Any]]) -> _Place:
    written, own = _bytes(item), float(item["logprob"])
    others = [(token, float(score)) for token, score in listed if token != written]
    if not math.isfinite(own):
        raise ValueError("the token that was written cannot have been impossible")
    # Rounding makes a little more than certain; what is impossible is as good as not listed.
    likely = [(token, min(score, 0.0)) for token, score in others if math.isfinite(score)]
    return written, [(written, min(own, 0.0)), *likely]


def _bytes(item: Mapping[str, Any]) -> bytes:
    given = item.get("bytes")
    return bytes(given) if isinstance(given, list) and given else str(item["token"]).encode()
