"""A generator that answers from a script: the only fake, for tests alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

from japagen.llm.backend import Answer, GeneratorInfo, OutputTerms, PromptKind, Request

_OPENINGS = ["先日の件ですが、", "初めてご連絡します。", "急ぎです。", "", "昨日から困っています。"]
_BODIES = {
    "配送": ["荷物がまだ届きません", "再配達を頼みたいです", "届け先を変えたいです"],
    "返品": ["商品を返したいです", "定期便をやめたいです", "サイズを交換できますか"],
}
_ENDINGS = ["。", "。よろしくお願いします。", "。いつ頃になりますか。", "。早めにお願いします。"]


def write_text(request: Request) -> str:
    """A text that depends on the request's label and seed alone."""
    rng = random.Random(request.seed)
    bodies = _BODIES.get(request.label, ["よく分かりません"])
    number = rng.randint(1, 9999)
    return f"{rng.choice(_OPENINGS)}{rng.choice(bodies)}（{number}番）{rng.choice(_ENDINGS)}"


class ScriptedGenerator:
    def __init__(
        self,
        answer: Callable[[Request], str | Answer] = write_text,
        kind: PromptKind = "document",
    ) -> None:
        self._answer = answer
        self.asked: list[Request] = []
        self.info = GeneratorInfo(
            "scripted", "scripted:1", kind, True, OutputTerms("Free to use.", "", True, True)
        )

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        for request in requests:
            self.asked.append(request)
            answer = self._answer(request)
            if isinstance(answer, str):
                answer = Answer(request.id, answer, "stop", 10, len(answer), 0.01)
            yield answer

    def count_tokens(self, text: str) -> int:
        return len(text)

    def close(self) -> None:
        pass
