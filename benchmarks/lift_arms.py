"""The arms of benchmarks/lift.py: what can be done with a handful of gold.

Every function takes a `Cell` and returns what its classifier gives for the test texts, shape
(n, outputs) as `LabelSpace` has it; none of them sees a label of those.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lift_tasks import Cell, real_texts, unlabelled_texts
from scipy.special import softmax

import japagen as jg
from japagen.config.sections import Training
from japagen.config.sources import Source, given_sources
from japagen.curation.llm_judge import Question, letters, weighing_prompts
from japagen.data.dataset import Dataset
from japagen.data.files import read_array
from japagen.evaluation.metrics import score
from japagen.llm.answers import one_line
from japagen.llm.backend import AmbiguousOptionsError
from japagen.llm.backends.embedded import EmbeddedGenerator
from japagen.llm.prompts import PromptLibrary
from japagen.training.encoder import Encoder, load_encoder, supports_bf16
from japagen.training.head import last_linear
from japagen.training.trainer import row_losses, step_count, train, untrained

Floats = npt.NDArray[np.float64]
SETFIT_STEPS = 120
_SHOT_CHARACTERS, _MOST_CHARACTERS = 2200, 200  # as the label check: 2048 tokens of context
_LEAST_STEPS = 60
# Nothing is turned down but what cannot be used: no filter, no quota of registers, no vote.
_NO_SIGNS = (
    "repeated_words",
    "unfinished",
    "unclosed",
    "opening_formula",
    "can_do",
    "bullets",
    "missing_particles",
    "translationese",
    "machine_phrases",
)
_UNCURATED: dict[str, Any] = {
    "min_characters": 1,
    "max_characters": 10_000,
    "min_japanese_share": 0.0,
    "max_gold_overlap": 1.0,
    "max_similarity": 1.0,
    "personal_data": "ignore",
    "label_miss": "keep",
    "naturalness": dict.fromkeys(_NO_SIGNS),
}
_UNLABELLED = "japagen, unlabelled text too"
_LEARNT = "japagen, unlabelled text learnt"
_STRONG = "japagen, strong texts"
_STRONG_UNLABELLED = "japagen, strong and unlabelled texts"
# Arm to the settings of the task that it changes.
PIPELINES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "japagen": {},
    _UNLABELLED: {},
    _LEARNT: {"training": {"pseudo_labels": "always"}},
    _STRONG: {},
    _STRONG_UNLABELLED: {},
    "japagen, no alignment": {"alignment": {"method": "none"}},
    "japagen, no register": {"curation": {"register_miss": "ignore"}},
    "japagen, no curation": {"curation": _UNCURATED, "alignment": {"label_trust": "none"}},
}


@cache
def encoder() -> Encoder:
    """The embedded encoder, loaded once."""
    return load_encoder("embedded")


@cache
def generator() -> EmbeddedGenerator:
    """The embedded language model, loaded once, with as many threads as torch has."""
    return EmbeddedGenerator(threads=torch.get_num_threads())


def fine_tune(cell: Cell, data: Dataset) -> Floats:
    """Plain fine-tuning, as textbooks have it: a fresh head, everything tuned, texts alike.

    AdamW, 16 texts per batch, 5e-5 (the head 1e-3), a tenth of warm-up and a linear decline,
    three passes but at least 60 steps.
    """
    settings = Training(min_steps=_LEAST_STEPS)
    torch.manual_seed(cell.draw)
    space = cell.task.label_space()
    classifier = untrained(encoder(), space, settings, is_pair=data.is_pair, tunes=True)
    model, rows = classifier.model, classifier.encode(data.texts, data.column("text_pair"))
    targets = torch.from_numpy(space.codes(data.labels)).float()
    steps = step_count(len(rows), settings)
    head = {id(p) for p in last_linear(model).parameters()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if id(p) not in head], "lr": 5e-5},
            {"params": list(last_linear(model).parameters()), "lr": 1e-3},
        ],
        weight_decay=0.01,
    )
    warmup = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, (steps - s) / max(steps - warmup, 1))
    )
    model.train()
    for index in _batches(len(rows), settings.batch_size, steps, random.Random(cell.draw)):
        inputs = classifier.collate([rows[i] for i in index])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=supports_bf16()):
            logits = model(**inputs).logits
        loss = row_losses(space, logits.float(), targets[index]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return classifier.probabilities(cell.test.texts, cell.test.column("text_pair"))


def _batches(texts: int, size: int, steps: int, rng: random.Random) -> list[list[int]]:
    made: list[list[int]] = []
    while len(made) < steps:
        order = list(range(texts))
        rng.shuffle(order)
        made += [order[i : i + size] for i in range(0, texts, size)]
    return made[:steps]


def gold_only(cell: Cell) -> Floats:
    """Plain fine-tuning on gold."""
    return fine_tune(cell, cell.gold)


def frozen_head(cell: Cell) -> Floats:
    """A logistic regression on the frozen encoder, no descriptions; pairs have none."""
    classifier = train(
        None,
        cell.gold,
        encoder=encoder(),
        labels=list(cell.task.labels),
        settings=Training(tune="never"),
        seed=cell.draw,
    )
    return classifier.probabilities(cell.test.texts, cell.test.column("text_pair"))


def raw(cell: Cell) -> Dataset:
    """What was generated, as it came: nothing turned down but what could not be read."""
    return (
        jg.run(cell.task, cell.path / "run", until="generate", generator=generator())
        .after("generate")
        .kept
    )


def gold_and_raw(cell: Cell) -> Floats:
    """Plain fine-tuning on gold and everything that was generated."""
    return fine_tune(cell, Dataset.concat([cell.gold, raw(cell)]))


def synthetic_only(cell: Cell) -> Floats:
    """Plain fine-tuning on everything that was generated, as in JAPAGEN."""
    return fine_tune(cell, raw(cell))


def gold_and_real(cell: Cell) -> Floats:
    """Plain fine-tuning on gold and as many real texts as were generated."""
    return fine_tune(cell, Dataset.concat([cell.gold, real_texts(cell, raw(cell))]))


def strong_only(cell: Cell) -> Floats:
    """Plain fine-tuning on the texts of a strong LLM."""
    return fine_tune(cell, _strong(cell))


def gold_and_strong(cell: Cell) -> Floats:
    """Plain fine-tuning on gold and the texts of a strong LLM, all alike."""
    return fine_tune(cell, Dataset.concat([cell.gold, _strong(cell)]))


def _strong(cell: Cell) -> Dataset:
    assert cell.strong is not None
    return jg.read_examples(cell.strong)


def full_gold(cell: Cell) -> Floats:
    """Plain fine-tuning on the whole pool: the ceiling, the same for every draw."""
    return fine_tune(cell, cell.pool)


def pipeline(cell: Cell, arm: str) -> Floats:
    """The shipped pipeline with its defaults, less one part of it, or with texts besides.

    A run that differs begins as a copy of the full one: it asks the same requests, finds
    their answers in its ledger, and does again what depends on the part.
    """
    given = arm in (_STRONG, _STRONG_UNLABELLED)
    path, changed = cell.path / "run", arm != "japagen"
    if given:
        path = cell.path / arm.removeprefix("japagen, ").replace(" ", "-")
    elif changed:
        jg.run(cell.task, path, generator=generator())
        path = cell.path / arm.removeprefix("japagen, ").replace(" ", "-")
        if not (path / "run.json").exists():
            shutil.rmtree(path, ignore_errors=True)
            unwanted = shutil.ignore_patterns(".lock", "model", "model-gold", "*.html")
            shutil.copytree(cell.path / "run", path, ignore=unwanted)
    run = jg.run(changed_task(cell, arm), path, generator=generator())
    found = read_array(run.path / "predictions" / f"train-synthetic-{cell.draw}.npy")
    if changed:
        shutil.rmtree(path)
    return found


def changed_task(cell: Cell, arm: str) -> jg.Task:
    """The cell's task without the part that an arm lacks, or with texts that it has besides."""
    task = cell.task
    if arm in (_STRONG, _STRONG_UNLABELLED):
        assert cell.strong is not None
        sources = given_sources(cell.strong)
        task = task.model_copy(update={"sources": sources})
    if arm in (_UNLABELLED, _LEARNT, _STRONG_UNLABELLED):
        task = task.model_copy(update={"unlabelled": Source(path=unlabelled_texts(cell))})
    sections = {
        name: type(section).model_validate({**section.model_dump(), **changes})
        for name, changes in PIPELINES[arm].items()
        for section in (getattr(task, name),)
    }
    return task.model_copy(update=sections)


