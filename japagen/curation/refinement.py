"""Self-refinement: doubtful texts are criticised and rewritten; the better version stays.

Self-refinement (Madaan et al. 2023, arXiv:2303.17651), with one difference: a classifier trained
on gold only decides whether the rewrite is better, not the model itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from japagen.data.dataset import REWRITTEN, Dataset, Example, Rejection
from japagen.data.labels import Floats
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import OTHER, Register
from japagen.llm.answers import one_line, read_answer
from japagen.llm.backend import Answer, GeneratorInfo, Request, Sampling
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import make_request

CRITICISE, REFINE = "criticise", "refine"
# A judgement should depend on the text, and a new text not be the old one.
_CRITICAL, _INVENTIVE = 0.3, 0.7
_CRITIQUE_TOKENS = 200

Variables = Callable[[str], Mapping[str, Any]]
Send = Callable[[Sequence[Request]], Mapping[str, Answer]]


class Rewriter:
    """Has a chat model criticise and rewrite texts.

    Args:
        prompts: Where the templates come from.
        generator: Who is asked.
        send: Asks; returns request id to answer, without those that failed.
        variables: What templates may say of a label.
        seed: Of all requests.
        max_tokens: Of a new text.
    """

    def __init__(
        self,
        prompts: PromptLibrary,
        generator: GeneratorInfo,
        send: Send,
        variables: Variables,
        seed: int,
        max_tokens: int,
    ) -> None:
        self._prompts = prompts
        self._generator = generator
        self._send = send
        self._variables = variables
        self._seed = seed
        self._samplings = {
            CRITICISE: Sampling(_CRITICAL, max_tokens=_CRITIQUE_TOKENS),
            REFINE: Sampling(_INVENTIVE, max_tokens=max_tokens),
        }

    def rewrite(self, rows: Sequence[Example], number: int) -> list[Example | None]:
        """Returns a rewrite of each text, not judged yet; None where no readable answer came.

        Args:
            rows: Doubtful texts.
            number: Which round, from 1.
        """
        asked = [self._request(CRITICISE, row, number, {}) for row in rows]
        said = self._read(asked)
        again = [
            self._request(REFINE, row, number, {"critique_json": _as_json(critique)})
            for row, critique in zip(rows, said, strict=True)
            if critique
        ]
        texts = iter(zip(again, self._read(again), strict=True))
        children: list[Example | None] = []
        for row, critique in zip(rows, said, strict=True):
            request, text = next(texts) if critique else (None, "")
            children.append(self._child(row, request, text, number) if request and text else None)
        return children

    def _request(
        self, template: str, row: Example, number: int, more: Mapping[str, Any]
    ) -> Request:
        register = row.register_asked or Register()
        shown = self._prompts.registers.get(register.name, self._prompts.registers[OTHER])
        variables = {**self._variables(str(row.label)), "register": shown, **more}
        return make_request(
            template,
            {**variables, "text": one_line(row.text)},
            [self._seed, template, row.id, number],
            self._prompts,
            self._generator,
            self._samplings[template],
            label=str(row.label),
            register=register,
            shot_ids=row.shot_ids,
            round=row.round,
        )

    def _read(self, requests: Sequence[Request]) -> list[str]:
        """The text of each answer; empty where there is none that can be used."""
        answers = self._send(requests) if requests else {}
        found = []
        for request in requests:
            answer = answers.get(request.id)
            text, unusable = read_answer(request, answer) if answer else ("", None)
            found.append("" if unusable else text)
        return found

    def _child(self, row: Example, request: Request, text: str, number: int) -> Example:
        return replace(
            row,
            text=text,
            id=f"{row.id}-f{number}",
            derived=REWRITTEN,
            parent_id=row.id,
            register_seen=None,
            request_id=request.id,
            generator=self._generator.name,
            prompt_id=request.template,
            seed=request.seed,
        )


def refine(
    dataset: Dataset,
    rounds: int,
    doubt: float,
    score: Callable[[Dataset], Floats],
    rewrite: Callable[[Sequence[Example], int], Sequence[Example | None]],
    filtered: Callable[[Dataset, int], Dataset],
    analyzer: RegisterAnalyzer,
) -> Dataset:
    """Replaces doubtful texts by their rewrites where those are better.

    A child is better if its label is likelier than its parent's, it is in the register asked for
    and the filters let it pass. The other of the two stays as a rejected row.

    Args:
        dataset: Curated examples.
        rounds: Most times that a text is rewritten.
        doubt: Texts whose label is less likely are doubtful.
        score: Probability of its own label for every row, shape (rows,).
        rewrite: Makes a child of each text, by round.
        filtered: Applies the filters to the rows from some number on, beside those before.
        analyzer: Finds registers.

    Returns:
        The same rows in the same order, and the children behind them.
    """
    scores = dict(zip(dataset.column("id"), score(dataset).tolist(), strict=True))
    for number in range(1, rounds + 1):
        parents = [e for e in dataset if e.rejected is None and scores[e.id] < doubt]
        made = [child for child in rewrite(parents, number) if child is not None]
        if not made:
            break
        seen = [*analyzer.registers(child.text for child in made)]
        children = Dataset.of(made).with_registers(seen)
        scores |= dict(zip(children.column("id"), score(children).tolist(), strict=True))
        dataset = _better(dataset, children, scores, filtered)
    return dataset


def _better(
    dataset: Dataset,
    children: Dataset,
    scores: Mapping[str, float],
    filtered: Callable[[Dataset, int], Dataset],
) -> Dataset:
    judged = children.with_rejections([_why_not(child, scores) for child in children])
    child_of = {str(e.parent_id): e.id for e in judged.kept}

    def held(rows: Dataset, gone: set[str]) -> Dataset:
        """Rejects the parents whose child takes their place."""
        return rows.with_rejections(
            [
                Rejection("refined", scores[e.id], scores[child_of[e.id]], f"in {child_of[e.id]}")
                if e.id in gone
                else e.rejected
                for e in rows
            ]
        )

    # The filters compare children with everything but the parents that they would replace.
    rows = Dataset.concat([held(dataset, set(child_of)), judged])
    tried = filtered(rows, len(dataset))
    passed = {str(e.parent_id) for e in tried.kept if e.id in child_of.values()}
    return Dataset.concat([held(dataset, passed), tried.take(range(len(dataset), len(tried)))])


def _why_not(child: Example, scores: Mapping[str, float]) -> Rejection | None:
    before, after = scores[str(child.parent_id)], scores[child.id]
    if after <= before:
        return Rejection("not_better", round(after, 3), round(before, 3), "label no likelier")
    asked = child.register_asked.name if child.register_asked else None
    seen = child.register_seen.name if child.register_seen else OTHER
    if asked and seen != asked:
        return Rejection("not_better", 1, 0, f"{asked} asked, {seen} seen")
    return None


def _as_json(critique: str) -> str:
    return json.dumps({"text": critique}, ensure_ascii=False)
