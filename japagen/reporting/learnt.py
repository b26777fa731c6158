"""What a run's classifier learnt from besides gold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def not_used(metrics: Mapping[str, Any]) -> bool:
    """Whether the run left all but gold out, so that both arms are one classifier."""
    return not learnt_unlabelled(metrics) and (metrics.get("mix") or {}).get("share") == 0


def learnt_unlabelled(metrics: Mapping[str, Any]) -> bool:
    """Whether the classifier learnt from unlabelled texts."""
    return bool((metrics.get("pseudo_labels") or {}).get("texts"))


def added(metrics: Mapping[str, Any]) -> str:
    """What was added to gold: ``synthetic``, ``unlabelled`` or ``both``."""
    if not learnt_unlabelled(metrics):
        return "synthetic"
    return "unlabelled" if (metrics.get("mix") or {}).get("share") == 0 else "both"
