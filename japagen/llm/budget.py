"""What requests cost, and how much of it a task allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from japagen.config.sections import Budget, Price
from japagen.errors import JapagenError
from japagen.llm.backend import MOST_REPLIES, Answer, Request


def yen(price: Price, prompt_tokens: float, completion_tokens: float) -> float:
    """What tokens cost in yen."""
    millionths = (
        prompt_tokens * price.input_per_million + completion_tokens * price.output_per_million
    )
    return millionths / 1e6 * price.yen_per_unit


@dataclass(slots=True)
class _Cost:
    tokens: int = 0
    yen: float = 0.0

    def add(self, other: _Cost, times: int = 1) -> None:
        self.tokens += times * other.tokens
        self.yen += times * other.yen


class BudgetTracker:
    """A budget: what is spent, and what is set aside for requests in flight.

    Nothing is set aside that the budget does not hold, so it is never passed: not even if every
    request in flight writes up to its limit, and has to be asked for as often as a backend
    asks for a text that did not come.

    Args:
        budget: The bounds; none when None.
        price: What tokens cost; needed for a bound in yen.
        totals: What was spent before, as `Ledger.totals` has it.

    Raises:
        JapagenError: If there is a bound in yen and no price.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        price: Price | None = None,
        totals: Mapping[str, float] | None = None,
    ) -> None:
        self._budget = budget or Budget()
        self._price = price
        if self._budget.yen is not None and price is None:
            raise JapagenError(
                "generation.budget.yen needs to know what tokens cost, found no generator.price.",
                "Set generator.price: {input_per_million: ..., output_per_million: ...}, or a "
                "budget in tokens.",
            )
        self._aside: dict[str, tuple[_Cost, int]] = {}
        self._all_aside = _Cost()
        spent = Counter(totals or {})
        self._spent = self._cost(
            int(spent["prompt_tokens"] + spent["lost_prompt_tokens"]),
            int(spent["completion_tokens"] + spent["lost_completion_tokens"]),
        )

    def reserve(self, request: Request, prompt_tokens: int, replies: int = MOST_REPLIES) -> bool:
        """Sets aside what a request may cost; False, and nothing is, if that is too much.

        Args:
            request: What is about to be sent.
            prompt_tokens: How long its prompt is at most.
            replies: Replies that it may be charged for.
        """
        cost = self._cost(replies * prompt_tokens, replies * request.sampling.max_tokens)
        for bound, spent, aside, more in (
            (self._budget.tokens, self._spent.tokens, self._all_aside.tokens, cost.tokens),
            (self._budget.yen, self._spent.yen, self._all_aside.yen, cost.yen),
        ):
            if bound is not None and spent + aside + more > bound:
                return False
        self._aside[request.id] = (cost, replies)
        self._all_aside.add(cost)
        return True

    def left(self) -> tuple[int | None, float | None]:
        """Tokens and yen that are neither spent nor set aside; None where there is no bound."""
        tokens, money = self._budget.tokens, self._budget.yen
        return (
            None if tokens is None else tokens - self._spent.tokens - self._all_aside.tokens,
            None if money is None else money - self._spent.yen - self._all_aside.yen,
        )

    def settle(self, answer: Answer) -> None:
        """Spends what an answer cost, and frees what was set aside for it."""
        aside, replies = self._aside.pop(answer.request_id, (_Cost(), 1))
        self._all_aside.add(aside, -1)
        self._spent.add(self._cost(answer.prompt_tokens, answer.completion_tokens))
        if not (answer.prompt_tokens or answer.error):  # a server that does not count tokens
            self._spent.tokens += aside.tokens // replies
            self._spent.yen += aside.yen / replies

    def _cost(self, prompt_tokens: int, completion_tokens: int) -> _Cost:
        price = self._price
        money = yen(price, prompt_tokens, completion_tokens) if price else 0.0
        return _Cost(prompt_tokens + completion_tokens, money)
