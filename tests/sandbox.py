"""Marks tests that run programs in the sandbox."""

from __future__ import annotations

import pytest

from japagen.curation.sandbox import check_isolation
from japagen.errors import JapagenError


def _why_not() -> str:
    try:
        check_isolation()
    except JapagenError as error:
        return error.message
    return ""


_WHY_NOT = _why_not()
needs_sandbox = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT)
