"""Plans the requests of a run, with the registers to ask for, and turns answers into examples."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.config.generation import TEXTS_PER_REQUEST, Knowledge, UntilKept
from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example, Label, Rejection
from japagen.data.seed_table import SeedRow, SeedTable
from japagen.data.summary import UntilReason
from japagen.errors import JapagenError
from japagen.generation.fields import check_templates, field_variables
from japagen.generation.shots import ShotSets
from japagen.generation.topics import (
    LENGTH,
    Phrasing,
    Settings,
    apportion,
    assign_topics,
    default_grid,
    drawn_settings,
    fitted,
    spread,
)
from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.registers import OTHER, PRESETS, Register
from japagen.llm.answers import one_line, read_records, read_texts, why_unreadable
from japagen.llm.backend import Answer, GeneratorInfo, Request, Sampling
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import label_variables, make_request


def strategy_of(task: Task, gold: Dataset | None) -> str:
    """The strategy of a task: few-shot where there is gold, unless the task says otherwise."""
    if task.generation.strategy in ("few_shot", "zero_shot"):
        return task.generation.strategy
    return "few_shot" if gold is not None and len(gold) else "zero_shot"


def round_sizes(task: Task) -> list[int]:
    """Texts to ask for per label in each round, the larger rounds first; empty ones left out."""
    rounds = dict.fromkeys(range(task.generation.rounds), 1.0)
    sizes = apportion(rounds, task.generation.first_texts)
    return [size for size in sizes.values() if size]


# A yield is found on this many texts or more, where a label has them: one bad text of three left
# over is chance.
_LEAST_ANSWERED = 10


@dataclass(frozen=True, slots=True)
class Tally:
    """What has become of the texts of one label, over all rounds so far.

    Attributes:
        asked: Texts that were asked for; those that lists came without do not count.
        answered: Texts among them that came.
        kept: Texts that curation keeps of them.
    """

    asked: int = 0
    answered: int = 0
    kept: int = 0


def to_ask(until: UntilKept, tallies: Sequence[Tally]) -> tuple[int, UntilReason | None]:
    """How many texts of a label to ask for next, and why none where that is 0.

    As many as are short by the yield of the texts before, but never more than at first.

    Args:
        until: How many are wanted, and when to stop.
        tallies: After each round in which the label was asked for.
    """
    short = until.kept - tallies[-1].kept
    if short <= 0:
        return 0, "enough"
    before = [Tally(), *tallies[:-1]]
    if tallies[-1].answered == before[-1].answered:
        return 0, "unanswered"
    # The latest texts alone, since a label that runs out of texts repeats itself.
    since = next(
        (b for b in reversed(before) if tallies[-1].answered - b.answered >= _LEAST_ANSWERED),
        before[0],
    )
    share = (tallies[-1].kept - since.kept) / (tallies[-1].answered - since.answered)
    if share < until.least_yield:
        return 0, "yield"
    if len(tallies) == until.rounds:
        return 0, "rounds"
    return min(until.kept, ceil(short / share)), None


def first_wants(task: Task, label: str, size: int) -> dict[Knowledge, float]:
    """Maps each topic that the user wants covered to its number of texts, of a label's ``size``."""
    return {known: share * size for known, share in task.wanted_shares(label).items()}


