from __future__ import annotations

from pathlib import Path

import pytest

from japagen.config.yaml_file import read_mapping
from japagen.errors import JapagenError


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "found nothing", "japagen init"),
        (b"- a\n", "found a list", "japagen init"),
        (b"a:\n\tb: 1\n", "line 2, column 1", "no tabs"),
        (b"a: 1\nb: 2\na: 3\n", "line 3, column 1: the key 'a' stands there twice", "Correct"),
        (b"a: {x: 1, x: 2}\n", "the key 'x' stands there twice", "Correct"),
        ("a: 請求\n".encode("cp932"), "to be UTF-8", "Save it as UTF-8"),
        (b"\x00\x01", "Expected YAML in", "Correct"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    tmp_path: Path, content: bytes, message: str, hint: str
) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(content)
    with pytest.raises(JapagenError, match=message) as caught:
        read_mapping(path)
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_a_directory_and_a_missing_file_are_no_task(tmp_path: Path) -> None:
    with pytest.raises(JapagenError, match="found the directory"):
        read_mapping(tmp_path)
    with pytest.raises(JapagenError, match="no task file"):
        read_mapping(tmp_path / "none.yaml")


def test_anchors_and_merges_are_not_taken_for_repeats(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("a: &x {k: 1}\nb:\n  <<: *x\n  k: 2\n", encoding="utf-8")
    assert read_mapping(path)["b"] == {"k": 2}
