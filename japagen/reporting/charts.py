"""Charts as inline SVG, which Vega-Lite draws when the page is made.

The page's style sheet gives colours and font, so one drawing serves light, dark and print. What a
mark stands for is in its ``data-tip``: the page's script shows it where somebody points.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from japagen.reporting.text import undirected

if TYPE_CHECKING:
    from markupsafe import Markup

Role = Literal["gold", "synthetic", "before", "asked", "other", "round-0", "round-1", "round-2"]
"""What a colour means, everywhere on the page: ``gold`` are real texts and what learnt from them
alone, ``synthetic`` the kept texts and what learnt from them too, ``before`` the same before
curation or weighting, ``asked`` what was aimed at."""
Number = float | None
Range = tuple[float, float, float]
# Pixels of the drawing. On a phone it fills the screen at this size, so 11 px can be read.
_WIDTH = 360
_FONT = 11
_BAR = 13
_GAP = 8
_PLOT = 190
_VALUE_ROOM = 52
_INK, _MUTED, _LINE = "var(--ink)", "var(--muted)", "var(--line)"
_CONFIG = {
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "aria": False,
        "domainColor": _LINE,
        "gridColor": _LINE,
        "tickColor": _LINE,
        "labelColor": _INK,
        "titleColor": _MUTED,
        "labelFontSize": _FONT,
        "titleFontSize": _FONT,
        "titleFontWeight": "normal",
        "labelLimit": 0,
        "titleLimit": 0,
        "titlePadding": 6,
    },
    "text": {"fontSize": _FONT, "fill": _INK, "aria": False},
}


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: What it shows.
        role: Its colour.
        points: Place and value, or place, value and both ends of the interval.
        dashed: Whether it is a mark to compare with; it then has no dots.
    """

    name: str
    role: Role
    points: Sequence[tuple[float, ...]]
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    """A dot of a map: its place, group, what it says, and the record that it opens."""

    x: float
    y: float
    group: int
    tip: str
    id: str = ""


def bars(
    title: str,
    axis: str,
    rows: Sequence[tuple[str, Sequence[Number]]],
    series: Sequence[tuple[str, Role]],
    show: Callable[[float], str],
    ticks: str = ",~f",
) -> Markup:
    """Draws horizontal bars, grouped where a row has several values.

    Args:
        title: What the chart shows, for screen readers.
        axis: Name of the axis of values.
        rows: Each row's name and its values, one a series; None draws no bar.
        series: Name and colour of each series.
        show: Writes a value beside its bar.
        ticks: Format of the axis, as d3 writes it.

    Returns:
        An ``svg`` element, the same for the same arguments.
    """
    values = _values(rows, series, show, lambda value: {"value": value, "end": value})
    top = max((row["value"] for row in values), default=0.0) or 1.0
    scale = {"domain": [0, top], "nice": False}
    x, end = (_axis(name, axis, ticks, scale, grid=False) for name in ("value", "end"))
    drawn = {"type": "bar", "height": _BAR - 2}
    layers = [{"mark": drawn, "encoding": {"x": x, **_coloured(series)}}, _beside({"x": end})]
    return _rows_drawn(title, values, layers, rows, series)


def ranges(
    title: str,
    axis: str,
    rows: Sequence[tuple[str, Sequence[Range | None]]],
    series: Sequence[tuple[str, Role]],
    show: Callable[[float], str],
    mark: float,
    ticks: str = ".0%",
) -> Markup:
    """Draws values with their intervals, one line a value, against a dashed mark.

    Arguments are those of `bars`; values are ``low, value, high``, held against ``mark``.
    """
    values = _values(
        rows,
        series,
        show,
        lambda v: {"low": v[0], "value": v[1], "high": v[2], "end": max(v[1], v[2])},
    )
    ends = [mark, *(row[end] for row in values for end in ("low", "value", "high"))]
    scale = {"domain": [min(ends), max(ends)], "zero": False, "nice": False}
    low, value, end = (
        _axis(name, axis, ticks, scale, grid=False) for name in ("low", "value", "end")
    )
    dashed = {"type": "rule", "strokeDash": [4, 3], "color": _INK, "aria": False}
    bare = {"y": None, "yOffset": None}
    layers: list[dict[str, Any]] = [
        {"mark": dashed, "encoding": {**bare, "x": {"datum": mark, "type": "quantitative"}}},
        {
            "mark": {"type": "rule", "strokeWidth": 3},
            "encoding": {"x": low, "x2": {"field": "high"}, **_coloured(series)},
        },
        {
            "mark": {"type": "circle", "size": 60, "opacity": 1},
            "encoding": {"x": value, **_coloured(series)},
        },
        _beside({"x": end}),
    ]
    return _rows_drawn(title, values, layers, rows, series)


