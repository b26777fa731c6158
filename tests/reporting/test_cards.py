from __future__ import annotations

import ast
import copy
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from japagen.data.summary import RunSummary
from japagen.mixing.mix import Reason
from japagen.reporting.cards import dataset_card, model_card
from japagen.reporting.text import Words
from tests.report_sample import LABELS, from_file, sample_run


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    return sample_run()[0]


def _card(metrics: dict[str, Any], *args: str, bi_encoder: bool = False) -> str:
    return model_card(
        RunSummary.model_validate(metrics), *args, bi_encoder=bi_encoder, language="en"
    )


def _front(card: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(card.split("---\n")[1])
    return found


def test_it_says_what_the_classifier_is_and_how_well_it_does(metrics: dict[str, Any]) -> None:
    card = _card(metrics, "embedded", "query: ")
    front = _front(card)
    assert front["language"] == "ja"
    assert front["pipeline_tag"] == "text-classification"
    assert front["base_model"] == "intfloat/multilingual-e5-small"
    arm = metrics["scores"]["with_synthetic"]
    interval = arm["intervals"]["macro_f1"]
    wanted = [
        *(f"| {label} | {about} |" for label, about in LABELS.items()),
        f"| macro-f1 | {arm['macro_f1']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}] |",
        f"| expected calibration error (ECE) | {arm['ece']:.3f} |",
        "Synthetic share of the training loss: 40.0%. Its labels are expected to be reliable",
        f"{metrics['counts']['gold']} gold texts",
        metrics["generator"]["identity"],
        metrics["generator"]["terms"]["summary"],
        metrics["encoder"],
        "Licence: mit.",
        metrics["created"],
        metrics["versions"]["python"],
        '"query: ここに文章を入れます。"',
        'The encoder wants `"query: "` before every text',
    ]
    assert [w for w in wanted if w not in card] == []
    assert "not measured" not in card.lower()
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        ast.parse(code)


def test_missing_parts_are_not_measured(metrics: dict[str, Any]) -> None:
    metrics = copy.deepcopy(metrics)
    metrics |= dict.fromkeys(("generator", "scores", "mix", "encoder", "created"))
    metrics["sources"] = from_file("llm.csv")
    card = _card(metrics, "owner/encoder")
    assert "Not measured: there were no labelled test texts." in card
    assert "Synthetic share of the training loss: not measured." in card
    assert "an unknown model (file llm.csv)" in card
    assert "check the terms of the model that wrote them" in card
    assert "Licence: see the page of the encoder." in card
    assert _front(card)["base_model"] == "owner/encoder"


def test_gold_only_carries_no_terms_of_a_generator(metrics: dict[str, Any]) -> None:
    metrics = copy.deepcopy(metrics)
    metrics["mix"] |= {"share": 0.0, "reason": "unreliable"}
    card = _card(metrics, "embedded")
    assert "Its labels can hardly be relied on" in card
    assert metrics["generator"]["terms"]["summary"] not in card


def test_a_checkpoint_on_disk_names_its_own_licence(
    metrics: dict[str, Any], tmp_path: Path
) -> None:
    assert "see the page of the encoder" in _card(metrics, str(tmp_path))
    text = "---\nlicense: apache-2.0\nbase_model: a/b\ntags: [x]\n---\n# Encoder\n"
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    card = _card(metrics, str(tmp_path))
    assert "Licence: apache-2.0." in card
    assert _front(card)["base_model"] == "a/b"


@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_pairs_tags_and_numbers_are_loaded_their_own_way(
    metrics: dict[str, Any], kind: str
) -> None:
    metrics = copy.deepcopy(metrics)
    metrics["task"] |= {"kind": kind, "pair": {"first": "前提", "second": "仮説"}}
    card = _card(metrics, "embedded")
    assert '"text_pair": ' in card
    assert ("top_k=None" in card) == (kind == "multi_label")
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        ast.parse(code)


def test_transformers_is_not_promised_for_a_head_that_it_does_not_know(
    metrics: dict[str, Any],
) -> None:
    card = _card(metrics, "embedded", bi_encoder=True)
    assert _front(card)["library_name"] == "japagen"
    assert "import pipeline" not in card
    assert 'Classifier.load("DIRECTORY")' in card


def test_names_cannot_break_it(metrics: dict[str, Any]) -> None:
    metrics = copy.deepcopy(metrics)
    hostile = "a|b\n---\n<script>x</script>"
    metrics["task"] |= {"name": hostile, "description": hostile, "labels": {hostile: hostile}}
    card = _card(metrics, "embedded")
    assert _front(card)["model_name"] == "a|b --- <script>x</script>"
    assert "<script" not in card.split("\n# ", 1)[1]


def test_terms_of_several_lines_stay_whole(metrics: dict[str, Any]) -> None:
    metrics = copy.deepcopy(metrics)
    metrics["generator"]["terms"]["summary"] = "Ask first.\n\n- <b>Then</b> use it."
    found, dataset = RunSummary.model_validate(metrics), sample_run()[1]
    for card in (model_card(found, "embedded", language="ja"), dataset_card(found, dataset, "ja")):
        assert "\n\nAsk first. - &lt;b>Then&lt;/b> use it.\n\n" in card


def test_every_reason_of_the_mix_is_said(metrics: dict[str, Any]) -> None:
    from typing import get_args

    metrics = copy.deepcopy(metrics)
    for reason in get_args(Reason):
        metrics["mix"]["reason"] = reason
        assert Words("en")(f"mix.{reason}") in _card(metrics, "embedded")


def test_cards_are_written_in_the_language_of_the_user(metrics: dict[str, Any]) -> None:
    """Nothing but code, names and what the task says is left of the English."""
    found, dataset = RunSummary.model_validate(metrics), sample_run()[1]
    for card in (
        model_card(found, "embedded", "query: ", language="ja"),
        dataset_card(found, dataset, "ja"),
    ):
        card = card.replace(found.generator.terms.summary, "") if found.generator else card
        text = re.sub(r"^---.*?^---$|```.*?```|`[^`]*`|https?:\S+", "", card, flags=re.S | re.M)
        assert "## ラベル" in text
        assert "。 " not in text
        assert re.findall(r"\b[a-z]+ [a-z]+ [a-z]+\b", text) == []
