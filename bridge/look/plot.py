"""A metric over time or over another value, as a picture.

SVG is written here: it is text, small, and sharp everywhere. PNG takes a rasteriser and fonts, which matplotlib has
(extra `plot`).
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from bridge.formats.errors import BridgeError

__all__ = ["Axis", "Point", "PlotError", "png", "svg"]

_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 20, 44, 64
_TICKS = 6
_LONGEST = 24
_COLOUR = "#2a6fb0"


class PlotError(BridgeError):
    """Nothing that can be drawn, or nothing to draw with."""


@dataclass(frozen=True, slots=True)
class Point:
    """A realization in a plot; `text` is shown where the pointer is."""

    x: Any
    y: float
    text: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows; `time` if its values are seconds since the epoch."""

    title: str
    time: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places from 0 to 1, and the ticks between."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    names: dict[str, int] | None = None

    def place(self, value: Any) -> float:
        number = self.names[_name(value)] if self.names is not None else float(value)
        return (number - self.low) / (self.high - self.low)


def svg(title: str, x: Axis, y: Axis, points: Sequence[Point]) -> str:
    """The picture as a document of its own.

    Raises
    ------
    PlotError
        If there is no point with a finite value.
    """
    drawn = _drawn(points)
    across, up = _scale([one.x for one in drawn], x), _scale([one.y for one in drawn], y)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
        ' font-family="sans-serif" font-size="12" fill="#333">',
        f"<title>{_text(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_WIDTH / 2:g}" y="24" text-anchor="middle" font-size="15">{_text(title)}</text>',
        f'<text x="{_LEFT + width / 2:g}" y="{_HEIGHT - 14}" text-anchor="middle">{_text(x.title)}</text>',
        f'<text transform="translate(18 {_TOP + height / 2:g}) rotate(-90)" text-anchor="middle">'
        f"{_text(y.title)}</text>",
    ]
    for value, label in across.ticks:
        at = _LEFT + width * (value - across.low) / (across.high - across.low)
        parts.append(f'<path d="M{at:.1f} {_TOP}v{height}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{at:.1f}" y="{_TOP + height + 18}" text-anchor="middle">{_text(label)}</text>')
    for value, label in up.ticks:
        at = _TOP + height - height * (value - up.low) / (up.high - up.low)
        parts.append(f'<path d="M{_LEFT} {at:.1f}h{width}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_text(label)}</text>')
    parts.append(f'<path d="M{_LEFT} {_TOP}v{height}h{width}" fill="none" stroke="#333"/>')
    for one in sorted(drawn, key=lambda one: one.chosen):
        left, top = _LEFT + width * across.place(one.x), _TOP + height - height * up.place(one.y)
        look = f'r="5" fill="{_COLOUR}"' if one.chosen else f'r="3.5" fill="{_COLOUR}" fill-opacity="0.45"'
        parts.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" {look}><title>{_text(one.text)}</title></circle>')
    return "\n".join([*parts, "</svg>", ""])


def png(title: str, x: Axis, y: Axis, points: Sequence[Point]) -> bytes:
    """The picture as PNG.

    Raises
    ------
    PlotError
        If there is no point with a finite value, or no matplotlib.
    """
    drawn = _drawn(points)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError(
            "PNG needs matplotlib", hint="pip install 'nixbridge[plot]', or write FILE.svg, which needs nothing"
        ) from error
    across, up = _scale([one.x for one in drawn], x), _scale([one.y for one in drawn], y)
    figure = Figure(figsize=(_WIDTH / 100, _HEIGHT / 100), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    for chosen in (False, True):
        of = [one for one in drawn if one.chosen is chosen]
        places = [across.low + across.place(one.x) * (across.high - across.low) for one in of]
        axes.scatter(places, [one.y for one in of], s=24 if chosen else 12, c=_COLOUR, alpha=1 if chosen else 0.45)
    axes.set_xlim(across.low, across.high)
    axes.set_ylim(up.low, up.high)
    # Texts are texts: no dollar sign begins a formula.
    axes.set_xticks([at for at, _ in across.ticks], [label for _, label in across.ticks], parse_math=False)
    axes.set_yticks([at for at, _ in up.ticks], [label for _, label in up.ticks], parse_math=False)
    axes.set_xlabel(_clean(x.title), parse_math=False)
    axes.set_ylabel(_clean(y.title), parse_math=False)
    axes.set_title(_clean(title), parse_math=False)
    axes.grid(color="#e4e4e4")
    axes.set_axisbelow(True)
    written = BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def _drawn(points: Sequence[Point]) -> list[Point]:
    drawn = [one for one in points if _is_number(one.y) and not (isinstance(one.x, float) and not math.isfinite(one.x))]
    if not drawn:
        raise PlotError("there is no realization with a number to draw", hint="name another metric with --metric")
    return drawn


def _is_number(value: Any) -> bool:
    # Beyond 1e300 the axis itself would not be finite.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _scale(values: Sequence[Any], axis: Axis) -> _Scale:
    if not all(map(_is_number, values)):
        names = {name: number for number, name in enumerate(dict.fromkeys(sorted(map(_name, values))))}
        shown = [(float(at), name) for name, at in names.items()]
        return _Scale(-0.5, len(names) - 0.5, tuple(shown[:: max(1, math.ceil(len(shown) / 8))]), names)
    low, high = float(min(values)), float(max(values))
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - (abs(low) * 0.5 or 0.5), high + (abs(high) * 0.5 or 0.5)
    low, high = low - (high - low) * 0.05, high + (high - low) * 0.05
    ticks = _times(low, high) if axis.time else _numbers(low, high)
    return _Scale(low, high, tuple(ticks))


def _numbers(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks at multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [(number * step, f"{number * step:.10g}") for number in range(first, min(last, first + 50) + 1)]


_STEPS = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86400, 2 * 86400, 7 * 86400, 30 * 86400, 365 * 86400)


def _times(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks at whole units of time in UTC."""
    step = next((step for step in _STEPS if (high - low) / step <= _TICKS), math.ceil((high - low) / _TICKS))
    found = []
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        try:
            moment = datetime.datetime.fromtimestamp(number * step, datetime.UTC)
        except (OverflowError, ValueError, OSError):
            continue
        form = "%Y-%m-%d" if step >= 86400 else "%m-%d %H:%M" if step >= 60 else "%H:%M:%S"
        found.append((float(number * step), moment.strftime(form)))
    return found


def _name(value: Any) -> str:
    text = _clean(str(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _clean(text: str) -> str:
    """Without what XML may not hold."""
    return "".join(char if char.isprintable() or char == " " else "\ufffd" for char in text)


def _text(text: str) -> str:
    return escape(_clean(text))
