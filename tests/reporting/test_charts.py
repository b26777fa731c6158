from __future__ import annotations

import re
import subprocess
import sys
import warnings
from xml.etree import ElementTree

import pytest

from japagen.reporting.charts import bars, curves, interval, ranges
from japagen.reporting.text import Words


def _widths(svg: str) -> list[float]:
    """Widths of the drawn bars, in the order they are drawn."""
    bounds = re.findall(r'd="M ([\d.]+) [\d.]+ \nL ([\d.]+) [^"]*z\n"', svg)
    return [float(right) - float(left) for left, right in bounds]


def test_bars_are_as_long_as_their_values() -> None:
    svg = bars("t", "題", [("一", [2.0, 4.0]), ("二", [1.0, None])], lambda v: f"{v:.1f}")
    longest = max(_widths(svg))
    assert [w / longest for w in _widths(svg)] == pytest.approx([0.5, 1.0, 0.25], abs=1e-3)
    assert re.findall(r">([\d.]+)</text>", svg) == ["2.0", "4.0", "1.0"]


def test_bars_of_nothing_but_zeros() -> None:
    svg = bars("t", "題", [("一", [0.0])], str)
    assert ">0.0</text>" in svg


def test_a_bar_and_its_value_stay_inside_the_picture() -> None:
    svg = bars("t", "題", [("とても長い名前" * 9, [0.5]), ("短", [1.0])], lambda v: f"{v:.1%}")
    _, _, width, _ = map(float, re.search(r'viewBox="([^"]*)"', svg).group(1).split())  # type: ignore[union-attr]
    places = re.findall(r'text-anchor: (\w+)[^>]* x="([\d.]+)"[^>]*>([^<]*)<', svg)
    assert len(places) == 4
    for anchor, x, text in places:
        full = sum(10.0 if ord(c) > 255 else 6.2 for c in text)
        left = float(x) - full if anchor == "end" else float(x)
        assert left >= 0
        assert left + full <= width


def test_charts_are_well_formed_escaped_and_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [
            bars("a", '"<題>&', [("<b>配送</b>", [1.0]), ("العربية 🎉", [0.5])], str),
            interval("b", "差", (-0.01, 0.02, 0.05), ("← 低下", "向上 →")),
        ]
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
    assert ElementTree.fromstring(drawn[0]).get("aria-label") == '"<題>&'
    assert "&lt;b&gt;配送&lt;/b&gt;" in drawn[0]


def test_charts_on_one_page_share_no_ids() -> None:
    row = [("一", [1.0])]
    ids = [set(re.findall(r'id="([^"]*)"', bars(name, "題", row, str))) for name in ("a", "b")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_interval_stands_where_its_bounds_are() -> None:
    svg = interval("t", "差", (0.02, 0.04, 0.06), ("低", "高"))
    zero, bar = (float(x) for x in re.findall(r"M ([\d.]+) [\d.]+ \nL [\d.]+ [\d.]+ \n", svg)[1:3])
    assert zero < bar


def test_importing_the_report_loads_no_matplotlib() -> None:
    code = "import sys, japagen.reporting.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_numbers_as_readers_expect_them() -> None:
    words = Words("ja")
    assert words.signed(0.02) == "+0.020"
    assert words.signed(-0.02) == "−0.020"
    assert words.signed(-0.0001) == "±0.000"
    assert words.count(1234.4) == "1,234"
    assert words.general(0.6) == "0.6"
    assert words.general(120) == "120"
    assert words.share(0.6143) == "61.4%"
    assert words.share(None) == "測定していません"
    assert words.yes_no(None) == "要確認"
    assert words.stage("train-gold-3") == "学習（正解データのみ、シード 3）"
    assert words.stage("something-new") == "something-new"


def test_ranges_hold_the_mark_and_stay_in_the_picture() -> None:
    rows = [("一", [(0.2, 0.3, 0.5), None]), ("二", [(0.9, 1.1, 1.4), (1.0, 1.0, 1.0)])]
    svg = ranges("r", "題", rows, lambda v: f"{v:.0%}", 1.0)
    assert re.findall(r">([\d%]+)</text>", svg) == ["100%", "30%", "110%", "100%"]
    _, _, width, _ = map(float, re.search(r'viewBox="([^"]*)"', svg).group(1).split())  # type: ignore[union-attr]
    assert all(0 <= float(x) <= width for x in re.findall(r' x="([\d.]+)"', svg))
    ElementTree.fromstring(ranges("r", "題", [("一", [(1.0, 1.0, 1.0)])], str, 1.0))
    ElementTree.fromstring(ranges("r", "題", [], str, 1.0))


def test_curves_end_in_their_last_values_apart_from_each_other() -> None:
    lines = [[0.0, 5.0, 8.0], [0.0, 6.0, 8.1]]
    svg = curves("c", "題", [0, 10, 20], lines, ("0", "20 語"), lambda v: f"{v:.1f}")
    ElementTree.fromstring(svg)
    places = {text: float(y) for y, text in re.findall(r' y="([\d.]+)"[^>]*>(8\.[01])</text>', svg)}
    assert abs(places["8.0"] - places["8.1"]) > 10
    ElementTree.fromstring(curves("c", "題", [0, 1], [[0.0, 0.0]], ("", ""), str))