def gold_described(cell: Cell) -> Floats:
    """What japagen trains on gold only: its other side of the comparison."""
    run = jg.run(cell.task, cell.path / "run", generator=generator())
    return read_array(run.path / "predictions" / f"train-gold-{cell.draw}.npy")


def prompted(cell: Cell, shots: bool) -> Floats:
    """The language model itself as classifier, by the likelihood of each label's name.

    Means over all texts are taken off (batch calibration, Zhou et al. 2023): uncalibrated, a
    small base model gives nearly every text the same label. Numbers are expected values.
    """
    space, names = cell.task.label_space(), list(cell.task.labels)
    shown = _shown(cell) if shots else ()
    pairs = cell.test.column("text_pair")
    texts = [_line(t, p) for t, p in zip(cell.test.texts, pairs, strict=True)]
    asked = [Question(0, False, i, text, shown) for i, text in enumerate(texts)]
    try:
        scores = _chosen(cell, asked, names)
    except AmbiguousOptionsError:
        scores = _chosen(cell, asked, letters(names))
    found = softmax(scores - scores.mean(axis=0), axis=1)
    if space.kind == "regression":
        found = (found @ space.anchors)[:, None]
    return np.asarray(found, dtype=np.float64)


def _chosen(cell: Cell, asked: list[Question], names: list[str]) -> Floats:
    scores = np.zeros((len(asked), len(names)))
    written = weighing_prompts(asked, cell.task, PromptLibrary(), names)
    for index, row in generator().choose(written, names):
        scores[index] = row
    return scores