def curves(
    title: str,
    axes: tuple[str, str],
    lines: Sequence[Line],
    ticks: tuple[str, str] = (",~f", "~f"),
    *,
    zero: bool = False,
) -> Markup:
    """Draws lines, with bands where their points have intervals.

    Args:
        title: What the chart shows.
        axes: Names of the horizontal and the vertical axis.
        lines: The lines.
        ticks: Formats of both axes.
        zero: Whether the vertical axis begins at 0.
    """
    values: list[dict[str, Any]] = [
        {
            "series": at,
            "dashed": line.dashed,
            "x": point[0],
            "value": point[1],
            "low": point[2] if len(point) > 2 else point[1],
            "high": point[3] if len(point) > 2 else point[1],
            "tip": f"{line.name}\n{axes[0]}: {point[0]:,.4g}\n{axes[1]}: {point[1]:,.4g}",
        }
        for at, line in enumerate(lines)
        for point in line.points
    ]
    series = [(line.name, line.role) for line in lines]
    x = _axis("x", axes[0], ticks[0], {"zero": False})
    value, low = (_axis(name, axes[1], ticks[1], {"zero": zero}) for name in ("value", "low"))
    colour = _coloured(series)
    dash = {"condition": {"test": "datum.dashed", "value": [4, 3]}, "value": [1, 0]}
    quiet = {"color": colour["color"]}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "line", "aria": False},
            "encoding": {"x": x, "y": value, "strokeDash": dash, **quiet},
        },
        {
            "mark": {"type": "circle", "size": 34, "opacity": 1},
            "transform": [{"filter": "!datum.dashed"}],
            "encoding": {"x": x, "y": value, **colour},
        },
    ]
    if any(row["low"] < row["high"] for row in values):
        band = {"x": x, "y": low, "y2": {"field": "high"}, **quiet}
        layers.insert(
            0, {"mark": {"type": "area", "opacity": 0.2, "aria": False}, "encoding": band}
        )
    return _drawn(title, values, layers, {}, _PLOT, [], 64)


def dots(title: str, axes: tuple[str, str], found: Iterable[Dot], roles: Sequence[Role]) -> Markup:
    """Draws a map of dots whose places mean nothing but near and far.

    Groups of dots are places in ``roles``; the last is drawn on top.
    """
    values = [
        {"series": d.group, "x": d.x, "value": d.y, "tip": f"{d.tip}\t{d.id}" if d.id else d.tip}
        for d in sorted(found, key=lambda dot: dot.group)
    ]
    bare = {"labels": False, "ticks": False, "grid": False}

    def axis(field: str, name: str) -> dict[str, Any]:
        scale = {"zero": False}
        return {"field": field, "type": "quantitative", "axis": {"title": name, **bare}} | {
            "scale": scale
        }

    layer = {
        "mark": {"type": "circle", "size": 22, "opacity": 0.75},
        "encoding": {
            "x": axis("x", axes[0]),
            "y": axis("value", axes[1]),
            **_coloured([(role, role) for role in roles]),
        },
    }
    return _drawn(title, values, [layer], {}, 240, [], 22)


def _values(
    rows: Sequence[tuple[str, Sequence[Any]]],
    series: Sequence[tuple[str, Role]],
    show: Callable[[float], str],
    fields: Callable[[Any], Mapping[str, float]],
) -> list[dict[str, Any]]:
    found = []
    for row, (label, cells) in enumerate(rows):
        for at, (cell, (name, _)) in enumerate(zip(cells, series, strict=True)):
            if cell is None:
                continue
            numbers = fields(cell)
            shown = show(numbers["value"])
            if "low" in numbers and numbers["low"] < numbers["high"]:
                shown += f" [{show(numbers['low'])}, {show(numbers['high'])}]"
            tip = f"{label}\n{name}: {shown}" if name else f"{label}: {shown}"
            found.append({"row": row, "series": at, "shown": show(numbers["value"]), "tip": tip})
            found[-1] |= numbers
    return found


