"""The card of a dataset: what it is, how it was made, and what may be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.examples import Dataset
from japagen.exporting.markdown import MISSING, bounded, not_measured, number, plain, share, table
from japagen.japanese.registers import OTHER, PRESETS
from japagen.reporting.learnt import added
from japagen.reporting.source_view import files, listed

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(metrics: Mapping[str, Any], dataset: Dataset) -> str:
    """Returns the card of a run's dataset: Markdown with YAML front matter.

    Args:
        metrics: What metrics.json holds; parts that are None read "not measured".
        dataset: The examples, rejected ones included.
    """
    task = metrics["task"]
    parts = [
        _front_matter(task, len(dataset.kept)),
        f"# {plain(task['name'])}",
        _introduction(metrics),
        _making(metrics, dataset),
        "## Labels",
        table(
            ("label", "meaning", "gold", "generated", "kept", "share of weight"),
            [
                (
                    label,
                    task["labels"].get(label, ""),
                    row["gold"],
                    row["generated"],
                    row["kept"],
                    share(row["weight_share"]),
                )
                for label, row in metrics["per_label"].items()
            ],
        ),
        "## Registers",
        _registers(metrics.get("registers")),
        "## Rejected texts",
        table(("reason", "texts"), metrics["rejections"].items())
        if metrics["rejections"]
        else "None.",
        "## Alignment",
        _alignment(metrics.get("alignment")),
        "## Scores",
        _scores(metrics),
        "## Terms of the generator's output",
        terms_of(metrics),
        "## Limits",
        _LIMITS,
        "## How to reproduce",
        _reproduction(metrics),
    ]
    return "\n\n".join(parts) + "\n"


_LIMITS = """\
- The texts are synthetic. They describe no real persons or events, and what they claim may be
  false.
- The labels are those that the generator was asked for, or what automatic judges found instead.
  Some texts do not fit theirs.
- Filters are automatic and let some bad texts through. People have checked those alone on which
  a review of the run decided.
