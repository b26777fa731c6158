"""Collects what a run measured into its summary, which metrics.json holds."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from itertools import repeat
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

import japagen
from japagen.config.generation import Knowledge
from japagen.config.sections import TESTED, Economics
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.curation.reliability import Reliability
from japagen.data.dataset import HELD_BACK, REWRITTEN, SYNTHESISED, Dataset
from japagen.data.scores import (
    Bounds,
    BreakEven,
    EconomicsSummary,
    Labelling,
    QueryCosts,
    RunCosts,
    TestResult,
)
from japagen.data.summary import (
    LabelCounts,
    RunSummary,
    SourceValue,
    Worth,
)
from japagen.japanese.overlap import OverlapIndex
from japagen.japanese.registers import OTHER, PRESETS, Register
from japagen.llm.backend import GeneratorInfo
from japagen.pipeline.sources import report_sources
from japagen.pipeline.steps.labels import Pseudo
from japagen.pipeline.steps.train import Baseline, Seeded, scores_of

_PACKAGES = ("torch", "transformers", "fugashi", "unidic-lite", "scipy", "xllamacpp")


# What stages report as the summary has it; None where they do not.
_REPORTED = (
    "text_fields",
    "audit",
    "until",
    "coverage",
    "alignment",
    "diversity",
    "gradient_matching",
    "mix",
    "judge",
    "encoder",
)


@dataclass
class Parts:
    """What the stages hand over.

    Attributes:
        task: The task.
        data: Its texts.
        gold: Training gold with registers.
        dataset: Synthetic examples as far as the stages have come.
        generator: Who wrote them; None when they came from files alone.
        cost: Totals of the ledger.
        distances: Source to how far its kept texts are from gold; empty with one source.
        reliability: Source to how reliable its labels are; empty before they are checked.
        values: Source to what its texts were found to be worth; empty before training.
        pseudo: Unlabelled texts that were trained on, and why.
        with_synthetic: Seed and what the classifier gave for the test texts, shape
            (n, `LabelSpace.outputs`), a training.
        gold_only: The same for training on gold only.
        baselines: What a reader would try first; some perhaps left out.
        seconds: Stage to seconds.
        rounds: What was found after each round of the closed loop; empty with one round.
        named: Id of a text that was asked for to what it was to name.
        latency: Seconds that the classifier takes for one text.
        reported: More of the summary, under its names.
    """

    task: Task
    data: TaskData
    gold: Dataset | None = None
    dataset: Dataset | None = None
    generator: GeneratorInfo | None = None
    cost: Mapping[str, float] | None = None
    distances: Mapping[str, float | None] = field(default_factory=dict)
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    values: Mapping[str, SourceValue] = field(default_factory=dict)
    pseudo: Pseudo = field(default_factory=Pseudo)
    with_synthetic: list[Seeded] = field(default_factory=list)
    gold_only: list[Seeded] = field(default_factory=list)
    baselines: list[Baseline] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    named: Mapping[str, tuple[Knowledge, ...]] = field(default_factory=dict)
    latency: float | None = None
    reported: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(_REPORTED))


def collect(parts: Parts) -> RunSummary:
    """Returns everything a report shows; what was not measured is None."""
    task, dataset, reported = parts.task, parts.dataset, parts.reported
    assert dataset is not None
    generator, share = parts.generator, (reported["mix"] or {}).get("share")
    summary = RunSummary.model_validate(
        {
            "japagen": japagen.__version__,
            "task": {
                name: getattr(task, name)
                for name in ("name", "description", "text_type", "labels", "kind", "seed")
            }
            | {"pair": task.pair and task.pair.model_dump()},
            "generator": generator
            and {
                "name": generator.name,
                "identity": generator.identity,
                "terms": asdict(generator.terms),
            },
            "seed_rows": seed_use(task, parts.data, dataset.column("seed_row")),
            "counts": _counts(parts, dataset),
            "per_label": _per_label(parts, dataset),
            "rejections": dataset.rejection_counts,
            "registers": _registers(parts, dataset),
            "rounds": _rounds(parts),
            "pseudo_labels": parts.pseudo.found,
            "scores": scores_of(
                task,
                parts.data,
                parts.with_synthetic,
                parts.gold_only,
                parts.baselines,
                used=share != 0 or parts.pseudo.labels is not None,
            ),
            "leakage": _leakage(parts, dataset),
            "lengths": _lengths(parts.gold, dataset.kept),
            "cost": _cost(parts, dataset),
            "seconds": parts.seconds,
            "versions": _versions(),
            "dictionary": reported["alignment"] and reported["alignment"]["dictionary"],
            **reported,
        }
    )
    summary = summary.model_copy(update={"sources": report_sources(dataset, parts, summary)})
    # The record of another run says nothing of what its texts have cost.
    free = generator is not None and generator.local and task.generator.backend != "replay"
    economics = economics_of(task.economics, summary, free=free, latency=parts.latency)
    tests = check_tests(task.tests, summary)
    return summary.model_copy(update={"economics": economics, "tests": tests})


_LENGTH_BINS = 10


def _lengths(gold: Dataset | None, kept: Dataset) -> dict[str, Any] | None:
    """How long texts are, in bins that reach to where all but the longest few end."""
    if gold is None or not len(gold) or not len(kept):
        return None
    sides = {
        name: [sum(map(len, example.texts)) for example in data]
        for name, data in (("gold", gold), ("synthetic", kept))
    }
    most = max(float(np.quantile(lengths, 0.95)) for lengths in sides.values())
    edges = np.arange(_LENGTH_BINS) * max(math.ceil(most / _LENGTH_BINS / 5) * 5, 1)
    shares = {
        name: (np.bincount(np.digitize(found, edges) - 1, minlength=_LENGTH_BINS) / len(found))
        for name, found in sides.items()
    }
    return {"edges": edges.tolist(), **{name: found.tolist() for name, found in shares.items()}}


def check_tests(wanted: Mapping[str, float], summary: RunSummary) -> list[TestResult]:
    """Holds what a run measured against the bounds of its task; what was not measured fails."""
    model = summary.scores.with_synthetic if summary.scores else None
    by_label = [row.get("f1") for row in model.per_label.values()] if model else []
    measured = {
        "label_f1": min((f1 for f1 in by_label if f1 is not None), default=None),
        "ece": model.ece if model else None,
        "leakage": summary.leakage.max_overlap if summary.leakage else None,
        "register_match": summary.registers.match if summary.registers else None,
    }
    results = []
    for name, bound in wanted.items():
        kind = TESTED.get(name, "least")
        if name not in TESTED:
            measured[name] = model.score(name) if model else None
        found = measured[name]
        passed = found is not None and (found >= bound if kind == "least" else found <= bound)
        results.append(TestResult(name=name, kind=kind, bound=bound, found=found, passed=passed))
    return results


def junit(results: Sequence[TestResult], name: str) -> str:
    """The results as JUnit XML, which CI systems read."""
    failed = sum(not test.passed for test in results)
    counts = {"tests": str(len(results)), "failures": str(failed)}
    where = f"japagen.{name}"
    suite = ElementTree.Element("testsuite", {"name": where, **counts})
    for test in results:
        case = ElementTree.SubElement(suite, "testcase", classname=where, name=test.name)
        found = "not measured" if test.found is None else f"{test.found:g}"
        if not test.passed:
            message = f"expected at {test.kind} {test.bound:g}, found {found}"
            ElementTree.SubElement(case, "failure", message=message)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def seed_use(task: Task, data: TaskData, ids: Iterable[str | None]) -> dict[str, str | int] | None:
    """How many rows of the seed table texts were asked for with; None where there is no table."""
    if data.seed is None or task.generation.seed is None:
        return None
    used = len({id_ for id_ in ids if id_ is not None})
    file, order = data.seed.path.name, task.generation.seed.order
    return {"file": file, "order": order, "rows": len(data.seed.rows), "used": used}


def _cost(parts: Parts, dataset: Dataset) -> dict[str, float] | None:
    """The ledger's totals, and what each text of the generator that was kept has cost."""
    totals, own = parts.cost, parts.task.generator_source
    if not totals:
        return None
    found = dict(totals)
    if kept := dataset.kept.column("source").count(own):
        tokens = totals["prompt_tokens"] + totals["completion_tokens"]
        found["tokens_per_kept"] = round(tokens / kept, 1)
        if "yen" in totals:
            found["yen_per_kept"] = round(totals["yen"] / kept, 4)
    return found


