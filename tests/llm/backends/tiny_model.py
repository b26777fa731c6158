"""A llama model of a few thousand random weights: small enough for quick tests, yet real.

It is written with the gguf package, so that our own reader and writer meet another's files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
WIDTH = 64
_WORDS = [
    *"▁、。ー！？",
    *map(chr, range(ord("ぁ"), ord("ん") + 1)),
    *map(chr, range(ord("ァ"), ord("ヴ") + 1)),
    *map(chr, range(ord("!"), ord("~") + 1)),
    *"日本語商品返品届配送会社あい",
    "です",
    "ます",
    "商品",
    "返品",
    "▁hello",
    "プ",
    "привет",
    "한국",
    "们",
]


def vocabulary() -> list[tuple[str, float, int]]:
    """Text, score and type of each piece."""
    special = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    unused = [(f"<unused{i}>", 0.0, CONTROL) for i in range(3)]
    odd = [("\n", -1.0, USER_DEFINED), ("<div>", -1.0, USER_DEFINED)]
    octets = [(f"<0x{i:02X}>", 0.0, BYTE) for i in range(256)]
    words = [(word, -float(i), NORMAL) for i, word in enumerate(dict.fromkeys(_WORDS))]
    return special + unused + odd + octets + words


def write_tiny_model(path: Path, edit: Callable[[Any], None] = lambda writer: None) -> Path:
    """Writes the model; ``edit`` may add to the writer before it writes."""
    gguf = pytest.importorskip("gguf")
    random = np.random.default_rng(0)
    pieces = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in pieces])
    writer.add_token_scores([score for _, score, _ in pieces])
    writer.add_token_types([kind for _, _, kind in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(False)
    ones = np.ones(WIDTH, np.float32)
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    tensors = {f"blk.0.{name}.weight": (WIDTH, WIDTH) for name in square}
    tensors |= {"token_embd.weight": (len(pieces), WIDTH), "output.weight": (len(pieces), WIDTH)}
    for name, shape in tensors.items():
        writer.add_tensor(name, random.normal(0, 0.5, shape).astype(np.float32))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", ones)
    edit(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