- The weights fit this task's gold and unlabelled texts, not other uses.
- Registers are read from word forms. Whether honorifics are used correctly is not judged."""


def _front_matter(task: Mapping[str, Any], kept: int) -> str:
    import yaml

    size = next((name for limit, name in _SIZES if kept < limit), "n>1M")
    front = {
        "language": ["ja"],
        # A line of dashes in a name would end the front matter.
        "pretty_name": " ".join(task["name"].split()),
        "task_categories": ["text-classification"],
        "tags": ["synthetic", "japanese", "japagen"],
        "size_categories": [size],
    }
    return f"---\n{yaml.safe_dump(front, allow_unicode=True, sort_keys=False)}---"


def _introduction(metrics: Mapping[str, Any]) -> str:
    task, kept = metrics["task"], f"{metrics['counts']['kept']:,}"
    about = f": {plain(task['description'])}" if task.get("description") else ""
    kind = plain(task.get("text_type") or "文章")
    return (
        f"{kept} synthetic Japanese texts ({kind}) with labels and weights{about}\n\n"
        f"LLM が書いた日本語の合成テキスト {kept} 件です。人による確認はしていません。"
        "利用条件（Terms）と限界（Limits）を必ずお読みください。"
    )


def _making(metrics: Mapping[str, Any], dataset: Dataset) -> str:
    counts = metrics["counts"]
    prompts = sorted({p for p in dataset.column("prompt_id") if p})
    method = (metrics.get("alignment") or {}).get("method", "none")
    weighted = "" if method == "none" else " and weighted towards gold"
    unseen = f" {counts['test']:,} test texts took no part in it." if counts["test"] else ""
    steps = (
        *("gold", "unlabelled", "requested", "failed", "generated", "rewritten", "synthesised"),
        *("rejected", "kept"),
    )
    return "\n\n".join(
        [
            "## How it was made",
            f"Written by {writers_of(metrics)}, then filtered{weighted} "
            f"by japagen {metrics['japagen']}. "
            f"Prompts: {', '.join(map(plain, prompts)) or 'unknown'}.{unseen}",
            table(("step", "texts"), [(s, f"{counts[s]:,}") for s in steps if s in counts]),
            *_sources(metrics),
        ]
    )


def writers_of(metrics: Mapping[str, Any]) -> str:
    """Who wrote the synthetic texts: the generator, and unknown models that left files."""
    generator, named = metrics.get("generator"), files(metrics)
    own = [f"{plain(generator['name'])} (`{plain(generator['identity'])}`)"] if generator else []
    if named:
        whose = "an unknown model" if len(named) == 1 else "unknown models"
        which = "the file" if len(named) == 1 else "the files"
        own.append(f"{whose}, from {which} {', '.join(map(plain, named))}")
    return ", and ".join(own) or "an unknown model"


def _sources(metrics: Mapping[str, Any]) -> list[str]:
    """The sources side by side, where there is more to say than who the generator is."""
    if not files(metrics):
        return []
    rows = [
        (
            source["name"],
            source["origin"],
            f"{source['texts']:,}",
            f"{source['kept']:,}",
            share(source["label_trust"]),
            number(source["distance"]),
            share(source["value"]["share"]),
        )
        for source in listed(metrics)
    ]
    heads = ("source", "file or model", "texts", "kept", "mean label confidence")
    return [table((*heads, "AUC against gold", "share of the training loss"), rows)]


def _registers(found: Mapping[str, Any] | None) -> str:
    if not found:
        return not_measured()
    sides = ("gold", "asked", "before", "seen")
    rows = [
        (name, *(share(found[side].get(name, 0.0) if found.get(side) else None) for side in sides))
        for name in (*PRESETS, OTHER)
        if any(name in (found.get(side) or {}) for side in sides)
    ]
    match = (
        f"Written in the register asked for: {share(found.get('match_before'))} as generated, "
        f"{share(found.get('match'))} after control."
    )
    return f"{table(('register', *sides), rows)}\n\n{match}"


def _alignment(found: Mapping[str, Any] | None) -> str:
    if not found:
        return not_measured()
    prior, diagnostics = found.get("prior") or {}, found.get("diagnostics") or {}
    size = diagnostics.get("effective_sample_size") or {}
    names = ("label_distance", "word_divergence", "pos_divergence", "two_sample_auc")
    rows = [
        (name.replace("_", " "), *(bounded((diagnostics.get(name) or {}).get(s)) for s in _WHEN))
        for name in names
    ]
    return "\n\n".join(
        [
            f"Method: {found['method']}. Label prior: {prior.get('how', MISSING)}. "
            f"{plain(prior.get('why', ''))}",
            f"Effective sample size: {number(size.get('rows'), '.0f')} "
            f"({share(size.get('share'))} of the kept texts).",
            table(("distance", *_WHEN), rows),
        ]
    )


_WHEN = ("before", "after")


def _scores(metrics: Mapping[str, Any]) -> str:
    found, leakage = metrics.get("scores"), metrics.get("leakage")
    if not found:
        return not_measured()
    arms = [found.get(name) or {} for name in ("gold_only", "with_synthetic")]
    more = {"unlabelled": "unlabelled text", "both": "these and unlabelled texts"}
    said = more.get(added(metrics), "these texts")
    rows = [
        (name.replace("_", "-"), *(number(arm.get(name)) for arm in arms))
        for name in (*found["metrics"], "mean_absolute_error", "ece")
        if any(arm.get(name) is not None for arm in arms)
    ]
    gain = bounded(found.get("gain"), sign="+")
    overlap = share((leakage or {}).get("max_overlap"))
    return "\n\n".join(
        [
            f"A classifier trained with and without {said}, on {found['n']:,} test texts.",
            table(("score", "gold only", f"with {said}"), rows),
            f"Gain in {found['metric'].replace('_', '-')}: {gain}. The interval is a 95% interval "
            "over the test texts. "
            f"Largest share of character 5-grams in common with a test text: {overlap}.",
        ]
    )


def terms_of(metrics: Mapping[str, Any]) -> str:
    """What the terms of the models that wrote the texts allow, or that they must be looked up."""
    generator, changed = metrics.get("generator"), metrics.get("gradient_matching")
    parts = [_terms(generator["terms"])] if generator else []
    if files(metrics) or not generator:
        of_them = f"Those of {plain(', '.join(files(metrics)))}" if generator else "The texts"
        parts.append(f"{of_them} came from a file: check the terms of the model that wrote them.")
    if changed and changed["synthesised"] and changed["model"] != (generator or {}).get("name"):
        parts += [f"{plain(changed['model'])} found words for them:", _terms(changed["terms"])]
    return "\n\n".join(parts)


def _terms(terms: Mapping[str, Any]) -> str:
    answers = {True: "yes", False: "no", None: "check the terms"}
    link = [f"Full terms: {terms['url']}"] if terms.get("url") else []
    return "\n\n".join(
        [
            terms["summary"],
            *link,
            f"- May train another model: {answers[terms.get('may_train')]}\n"
            f"- May be published: {answers[terms.get('may_publish')]}",
        ]
    )


def _reproduction(metrics: Mapping[str, Any]) -> str:
    facts = {
        "seed": metrics["task"]["seed"],
        "encoder": metrics.get("encoder") or MISSING,
        "dictionary": metrics.get("dictionary") or MISSING,
        **(metrics.get("versions") or {}),
    }
    return (
        "```sh\njapagen run task.yaml\n```\n\n"
        "with the run directory's `task.yaml`. A generator need not write the same text twice; "
        "the run directory's ledger keeps what it wrote.\n\n"
        + table(("what", "value"), facts.items())
    )
