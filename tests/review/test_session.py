"""The page in a real browser, and its calls over a real socket."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.export import REJECT, to_argilla
from japagen.data.files import to_yaml
from japagen.data.formats import read_examples, write_examples
from japagen.data.labels import LabelSpace
from japagen.pipeline.review import decisions_of
from japagen.pipeline.run_directory import Run
from japagen.review.decisions import FILE, Decisions
from japagen.review.feedback import apply_decisions
from japagen.review.session import Session, words
from tests.command_line import japagen
from tests.conftest import BROWSER, ROOT, chromium

pytest.importorskip("uvicorn")
HOSTILE = "<script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">"
SERIOUS = ("serious", "critical")


@pytest.fixture
def run_path(tmp_path: Path, raw_task: dict[str, Any]) -> Path:
    """A run as the trust and alignment stages leave it, with hostile texts in it."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "run.json").write_text(json.dumps({"task": "small", "created": "2026-01-01T00:00:00"}))
    (path / "task.yaml").write_text(to_yaml(raw_task))
    rows = [
        Example(f"荷物がまだ届きません（{i}番）。", "配送", id=f"e{i:02}", weight_label=i / 20)
        for i in range(20)
    ]
    rows += [
        Example(HOSTILE, "配送", id="script", weight_label=0.001),
        Example("返品\u202eしたい", "返品", id="marks", weight_label=0.5),
        Example("短い", "返品", id="short", rejected=Rejection("length", 2, 6, "<b>")),
    ]
    write_examples(path / "aligned.parquet", Dataset.of(rows))
    return path


