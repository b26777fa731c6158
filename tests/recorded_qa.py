"""The recorded answers of configs/qa, and the ledger that is made of them.

``python -m tests.recorded_qa`` writes configs/qa/ledger.sqlite from configs/qa/answers.jsonl: what
a strong LLM said to each question, written down where a person can read it. The ledger follows
from these and the prompts, and has to be made again when a prompt changes.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from japagen.config.qa import QATask
from japagen.llm.backend import Answer, GeneratorInfo, OutputTerms, Request, prompt_texts
from japagen.pipeline.kinds import load_task
from japagen.pipeline.qa import read_material, run

CONFIG = Path(__file__).parent.parent / "configs" / "qa.yaml"
FOLDER = CONFIG.parent / "qa"
INFO = GeneratorInfo(
    "recorded strong LLM",
    "qa-recorded:1",
    "chat",
    True,
    OutputTerms("Written for japagen, may be used freely.", "", True, True),
)


def load() -> QATask:
    """The task, without the encoder, which has no part in what is asked."""
    task = load_task(CONFIG, {"retrieval.encoder": None})
    assert isinstance(task, QATask)
    return task


class Recorded:
    """Answers as they were written down, found by the question that a prompt ends in."""

    info = INFO

    def __init__(self) -> None:
        lines = (FOLDER / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        self._rows: dict[str, dict[str, Any]] = {
            row["question"]: row for row in map(json.loads, lines)
        }
        self._passages = read_material(load()).passages
        self.missing: list[str] = []

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        for request in requests:
            said = json.dumps(self._said(request), ensure_ascii=False)
            read = "".join(prompt_texts(request.prompt))
            yield Answer(request.id, said, "stop", self.count_tokens(read), self.count_tokens(said))

    def _said(self, request: Request) -> dict[str, Any]:
        prompt, kind = prompt_texts(request.prompt)[-1], request.template.partition(".")[0]
        shown = (p.id for p in self._passages.values() if f"文章：\n{p.text}\n" in prompt)
        passage = next(shown, None)
        if kind == "qa_write":
            rows = [row for row in self._rows.values() if row["passage"] == passage]
            return {"texts": [text for row in rows for text in (row["question"], row["answer"])]}
        row = self._rows[re.findall(r"^質問：(.*)$", prompt, re.MULTILINE)[-1]]
        if kind == "qa_distract":
            return {"texts": self._found(row, "wrong_options", ["？"] * 3)}
        if kind == "qa_choose":
            wanted = self._found(row, "chosen" if passage else "guessed", "")
            options = re.findall(r"^([A-F])\. (.*)$", prompt, re.MULTILINE)
            return {"label": next((letter for letter, text in options if text == wanted), "")}
        if passage == row["passage"]:
            return {"text": row["round_trip"]}
        return {"text": self._found(row, "neighbour", "？") if passage else row["closed_book"]}

    def _found(self, row: dict[str, Any], key: str, otherwise: Any) -> Any:
        if key not in row:
            self.missing.append(f"{key}: {row['question']} ({row['answer']})")
        return row.get(key, otherwise)

    def count_tokens(self, text: str) -> int:
        return round(0.8 * len(text))

    def close(self) -> None:
        pass


if __name__ == "__main__":
    generator = Recorded()
    with TemporaryDirectory() as folder:
        done = run(load(), Path(folder) / "run", generator=generator)
        if generator.missing:
            raise SystemExit("\n".join(["answers.jsonl has no", *generator.missing]))
        path = done / "ledger.sqlite"
        with closing(sqlite3.connect(path, isolation_level=None)) as ledger:
            # The prompts follow from the task; only the answers are needed.
            ledger.execute("DELETE FROM requests")
            ledger.execute("PRAGMA journal_mode=DELETE")
            ledger.execute("VACUUM")
        (FOLDER / "ledger.sqlite").write_bytes(path.read_bytes())
