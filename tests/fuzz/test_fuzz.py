"""Whatever comes from a model, a server or a file is read, or refused in one sentence.

``make fuzz`` tries 100,000 inputs; among the other tests each reader gets a few.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from japagen.config.generation import GeneratorSettings
from japagen.data.dataset import Dataset, Example
from japagen.data.files import parse_json, read_json
from japagen.data.formats import load_dataset, read_examples, read_texts, write_examples
from japagen.errors import DamagedError, JapagenError
from japagen.generation.planner import to_dataset
from japagen.japanese.registers import Register
from japagen.llm import answers
from japagen.llm.backend import Answer, Message, Request, Sampling
from japagen.llm.backends import openai_protocol
from japagen.llm.backends.openai_protocol import Failure, Usage
from japagen.llm.backends.openai_server import Endpoint
from japagen.llm.client import run_requests
from japagen.llm.ledger import Ledger
from tests.scripted import ScriptedGenerator

_READERS = 8
EXAMPLES = int(os.environ.get("JAPAGEN_FUZZ", "400")) // _READERS
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
LABELS = ("配送", "返品")
SETTINGS = GeneratorSettings(backend="openai", model="m", api_key_env="NO_API_KEY")
ENDPOINT = Endpoint(SETTINGS, "http://127.0.0.1:1/v1")

# All characters, halves of surrogate pairs, NUL and other control characters among them.
odd_text = st.text(st.characters(exclude_categories=()), max_size=40)
_SIGNS = [*"{}[]\"',:、：｛“”「」\n\r\ufeff\\"]
_WORDS = [
    "null",
    "true",
    "1e999",
    "-1",
    "NaN",
    "text",
    "texts",
    "label",
    "配送",
    "荷物が届きません。",
]
_MARKS = ["```", "<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>final<|message|>"]
_STARTS = [
    '{"text": "',
    '{"texts": ["',
    '{"label": "',
    "\\ud83d",
    "\\u0000",
    "[" * 1200,
    "9" * 5000,
]
pieces = st.sampled_from([*_SIGNS, *_WORDS, *_MARKS, *_STARTS])
broken = st.lists(pieces | odd_text, max_size=12).map("".join)
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**30), 2**63])
values = st.recursive(
    st.none() | st.booleans() | numbers | odd_text,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            odd_text | st.sampled_from(["text", "label", "message"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def request(number: int = 0, options: tuple[str, ...] = ()) -> Request:
    each = tuple(() for _ in range(number))
    turns = (Message("user", "書いてください。"),)
    how: dict[str, Any] = {"each": each, "options": options}
    return Request(f"r{number}", turns, Sampling(), 0, "配送", Register(), "t", **how)


ASKED = [request(), request(3), request(options=LABELS)]


@fuzz
@given(broken | values.map(lambda v: json.dumps(v)), st.sampled_from(["stop", "length"]))
def test_answers(text: str, finish: Any) -> None:
    for asked in ASKED:
        answer = Answer(asked.id, text, finish)
        assert answers.why_unusable(asked, answer) in ("", "unreadable", "truncated")
        for line, _ in answers.read_texts(asked, answer):
            assert line == " ".join(line.split())
            line.encode()
    assert answers.read_label(text, LABELS) in ("", *LABELS)


@fuzz
@given(st.lists(broken, min_size=2, max_size=2))
def test_no_answer_makes_a_run_directory_useless(texts: list[str]) -> None:
    asked = [request(n) for n in range(2)]
    said = dict(zip((r.id for r in asked), texts, strict=True))
    good = ScriptedGenerator(
        lambda r: '{"texts": ["届きません。"], "text": "届きません。"}', "chat"
    )
    with closing(Ledger(":memory:")) as ledger:
        odd = ScriptedGenerator(lambda r: said[r.id], "chat")
        found = run_requests(asked, odd, ledger)
        Dataset.of(to_dataset(asked, found, {}, "m"))
        found = run_requests(asked, good, ledger)
        assert not any(answers.why_unreadable(r, found[r.id]) for r in asked)


def _reply() -> st.SearchStrategy[Any]:
    names = "choices message content usage logprobs error detail tokens token_logprobs"
    more = "top_logprobs logprob bytes token text"
    parts = st.sampled_from([*names.split(), *more.split()])
    body = st.recursive(
        values,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(parts, inner, max_size=5)
            | st.fixed_dictionaries({"choices": st.lists(inner, max_size=2)})
        ),
        max_leaves=15,
    )
    return body | st.fixed_dictionaries(
        {
            "choices": st.lists(
                st.fixed_dictionaries({"message": body, "logprobs": body, "text": broken}),
                min_size=1,
                max_size=1,
            ),
            "usage": body,
        }
    )


@fuzz
@given(_reply())
def test_replies(reply: Any) -> None:
    usage = Usage()
    usage.add(reply)
    assert 0 <= usage.prompt < 2**62 > usage.completion >= 0
    for api in ("chat", "completions"):
        with suppress(Failure):
            text, _ = openai_protocol.read_reply(reply, api)
            scores = openai_protocol.read_scores(reply, text, ASKED[2], api)
            assert len(scores) in (0, len(LABELS))


@fuzz
@given(values.map(lambda v: json.dumps(v)) | broken, st.integers(400, 599), odd_text)
def test_refusals(body: str, status: int, header: str) -> None:
    options = {"top_k": 1, "response_format": {}, "logprobs": True}
    assert openai_protocol.refused_option(body, options, True) in (None, *options)
    with suppress(JapagenError):
        failure = openai_protocol.read_failure(status, {"retry-after": header}, body, ENDPOINT)
        ENDPOINT.clean(failure.reason).encode()


@fuzz
@given(broken)
def test_json(text: str) -> None:
    with suppress(ValueError):
        json.dumps(parse_json(text), ensure_ascii=False).encode()


def _read(name: str, raw: bytes, read: Callable[[Path], Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_bytes(raw)
        found = None
        with suppress(JapagenError):
            found = read(path)
        if isinstance(found, Dataset):
            for suffix in ("jsonl", "csv", "parquet"):
                write_examples(Path(directory) / f"out.{suffix}", found)


columns = st.sampled_from(["text", "label", "id", "weight"])
rows = st.lists(st.dictionaries(columns, values), max_size=4)
lines = rows.map(lambda found: "\n".join(map(json.dumps, found))) | broken.map(
    lambda text: '{"text": "荷物", "label": "' + text + '"}'
)
cells = st.lists(st.lists(broken, min_size=2, max_size=2), max_size=4).map(
    lambda found: "text,label\n" + "\n".join(",".join(row) for row in found)
)


@fuzz
@given(
    lines.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(),
    cells.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(),
)
def test_files_of_lines_and_cells(jsonl: bytes, csv: bytes) -> None:
    _read("x.jsonl", jsonl, read_examples)
    _read("x.csv", csv, read_examples)
    _read("x.tsv", csv.replace(b",", b"\t"), lambda path: read_examples(path, require_label=True))
    _read("x.txt", csv, lambda path: list(read_texts(path, ())))
    _read("x.json", jsonl, read_json)


_WHOLE = pa.BufferOutputStream()
pq.write_table(Dataset.of([Example(f"荷物{n}。", label="配送") for n in range(9)]).table, _WHOLE)
_PARQUET = _WHOLE.getvalue().to_pybytes()


@fuzz
@given(st.lists(st.tuples(st.integers(0, len(_PARQUET) - 1), st.integers(0, 255)), max_size=8))
def test_damaged_parquet(flips: list[tuple[int, int]]) -> None:
    raw = bytearray(_PARQUET)
    for at, byte in flips:
        raw[at] ^= byte
    _read("x.parquet", bytes(raw), read_examples)
    with suppress(DamagedError):
        _read("x.parquet", bytes(raw), load_dataset)


@fuzz
@given(st.lists(odd_text, min_size=1, max_size=5), broken)
def test_examples_of_any_characters(texts: list[str], label: str) -> None:
    found = Dataset.of(Example(f"荷{n}{text}", label=label) for n, text in enumerate(texts))
    assert len(found) == len(texts)
    assert Dataset.from_table(found.table).fingerprint == found.fingerprint
    assert all(text == text.encode().decode() for text in found.texts)
    assert all(text.rstrip("\r\n").startswith("荷") for text in read_texts(None, found.texts))