@pytest.fixture
def page(run_path: Path) -> Iterator[str]:
    """The address of ``japagen data review`` in a process of its own."""
    command = [sys.executable, "-m", "japagen", "data", "review", str(run_path), "--no-browser"]
    process = subprocess.Popen(
        [*command, "-n", "22", "--reviewer", "佐藤"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
    )
    stuck = threading.Timer(120, process.kill)
    stuck.start()
    assert process.stderr is not None
    try:
        found = next(
            match[0]
            for line in process.stderr
            if (match := re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", line))
        )
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        stuck.cancel()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert out.startswith("decided: ")


def call(url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raw = error.read()
        return error.code, json.loads(raw) if raw.startswith(b"{") else raw.decode()


def test_calls_are_checked(page: str, run_path: Path, raw_task: dict[str, Any]) -> None:
    status, state = call(f"{page}state")
    assert status == 200
    assert len(state["examples"]) == 22
    assert state["least"] == 20
    for label in state["labels"]:
        assert (label["description"], len(label["gold"])) == (raw_task["labels"][label["name"]], 2)
    assert {e["id"] for e in state["examples"]} >= {"script"}
    accept = {"example_id": "script", "verdict": "accept", "seen": 0}

    elsewhere = re.sub(r"/[\w-]+/$", "/guess/", page)
    assert call(f"{elsewhere}state")[0] == 404
    assert call(f"{elsewhere}decisions", accept)[0] == 404
    assert call(f"{page}state", Host="evil.example")[0] == 421
    assert call(f"{page}decisions", accept, **{"Content-Type": "text/plain"})[0] == 415
    assert call(f"{page}../run.json")[0] == 404
    for wrong in (
        {**accept, "example_id": "nobody"},
        {**accept, "verdict": "maybe"},
        {**accept, "verdict": "relabel"},
        {**accept, "verdict": "relabel", "label": "他"},
        {**accept, "register": "rude"},
        {**accept, "comment": "あ" * 3000},
        {**accept, "text": " "},
        {**accept, "text": "あ" * 5000},
        {**accept, "text": 3},
        {**accept, "text_pair": "もう一つ"},
        {**accept, "verdict": "reject", "text": "直した文"},
        {**accept, "verdict": "both"},
        {**accept, "verdict": "both", "label": "配送"},
        {**accept, "verdict": "neither", "label": "配送"},
        [],
    ):
        status, body = call(f"{page}decisions", wrong)
        assert (status, "Expected" in body["error"]) == (400, True), wrong
    assert decisions_of(run_path) == {}

    status, saved = call(f"{page}decisions", accept)
    assert (status, saved["decision"]["reviewer"]) == (200, "佐藤")
    status, stale = call(f"{page}decisions", {**accept, "verdict": "reject"})
    assert (status, stale["current"]["verdict"]) == (409, "accept")
    assert decisions_of(run_path)["script"].verdict == "accept"

    edit = {"example_id": "e01", "verdict": "relabel", "label": "返品", "text": " 返品したい。\n"}
    assert call(f"{page}decisions", edit)[0] == 200
    assert call(f"{page}decisions", {**edit, "example_id": "marks", "verdict": "both",
                                     "label": "配送", "text": None})[0] == 200  # fmt: skip
    found = decisions_of(run_path)
    assert (found["e01"].text, found["e01"].label) == ("返品したい。", "返品")
    assert (found["marks"].verdict, found["marks"].label) == ("both", "配送")


def test_a_second_label_joins_the_first_where_a_text_may_have_several(tmp_path: Path) -> None:
    rows = [
        Example(
            "箱が潰れていて、返金もまだです。", ["返金"], id="a", fields={"body": "箱が", "n": None}
        ),
        Example("ありがとう。", ["感想", "配送"], id="b"),
    ]
    labels = dict.fromkeys(("配送", "返金", "感想"), "")
    space = LabelSpace("multi_label", tuple(labels))
    decisions = Decisions(tmp_path / FILE)
    session = Session(Dataset.of(rows), labels, decisions, name_of=space.name)
    shown = {example["id"]: example for example in session.state()["examples"]}
    assert (shown["a"]["fields"], shown["b"]["fields"]) == ({"body": "箱が", "n": None}, None)

    def both(example_id: str, label: str, seen: int = 0) -> dict[str, Any]:
        body = {"example_id": example_id, "verdict": "both", "label": label, "seen": seen}
        found: dict[str, Any] = session.decide(body)["decision"]
        return found

    first = both("a", "配送")
    assert (first["verdict"], first["label"]) == ("relabel", "配送、返金")
    assert both("a", "感想", first["number"])["label"] == "配送、返金、感想"
    kept = both("b", "配送")
    assert (kept["verdict"], kept["label"]) == ("accept", "配送、感想")
    a, b = apply_decisions(Dataset.of(rows), decisions.latest())
    assert (a.rejected, b.rejected) == (None, None)
    assert (sorted(a.label), sorted(b.label)) == (  # type: ignore[arg-type]
        sorted(labels),
        ["感想", "配送"],
    )


def test_summary_and_gold_without_the_page(run_path: Path, tmp_path: Path) -> None:
    code, out, _ = japagen("data", "review", run_path, "--summary")
    assert (code, out.splitlines()[1]) == (0, "usable as they are: not known yet")
    gold = tmp_path / "checked.jsonl"
    code, _, err = japagen("data", "review", run_path, "--gold", gold)
    assert (code, "found none" in err, gold.exists()) == (2, True, False)

    from japagen.pipeline.review import open_review

    with open_review(run_path) as session:
        session.decide({"example_id": "e01", "verdict": "accept"})
        session.decide({"example_id": "marks", "verdict": "relabel", "label": "配送"})
    code, out, _ = japagen("data", "review", run_path, "--gold", gold)
    assert code == 0
    rows = read_examples(gold, require_label=True)
    assert sorted(zip(rows.column("id"), rows.labels, strict=True)) == [
        ("e01", "配送"),
        ("marks", "配送"),
    ]
    code, out, _ = japagen("data", "review", run_path, "--summary", "--json")
    nothing = {"both": 0, "neither": 0}
    assert json.loads(out)["verdicts"] == {"accept": 1, "relabel": 1, **nothing, "reject": 0}


def test_answers_of_an_annotation_tool_become_decisions(run_path: Path, tmp_path: Path) -> None:
    records = to_argilla(Run.open(run_path).dataset)
    answers = {"e03": "返品", "e04": "配送", "marks": REJECT}
    for record in records:
        if record["id"] in answers:
            record["responses"] = {"label": [{"value": answers[record["id"]], "user_id": "u"}]}
    records.append({**records[0], "id": "elsewhere", "responses": {"label": [{"value": "配送"}]}})
    path = tmp_path / "records.json"
    wrong = [{**r, "responses": {"label": [{"value": "請求"}]}} for r in records[:2]]
    path.write_text(json.dumps([*records[2:], *wrong]), encoding="utf-8")
    code, _, err = japagen("data", "review", run_path, "--import", path)
    assert (code, err.count("'請求'"), "Nothing was taken in" in err) == (2, 2, True)
    assert decisions_of(run_path) == {}
    path.write_text(json.dumps(records), encoding="utf-8")
    code, out, err = japagen("data", "review", run_path, "--import", path, "--json")
    assert (code, "3 answers taken, 1 not of this run" in err) == (0, True), err
    nothing = {"both": 0, "neither": 0}
    assert json.loads(out)["verdicts"] == {"accept": 1, "relabel": 1, **nothing, "reject": 1}
    assert decisions_of(run_path)["e03"].label == "返品"


def test_what_is_no_run_or_has_no_texts_is_refused(tmp_path: Path, run_path: Path) -> None:
    code, _, err = japagen("data", "review", tmp_path)
    assert (code, "Traceback" in err) == (2, False)
    (run_path / "aligned.parquet").unlink()
    code, _, err = japagen("data", "review", run_path, "--summary")
    assert (code, "registers.parquet" in err) == (2, True)
    assert not (run_path / FILE).exists()


def test_both_languages_have_every_sentence() -> None:
    assert words("ja").keys() == words("en").keys()
    script = (ROOT / "japagen/review/page.js").read_text(encoding="utf-8")
    used = set(re.findall(r'fill\("([\w.]+)"', script))
    assert used
    assert used <= words("ja").keys()
    assert "innerHTML" not in script


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_ten_examples_by_keyboard_in_a_browser(page: str, run_path: Path) -> None:
    from playwright.sync_api import expect

    with chromium() as browser:
        said: list[str] = []
        tab = browser.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto(page)
        tab.wait_for_selector("body[data-ready]")
        shown = set()
        for _ in range(22):
            shown.add(tab.inner_text("#text"))
            tab.keyboard.press("j")
        assert {HOSTILE, "返品[U+202E]したい"} <= shown
        tab.reload()
        tab.wait_for_selector("body[data-ready]")
        first = tab.inner_text("#text")
        other = browser.new_page()
        other.goto(page)
        other.wait_for_selector("body[data-ready]")

        for key in "ar1arar1ar":
            before = tab.inner_text("#progress")
            tab.keyboard.press(key)
            expect(tab.locator("#progress")).not_to_have_text(before)
        found = decisions_of(run_path)
        assert len(found) == 10
        assert tab.title() == words("en")["title"]

        tab.reload()
        tab.wait_for_selector("body[data-ready]")
        assert "10" in tab.inner_text("#progress")
        # Figures would sway the ten that are still to come before the twentieth.
        assert tab.inner_text("#summary").count("%") == 0

        # The other tab was loaded before any decision: its answer to the first is out of date.
        other.keyboard.press("r")
        other.wait_for_selector("#notice:not([hidden])")
        assert other.inner_text("#text") == first
        assert decisions_of(run_path) == found

        tab.keyboard.press("c")
        tab.keyboard.type("あいまい ar1")
        tab.keyboard.press("Escape")
        tab.keyboard.press("g")
        assert tab.inner_text("#decided") == words("en")["pending"]
        assert len(decisions_of(run_path)) == 10
        before = tab.inner_text("#progress")
        tab.keyboard.press("a")
        expect(tab.locator("#progress")).not_to_have_text(before)
        latest = max(decisions_of(run_path).values(), key=lambda d: d.number)
        assert latest.comment == "あいまい ar1"
        assert latest.register is not None
        tab.keyboard.press("k")
        tab.keyboard.press("u")
        tab.wait_for_selector("#decided[data-verdict='']")
        assert len(decisions_of(run_path)) == 10

        assert [line for line in said if line] == []
    with_places = Decisions(run_path / FILE)
    assert len(with_places.places()) == 23
    with_places.close()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_texts_are_edited_and_labels_fit_twice_or_not_at_all(page: str, run_path: Path) -> None:
    from playwright.sync_api import expect

    with chromium() as browser:
        tab = browser.new_page()
        tab.goto(page)
        tab.wait_for_selector("body[data-ready]")
        before = tab.inner_text("#text")
        tab.keyboard.press("e")
        assert tab.evaluate("document.activeElement.id") == "edit"
        tab.keyboard.press("End")
        tab.keyboard.type("arb0")  # of the text, not verdicts
        tab.keyboard.press("Escape")
        assert tab.inner_text("#text") == before
        tab.keyboard.press("e")
        tab.keyboard.press("ControlOrMeta+A")
        tab.keyboard.type(HOSTILE)
        tab.keyboard.press("Enter")
        assert tab.inner_text("#text") == HOSTILE
        assert before in tab.inner_text("#before")
        assert decisions_of(run_path) == {}
        tab.keyboard.press("1" if "返品" in tab.inner_text("#asked") else "2")
        expect(tab.locator("#progress")).to_contain_text("1")
        expect(tab.locator("#text")).not_to_have_text(HOSTILE)
        for key in ("b", "0"):
            shown = tab.inner_text("#progress")
            tab.keyboard.press(key)
            expect(tab.locator("#progress")).not_to_have_text(shown)
        made = sorted(decisions_of(run_path).values(), key=lambda d: d.number)
        assert [(d.verdict, d.text) for d in made] == [
            ("relabel", HOSTILE),
            ("both", None),
            ("neither", None),
        ]
        assert made[1].label in ("配送", "返品")

        # From the first text, which is decided, on to the fourth.
        for _ in range(3):
            tab.keyboard.press("k")
        assert tab.inner_text("#text") == HOSTILE
        tab.keyboard.press("n")
        assert tab.inner_text("#decided") == words("en")["undecided"]
        assert tab.inner_text("#progress").startswith("4")
        for _ in range(17):
            shown = tab.inner_text("#progress")
            tab.keyboard.press("a")
            expect(tab.locator("#progress")).not_to_have_text(shown)
        assert tab.inner_text("#summary").count("%") >= 3
        assert tab.title() == words("en")["title"]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark"), (1280, "light")])
def test_the_page_fits_and_can_be_used_by_all(
    page: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with chromium() as browser:
        # The page's own policy would keep the checker out.
        context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True
        )
        tab = context.new_page()
        tab.goto(page)
        tab.wait_for_selector("body[data-ready]")
        for key in ("j", "b", "k", "e"):
            tab.keyboard.press(key)
            tab.wait_for_timeout(200)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(tab).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS] == []
        beside = tab.locator("#labels").bounding_box()
        text = tab.locator("#edit").bounding_box()
        assert beside is not None
        assert text is not None
        assert (beside["x"] > text["x"] + text["width"]) == (width == 1280)
