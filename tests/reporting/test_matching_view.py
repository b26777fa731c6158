from __future__ import annotations

from typing import Any

import pytest

from japagen.exporting.cards import terms_of
from japagen.reporting.matching_view import matching
from japagen.reporting.report import render_report
from japagen.reporting.text import LANGUAGES, Language, Words
from tests.report_sample import sample_run
from tests.reporting.test_report import Run, _Page

FOUND: dict[str, Any] = {
    "method": "edit",
    "model": "a-model",
    "terms": {"summary": "Ask them first.", "url": "https://example.com/terms"},
    "texts": 1204,
    "edited": 301,
    "refused": 17,
    "words": 1.38,
    "loss_before": 0.1234,
    "loss_after": 0.0567,
    "perplexity": 1.075,
    "most_perplexity": 1.5,
    "targets": 4,
    "examples": [{"label": "<b>配送</b>", "before": "<i>前</i>", "after": "<script>後</script>"}],
}


@pytest.fixture(scope="module")
def run() -> Run:
    return sample_run(40)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_changed_is_shown_and_escaped(run: Run, language: Language) -> None:
    metrics = {**run[0], "gradient_matching": FOUND}
    html = render_report(metrics, run[1], language=language)
    page, words = _Page(html), Words(language)
    text = page.all_text
    for shown in ("1,204", "301", "25.0%", "17", "1.4", "0.123 → 0.057", "1.07", "a-model"):
        assert shown in text
    for shown in ("<b>配送</b>", "<i>前</i>", "<script>後</script>", "Ask them first."):
        assert shown in text
        assert shown not in html or "<" not in shown
    assert words("matching.method.edit") in text
    assert {"href": "#matching"} in page.having("a")


@pytest.mark.parametrize("language", LANGUAGES)
def test_runs_of_other_strategies_have_no_such_section(run: Run, language: Language) -> None:
    html = render_report({**run[0], "gradient_matching": None}, run[1], language=language)
    assert 'id="matching"' not in html
    assert "#matching" not in html
    old = {key: value for key, value in run[0].items() if key != "gradient_matching"}
    assert render_report(old, run[1], language=language) == html


def test_nothing_changed_is_said_without_figures(run: Run) -> None:
    nothing = {"edited": 0, "words": None, "perplexity": None, "examples": []}
    metrics = {**run[0], "gradient_matching": FOUND | nothing}
    facts = dict(matching(metrics, Words("en"))["facts"])  # type: ignore[index]
    assert facts["Texts changed"] == "0 (0.0%)"
    assert facts["Change of perplexity"] == facts["Mean changes in a text"] == "—"
    assert _Page(render_report(metrics, run[1], language="en"))


def test_terms_of_a_model_that_found_words_are_carried_on(run: Run) -> None:
    generator = run[0]["generator"]
    metrics = {**run[0], "gradient_matching": FOUND | {"model": generator["name"]}}
    alone = terms_of(metrics)
    assert alone == terms_of(run[0])
    assert "Ask them first." not in alone
    assert "Terms of this language model" not in dict(
        matching(metrics, Words("en"))["facts"]  # type: ignore[index]
    )
    both = terms_of({**run[0], "gradient_matching": FOUND})
    assert both.startswith(alone)
    assert "a\\-model" in both or "a-model" in both
    assert "Ask them first." in both
