from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, Message, Request, Sampling
from japagen.llm.backends.huggingface import HFGenerator
from tests.llm.backends.tiny_checkpoint import TEMPLATE, write_checkpoint
from tests.llm.backends.tiny_model import write_tiny_model

PROMPTS = ["商品の返品です。", "返", "会社に届いた日本語の商品をあいした。", "です"]


def make(
    number: int, prompt: str | tuple[Message, ...] = PROMPTS[0], seed: int | None = None, **how: Any
) -> Request:
    sampling = Sampling(**{"max_tokens": 12, "top_k": 20, "min_p": 0.0} | how)
    seed = number if seed is None else seed
    return Request(f"r{number}", prompt, sampling, seed, "返品", Register(), "t")


def ask(generator: HFGenerator, requests: list[Request]) -> list[Answer]:
    return list(generator.stream(requests))


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def generator(path: Path) -> Iterator[HFGenerator]:
    made = HFGenerator(str(path), slots=4, device="cpu")
    yield made
    made.close()


def test_greedy_is_what_the_model_finds_likeliest(generator: HFGenerator, path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    answers = ask(generator, [make(n, p, temperature=0.0) for n, p in enumerate(PROMPTS)])
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        assert answer.prompt_tokens == ids.shape[1] == generator.count_tokens(prompt) + 1
        written: list[int] = []
        while len(written) < 12 and 3 not in written:
            with torch.inference_mode():
                written.append(int(model(ids).logits[0, -1].argmax()))
            ids = torch.cat([ids, torch.tensor([[written[-1]]])], 1)
        assert answer.text == tokenizer.decode(written, skip_special_tokens=True)
        assert answer.completion_tokens == len(written)
        assert answer.finish == ("stop" if 3 in written else "length")


def test_a_seed_decides_whatever_the_batch(generator: HFGenerator) -> None:
    asked = [make(n, p) for n, p in enumerate(PROMPTS)]
    together = {a.request_id: a.text for a in ask(generator, asked)}
    for request in reversed(asked):
        assert ask(generator, [request])[0].text == together[request.id]
    assert len({a.text for a in ask(generator, [make(n) for n in range(12)])}) > 6


def test_tokens_are_drawn_as_often_as_the_sampling_says(generator: HFGenerator) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = generator._checkpoint.place
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    with torch.inference_mode():
        logits = model(**tokenizer(PROMPTS[0], return_tensors="pt")).logits[0, -1]
    likeliest = logits.softmax(-1).max()
    kept = [t for t in logits.topk(6).indices.tolist() if logits.softmax(-1)[t] >= 0.2 * likeliest]
    expected = (logits[kept] / 1.5).softmax(-1)
    count = 400
    how = {"max_tokens": 1, "temperature": 1.5, "top_k": 6, "min_p": 0.2}
    drawn = Counter(a.text for a in ask(generator, [make(n, **how) for n in range(count)]))
    pieces = [tokenizer.decode([t], skip_special_tokens=True) for t in kept]
    assert set(drawn) <= set(pieces)
    for piece, share in zip(pieces, expected.tolist(), strict=True):
        # Four standard errors of a share.
        assert abs(drawn[piece] / count - share) < 4 * (share * (1 - share) / count) ** 0.5 + 1e-9


def test_the_answer_ends_before_the_stop_string(generator: HFGenerator) -> None:
    (whole,) = ask(generator, [make(3)])
    assert whole.finish == "length"
    stop = whole.text[5:7]
    at = whole.text.index(stop)
    (stopped,) = ask(generator, [make(3, stop=(stop, "\n\n\n"))])
    assert (stopped.text, stopped.finish) == (whole.text[:at], "stop")
    assert stopped.completion_tokens == at + 2 < whole.completion_tokens


def test_mixed_samplings_and_bad_prompts_share_a_stream(generator: HFGenerator) -> None:
    asked = [
        make(0),
        make(1, max_tokens=3),
        make(2, "\ud800"),
        make(3, (Message("user", "返品"),)),
        make(4, "長" * 120),
        make(5),
    ]
    answers = {a.request_id: a for a in ask(generator, asked)}
    assert len(answers) == 6
    assert answers["r1"].completion_tokens <= 3
    assert "UTF-8" in answers["r2"].error
    assert "no chat template" in answers["r3"].error
    assert "context of 128" in answers["r4"].error
    assert answers["r5"].finish != "error"


def test_a_batch_too_large_for_the_gpu_is_halved(
    generator: HFGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    ask(generator, [make(0)])
    model = generator._model
    real = model.generate

    def crowded(ids: Any, **how: Any) -> Any:
        if len(ids) > 1 or ids.shape[1] > 12:
            raise torch.OutOfMemoryError("full")
        return real(ids, **how)

    monkeypatch.setattr(model, "generate", crowded)
    answers = ask(generator, [make(n, p) for n, p in enumerate(PROMPTS)])
    assert ["GPU's memory" in a.error for a in answers] == [False, False, True, False]


def test_chat_turns_go_through_the_template(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "chat", template=TEMPLATE)
    generator = HFGenerator(str(path), device="cpu")
    assert generator.info.prompt_kind == "chat"
    user = (Message("user", "返品です。"),)
    both = (Message("system", "日本語。"), Message("user", "返品です。"))
    alone, merged = ask(generator, [make(0, user), make(1, both)])
    assert alone.prompt_tokens == generator.count_tokens("<user>返品です。\n")
    # This template takes no system turn.
    assert merged.prompt_tokens == generator.count_tokens("<user>日本語。\n\n返品です。\n")
    (refused,) = ask(generator, [make(2, (Message("system", "日本語。"),))])
    assert "chat template cannot take" in refused.error
    generator.close()


def test_identity_follows_the_weights(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.mkdir()
    for file in path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert HFGenerator(str(copy)).info == HFGenerator(str(path)).info
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert HFGenerator(str(copy)).info != HFGenerator(str(path)).info


def test_pickled_weights_are_refused(path: Path, tmp_path: Path) -> None:
    import torch

    for file in path.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(JapagenError, match="safetensors"):
        ask(HFGenerator(str(tmp_path)), [make(0)])


def test_a_checkpoint_that_is_not_there_or_not_whole(path: Path, tmp_path: Path) -> None:
    for name in (str(tmp_path / "none"), "./none", str(tmp_path / "none.gguf")):
        with pytest.raises(JapagenError, match="found nothing"):
            _ = HFGenerator(name).info
    with pytest.raises(JapagenError, match="found a problem"):
        _ = HFGenerator(str(tmp_path)).info
    from safetensors.torch import load_file, save_file

    for file in path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(JapagenError, match=r"found none for model\.layers\.0\.mlp"):
        ask(HFGenerator(str(tmp_path)), [make(0)])


def test_a_gguf_is_read_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    generator = HFGenerator(str(path), device="cpu")
    assert generator.info.name == "tiny"
    (answer,) = ask(generator, [make(0)])
    assert answer.finish in ("stop", "length")
    assert answer.completion_tokens > 0
    generator.close()
    assert "GGUF" not in capfd.readouterr().err  # transformers shows a bar of its own
