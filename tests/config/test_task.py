"""What a task file of an older version is told."""

from __future__ import annotations

from typing import Any

import pytest

from japagen.errors import JapagenError
from japagen.messages import localized
from japagen.tasks.removed import REMOVED
from japagen.tasks.tasks import Task


@pytest.mark.parametrize("setting", REMOVED)
def test_a_removed_setting_says_what_to_use_instead(raw_task: dict[str, Any], setting: str) -> None:
    dotted, _, value = setting.partition(": ")
    *sections, key = dotted.split(".")
    section = raw_task
    for name in sections:
        section = section.setdefault(name, {})
    section[key] = value or 1
    with pytest.raises(JapagenError) as caught:
        Task.parse(raw_task, "t.yaml")
    assert str(caught.value).splitlines() == [
        "t.yaml has 1 problem(s):",
        f"  - {REMOVED[setting]}",
        "Correct the keys named above.",
    ]
    assert REMOVED[setting].startswith(f"{setting} was removed in 0.2")
    assert "0.2 で廃止しました" in localized(REMOVED[setting], "ja")
