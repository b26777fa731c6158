from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from tests.conftest import GOLD
from tests.llm.backends.tiny_checkpoint import write_checkpoint

if TYPE_CHECKING:
    from japagen.gradmm.synthesis import Matcher, Reader

TEXTS = [
    "荷物がまだ届かない。",
    "商品を家に送る。",
    "便で人に渡す。",
    "色を変える。",
    "品を店に返す。",
    "日に会社で買う。",
]
LABELS = np.array([0, 0, 0, 1, 1, 1])


class Parts(NamedTuple):
    matcher: Matcher
    reader: Reader
    gold: list[str]


@pytest.fixture(scope="session")
def parts(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A matcher and a reader of real classes with random weights."""
    from japagen.gradmm.synthesis import Matcher, Reader
    from japagen.llm.backends.huggingface import find_checkpoint
    from japagen.training.encoder import embed, load_encoder
    from tests.gradmm.test_target import target_of

    encoder = load_encoder(tiny_encoder)
    gold = [text for texts in GOLD.values() for text in texts]
    labels = np.repeat(np.arange(len(GOLD)), [len(texts) for texts in GOLD.values()])
    made = (embed(encoder, TEXTS), LABELS)
    matcher = Matcher(encoder, target_of(embed(encoder, gold), labels, made, len(GOLD)))
    path = write_checkpoint(tmp_path_factory.mktemp("lm"), "gemma3")
    checkpoint = find_checkpoint(str(path))
    reader = Reader(checkpoint.load(), checkpoint.tokenizer, "あ\n")
    return Parts(matcher, reader, gold)