def _size(data: Dataset | None) -> int:
    return len(data) if data is not None else 0


def _counts(parts: Parts, dataset: Dataset) -> dict[str, int]:
    kept = int(dataset.kept_mask.sum())
    labels = zip(dataset.kept.labels, dataset.kept.column("label_asked"), strict=True)
    failed = dataset.rejection_counts.get("failed", 0)
    derived = Counter(dataset.column("derived"))
    first, own = derived[None], parts.task.generator_source
    written = zip(dataset.column("derived"), dataset.column("source"), strict=True)
    return {
        "gold": _size(parts.data.gold),
        "test": _size(parts.data.test),
        "unlabelled": _size(parts.data.unlabelled),
        "requested": sum(how is None and name == own for how, name in written),
        "failed": failed,
        "generated": first - failed,
        "rewritten": derived[REWRITTEN],
        "synthesised": derived[SYNTHESISED],
        "relabelled": sum(asked is not None and label != asked for label, asked in labels),
        "rejected": len(dataset) - kept - failed,
        "kept": kept,
    }


def _per_label(parts: Parts, dataset: Dataset) -> dict[str, LabelCounts]:
    space, own = parts.task.label_space(), dataset.kept

    def tally(labels: Iterable[Any], amounts: Iterable[float] = repeat(1)) -> dict[str, float]:
        """The sum of the amounts by label or tag."""
        found = dict.fromkeys(parts.task.labels, 0.0)
        for label, amount in zip(labels, amounts, strict=False):
            for tag in space.tags(space.name(label)):
                found[tag] += amount
        return found

    gold = tally(parts.data.gold.labels if parts.data.gold is not None else ())
    written = dataset.take(np.flatnonzero([how is None for how in dataset.column("derived")]))
    asked = zip(written.column("label_asked"), written.labels, strict=True)
    # Counted under the label it was written for, whatever it was found to have.
    made = tally(label if given is None else given for given, label in asked)
    kept, trust = tally(own.labels), tally(own.labels, own.column("weight_label"))
    weight = tally(dataset.labels, dataset.weights.tolist())
    total = sum(weight.values()) or 1.0
    return {
        label: LabelCounts(
            gold=int(gold[label]),
            generated=int(made[label]),
            kept=int(kept[label]),
            label_trust=trust[label] / kept[label] if kept[label] else None,
            weight_share=weight[label] / total,
        )
        for label in parts.task.labels
    }


