"""Prints what changed between two runs, and where an example came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.cli import terminal

_KINDS = ("added", "removed", "rejected", "restored", "reworded", "relabelled", "reweighted")


def print_comparison(found: Mapping[str, Any], number: int) -> None:
    """Prints a comparison of two runs.

    Args:
        found: What `compare_runs` returns.
        number: Examples to show of each kind of change.
    """
    sides = found["versions"]
    terminal.out.print(
        "\n".join(
            f"{side}: {v['hash'][:16]}, {v['kept']} of {v['examples']} kept"
            for side, v in sides.items()
        ),
        markup=False,
    )
    changed = {**found["settings"], **found["tools"]}
    if changed:
        rows = [(key, *map(str, values)) for key, values in changed.items()]
        terminal.print_table("what differs", ["key", "before", "after"], rows)
    counts = [(kind, str(len(found["examples"][kind]))) for kind in _KINDS]
    terminal.print_table("examples", ["change", "number"], counts)
    for kind in _KINDS:
        for change in found["examples"][kind][:number]:
            terminal.out.print(f"{kind} {change['id']}: {_line(change)}", markup=False)
    rows = [
        (
            d["name"],
            f"{d['distance']:.3f}",
            "" if d["p"] is None else f"{d['p']:.2g}",
            "changed" if d["changed"] else "",
        )
        for d in found["distributions"]
    ]
    terminal.print_table("distributions", ["of", "total variation", "p", ""], rows)


def _line(change: Mapping[str, Any]) -> str:
    parts = [str(change["text"])[:60]]
    if change.get("filter"):
        parts.append(f"{change['filter']}")
    if "value" in change:
        parts.append(f"{change['value']:g} against {change['threshold']:g}")
    if "before" in change and isinstance(change["before"], float):
        parts.append(f"weight {change['before']:.3f} → {change['after']:.3f}")
    elif "before" in change:
        parts.append(f"{change['before']} → {change['after']}")
    if change.get("why"):
        parts.append(str(change["why"]))
    return " | ".join(parts)


def print_explanation(found: Mapping[str, Any]) -> None:
    """Prints what `explain_example` returns."""
    example, request, looked = found["example"], found["request"], found["audit"]
    rows = [(k, _value(v)) for k, v in example.items() if v not in (None, [], "")]
    terminal.print_table("example", ["field", "value"], rows)
    if found["parent"] or found["children"]:
        terminal.out.print(
            f"parent: {found['parent']}, children: {', '.join(found['children']) or 'none'}",
            markup=False,
        )
    if looked:
        terminal.print_table(
            "audit", ["field", "value"], [(k, _value(v)) for k, v in looked.items()]
        )
    if request:
        rows = [(k, _value(v)) for k, v in request.items() if k not in ("prompt", "attempts")]
        terminal.print_table("request", ["field", "value"], rows)
        for attempt in request["attempts"]:
            terminal.out.print(
                f"{attempt['finish']}: {attempt['completion_tokens']} tokens in "
                f"{attempt['seconds']:.2f} s {attempt['error']}",
                markup=False,
            )
        prompt = request["prompt"]
        shown = prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt)
        terminal.out.print(shown, style="dim", markup=False)
    terminal.out.print(f"dataset {found['dataset'][:16]}", markup=False)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items() if v not in (None, "", []))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
