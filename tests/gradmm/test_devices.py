from __future__ import annotations

from pathlib import Path

import torch

from japagen.gradmm.synthesis import Group, Lexicon, Reader, synthesise
from japagen.japanese.morphology import default_tagger
from japagen.llm.backends.huggingface import find_checkpoint
from tests.gradmm.conftest import TEXTS, Parts
from tests.llm.backends.tiny_checkpoint import write_checkpoint


def test_no_tensor_is_made_elsewhere_than_where_the_models_are(
    parts: Parts, tmp_path: Path
) -> None:
    """What would be made on the default device, beside models on a GPU, fails on this one."""
    matcher, gold = parts.matcher, parts.gold
    # Gemma's cache makes a tensor of its own and moves it, which this device does not bear.
    checkpoint = find_checkpoint(str(write_checkpoint(tmp_path, "llama")))
    writer = Reader(checkpoint.load(), checkpoint.tokenizer, "あ\n")
    with torch.device("meta"):
        lexicon = Lexicon(TEXTS, matcher, writer, default_tagger()).with_gold(gold)
        group = Group(TEXTS[:3], 0, matcher, lexicon)
        ((made, growth),) = synthesise([group], writer)
    ((again, grown),) = synthesise([group], writer)
    assert (made, growth.tolist()) == (again, grown.tolist())
