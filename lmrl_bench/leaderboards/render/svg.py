"""Small SVG: a frame with two scales, and the marks that the plots are made of.

Colors are classes (`s0` … `s7`, `reference`, `other`) that the page's style sheet defines for light
and dark; texts take the page's ink. Coordinates have one decimal, so every platform writes the same.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import escape

from lmrl_bench.leaderboards.render.columns import number

WIDTH = 380
STYLE = Path(__file__).resolve().parent.parent / "templates" / "plots.css"


@dataclass(frozen=True)
class Axis:
    """A linear scale from data to pixels.

    Attributes:
        low: Data at `start`.
        high: Data at `end`.
        start: Pixel of `low`.
        end: Pixel of `high`.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Returns the pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Returns round values inside the scale, at most `most` + 1."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * number for number in range(first, last + 1)]


def span(values: Sequence[float], margin: float = 0.04) -> tuple[float, float]:
    """Returns a little more than the range of the values; never an empty one."""
    low, high = min(values), max(values)
    width = (high - low) or abs(high) * 0.1 or 1.0
    return low - margin * width, high + margin * width


def document(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """Returns an SVG element that scales with its box and is read aloud as `label`."""
    return (
        f'<svg viewBox="0 0 {pixel(width)} {pixel(height)}" role="img" aria-label="{escape(label)}" '
        f'class="plot">{"".join(parts)}</svg>'
    )


def standalone(svg: str) -> str:
    """Returns a plot as a file of its own: with size, ground and style sheet, for light and dark."""
    head, body = svg.split(">", 1)
    width, height = re.search(r'viewBox="0 0 (\S+) (\S+)"', head).groups()  # type: ignore[union-attr]
    size = f'width="{pixel(1.5 * float(width))}" height="{pixel(1.5 * float(height))}"'
    style = STYLE.read_text(encoding="utf-8") + "svg { background: var(--ground); }\n"
    return f'{head} {size} xmlns="http://www.w3.org/2000/svg"><style>\n{style}</style>{body}\n'


def frame(x: Axis, y: Axis, x_title: str, y_title: str) -> str:
    """Returns grid lines, tick labels and the titles of both axes."""
    left, right, top, bottom = x.start, x.end, y.end, y.start
    parts = []
    x_ticks, y_ticks = x.ticks(), y.ticks()
    for tick, text in zip(y_ticks, numbers(y_ticks), strict=True):
        parts.append(line(left, y(tick), right, y(tick), "grid"))
        parts.append(words(left - 6, y(tick) + 4, text, "tick", "end"))
    for tick, text in zip(x_ticks, numbers(x_ticks), strict=True):
        parts.append(words(x(tick), bottom + 16, text, "tick", "middle"))
    parts.append(line(left, bottom, right, bottom, "axis"))
    parts.append(words(right, bottom + 32, x_title, "axis-title", "end"))
    parts.append(words(4, top - 10, y_title, "axis-title"))
    return "".join(parts)


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Returns a straight line."""
    return (
        f'<line class="{style}" x1="{pixel(x1)}" y1="{pixel(y1)}" '
        f'x2="{pixel(x2)}" y2="{pixel(y2)}"/>'
    )


def path(points: Sequence[tuple[float, float]], style: str) -> str:
    """Returns a polyline."""
    return f'<path class="{style}" d="M{_points(points)}"/>'


def area(points: Sequence[tuple[float, float]], style: str) -> str:
    """Returns a filled polygon."""
    return f'<path class="{style}" d="M{_points(points)}Z"/>'


def dot(x: float, y: float, radius: float, style: str) -> str:
    """Returns a circle."""
    return f'<circle class="{style}" cx="{pixel(x)}" cy="{pixel(y)}" r="{pixel(radius)}"/>'


def words(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    """Returns a text."""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{style}" x="{pixel(x)}" y="{pixel(y)}"{place}>{escape(text)}</text>'


def group(row: str, style: str, title: str, parts: Sequence[str]) -> str:
    """Returns the marks of a row of the leaderboard: one color, one tooltip, hidden by the page's filter."""
    return (
        f'<g data-entry="{escape(row)}" class="{style}"><title>{escape(title)}</title>'
        f"{''.join(parts)}</g>"
    )


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Returns heights near the wanted ones, at least `gap` apart and between `low` and `high`.

    Labels at the ends of lines are placed with it; their order stays.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [0.0] * len(wanted)
    floor = low
    for index in order:
        placed[index] = floor = max(wanted[index], floor)
        floor += gap
    ceiling = high
    for index in reversed(order):
        placed[index] = ceiling = min(placed[index], ceiling)
        ceiling -= gap
    return placed


def shortened(text: str, characters: int) -> str:
    """Returns the text, or its beginning with an ellipsis."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def numbers(ticks: Sequence[float]) -> list[str]:
    """Returns ascending ticks with as few decimals as write them all to a hundredth of their distance."""
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    tolerance = min(gaps, default=abs(ticks[0]) if ticks else 0.0) / 100
    texts: list[str] = []
    for places in range(10):
        texts = [number(tick, places) for tick in ticks]
        if all(abs(float(t) - v) <= tolerance for t, v in zip(texts, ticks, strict=True)):
            break
    return texts


def pixel(value: float) -> str:
    """Returns a coordinate with at most one decimal; never "-0"."""
    text = f"{value:.1f}"
    text = text.removesuffix(".0")
    return "0" if text == "-0" else text


def _points(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{pixel(x)} {pixel(y)}" for x, y in points)