def _rows_drawn(
    title: str,
    values: Sequence[Mapping[str, Any]],
    layers: Sequence[Mapping[str, Any]],
    rows: Sequence[tuple[str, Any]],
    series: Sequence[Any],
) -> Markup:
    """A chart of rows by name, each with a place for every series."""
    names = [name for name, _ in rows]
    bare = {"title": None, "labelExpr": "names[datum.value]", "ticks": False, "domain": False}
    shared = {
        "y": {
            "field": "row",
            "type": "ordinal",
            "sort": None,
            "scale": {"domain": list(range(len(rows))), "padding": 0},
            "axis": bare,
        },
        "yOffset": {
            "field": "series",
            "type": "ordinal",
            "sort": None,
            "scale": {"domain": list(range(len(series))), "paddingOuter": _GAP / _BAR / 2},
        },
    }
    height = max(len(rows), 1) * (len(series) * _BAR + _GAP)
    left = min(max(map(_wide, names), default=0) + 12, int(_WIDTH * 0.42))
    return _drawn(title, values, layers, shared, height, names, left)


def _axis(
    field: str, title: str, ticks: str, scale: Mapping[str, Any], *, grid: bool = True
) -> dict[str, Any]:
    return {
        "field": field,
        "type": "quantitative",
        "axis": {"title": title, "format": ticks, "tickCount": 5 if grid else 4, "grid": grid},
        "scale": scale,
    }


def _coloured(series: Sequence[tuple[str, Role]]) -> dict[str, Any]:
    """The colour of each series, and what is said of a mark."""
    scale = {
        "domain": list(range(len(series))),
        "range": [f"var(--{role})" for _, role in series],
    }
    colour = {"field": "series", "type": "nominal", "scale": scale, "legend": None}
    return {"color": colour, "description": {"field": "tip", "type": "nominal"}}


def _beside(place: Mapping[str, Any]) -> dict[str, Any]:
    """A layer of values, each at the end of its mark."""
    mark = {"type": "text", "align": "left", "baseline": "middle", "dx": 7, "aria": False}
    return {"mark": mark, "encoding": {**place, "text": {"field": "shown", "type": "nominal"}}}


def _drawn(
    title: str,
    values: Sequence[Mapping[str, Any]],
    layers: Sequence[Mapping[str, Any]],
    shared: Mapping[str, Any],
    height: int,
    names: Sequence[str],
    left: int,
) -> Markup:
    room = _VALUE_ROOM if names else 12
    spec = {
        "data": {"values": values},
        "layer": layers,
        "encoding": shared,
        "params": [{"name": "names", "value": [_fitted(name, left - 8) for name in names]}],
        "width": _WIDTH - left - room,
        "height": height,
        "background": None,
        # Given in full: what is drawn must not depend on the fonts of the machine that draws.
        "autosize": "none",
        "padding": {"left": left, "right": room, "top": 8, "bottom": 36},
        "config": _CONFIG,
    }
    return _svg(undirected(json.dumps(spec, ensure_ascii=False)), undirected(title))


@lru_cache(maxsize=512)
def _svg(spec: str, title: str) -> Markup:
    """Draws a chart and makes its SVG fit for a page: no size, no roles of its own."""
    import vl_convert
    from markupsafe import Markup

    svg = vl_convert.vegalite_to_svg(spec)
    # Vega describes every group for screen readers; on this page the title and a table do.
    svg = re.sub(r' (role|aria-roledescription|aria-hidden|pointer-events)="[^"]*"', "", svg)
    svg = re.sub(r' opacity="1"| font-family="inherit"', "", svg)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg).replace(' aria-label="', ' data-tip="')
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size, "Vega-Lite wrote an SVG without a viewBox"
    named = escape(title)
    opening = (
        f'<svg class="chart" role="img" aria-label="{named}" {size.group()} '
        f'xmlns="http://www.w3.org/2000/svg"><title>{named}</title>'
    )
    # Everything in it that came from texts was escaped by Vega.
    return Markup(re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1))


def _wide(text: str) -> int:
    """Pixels on the wide side: full-width characters are as wide as high, others about half."""
    wide = sum(1.0 if unicodedata.east_asian_width(c) in "WFA" else 0.62 for c in text)
    return round(wide * _FONT)


def _fitted(text: str, room: int) -> str:
    """Cuts a text that would not fit; the table near the chart has it whole."""
    if _wide(text) <= room:
        return text
    while text and _wide(text + "…") > room:
        text = text[:-1]
    return text + "…"
