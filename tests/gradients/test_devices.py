from __future__ import annotations

from pathlib import Path

import torch

from japagen.generators.checkpoint import find_checkpoint
from japagen.gradients.editing import Editing, edit
from japagen.gradients.reader import Reader
from japagen.gradients.synthesis import Admm, Lexicon, synthesise
from tests.generators.tiny_checkpoint import write_checkpoint
from tests.gradients.conftest import LABELS, TEXTS, Parts


def test_no_tensor_is_made_elsewhere_than_where_the_models_are(
    parts: Parts, tmp_path: Path
) -> None:
    """What would be made on the default device, beside models on a GPU, fails on this one."""
    matcher, reader, words = parts
    # Gemma's cache makes a tensor of its own and moves it, which this device does not bear.
    checkpoint = find_checkpoint(str(write_checkpoint(tmp_path, "llama")))
    writer = Reader(checkpoint.load(), checkpoint.tokenizer, "あ\n")
    wide = Editing(edits=1, likely=150, tried=8, perplexity=3.0)
    with torch.device("meta"):
        edited = edit(TEXTS, LABELS, matcher, reader, words, wide)
        lexicon = Lexicon.of(TEXTS, matcher, writer, words)
        made = synthesise(TEXTS[:3], 0, matcher, writer, lexicon, Admm(iterations=2))
    assert edited == edit(TEXTS, LABELS, matcher, reader, words, wide)
    assert made == synthesise(TEXTS[:3], 0, matcher, writer, lexicon, Admm(iterations=2))
