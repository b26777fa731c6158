"""Counting in blocks and in processes: the same counts, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.alignment import counting
from japagen.alignment.counting import Lexicon, count_block, load_block, measure, save_block, spans
from japagen.alignment.weights import align_datasets
from japagen.data.dataset import Dataset, Example
from japagen.errors import JapagenError
from japagen.japanese.morphology import Tagger, default_tagger
from tests.alignment import reference_counts as reference

WORDS = "荷物が 届きました 。 ! … ｺﾝﾋﾟｭｰﾀ 猫 ね よね か? ABC 12 です ます 𠮷 々 行く 〜"
PIECES = st.sampled_from([*WORDS.split(), " ", "\n", "\u200b", "\ud800", ""])
TEXTS = st.lists(st.lists(PIECES, max_size=12).map("".join), min_size=1, max_size=6)


class Failing(Tagger):
    """Fails on one text, as itself, wherever it runs."""

    def __reduce__(self) -> tuple[type[Failing], tuple[()]]:
        return Failing, ()

    def names(self, text: str) -> list[str]:
        if "爆発" in text:
            raise JapagenError("爆発しました。", "離れてください。")
        if "即死" in text:
            os._exit(7)
        return super().names(text)


def examples(n: int, label: str = "良", tail: str = "") -> list[Example]:
    subjects, verbs = ("荷物", "猫", "犬", "画面", "電池"), ("届いた。", "鳴く!", "壊れました。")
    return [
        Example(
            f"{subjects[i % 5]}{i % 7}が{verbs[i % 3]}{tail}", label, id=f"{label}{i * 7919 % n}"
        )
        for i in range(n)
    ]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Blocks of 16 rows, and a temporary directory of the test's own."""
    monkeypatch.setattr(counting, "BLOCK_ROWS", 16)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@settings(max_examples=60)
@given(TEXTS)
def test_blocks_count_what_a_plain_loop_counts(texts: list[str]) -> None:
    block = count_block(texts, Lexicon(default_tagger()))
    for csr, keys, count in (
        (block.words, block.lemmas, reference.words),
        (block.pos, block.pairs, reference.pos),
        (block.endings, block.ending_keys, reference.endings),
    ):
        assert keys == sorted(keys)
        for i, text in enumerate(texts):
            row = slice(csr.indptr[i], csr.indptr[i + 1])
            columns = csr.indices[row].tolist()
            assert columns == sorted(set(columns))
            assert dict(zip([keys[c] for c in columns], csr.values[row], strict=True)) == count(
                text
            )
    shares = block.scripts / np.maximum(block.lengths, 1)[:, None]
    assert shares.tolist() == [reference.scripts(text) for text in texts]


def test_shards_give_back_the_block_and_its_ids(tmp_path: Path) -> None:
    block = count_block(["猫が鳴く。", "", None, "犬!"], Lexicon(default_tagger()))
    save_block(tmp_path / "block.npz", block, ["a", "b\n", "c", "𠮷"])
    again, ids = load_block(tmp_path / "block.npz")
    assert ids == ["a", "b\n", "c", "𠮷"]
    for name, value in vars(block).items():
        left, right = (
            np.concatenate(v) if name in ("words", "pos", "endings") else v
            for v in (value, getattr(again, name))
        )
        assert np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right


def test_weights_do_not_depend_on_workers_or_row_order(small_blocks: Path) -> None:
    synthetic = Dataset.of([*examples(60), *examples(40, "悪", "がっかり。")])
    gold = Dataset.of([*examples(20), *examples(20, "悪")])
    found = align_datasets(synthetic, gold, workers=1)
    for count in (2, 4):
        again = align_datasets(synthetic, gold, workers=count)
        assert np.array_equal(again.weights, found.weights)
        assert again.diagnostics == found.diagnostics
    order = np.random.default_rng(0).permutation(len(synthetic))
    shuffled = align_datasets(synthetic.take(order), gold, workers=2)
    assert np.array_equal(shuffled.weights, found.weights[order])
    assert list(small_blocks.iterdir()) == []


def test_progress_sees_every_block(small_blocks: Path) -> None:
    seen = []

    def progress(blocks, total):
        for block in blocks:
            seen.append(total)
            yield block

    data = Dataset.of(examples(50))
    align_datasets(data, data, workers=2, progress=progress)
    assert seen == [8] * 8


@pytest.mark.parametrize("count", [1, 2])
def test_a_workers_error_surfaces_as_itself(small_blocks: Path, count: int) -> None:
    data = Dataset.of([*examples(50), Example("爆発", id="z")])
    with pytest.raises(JapagenError, match="爆発しました。") as caught:
        measure([data], Failing(), workers=count)
    assert caught.value.hint == "離れてください。"
    assert list(small_blocks.iterdir()) == []


def test_a_worker_that_dies_is_said(small_blocks: Path) -> None:
    data = Dataset.of([*examples(50), Example("即死", id="z")])
    with pytest.raises(JapagenError, match="status 7"):
        measure([data], Failing(), workers=2)
    assert list(small_blocks.iterdir()) == []


def test_at_least_one_worker() -> None:
    with pytest.raises(JapagenError, match="at least 1 worker"):
        measure([Dataset.of(examples(2))], default_tagger(), workers=0)


def test_little_text_gets_no_process() -> None:
    assert counting.default_workers(0) == counting.default_workers(100_000) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_empty_datasets_and_empty_and_huge_texts(small_blocks: Path, count: int) -> None:
    huge = "明日は晴れるでしょう。" * 10_000
    data = Dataset.of([*examples(30), *[Example(t, "良") for t in ("\u200b", " ", huge)]])
    (measured, empty), _ = measure([data, Dataset.of([])], default_tagger(), workers=count)
    assert measured.first.lengths[-3:].tolist() == [0, 0, len(huge)]
    assert measured.words[[-1]].sum() == 5 * 10_000
    assert measured.words[[-2]].sum() == 0
    assert empty.words.shape == (0, measured.words.shape[1])
    assert len(empty) == 0
    weights = align_datasets(data, Dataset.of(examples(20)), workers=count).weights
    assert np.isfinite(weights).all()


@given(st.lists(st.integers(0, 3_000_000), max_size=40))
@settings(max_examples=20)
def test_spans_cover_every_row_once_within_their_limits(sizes: list[int]) -> None:
    import pyarrow as pa

    data = pa.chunked_array([["a" * size for size in sizes]], pa.string())
    found = spans(data)
    assert [i for a, b in found for i in range(a, b)] == list(range(len(sizes)))
    assert all(b == a + 1 or sum(sizes[a:b]) <= counting.BLOCK_BYTES for a, b in found)


SLOW = """
import sys
from japagen.alignment import counting
from japagen.alignment.counting import measure
from japagen.data.dataset import Dataset, Example
from japagen.japanese.morphology import default_tagger
counting.BLOCK_ROWS = 50
data = Dataset.of([Example("今日はとても良い天気です。" * 40, id=str(i)) for i in range(20_000)])
def progress(blocks, total):
    for block in blocks:
        print("working", flush=True)
        yield block
try:
    measure([data], default_tagger(), workers=2, progress=progress)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("sent", "status"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_an_interrupted_run_leaves_no_process_and_no_file(
    tmp_path: Path, sent: str, status: int
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, "-c", SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(getattr(signal, sent))
        _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert errors == ""
    # The workers of a killed process notice that it is gone.
    until = time.monotonic() + 20
    while list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
