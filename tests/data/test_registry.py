from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from japagen.cli.main import app
from japagen.config.curation import Curation
from japagen.config.sections import section_in
from japagen.config.task import Task
from japagen.data.registry import (
    BACKENDS,
    EXPORTS,
    FILTERS,
    METHODS,
    METRICS,
    Entry,
    Registry,
    metrics_of,
    packages_of,
)
from japagen.errors import JapagenError
from japagen.llm.backend import load_generator
from japagen.reporting.text import Words

REGISTRIES = (FILTERS, METHODS, BACKENDS, METRICS, EXPORTS)
ENTRIES = [
    pytest.param(entry, id=f"{registry.kind} {name}")
    for registry in REGISTRIES
    for name, entry in registry.own.items()
]


def _is_setting(key: str) -> bool:
    section: Any = Task
    for name in key.split("."):
        if section is None or name not in section.model_fields:
            return False
        section = section_in(section.model_fields[name].annotation)
    return True


@pytest.mark.parametrize("entry", ENTRIES)
def test_entries_lead_somewhere(entry: Entry) -> None:
    assert all(text.strip() for text in (entry.ja, entry.en))
    assert not entry.home or callable(entry.load())
    assert not entry.extra or packages_of(entry.extra)
    assert [key for key in entry.keys if not _is_setting(key)] == []


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_no_two_entries_are_called_alike(registry: Registry) -> None:
    for language in ("ja", "en"):
        titles = [getattr(entry, language) for entry in registry.own.values()]
        assert len(titles) == len(set(titles))


@pytest.mark.parametrize("name", [name for name, entry in FILTERS.own.items() if entry.home])
def test_a_filter_reads_the_settings_that_a_diff_looks_at(name: str) -> None:
    _, *parameters = inspect.signature(FILTERS[name].load()).parameters
    settings = {f"curation.{key}" for key in parameters if key in Curation.model_fields}
    assert settings == {key for key in FILTERS[name].keys if key.startswith("curation.")}
    others = {key for key in parameters if key not in Curation.model_fields}
    assert others <= {"gold", "phrases", "passages", "tagger"}


def test_every_kind_of_label_has_a_leading_metric() -> None:
    assert metrics_of("classification") == ("macro_f1", "accuracy", "matthews")
    assert metrics_of("multi_label") == ("macro_f1", "micro_f1", "exact_match")
    assert metrics_of("regression") == ("spearman", "pearson")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"alignment": {"method": "entrpy"}},
            "alignment.method: expected one of entropy, labels, none "
            "(did you mean 'entropy'?), found 'entrpy'",
        ),
        (
            {"generator": {"backend": "opnai"}},
            "generator.backend: expected one of embedded, openai, anthropic, gemini, hf, replay "
            "(did you mean 'openai'?), found 'opnai'",
        ),
        (
            {"evaluation": {"metric": "macrof1"}},
            "evaluation.metric: expected one of macro_f1, accuracy, matthews for classification, "
            "found 'macrof1' (did you mean 'macro_f1'?)",
        ),
        ({"curation": {"filters": {"gold_copy": {}}}}, "'gold_copy' is japagen's own"),
        ({"curation": {"filters": {"loud": {}}}}, "expected a filter of a plug-in, found 'loud'"),
    ],
)
def test_a_wrong_name_gets_the_names_that_there_are(
    raw_task: dict[str, Any], settings: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(JapagenError) as error:
        Task.parse(raw_task | settings)
    assert message in str(error.value)


def test_names_are_found_or_refused_in_python_too() -> None:
    with pytest.raises(JapagenError, match=r"Unknown export format 'jsonk' \(did you mean 'jsonl'"):
        EXPORTS.find("jsonk")
    with pytest.raises(ValueError, match="expected a new name, found filter 'gold_copy'"):
        FILTERS.register(FILTERS["gold_copy"])
    assert FILTERS.title("no_filter", "en") is None
    assert "no_filter" not in FILTERS
    assert Words("ja").name("filter", "gold_copy") == FILTERS["gold_copy"].ja
    assert Words("en")("matthews") == METRICS["matthews"].en


def test_a_backend_gets_the_settings_that_it_names(raw_task: dict[str, Any]) -> None:
    raw_task["generator"] = {"backend": "replay"}
    with pytest.raises(JapagenError, match="backend replay needs a run directory"):
        load_generator(Task.parse(raw_task).generator)
    raw_task["generator"] |= {"model": "nowhere"}
    with pytest.raises(JapagenError, match="nowhere"):
        load_generator(Task.parse(raw_task).generator)


def test_the_page_of_examples_is_in_the_module() -> None:
    assert "docs/extending.md" in (inspect.getdoc(inspect.getmodule(Registry)) or "")
    assert (Path(__file__).parents[2] / "docs/extending.md").is_file()


def _parameters(command: Any) -> list[Any]:
    inner = getattr(command, "commands", {}).values()
    return [*command.params, *(p for sub in inner for p in _parameters(sub))]


@pytest.mark.parametrize(
    ("option", "begun", "completed"),
    [("--method", "e", ["entropy"]), ("--format", "pa", ["parquet"])],
)
def test_the_shell_completes_names(option: str, begun: str, completed: list[str]) -> None:
    command = get_command(app)
    (parameter,) = (p for p in _parameters(command) if option in p.opts)
    with command.make_context("japagen", [], resilient_parsing=True) as context:
        found = parameter.shell_complete(context, begun)
    assert [item.value for item in found] == completed
    assert all(item.help for item in found)