def _shown(cell: Cell) -> tuple[tuple[str, str], ...]:
    """Gold for a prompt: labels in turn as long as there is room, in a random order."""
    space, rng = cell.task.label_space(), random.Random(cell.draw)
    rows = list(cell.gold)
    rng.shuffle(rows)
    by_label: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        assert row.label is not None
        name = space.name(row.label)
        by_label.setdefault(name, []).append((_line(row.text, row.text_pair), name))
    chosen: list[tuple[str, str]] = []
    room = _SHOT_CHARACTERS
    for turn in range(max(map(len, by_label.values()))):
        taken = [own[turn] for own in by_label.values() if turn < len(own)]
        room -= sum(len(text) for text, _ in taken)
        if room < 0 and chosen:
            break
        chosen += taken
    rng.shuffle(chosen)
    return tuple(chosen)


def _line(text: str, pair: str | None) -> str:
    """A text on one line, as the label check shows it."""
    second = "" if pair is None else " ／ " + one_line(pair)[:_MOST_CHARACTERS]
    return one_line(text)[:_MOST_CHARACTERS] + second


def setfit(cell: Cell, more: Dataset | None = None) -> Floats:
    """SetFit (Tunstall et al. 2022) on the same encoder, with the package's defaults.

    The number of its pairs grows with the square of the texts, so steps are capped. It reads
    single texts alone.

    Args:
        cell: The draw of gold.
        more: Texts to learn beside gold.
    """
    from datasets import Dataset as Table
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    loaded, names = encoder(), list(cell.task.labels)
    folder = cell.path / "setfit"
    loaded.model.save_pretrained(folder / "encoder")
    loaded.tokenizer.save_pretrained(folder / "encoder")
    words = Transformer(str(folder / "encoder"), max_seq_length=Training().max_length)
    body = SentenceTransformer(modules=[words, Pooling(384, pooling_mode="mean")], device="cpu")
    head = LogisticRegression(max_iter=1000)
    model = SetFitModel(model_body=body, model_head=head, labels=names)
    arguments = TrainingArguments(
        batch_size=16,
        num_epochs=1,
        max_steps=SETFIT_STEPS,
        output_dir=str(folder / "out"),
        report_to="none",
        save_strategy="no",
        show_progress_bar=False,
        seed=cell.draw,
    )
    learnt = cell.gold if more is None else Dataset.concat([cell.gold, more])
    rows = {
        "text": [loaded.prefix + text for text in learnt.texts],
        "label": [names.index(str(label)) for label in learnt.labels],
    }
    trainer = Trainer(model=model, args=arguments, train_dataset=Table.from_dict(rows))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=supports_bf16()):
        trainer.train()
    found = model.predict_proba([loaded.prefix + text for text in cell.test.texts], as_numpy=True)
    shutil.rmtree(folder)
    return np.asarray(found, dtype=np.float64)


Arm = Callable[[Cell], Floats]
ARMS: dict[str, Arm] = {
    "gold only": gold_only,
    "gold only, frozen head": frozen_head,
    "full gold": full_gold,
    "japagen": lambda cell: pipeline(cell, "japagen"),
    "gold only, japagen's trainer": gold_described,
    "setfit": setfit,
    "gold + raw synthetic": gold_and_raw,
    "synthetic only": synthetic_only,
    "gold + real": gold_and_real,
    "strong texts only": strong_only,
    "gold + strong texts": gold_and_strong,
    "setfit, strong texts": lambda cell: setfit(cell, _strong(cell)),
    _STRONG: lambda cell: pipeline(cell, _STRONG),
    _STRONG_UNLABELLED: lambda cell: pipeline(cell, _STRONG_UNLABELLED),
    _UNLABELLED: lambda cell: pipeline(cell, _UNLABELLED),
    _LEARNT: lambda cell: pipeline(cell, _LEARNT),
    "japagen, no alignment": lambda cell: pipeline(cell, "japagen, no alignment"),
    "japagen, no register": lambda cell: pipeline(cell, "japagen, no register"),
    "japagen, no curation": lambda cell: pipeline(cell, "japagen, no curation"),
    "prompting, few-shot": lambda cell: prompted(cell, shots=True),
    "prompting, zero-shot": lambda cell: prompted(cell, shots=False),
}
# What no draw or number of shots changes is measured once a task.
ONCE = ("full gold", "prompting, zero-shot")
# What no setting of the pipeline changes.
PLAIN = ("gold only", "gold only, frozen head", "setfit", "prompting, few-shot")
_SINGLE_ONLY = ("setfit", "setfit, strong texts", "gold only, frozen head")


def applies(arm: str, cell: Cell) -> bool:
    """Whether an arm can do the cell's kind of task."""
    if "strong" in arm and cell.strong is None:
        return False
    return arm not in _SINGLE_ONLY or not cell.task.pair


def scored(cell: Cell, outputs: Floats) -> dict[str, float]:
    """All metrics of the task's kind."""
    space = cell.task.label_space()
    found = score(cell.test.labels, space.decide(outputs), space)
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def free(path: Path) -> None:
    """Deletes the classifiers of a run, which are large and scored already."""
    for name in ("model", "model-gold"):
        shutil.rmtree(path / name, ignore_errors=True)