def _rounds(parts: Parts) -> dict[str, Any] | None:
    """Each round's distances, what it named and what was missing after it."""
    if not parts.rounds:
        return None
    return {
        "planned": parts.task.generation.rounds,
        "stopped": parts.rounds[-1]["stopped"],
        "rounds": parts.rounds,
    }


def _name(row: Mapping[str, Any] | None) -> str:
    return Register.from_dict(row).name if row else OTHER


def _shares(names: Iterable[str]) -> dict[str, float]:
    counts = Counter(names)
    total = max(sum(counts.values()), 1)
    return {
        name: counts[name] / total for name in (*PRESETS, OTHER) if name != OTHER or counts[name]
    }


def _registers(parts: Parts, dataset: Dataset) -> dict[str, Any] | None:
    """Registers in gold, as asked for, and as seen before and after they were held to that."""
    names = ("label_asked", "register_asked", "register_seen", "derived", "rejected")
    space = parts.task.label_space()
    rows = [
        _Row(
            tags=[] if label is None else space.tags(space.name(label)),
            asked=asked and _name(asked),
            seen=_name(seen),
            derived=derived,
            kept=not rejected,
            usable=not rejected or rejected["filter"] in (*HELD_BACK, SYNTHESISED),
        )
        for label, asked, seen, derived, rejected in zip(*map(dataset.column, names), strict=True)
    ]
    if not any(dataset.kept.column("register_seen")):
        return None
    found = {
        "gold": _shares(map(_name, parts.gold.column("register_seen"))) if parts.gold else {},
        **_asked_and_seen(rows),
        "rewritten": sum(row.kept and row.derived == REWRITTEN for row in rows),
    }
    found["per_label"] = {
        label: _asked_and_seen([row for row in rows if label in row.tags])
        for label in parts.task.labels
        if found["asked"]
    }
    return found


class _Row(NamedTuple):
    """One text: the register asked for and the one seen, and what became of it."""

    tags: list[str]
    asked: str | None
    seen: str
    derived: str | None
    kept: bool
    usable: bool


def _asked_and_seen(rows: list[_Row]) -> dict[str, Any]:
    """Shares as asked, seen before and seen after, and how far each is from what was asked."""
    first = [row for row in rows if row.asked and row.derived is None]
    usable, kept = [row for row in first if row.usable], [row for row in rows if row.kept]
    asked = _shares(row.asked for row in first if row.asked) if first else {}
    before, after = (_shares(row.seen for row in side) for side in (usable, kept))

    def match(side: list[_Row]) -> float | None:
        both = [row.asked == row.seen for row in side if row.asked]
        return sum(both) / len(both) if both else None

    def distance(seen: Mapping[str, float]) -> float | None:
        """Total variation from what was asked."""
        if not asked:
            return None
        return sum(abs(asked.get(n, 0) - seen.get(n, 0)) for n in {**asked, **seen}) / 2

    return {
        "asked": asked,
        "before": before if first else {},
        "seen": after,
        "match_before": match(usable),
        "match": match(kept),
        "distance_before": distance(before),
        "distance": distance(after),
    }


def _leakage(parts: Parts, dataset: Dataset) -> dict[str, Any] | None:
    """How much of the synthetic text stands in the test texts, which nothing may learn from."""
    test, kept = parts.data.test, dataset.kept
    if test is None or not len(kept):
        return None
    index = OverlapIndex(_all_texts(test))
    found = [(*index.nearest(text), text) for text in _all_texts(kept)]
    share, test_text, text = max(found)
    return {
        "mean_overlap": float(np.mean([f[0] for f in found])),
        "max_overlap": share,
        "worst": {"text": text, "test_text": test_text},
    }


