"""Charts as inline SVG: the browser draws the text, and the page's style sheet the colours."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

Number = float | None
Range = tuple[float, float, float]
_WIDTH = 7.2  # inches, as are all lengths below
_BAR = 0.18
_GROUP_GAP = 0.16
_EDGE = 0.1
_FONT_POINTS = 10.0  # as the style sheet says of .chart text
_VALUE_ROOM = 0.7
# Stand-ins that no figure shows: each becomes a variable of the style sheet, so that one SVG
# serves light, dark and print.
_COLOURS = {
    "#010203": "var(--series-0)",
    "#010204": "var(--series-1)",
    "#010205": "var(--series-2)",
    "#010206": "var(--series-3)",
    "#010207": "var(--ink)",
    "#010208": "var(--line)",
}
_SERIES = ("#010203", "#010204", "#010205", "#010206")
_INK, _LINE = "#010207", "#010208"


def bars(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Sequence[Number]]],
    show: Callable[[float], str],
) -> str:
    """Draws horizontal bars, grouped where a row has several values.

    Args:
        name: Prefix of the SVG's ids; unique on the page.
        title: What the chart shows, for screen readers.
        rows: Each row's name and its values, one a series; None draws no bar.
        show: Writes a value beside its bar.

    Returns:
        An ``svg`` element, the same for the same arguments.
    """
    series = max((len(values) for _, values in rows), default=1)
    step = series * _BAR + _GROUP_GAP
    height = len(rows) * step + 2 * _EDGE
    left = min(max((_inches(label) for label, _ in rows), default=0.0) + 0.15, _WIDTH * 0.45)
    top = max((v for _, values in rows for v in values if v is not None), default=0.0)
    with _drawing(name, title, height) as (axes, texts, finish):
        scale = (_WIDTH - left - _VALUE_ROOM) / (top or 1.0)
        for index, (label, values) in enumerate(rows):
            start = height - _EDGE - index * step - _GROUP_GAP / 2
            texts.add(left - 0.1, start - series * _BAR / 2, _fitted(label, left - 0.1), "right")
            for at, value in enumerate(values):
                if value is None:
                    continue
                middle = start - (at + 0.5) * _BAR
                axes.barh(middle, value * scale, _BAR * 0.82, left=left, color=_SERIES[at])
                texts.add(left + value * scale + 0.06, middle, show(value), "left")
        axes.plot([left, left], [0, height], color=_LINE, linewidth=1)
        return finish()


def interval(
    name: str, title: str, bounds: tuple[float, float, float], ends: tuple[str, str]
) -> str:
    """Draws a difference and its interval against zero.

    Args:
        name: Prefix of the SVG's ids.
        title: What the chart shows.
        bounds: Lower bound, value and upper bound.
        ends: What stands at the left (negative) and right (positive) end.
    """
    low, value, high = bounds
    height, reach = 0.75, max(abs(low), abs(high), abs(value), 1e-6) * 1.25
    with _drawing(name, title, height) as (axes, texts, finish):

        def place(x: float) -> float:
            return _WIDTH * (0.5 + 0.46 * x / reach)

        axes.plot([0.04 * _WIDTH, 0.96 * _WIDTH], [0.3, 0.3], color=_LINE, linewidth=1)
        axes.plot([place(0), place(0)], [0.1, 0.5], color=_INK, linewidth=1, dashes=(3, 2))
        axes.plot([place(low), place(high)], [0.3, 0.3], color=_SERIES[1], linewidth=5)
        axes.plot([place(value)], [0.3], color=_INK, marker="o", markersize=8)
        texts.add(place(0), 0.62, "0", "center")
        texts.add(0.04 * _WIDTH, 0.62, ends[0], "left")
        texts.add(0.96 * _WIDTH, 0.62, ends[1], "right")
        return finish()


def ranges(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Sequence[Range | None]]],
    show: Callable[[float], str],
    mark: float,
) -> str:
    """Draws values with their intervals, one line a value, against a dashed mark.

    Args:
        name: Prefix of the SVG's ids; unique on the page.
        title: What the chart shows.
        rows: Each row's name and its values, one a series: low, value, high; None draws none.
        show: Writes a value beside its interval.
        mark: What the values are held against.
    """
    series = max((len(values) for _, values in rows), default=1)
    step = series * _BAR + _GROUP_GAP
    height = len(rows) * step + 2 * _EDGE + 0.25
    left = min(max((_inches(label) for label, _ in rows), default=0.0) + 0.15, _WIDTH * 0.45)
    drawn = [bounds for _, values in rows for bounds in values if bounds is not None]
    low = min([mark, *(bounds[0] for bounds in drawn)])
    high = max([mark, *(bounds[2] for bounds in drawn)])
    scale = (_WIDTH - left - _VALUE_ROOM - 0.1) / ((high - low) or 1.0)

    def place(value: float) -> float:
        return left + 0.1 + (value - low) * scale

    with _drawing(name, title, height) as (axes, texts, finish):
        axes.plot([place(mark)] * 2, [0, height - 0.25], color=_INK, linewidth=1, dashes=(3, 2))
        texts.add(place(mark), height - 0.12, show(mark), "center")
        for index, (label, values) in enumerate(rows):
            start = height - 0.25 - _EDGE - index * step - _GROUP_GAP / 2
            texts.add(left - 0.1, start - series * _BAR / 2, _fitted(label, left - 0.1), "right")
            for at, bounds in enumerate(values):
                if bounds is None:
                    continue
                middle, ends = start - (at + 0.5) * _BAR, [place(bounds[0]), place(bounds[2])]
                axes.plot(ends, [middle] * 2, color=_SERIES[at], linewidth=3)
                dot = {"marker": "o", "markersize": 6}
                axes.plot([place(bounds[1])], [middle], color=_SERIES[at], **dot)
                texts.add(max(ends[1], place(bounds[1])) + 0.1, middle, show(bounds[1]), "left")
        return finish()


def curves(
    name: str,
    title: str,
    points: Sequence[float],
    series: Sequence[Sequence[float]],
    ends: tuple[str, str],
    show: Callable[[float], str],
) -> str:
    """Draws lines over common points, from 0, each with its last value beside it.

    Args:
        name: Prefix of the SVG's ids; unique on the page.
        title: What the chart shows.
        points: Where the values stand, rising.
        series: The values of each line, as many as ``points``.
        ends: What stands below the axis at its left and right end.
        show: Writes a last value.
    """
    height, bottom = 2.6, 0.35
    widest, tallest = max(points, default=1.0), max((max(v) for v in series), default=1.0)
    right = _WIDTH - _VALUE_ROOM

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = x / (widest or 1.0), y / (tallest or 1.0)
        return 0.1 + (right - 0.1) * across, bottom + (
            height - bottom - 0.1 - 0.17 * len(series)
        ) * up

    with _drawing(name, title, height) as (axes, texts, finish):
        axes.plot([0.1, right], [bottom, bottom], color=_LINE, linewidth=1)
        lasts = []
        for at, values in enumerate(series):
            xs, ys = zip(*(place(x, y) for x, y in zip(points, values, strict=True)), strict=True)
            axes.plot(xs, ys, color=_SERIES[at % len(_SERIES)], linewidth=2)
            lasts.append((ys[-1], show(values[-1])))
        floor = 0.0
        for y, text in sorted(lasts):
            # Lines that end close together must not write over each other.
            floor = max(y, floor + 0.17)
            texts.add(right + 0.08, floor, text, "left")
        texts.add(0.1, 0.14, ends[0], "left")
        texts.add(right, 0.14, ends[1], "right")
        return finish()


Curve = Sequence[tuple[float, float, float, float]]


def banded_curves(name: str, title: str, panels: Sequence[tuple[str, Curve]]) -> str:
    """Draws curves with their intervals side by side, on one vertical scale.

    Args:
        name: Prefix of the SVG's ids.
        title: What the chart shows.
        panels: Each panel's heading, and its points: place, value, and the interval's two ends.
    """
    height, foot, head, left = 2.6, 0.35, 0.4, 0.6
    points = [point for _, panel in panels for point in panel]
    bottom, top = min(p[2] for p in points), max(p[3] for p in points)
    width = (_WIDTH - left) / len(panels)
    room = height - foot - head
    with _drawing(name, title, height) as (axes, texts, finish):

        def up(value: float) -> float:
            return foot + 0.1 + (value - bottom) / ((top - bottom) or 1.0) * (room - 0.2)

        for value in (bottom, (bottom + top) / 2, top):
            texts.add(left - 0.12, up(value), f"{value:.2f}", "right")
        for at, (heading, panel) in enumerate(panels):
            start, span = left + at * width, width - 0.55
            most = max(point[0] for point in panel) or 1.0
            places = [start + 0.1 + point[0] / most * span for point in panel]
            axes.plot([start, start, start + width - 0.3], [height - head, foot, foot], color=_LINE)
            texts.add(start, height - 0.2, _fitted(heading, width - 0.1), "left")
            axes.fill_between(
                places,
                [up(point[2]) for point in panel],
                [up(point[3]) for point in panel],
                color=_SERIES[at],
                alpha=0.2,
                linewidth=0,
            )
            heights = [up(point[1]) for point in panel]
            axes.plot(places, heights, color=_SERIES[at], marker="o", markersize=4)
            for index in sorted({0, len(panel) // 2, len(panel) - 1}):
                shown = f"{panel[index][0]:.1f}".removesuffix(".0")
                texts.add(places[index], foot - 0.17, shown, "center")
        return finish()


class _Texts:
    """Texts drawn as numbered ASCII stand-ins and put into the finished SVG.

    Matplotlib has no font for Japanese: measuring a text would warn of every missing glyph.
    It anchors text by its position, so the stand-in's own width does not matter.
    """

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._texts: list[str] = []

    def add(self, x: float, y: float, text: str, align: str) -> None:
        stand_in = f"text-{len(self._texts)}-"
        self._axes.text(
            x, y, stand_in, ha=align, va="center_baseline", color=_INK, fontsize=_FONT_POINTS
        )
        self._texts.append(text)

    def put_into(self, svg: str) -> str:
        return re.sub(r">text-(\d+)-<", lambda m: f">{escape(self._texts[int(m.group(1))])}<", svg)


@contextmanager
def _drawing(
    name: str, title: str, height: float
) -> Iterator[tuple[Any, _Texts, Callable[[], str]]]:
    """Yields axes in inches, a collector of texts, and what turns them into an SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(_WIDTH, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        texts = _Texts(axes)

        def finish() -> str:
            axes.set_xlim(0, _WIDTH)
            axes.set_ylim(0, height)
            buffer = io.StringIO()
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(buffer, format="svg", metadata=nothing)
            return texts.put_into(_inline(buffer.getvalue(), name, title))

        yield axes, texts, finish


def _inline(svg: str, name: str, title: str) -> str:
    """Makes a file's SVG fit for a page with others: own ids, no size, style or metadata."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    # The page's white stays the page's: drop the figure's own background.
    svg = re.sub(r'<g id="patch_1">.*?</g>', "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", svg)
    for stand_in, variable in _COLOURS.items():
        svg = svg.replace(stand_in, variable)
    svg = re.sub(r"font(-size|-family)?: [^;]*; ", "", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box, "matplotlib wrote an SVG without a viewBox"
    opening = (
        f'<svg class="chart" role="img" aria-label="{escape(title)}" {box.group()} '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f"<title>{escape(title)}</title>"
    )
    return re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)


def _em(character: str) -> float:
    """Width in em, on the wide side: full-width characters are 1, others about half."""
    return 1.0 if unicodedata.east_asian_width(character) in "WFA" else 0.62


def _inches(text: str) -> float:
    return sum(map(_em, text)) * _FONT_POINTS / 72


def _fitted(text: str, room: float) -> str:
    """Cuts a text that would not fit; the table near the chart has it whole."""
    if _inches(text) <= room:
        return text
    while text and _inches(text + "…") > room:
        text = text[:-1]
    return text + "…"
