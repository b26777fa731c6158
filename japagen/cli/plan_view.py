"""What `japagen plan` shows of the steps, their cost, and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.cli import terminal
from japagen.cli.terminal import say

_STEPS = {
    "generate": "generation",
    "rewrite": "register rewrites",
    "refine": "refinement",
    "trust": "judging labels",
    "zero_shot": "labels of test texts",
}


def print_estimate(found: Mapping[str, Any]) -> None:
    """Prints what `estimating.estimate` found: a line a step, the sum, and the budget."""
    rows = [_row(_STEPS[step["step"]], step) for step in found["steps"]]
    columns = ["step", "requests", "prompt tokens", "answer tokens", "time", "yen"]
    if len(rows) > 1:
        rows.append(_row("together", {**found, "expected_requests": found["requests"]}))
    terminal.print_table("what it takes", columns, rows)
    if found["answered"]:
        say(f"answered already: {found['answered']:,}; time and yen are of the rest")
    say(f"prompts of generation: {found['shared_prompt_tokens']:,} tokens after sharing prefixes")
    if found["measured_on"]:
        say(f"time and length of answers are measured on the {found['measured_on']}")
    else:
        say("time: not measured (--sample N sends N requests to find out)")
    for step in found["unknown"]:
        if step == "refine":
            say("refinement: how many texts are in doubt is known when they are there")
            continue
        say(
            f"{_STEPS[step]}: how many are needed is known when 20 texts are there; until then "
            "'about' does not count them, and 'at most' does"
        )
    if found["batch"] is not None:
        say(
            f"yen: at {found['batch']:.0%} of generator.price, that of the batch API; a batch may "
            "take a day, and each round and step waits for the one before"
        )
    if found["budget"]:
        _print_budget(found)
    if found["masked"]:
        say(f"personal data masked in prompts: {found['masked']:,} pieces")


def _row(name: str, step: Mapping[str, Any]) -> list[str]:
    requests = f"{step['requests']:,}"
    if step["expected_requests"] != step["requests"]:
        about = step["expected_requests"]
        requests = f"at most {requests}" if about is None else f"{about:,}, at most {requests}"
    seconds, money = step["seconds"], step["max_yen"]
    return [
        name,
        requests,
        f"{step['prompt_tokens']:,}",
        _about(step["completion_tokens"], step["max_completion_tokens"], ",.0f"),
        "?" if seconds is None else f"{seconds:,.0f} s",
        "-" if money is None else _about(step["yen"], money, ",.2f"),
    ]


def _about(expected: float | None, most: float, form: str) -> str:
    if not most:
        return "-"
    about = "" if expected is None else f"{expected:{form}}, "
    return f"{about}at most {most:{form}}"


def _print_budget(found: Mapping[str, Any]) -> None:
    most = {"tokens": found["max_tokens_left"], "yen": found["max_yen"]}
    for unit, bound in found["budget"].items():
        enough = most[unit] is not None and most[unit] <= bound
        say(
            f"budget: {bound:,} {unit} for all steps and sessions of a run together; "
            + ("it holds the most that is left" if enough else "less than the most that is left")
        )
    say(
        "What no longer fits is not sent: its rows say so, the run goes on with what there is, "
        "and a larger budget takes up there. Generation is paid for first, labels last."
    )
