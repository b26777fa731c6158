from __future__ import annotations

from pathlib import Path

import pytest

from japagen.data.files import resource_dir
from japagen.errors import JapagenError

ROOT = Path(__file__).parents[2]


def test_an_explicit_directory_comes_first(tmp_path: Path) -> None:
    assert resource_dir("prompts_ja", tmp_path) == tmp_path
    with pytest.raises(JapagenError, match="found nothing at"):
        resource_dir("prompts_ja", tmp_path / "none")


def test_a_checkout_has_them_at_its_top() -> None:
    assert resource_dir("prompts_ja") == ROOT / "prompts_ja"
    assert resource_dir("configs") == ROOT / "configs"