class RequestPlanner:
    """Plans requests, a round at a time.

    Requests that share a prompt stand together, so that a backend can reuse the prefix; shot
    sets of different labels take turns, so that a run cut short is still balanced. The task's
    seed decides everything random, and a round depends on earlier ones only through what it is
    told to name.

    Args:
        task: The task.
        gold: Training gold with ``register_seen`` filled in, or None.
        prompts: Where templates come from.
        generator: Which kind of prompt is wanted, and from whom.
        tagger: Reads gold, where prompts say what each text is about.
        corpus: Texts to take passages from, or None.
        seed_table: Rows to tell of, one for each text, or None.
    """

    def __init__(
        self,
        task: Task,
        gold: Dataset | None,
        prompts: PromptLibrary,
        generator: GeneratorInfo,
        tagger: Tagger | None = None,
        corpus: Dataset | None = None,
        seed_table: SeedTable | None = None,
    ) -> None:
        self._task = task
        self._gold = gold
        self._prompts = prompts
        self._generator = generator
        self._strategy = strategy_of(task, gold)
        self._phrasing = Phrasing(
            task, gold, tagger or default_tagger(), generator.prompt_kind, corpus
        )
        self._space = task.label_space(gold)
        self._asked = self._space.asked(gold.labels if gold is not None else ())
        self._shots: dict[tuple[str, str], ShotSets] = {}
        self._turns: Counter[tuple[str, str]] = Counter()
        self._styles: Counter[tuple[str, str]] = Counter()
        prompts.check_seed(f"{self._strategy}.{generator.prompt_kind}", seed_table)
        self._fields = task.generation.asked_fields()
        if self._fields:
            check_templates(task, prompts, generator, self._strategy)
        self._rows = seed_table.draw(list(self._asked), task.seed) if seed_table else {}
        self._tagger = tagger
        self._several = texts_per_request(task, prompts, generator, self._strategy)
        self._grid: dict[str, dict[str, int]] = {}
        if task.generation.attributes == "auto" and generator.prompt_kind == "chat":
            shown = gold if self._strategy == "few_shot" else None
            self._grid = default_grid(task, prompts, shown)
        self._settings: dict[tuple[str, str], Iterator[Settings]] = {}
        self._asked_for: dict[str, _Asked] = {}

    def plan(self, registers: Mapping[str, Mapping[str, float]]) -> list[Request]:
        """All requests of a run, as far as that is possible before the first answer.

        Args:
            registers: Label to register name to share.

        Returns:
            The requests, in the order to send them. Those of later rounds name what the user wants
            covered; the gaps that earlier rounds leave are not known yet.
        """
        requests: list[Request] = []
        for number, size in enumerate(round_sizes(self._task)):
            wanted = {label: first_wants(self._task, label, size) for label in self._task.labels}
            requests += self.round(number, size, registers, wanted)
        return requests

    def round(
        self,
        number: int,
        size: int | Mapping[str, int],
        registers: Mapping[str, Mapping[str, float]],
        wanted: Mapping[str, Mapping[Knowledge, float]],
    ) -> list[Request]:
        """The requests of the next round, in the order to send them.

        Args:
            number: Which round, from 0.
            size: Texts of every label, or of each.
            registers: Label to register name to share.
            wanted: Label to topic to the number of texts that should name it; scaled down where
                that is too many. The rest name an item of the task's knowledge, or nothing.
        """
        if isinstance(size, int):
            size = apportion(self._asked, size * len(self._task.labels))
        groups: list[tuple[int, list[Request]]] = []
        for label, texts in size.items():
            counts = apportion(registers[label], texts)
            items = assign_topics(wanted.get(label, {}), texts, self._phrasing.items(label, number))
            cells = fitted(spread(items, counts), self._phrasing.fits)
            for register, named in cells.items():
                groups += self._cell(number, label, register, named)
        groups.sort(key=lambda group: group[0])
        return [request for _, group in groups for request in group]

    def _cell(
        self, number: int, label: str, register: str, named: Sequence[Knowledge | None]
    ) -> list[tuple[int, list[Request]]]:
        """The requests of one label and register, by shot set."""
        texts = max(1, self._several)
        batches = [named[i : i + texts] for i in range(0, len(named), texts)]
        size = max(1, self._task.generation.completions_per_shot_set // texts)
        groups = []
        for start in range(0, len(batches), size):
            turn = self._turns[label, register]
            self._turns[label, register] += 1
            shots = self._draw(label, register)
            group = []
            for n, batch in enumerate(batches[start : start + size]):
                place = [self._task.seed, label, register, turn, n]
                asked = self._to_ask(number, place, shots, batch)
                group.append(self._request(asked))
            groups.append((turn, group))
        return groups

    def _to_ask(
        self,
        number: int,
        place: Sequence[Any],
        shots: Sequence[Example],
        batch: Sequence[Knowledge | None],
    ) -> _Asked:
        """Draws the content of one request."""
        label, register, turn = place[1:4]
        places = [place] if len(batch) == 1 else [[*place, i] for i in range(len(batch))]
        knowns = [
            self._phrasing.settled(known, at, label, shots)
            for known, at in zip(batch, places, strict=True)
        ]
        chat = self._generator.prompt_kind == "chat"
        # Documents with the same shots begin alike, so that a backend reads them once.
        ordinal = turn if not chat else self._styles[label, register]
        self._styles[label, register] += 1
        draw = f"{self._task.seed}/style/{label}/{register}"
        style = self._prompts.style(register, draw, ordinal, voices=chat)
        settings = [self._how(label, register, known) for known in knowns]
        rows = [next(self._rows[label]) for _ in knowns] if self._rows else []
        return _Asked(number, place, label, register, shots, knowns, settings, style, rows)

    def _how(self, label: str, register: str, known: Knowledge | None) -> Settings:
        """How the next text of a label and register is to be written."""
        if not self._grid:
            return ()
        key = label, register
        if key not in self._settings:
            seed = random.Random(f"{self._task.seed}/settings/{label}/{register}")
            self._settings[key] = drawn_settings(self._grid, seed.randrange(2**32))
        drawn = next(self._settings[key])
        if known is not None and known.kind == "length_band":
            return tuple((name, value) for name, value in drawn if name != LENGTH)
        return drawn

    def missing(self, requests: Sequence[Request], answers: Mapping[str, Answer]) -> list[Request]:
        """Requests for the texts that answers are short of, with the settings they were to have.

        Args:
            requests: What this planner planned, these requests among it.
            answers: Request id to accepted answer.
        """
        again = []
        for request in requests:
            answer = answers.get(request.id)
            if answer is None or why_unreadable(request, answer):
                continue
            short = request.texts - len(read_texts(request, answer))
            if short > 0:
                asked = self._asked_for[request.id]
                rest = replace(
                    asked,
                    place=[*asked.place, "again"],
                    knowns=asked.knowns[-short:],
                    settings=asked.settings[-short:],
                    rows=asked.rows[-short:],
                )
                again.append(self._request(rest))
        return again

    def _draw(self, label: str, register: str) -> list[Example]:
        if self._strategy != "few_shot":
            return []
        key = label, register
        if key not in self._shots:
            self._shots[key] = ShotSets(self._task, self._gold, label, register, self._tagger)
        return self._shots[key].draw()

    def _request(self, asked: _Asked) -> Request:
        task = self._task
        first = asked.knowns[0]
        several = self._several > 0
        shots = asked.shots
        shown = [one_line(e.text) for e in shots]
        # Shots of several labels stand next to each other: each shows its own.
        marked = task.kind == "multi_label"
        variables: dict[str, Any] = {
            **label_variables(task, asked.label),
            "register": asked.style,
            "shots": [
                f"【{self._space.name(e.label)}】{text}" if marked and e.label is not None else text
                for e, text in zip(shots, shown, strict=True)
            ],
            "mark": f"【{asked.label}】" if marked and shots else "",
            **self._phrasing.variables(None if several else first, [e.text for e in shots]),
            "settings": asked.settings[0],
            "fields": field_variables(
                self._fields, self._prompts, f"{task.seed}/fields", asked.place[3]
            ),
            **seed_variables(task, None if several or not asked.rows else asked.rows[0]),
            "number": len(asked.knowns) if several else 0,
            "each": [
                self._phrasing.told(known, settings, [e.text for e in shots], row)
                for known, settings, row in zip_longest(asked.knowns, asked.settings, asked.rows)
            ],
        }
        knowns = [known for known in asked.knowns if known]
        ids = [*(e.id for e in shots), *(id_ for known in knowns for id_ in known.gold_ids)]
        said = [
            "\n".join(f"{name}：{value}" for name, value in settings) for settings in asked.settings
        ]
        request = make_request(
            self._strategy,
            variables,
            asked.place,
            self._prompts,
            self._generator,
            Sampling.of(task.generation, len(asked.knowns)),
            label=asked.label,
            register=Register.of(asked.register),
            shot_ids=list(dict.fromkeys(ids)),
            knowledge=[name for known in knowns for name in known.named],
            round=asked.number,
            each=[known.named if known else () for known in asked.knowns] if several else (),
            settings=said if any(said) else (),
            seed_rows=[row.id for row in asked.rows],
            fields=self._fields,
        )
        self._asked_for[request.id] = asked
        return request


@dataclass(frozen=True)
class _Asked:
    """Everything that one request is made of.

    Attributes:
        number: Round of iterative generation.
        place: Identifies the request among those of its task.
        label: The label asked for.
        register: Name of the register asked for.
        shots: Gold that the prompt shows, as it shows it.
        knowns: What each text names.
        settings: How each text is to be written.
        style: How the prompt describes the register.
        rows: The rows of the seed table that the texts get, one each; none without a table.
    """

    number: int
    place: Sequence[Any]
    label: str
    register: str
    shots: Sequence[Example]
    knowns: Sequence[Knowledge | None]
    settings: Sequence[Settings]
    style: Mapping[str, Any]
    rows: Sequence[SeedRow]


def texts_per_request(
    task: Task, prompts: PromptLibrary, generator: GeneratorInfo, strategy: str
) -> int:
    """How many texts a request lists; 0 where a request asks for a single text.

    Raises:
        JapagenError: If a list is asked for and the template cannot ask for one.
    """
    wanted = task.generation.texts_per_request
    if generator.prompt_kind == "document" or wanted == 1:
        return 0
    if prompts.mentions(f"{strategy}.chat", "number"):
        return wanted or TEXTS_PER_REQUEST
    if wanted is None:
        return 0
    raise JapagenError(
        f"generation.texts_per_request is {wanted}, but the template {strategy}.chat.j2 in "
        f"{prompts.directory} does not say how many texts are wanted.",
        "Use `number` and `each` in it as the built-in template does, or set texts_per_request: 1.",
    )


def seed_variables(task: Task, row: SeedRow | None) -> dict[str, Any]:
    """Template variables of the seed table's row: ``seed``, column to value, and ``seed_role``."""
    source = task.generation.seed
    return {"seed": row.values if row else {}, "seed_role": source.role if source else ""}


def to_dataset(
    requests: Sequence[Request],
    answers: Mapping[str, Answer],
    failures: Mapping[str, str],
    generator: str,
    label_of: Callable[[str], Label | None] = str,
) -> Dataset:
    """Turns answers into examples, in request order; one answer may give several.

    A failed or unreadable answer stays as rejected rows with the reason. Texts that a list came
    without have no row: see `RequestPlanner.missing`.

    Args:
        requests: What was asked.
        answers: Request id to accepted answer.
        failures: Request id to the reason why there is none.
        generator: Name of the model that answered.
        label_of: From the name that was asked for to the label; see `LabelSpace.label`.
    """
    rows: list[Example] = []
    for request in requests:
        label = label_of(request.label)
        failure = failures.get(request.id, "no answer")
        rows += [
            replace(row, generator=generator, label=label, label_asked=label)
            for row in _to_examples(request, answers.get(request.id), failure)
        ]
    return Dataset.of(rows)


def _to_examples(request: Request, answer: Answer | None, failure: str) -> list[Example]:
    found: list[tuple[str, Rejection | None]]
    records: list[Mapping[str, Any] | None] = [None] * request.texts
    if answer is None:
        found = [("", Rejection("failed", 1, 0, failure))] * request.texts
    else:
        found = read_texts(request, answer)
        if request.fields:
            records = [values for values, _ in read_records(request, answer)]
    rows = request.seed_rows or (None,) * request.texts
    # A list may be short, and then it is its end that is missing.
    return [
        Example(
            text=text,
            id=id_,
            split="synthetic",
            register_asked=request.register,
            request_id=request.id,
            shot_ids=request.shot_ids,
            round=request.round,
            prompt_id=request.template,
            seed=request.seed,
            seed_row=row,
            rejected=rejected,
            fields=values,
        )
        for id_, (text, rejected), row, values in zip(
            request.text_ids(), found, rows, records, strict=False
        )
    ]


Shares = dict[str, float]
_NAMES = (*PRESETS, OTHER)
_SMOOTHING = 1.0
_PERMUTATIONS = 999
_SIGNIFICANCE = 0.05


def register_shares(
    task: Task, gold: Dataset | None, unlabelled: Dataset | None = None, *, shown: bool = True
) -> dict[str, Shares]:
    """Computes the register distribution to ask for, for every label.

    ``from_gold`` counts the registers seen in gold and unlabelled text, with one added to each
    preset: a register that a few texts happen not to show is still asked for now and then.
    Texts of no preset (styles mixed, or no predicate) are asked for as often as they occur,
    "as the examples shown". Where gold's registers depend on its labels (a permutation test
    of the G statistic, p < 0.05), each label's shares are its own counts on top of the common
    shares, worth as many texts as there are presets; elsewhere every label has the common
    shares. Without any text, polite is asked for throughout.

    Args:
        task: The task.
        gold: Training gold with ``register_seen`` filled in.
        unlabelled: Unlabelled text with ``register_seen`` filled in.
        shown: Prompts show gold, so that "as the examples shown" can be asked for.

    Returns:
        Name of what is asked for (see `LabelSpace.asked`) to register name to share; the shares
        of each add up to 1.
    """
    space = task.label_space(gold)
    labels = list(space.asked(gold.labels if gold is not None else ()))
    if task.registers != "from_gold":
        wanted = {name: share for name, share in task.registers.items() if share > 0}
        return {label: dict(wanted) for label in labels}
    names = _NAMES if shown else tuple(PRESETS)
    asked = map(space.name, gold.labels) if gold is not None else ()
    seen = Counter(zip(asked, _registers(gold), strict=True))
    table = np.array([[float(seen[label, name]) for name in names] for label in labels])
    others = Counter(_registers(unlabelled))
    counts = table.sum(axis=0) + [others[name] for name in names]
    if not counts.sum():
        return {label: {"polite": 1.0} for label in labels}
    smoothed = counts + [_SMOOTHING if name in PRESETS else 0.0 for name in names]
    shares = np.tile(smoothed / smoothed.sum(), (len(labels), 1))
    if depends_on_label(table, task.seed):
        weight = _SMOOTHING * len(PRESETS)
        shares = (table + weight * shares) / (table.sum(axis=1, keepdims=True) + weight)
    return {
        label: {name: float(s) for name, s in zip(names, row, strict=True) if s > 0}
        for label, row in zip(labels, shares, strict=True)
    }


def _registers(data: Dataset | None) -> list[str]:
    """Names of the registers seen in texts."""
    rows = data.column("register_seen") if data is not None else ()
    return [Register.from_dict(row).name if row else OTHER for row in rows]


def depends_on_label(table: npt.NDArray[np.float64], seed: int = 0) -> bool:
    """Whether the rows of a count table differ significantly.

    A permutation test: registers are shuffled over labels, and the G statistic (twice the
    sample size times the mutual information) of the table is compared with theirs. It holds for
    the small counts that gold has, where the chi-squared distribution does not.

    Args:
        table: Counts, shape (labels, registers).
        seed: Of the permutations.
    """
    from scipy.special import xlogy
    from scipy.stats import random_table

    counts = table.astype(np.int64)
    labels, registers = counts.sum(axis=1), counts.sum(axis=0)
    if (labels > 0).sum() < 2 or (registers > 0).sum() < 2:
        return False
    # Shuffled tables have the same margins; the statistic is 2 Σ n log n but for these.
    shuffled = random_table(labels, registers, seed=seed).rvs(_PERMUTATIONS)
    observed, dealt = (xlogy(n, n).sum(axis=(-2, -1)) for n in (counts, shuffled))
    above = int((dealt >= observed - 1e-12).sum())
    return (above + 1) / (_PERMUTATIONS + 1) < _SIGNIFICANCE
