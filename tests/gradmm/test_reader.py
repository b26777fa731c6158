from __future__ import annotations

import numpy as np
import pytest
import torch

from japagen.gradmm.synthesis import Writing
from tests.gradmm.conftest import TEXTS, Parts


def test_likelihoods_do_not_depend_on_the_batch(parts: Parts) -> None:
    together = parts.reader.log_likelihoods(TEXTS)
    alone = [float(parts.reader.log_likelihoods([text])[0]) for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-3)
    # A piece a character.
    of_each = np.exp(-together / [len(text) for text in TEXTS])
    np.testing.assert_allclose(parts.reader.perplexities(TEXTS), of_each)


def test_writing_word_by_word_reads_what_reading_at_once_does(parts: Parts) -> None:
    rows = [["日本", "の", "会社"], ["お店"], ["あ", "日本", "語"]]
    writing = Writing(parts.reader, 3)
    encode = parts.reader.tokenizer

    def tokens(*words: str) -> list[list[int]]:
        return [encode(word, add_special_tokens=False)["input_ids"] for word in words]

    writing.add(tokens("日本", "お店", "あ"), [0, 1, 2])
    writing.add(tokens("の", "", "日本"), [0, 2])  # the second text has ended
    writing.add(tokens("会社", "語"), [0, 1])
    del rows[1]
    # What is expected behind the whole texts is what reading them at once expects.
    for i, row in enumerate(rows):
        ids = parts.reader.context + encode("".join(row), add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = parts.reader.model(torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(writing.logits[i], logits.float(), atol=1e-3, rtol=0)


def test_a_words_first_token_and_the_rest_make_its_likelihood(parts: Parts) -> None:
    words = ["会社", "日", "お店で買う"]
    rest = parts.reader.log_likelihoods(words, given=1)
    first = torch.log_softmax(Writing(parts.reader, 1).logits[0], 0)
    whole = parts.reader.log_likelihoods(words)
    counts = np.array([len(row) for row in parts.reader.tokens(words)])
    for row, word in enumerate(words):
        token = parts.reader.tokenizer(word, add_special_tokens=False)["input_ids"][0]
        assert float(first[token]) + rest[row] == pytest.approx(float(whole[row]), abs=1e-3)
    assert (rest[counts > 1] < 0).all()
    assert not rest[counts == 1].any()
