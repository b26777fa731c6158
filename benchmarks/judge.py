"""How well a judge's scores tell spoiled texts from others, and whether people agree with it.

    python benchmarks/judge.py [--model qwen] [--texts 80] [--json FILE]

The 80 texts are in texts/rubric.jsonl, with what a reader decided on each and the scores that a
strong LLM gave (README.md there says how they were made). With ``--model`` a chat model is asked
to score them now, by the rubric that comes with japagen; ``--texts`` takes fewer, one of each kind
in turn. The figures are in docs/judge.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.metrics import roc_auc_score
from strong_llm import TEXTS

from japagen.config.curation import Judge
from japagen.config.task import Task
from japagen.curation.llm_judge import RUBRIC, rubric_requests, with_judgement
from japagen.data.dataset import Dataset, Example
from japagen.data.files import cache_dir, resource_dir
from japagen.japanese.registers import Register
from japagen.listener import Logged
from japagen.llm.backend import Answer
from japagen.llm.client import LLMClient
from japagen.llm.prompts import PromptLibrary
from japagen.review.decisions import Decision, text_hash
from japagen.review.feedback import judge_agreement

KINDS = {
    "unnatural": "naturalness",
    "label": "label",
    "register": "register",
    "harmful": "harmlessness",
    "copied": "naturalness",
}
"""How a text was spoiled, to the criterion that should show it; none is made to show a copy."""


def read_rows() -> tuple[list[dict[str, Any]], Dataset]:
    """The recorded rows, and the texts as a run has them."""
    lines = (TEXTS / "rubric.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    texts = Dataset.of(
        Example(r["text"], r["label"], id=f"t{i}", register_asked=Register.of(r["register"]))
        for i, r in enumerate(rows)
    )
    return rows, texts


def ask(model: str, texts: Dataset, judge: Judge) -> list[Answer | None]:
    """What a chat model answers; what it has answered before is not asked for again."""
    # In one slot, a text is all that the model reads anew.
    settings = {"generator.model": model, "generator.slots": 1, "name": f"judge-{model}"}
    task = Task.load(resource_dir("configs") / "quickstart.yaml", settings)
    path = cache_dir("judge") / f"{model}.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(LLMClient(task, None, path, Logged())) as client:
        prompts = PromptLibrary()
        requests = rubric_requests([*texts], task, judge.criteria, prompts, client.info)
        answers = client.ask(requests, RUBRIC).answers
    seconds = [answer.seconds for answer in answers.values()]
    print(f"{np.mean(seconds):.1f} seconds an answer")
    return [answers.get(request.id) for request in requests]


def decisions_of(rows: Sequence[dict[str, Any]], texts: Dataset) -> dict[str, Decision]:
    """What the reader decided."""
    return {
        example.id: Decision(example.id, text_hash=text_hash(example.text), **row["decision"])
        for row, example in zip(rows, texts, strict=True)
    }


def show(rows: Sequence[dict[str, Any]], scored: Dataset, judge: Judge) -> None:
    """Prints how far scores separate each kind of spoiled text from the 60 others."""
    given = [example.scores or {} for example in scored]
    print(f"scored {sum(map(bool, given))} of {len(given)}")
    for name in judge.criteria:
        values = [s[name] for s in given if s]
        counts = [sum(v == score for v in values) for score in range(1, 6)]
        print(f"  {name}: mean {np.mean(values):.2f}, texts with 1 to 5: {counts}")
    for kind, own in KINDS.items():
        pairs = [
            (row["spoiled"] == kind, scores)
            for row, scores in zip(rows, given, strict=True)
            if scores and row["spoiled"] in (None, kind)
        ]
        truth = [spoiled for spoiled, _ in pairs]
        aucs = {
            name: roc_auc_score(truth, [-scores[name] for _, scores in pairs])
            for name in judge.criteria
        }
        lowest = roc_auc_score(truth, [-min(scores.values()) for _, scores in pairs])
        shown = ", ".join(f"{name} {auc:.2f}" for name, auc in aucs.items())
        print(
            f"  {kind} ({sum(truth)}): AUC of {own} {aucs[own]:.2f}; {shown}; lowest {lowest:.2f}"
        )
    print(" ", judge_agreement(scored, decisions_of(rows, scored), judge.bounds))


def in_turn(kinds: Sequence[str], most: int) -> list[int]:
    """Rows of each kind in turn: a half of those that are not spoiled where there are enough."""
    seen: Counter[str] = Counter()
    turns = []
    for row, kind in enumerate(kinds):
        turns.append((seen[kind] / (len(KINDS) if kind == "None" else 1), row))
        seen[kind] += 1
    return [row for _, row in sorted(turns)[:most]]


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--texts", type=int, default=80)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    judge, (rows, texts) = Judge(), read_rows()
    chosen = in_turn([str(row["spoiled"]) for row in rows], given.texts)
    rows, texts = [rows[i] for i in chosen], texts.take(chosen)
    answers: list[Answer | None] = [
        Answer(id_, json.dumps(row["scores"]), "stop")
        for id_, row in zip(texts.column("id"), rows, strict=True)
    ]
    if given.model:
        answers = ask(given.model, texts, judge)
    scored = with_judgement(texts, range(len(texts)), answers, list(judge.criteria), {})
    show(rows, scored, judge)
    if given.json:
        given.json.write_text(json.dumps([e.scores for e in scored]), encoding="utf-8")


if __name__ == "__main__":
    main()
