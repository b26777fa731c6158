"""The report in a real browser, without a network."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from japagen.data.dataset import Dataset
from japagen.data.summary import RunSummary
from japagen.i18n import Language
from japagen.reporting.report import render_report
from japagen.reporting.text import LANGUAGES, strings
from tests.report_sample import sample_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSER = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
HOSTILE = (
    "<script>document.title='hit'</script>"
    "<img src=x onerror=\"document.title='hit'\">\u202eけいご\u2066"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield started
        started.close()


def _hostile_run(folder: Path, language: Language) -> Path:
    metrics, dataset = sample_run()
    metrics = copy.deepcopy(metrics)
    metrics["task"]["description"] = metrics["errors"][0]["text"] = HOSTILE
    examples = [replace(e, text=e.text + HOSTILE) for e in dataset]
    path = folder / f"report-{language}.html"
    path.write_text(
        render_report(RunSummary.model_validate(metrics), Dataset.of(examples), language=language),
        "utf-8",
    )
    return path


@pytest.fixture(scope="module", params=LANGUAGES)
def page(
    browser: Browser, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Page, Language, list[str]]]:
    context = browser.new_context(viewport={"width": 1100, "height": 900}, offline=True)
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda made: said.append(made.url))
    path = _hostile_run(tmp_path_factory.mktemp("page"), request.param)
    tab.goto(path.as_uri())
    yield tab, request.param, said
    context.close()


def test_nothing_runs_and_nothing_is_asked_for(page: tuple[Page, Language, list[str]]) -> None:
    tab, language, said = page
    assert [line for line in said if line] == [tab.url]
    assert "hit" not in tab.title()
    assert tab.locator("script, img").count() == 0
    assert "<script>" in tab.inner_text("header")
    assert tab.get_attribute("html", "lang") == language
    assert strings(language)["verdict"] in tab.inner_text(".verdict")
    # What turns the direction of writing turns its own element alone.
    for place in (".lead bdi", "td .quoted"):
        isolated = tab.locator(place).first.evaluate("e => getComputedStyle(e).unicodeBidi")
        assert isolated == "isolate"


def test_charts_have_japanese_glyphs(page: tuple[Page, Language, list[str]]) -> None:
    tab, language, _ = page
    if language == "en":
        return
    text = tab.locator(".chart text").filter(has_text="生成").first
    text.scroll_into_view_if_needed()
    shots = []
    for shown in ("猫", "犬"):
        text.evaluate("(e, shown) => { e.textContent = shown }", shown)
        shots.append(text.screenshot())
    # A missing glyph is the same box whatever the character.
    assert shots[0] != shots[1]


def test_what_is_folded_opens_by_keyboard_and_is_printed(
    page: tuple[Page, Language, list[str]],
) -> None:
    tab, _, _ = page
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    folded = tab.locator("details")
    assert folded.count() >= 4
    cell = folded.first.locator("td").first
    assert not cell.is_visible()
    folded.first.locator("summary").focus()
    tab.keyboard.press("Enter")
    cell.wait_for(state="visible")
    tab.keyboard.press("Space")
    cell.wait_for(state="hidden")
    tab.emulate_media(media="print")
    assert cell.bounding_box() is not None
    assert cell.bounding_box()["height"] > 0  # type: ignore[index]
    assert not tab.locator("nav").is_visible()
    assert tab.pdf(format="A4").startswith(b"%PDF")
    tab.emulate_media(media="screen")


def test_every_wide_table_can_be_scrolled_by_keyboard(
    page: tuple[Page, Language, list[str]],
) -> None:
    tab, _, _ = page
    tab.set_viewport_size({"width": 360, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    regions = tab.locator(".scroll")
    assert (
        regions.count() == tab.locator(".scroll[tabindex='0'][role='region'][aria-label]").count()
    )


@pytest.mark.parametrize(("width", "height", "screens"), [(1280, 800, 6), (390, 844, 10)])
def test_the_page_is_short_until_it_is_unfolded(
    browser: Browser, tmp_path: Path, width: int, height: int, screens: int
) -> None:
    metrics, dataset = sample_run()
    path = tmp_path / "report.html"
    path.write_text(render_report(RunSummary.model_validate(metrics), dataset), "utf-8")
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.evaluate("document.documentElement.scrollHeight") <= screens * height
    tab.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # Four characters of a head stand side by side.
    narrow = tab.evaluate(
        """() => [...document.querySelectorAll('th')].filter(head => head.checkVisibility()
            && head.textContent.trim().length >= 4
            && head.clientWidth > 1
            && head.clientWidth < 4 * parseFloat(getComputedStyle(head).fontSize)).length"""
    )
    assert narrow == 0
    context.close()