def _all_texts(data: Dataset) -> list[str]:
    """Every text, both sides of pairs."""
    return [*data.texts, *(text for text in data.column("text_pair") if text)]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = package_version(package)
        except PackageNotFoundError:
            continue
    return found


# What a run saves and costs: labelling by hand, and asking a language model for every text.


def economics_of(
    settings: Economics,
    summary: RunSummary,
    *,
    free: bool = False,
    latency: float | None = None,
) -> EconomicsSummary:
    """Returns the return on investment; what is unknown is None."""
    run, llm = _run_costs(settings, summary, free), _llm_costs(settings, summary)
    yen = None if latency is None else _machine(settings, latency)
    classifier = QueryCosts(seconds=latency, yen=yen)
    return EconomicsSummary(
        assumptions=settings.model_dump(),
        labelling=_labelling(settings, summary),
        run=run,
        query={"llm": llm, "classifier": classifier},
        break_even=_break_even(settings, run.yen, llm.yen, classifier.yen or 0.0),
    )


def _labelling(settings: Economics, summary: RunSummary) -> Labelling:
    """Labelling that the synthetic set stands for, where it stands for any."""
    worth = summary.mix.curves.worth if summary.mix and summary.mix.curves else None
    state = _labelling_state(summary, worth)
    if worth is None or state not in ("worth", "beyond"):
        return Labelling(state=state)
    labels = len(summary.per_label)
    per_label = Bounds(value=worth.texts, low=worth.low, high=worth.high, limit=worth.limit)
    texts = per_label.times(labels)
    hours = texts.times(1 / settings.texts_per_hour)
    yen = hours.times(settings.yen_per_hour)
    return Labelling(
        state=state, labels=labels, per_label=per_label, texts=texts, hours=hours, yen=yen
    )


def _labelling_state(summary: RunSummary, worth: Worth | None) -> str:
    if summary.synthetic_share == 0:
        return "not_used"
    if worth is None:
        return "not_measured"
    # What cross-validation on gold promised has failed on the test texts.
    if summary.scores and summary.scores.verdict == "worse":
        return "worse"
    if worth.texts is None:
        return "beyond"
    return "worth" if worth.texts > 0 else "none"


def _run_costs(settings: Economics, summary: RunSummary, free: bool) -> RunCosts:
    seconds = sum(summary.seconds.values())
    charged, machine = _charged(summary, free), _machine(settings, seconds)
    return RunCosts(
        seconds=seconds,
        generator_yen=charged,
        machine_yen=machine,
        yen=None if charged is None else charged + (machine or 0.0),
    )


def _charged(summary: RunSummary, free: bool) -> float | None:
    """What the run's own generator and those that wrote its files have charged, if all is known."""
    files = [source.yen for source in summary.sources if source.kind == "file"]
    given = [source.yen for source in summary.sources if source.kind == "generator"]
    metered = (summary.cost or {}).get("yen", 0.0 if free else None)
    own = [metered if yen is None else yen for yen in given] or ([] if files else [metered])
    charged = [yen for yen in (*own, *files) if yen is not None]
    return sum(charged) if len(charged) == len(own) + len(files) else None


def _machine(settings: Economics, seconds: float) -> float | None:
    rate = settings.machine_yen_per_hour
    return None if rate is None else seconds / 3600 * rate


def _llm_costs(settings: Economics, summary: RunSummary) -> QueryCosts:
    """An answer of the run's own generator, which writes a text where a query names a label."""
    cost, given = summary.cost or {}, settings.llm_yen_per_1000
    answers = cost.get("answers") or 0
    tokens = cost.get("prompt_tokens", 0) + cost.get("completion_tokens", 0)
    # A server that does not count its tokens leaves 0, which is no measurement.
    measured = bool(answers and tokens)
    priced = measured and "yen" in cost
    own = cost["yen"] / answers if priced else None
    return QueryCosts(
        tokens=tokens / answers if measured else None,
        seconds=cost["request_seconds"] / answers if answers else None,
        yen=own if given is None else given / 1000,
        price="given" if given is not None else "measured" if priced else None,
    )


def _break_even(
    settings: Economics, spent: float | None, theirs: float | None, ours: float
) -> BreakEven:
    """How many queries until the run has cost less than asking a model for each."""
    if theirs is None or spent is None:
        return BreakEven(state="not_measured")
    if theirs <= ours:
        return BreakEven(state="never")
    queries = math.ceil(spent / (theirs - ours))
    return BreakEven(state="reached", queries=queries, months=queries / settings.queries_per_month)
