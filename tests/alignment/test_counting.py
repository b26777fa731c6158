"""Counting in blocks and in processes: the same counts, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.alignment import counting
from japagen.alignment.counting import count_block, measure, spans
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
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 rows."""
    monkeypatch.setattr(counting, "BLOCK_ROWS", 16)


@settings(max_examples=60)
@given(TEXTS)
def test_blocks_count_what_a_plain_loop_counts(texts: list[str]) -> None:
    block = count_block(texts, default_tagger())
    for (csr, keys), count in (
        (block.words, reference.words),
        (block.pos, reference.pos),
        (block.endings, reference.endings),
    ):
        assert keys == sorted(keys)
        for i, text in enumerate(texts):
            row = slice(csr.indptr[i], csr.indptr[i + 1])
            columns = csr.indices[row].tolist()
            assert columns == sorted(set(columns))
            assert dict(zip([keys[c] for c in columns], csr.data[row], strict=True)) == count(text)
    shares = block.scripts / np.maximum(block.lengths, 1)[:, None]
    assert shares.tolist() == [reference.scripts(text) for text in texts]


def test_weights_do_not_depend_on_workers_or_row_order(small_blocks: None) -> None:
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


def test_progress_sees_every_block(small_blocks: None) -> None:
    seen = []

    def progress(blocks, total):
        for block in blocks:
            seen.append(total)
            yield block

    data = Dataset.of(examples(50))
    align_datasets(data, data, workers=2, progress=progress)
    assert seen == [8] * 8


@pytest.mark.parametrize("count", [1, 2])
def test_a_workers_error_surfaces_as_itself(small_blocks: None, count: int) -> None:
    data = Dataset.of([*examples(50), Example("爆発", id="z")])
    with pytest.raises(JapagenError, match="爆発しました。") as caught:
        measure([data], Failing(), workers=count)
    assert caught.value.hint == "離れてください。"


def test_a_worker_that_dies_is_said(small_blocks: None) -> None:
    data = Dataset.of([*examples(50), Example("即死", id="z")])
    with pytest.raises(JapagenError, match="ended before its work was done") as caught:
        measure([data], Failing(), workers=2)
    assert "EXIT(7)" in str(caught.value.__cause__)


def test_at_least_one_worker() -> None:
    with pytest.raises(JapagenError, match="at least 1 worker"):
        measure([Dataset.of(examples(2))], default_tagger(), workers=0)


def test_little_text_gets_no_process() -> None:
    assert counting.default_workers(0) == counting.default_workers(100_000) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_empty_datasets_and_empty_and_huge_texts(small_blocks: None, count: int) -> None:
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
    print("starting", flush=True)
    for block in blocks:
        print("working", flush=True)
        yield block
try:
    measure([data], default_tagger(), workers=2, progress=progress)
except KeyboardInterrupt:
    sys.exit(130)
"""


def processes(session: int) -> list[str]:
    """The processes of a session that have not ended."""
    listed = subprocess.run(
        ["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [args for sid, stat, args in rows if int(sid) == session and "Z" not in stat]


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("after", ["starting", "working"])
@pytest.mark.parametrize(("sent", "status"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_an_interrupted_run_leaves_no_process(after: str, sent: str, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() != f"{after}\n":
            pass
        if sent == "SIGINT":  # As a terminal sends it: to the workers as well.
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    if sent == "SIGINT":  # Else joblib says what the killed process left for it to clean up.
        assert errors == ""
    # The workers of a killed process notice that it is gone.
    until = time.monotonic() + 60
    while (left := processes(process.pid)) and time.monotonic() < until:
        time.sleep(0.5)
    assert left == []


@pytest.mark.skipif(os.name == "nt", reason="ps")
def test_little_text_starts_nothing() -> None:
    program = SLOW.replace("20_000", "100").replace("workers=2, ", "") + "print('done', flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", program + "; input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "done\n":
            assert process.poll() is None
        assert len(processes(process.pid)) == 1
        process.communicate("\n")
