"""Curves as an SVG written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Curve = Sequence[tuple[float, float]]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 74, 40, 44, 56
COLOURS = ("#1f6feb", "#d1242f", "#9a6700", "#1a7f37", "#8250df")
TICKS = 6
NAMES = 0.15  # of the height, above the curves


@dataclass(frozen=True, slots=True)
class Axis:
    """What stands at it. A logarithmic one shows powers of ten, another one begins at zero."""

    label: str
    logarithmic: bool = False


def plot(title: str, across: Axis, up: Axis, curves: Mapping[str, Curve]) -> str:
    """The picture, for the eyes and for a diff."""
    points = [point for curve in curves.values() for point in curve]
    xs = _Scale([x for x, _ in points], across.logarithmic, LEFT, WIDTH - RIGHT)
    ys = _Scale([y for _, y in points], up.logarithmic, HEIGHT - BOTTOM, TOP, room=NAMES)
    middle = (HEIGHT - BOTTOM + TOP) / 2
    body = [
        f'<text x="{WIDTH / 2}" y="24" text-anchor="middle" font-size="15">{title}</text>',
        *(_column(xs(tick), tick) for tick in xs.ticks()),
        *(_row(ys(tick), tick) for tick in ys.ticks()),
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{across.label}</text>',
        f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">{up.label}</text>',
    ]
    for place, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[place % len(COLOURS)]
        body += _line(curve, xs, ys, colour)
        at = f'x="{LEFT + 12}" y="{TOP + 18 + 17 * place}" fill="{colour}"'
        body.append(f'<text {at} paint-order="stroke" stroke="white" stroke-width="4">{name}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><g font-family="sans-serif">{"".join(body)}</g></svg>\n'
    )


class _Scale:
    def __init__(
        self, values: Sequence[float], logarithmic: bool, start: float, end: float, *, room: float = 0.0
    ) -> None:
        self._logarithmic = logarithmic
        self._low = min(values) if logarithmic else 0.0
        self._high = max(values) * (1 if logarithmic else 1 + room)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        place, low, high = (math.log(v) if self._logarithmic else v for v in (value, self._low, self._high))
        return self._start + (self._end - self._start) * ((place - low) / (high - low) if high > low else 0.5)

    def ticks(self) -> Iterator[float]:
        if self._logarithmic:
            powers = range(math.ceil(math.log10(self._low) - 1e-9), math.floor(math.log10(self._high) + 1e-9) + 1)
            yield from (10.0**power for power in powers)
            return
        step = 10.0 ** math.floor(math.log10(self._high / TICKS))
        step *= next(times for times in (1, 2, 5, 10) if self._high / (step * times) <= TICKS)
        yield from (step * number for number in range(int(self._high / step) + 1))


def _column(at: float, value: float) -> str:
    label = f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_told(value)}</text>'
    return f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>{label}'


def _row(at: float, value: float) -> str:
    label = f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_told(value)}</text>'
    return f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>{label}'


def _told(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _line(curve: Curve, xs: _Scale, ys: _Scale, colour: str) -> Iterator[str]:
    places = [(xs(x), ys(y)) for x, y in curve]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    if len(places) <= 20:
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
