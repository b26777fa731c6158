from __future__ import annotations

import re
import subprocess
import sys
import warnings
from html import unescape
from xml.etree import ElementTree

import pytest

from japagen.reporting.charts import Dot, Line, Role, bars, curves, dots, ranges
from japagen.reporting.text import Words

_ONE: list[tuple[str, Role]] = [("", "synthetic")]
_TWO: list[tuple[str, Role]] = [("正解のみ", "gold"), ("合成あり", "synthetic")]


def _tips(svg: str) -> list[str]:
    return [unescape(tip) for tip in re.findall(r'data-tip="([^"]*)"', svg)]


def _fills(svg: str, role: str) -> int:
    return svg.count(f'="var(--{role})"')


def _size(svg: str) -> tuple[float, float]:
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found
    return float(found.group(1)), float(found.group(2))


def test_bars_are_as_long_as_their_values() -> None:
    svg = bars("題", "F1", [("一", [2.0, 4.0]), ("二", [1.0, None])], _TWO, "{:.1f}".format)
    widths = [float(width) for width in re.findall(r'data-tip=[^>]* d="M0,[\d.]+h([\d.]+)v', svg)]
    assert [width / max(widths) for width in widths] == pytest.approx([0.5, 1.0, 0.25], abs=1e-3)
    assert re.findall(r">(\d\.\d)</text>", svg)[-3:] == ["2.0", "4.0", "1.0"]
    assert _tips(svg) == ["一\n正解のみ: 2.0", "一\n合成あり: 4.0", "二\n正解のみ: 1.0"]
    assert (_fills(svg, "gold"), _fills(svg, "synthetic")) == (2, 1)


def test_axes_have_names() -> None:
    assert ">件数</text>" in bars("題", "件数", [("一", [1.0])], _ONE, str)
    svg = curves("題", ("横の名前", "縦の名前"), [Line("線", "gold", [(0, 1), (1, 2)])])
    assert ">横の名前</text>" in svg
    assert ">縦の名前</text>" in svg


def test_every_chart_is_as_wide_as_a_phone() -> None:
    rows = [("とても長い名前" * 9, [0.5]), ("短", [1.0])]
    for svg in (
        bars("題", "軸", rows, _ONE, "{:.1%}".format),
        bars("題", "軸", [("短", [0.0])], _ONE, str),
        ranges("題", "軸", [("一", [(0.2, 0.3, 0.5)])], _ONE, "{:.0%}".format, 1.0),
        curves("題", ("横", "縦"), [Line("線", "gold", [(0, 0.0), (9e6, 8.1)])]),
    ):
        assert _size(svg)[0] == 360
    assert "とても長い名前のとて" not in bars("題", "軸", rows, _ONE, str)


def test_charts_are_well_formed_escaped_and_without_warnings() -> None:
    hostile = "</svg><script>x</script>\u202e"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [
            bars('"<題>&', "軸", [(hostile, [1.0]), ("العربية 🎉", [0.5])], _ONE, str),
            ranges("差", hostile, [("差", [(-0.01, 0.02, 0.05)])], _ONE, "{:+.2f}".format, 0.0),
            dots(
                "図",
                ("", ""),
                [Dot(0, 1, 0, hostile, "<id>"), Dot(1, 0, 1, "b")],
                ["gold", "synthetic"],
            ),
            bars("空", "軸", [], _ONE, str),
            ranges("空", "軸", [], _ONE, str, 1.0),
        ]
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            "svg",
            "title",
            "g",
            "path",
            "line",
            "text",
            "rect",
        }
        assert "\u202e" not in svg
    assert ElementTree.fromstring(drawn[0]).get("aria-label") == '"<題>&'
    assert _tips(drawn[2]) == ["</svg><script>x</script>\t<id>", "b"]


def test_ranges_stand_where_their_bounds_are_and_say_them() -> None:
    rows: list[tuple[str, list[tuple[float, float, float] | None]]] = [
        ("一", [(0.2, 0.3, 0.5), None]),
        ("二", [(0.9, 1.1, 1.4), (1.0, 1.0, 1.0)]),
    ]
    svg = ranges("題", "軸", rows, _TWO, "{:.0%}".format, 1.0)
    assert "一\n正解のみ: 30% [20%, 50%]" in _tips(svg)
    assert "二\n合成あり: 100%" in _tips(svg)
    dashed = re.search(r"translate\(([\d.]+),[^>]*stroke-dasharray", svg)
    assert dashed
    assert 0 < float(dashed.group(1)) < 360


def test_curves_have_bands_only_where_there_are_intervals() -> None:
    plain = curves("題", ("横", "縦"), [Line("線", "gold", [(0, 1.0), (2, 0.5)])])
    banded = curves(
        "題", ("横", "縦"), [Line("線", "gold", [(0, 1.0, 0.8, 1.2), (2, 0.5, 0.4, 0.7)])]
    )
    assert "mark-area" not in plain
    assert "mark-area" in banded
    marked = curves(
        "題",
        ("横", "縦"),
        [Line("線", "gold", [(0, 1.0), (2, 0.5)]), Line("印", "other", [(0, 1), (2, 1)], True)],
    )
    assert _tips(marked) == _tips(plain)
    assert "stroke-dasharray" in marked


def test_importing_the_report_draws_nothing() -> None:
    code = "import sys, japagen.reporting.report; print('vl_convert' in sys.modules)"
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
