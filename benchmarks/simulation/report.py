"""The table, and the plot as an SVG written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .drive import Result

Curve = Sequence[tuple[float, float]]  # looks a job, delay in seconds

HEADINGS = (("", 24), ("slots busy", 11), ("of oracle", 11), ("polls/job", 11), ("delay p50", 11), ("p99", 9))
COLUMNS = "".join(f"{name:>{width}}" for name, width in (*HEADINGS, ("refused", 9), ("jobs/h", 9)))

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 480, 70, 40, 60
COLOURS = ("#1f6feb", "#d1242f", "#9a6700")


def table(results: Sequence[Result]) -> str:
    lines, world = [COLUMNS], ""
    for row in results:
        if row.world != world:
            world = row.world
            lines += ["", world]
        lines.append(
            f"  {row.policy:22}{row.busy:>10.1%} {row.of_oracle:>10.1%} {row.polls:>10.2f} {row.delay_p50:>8.2f} s "
            f"{row.delay_p99:>6.2f} s {row.refusals:>8} {row.jobs_an_hour:>8.0f}"
        )
    return "\n".join(lines)


def plot(title: str, curves: dict[str, Curve]) -> str:
    """Delay against looks a job, both logarithmic: lower and further left is better."""
    points = [point for curve in curves.values() for point in curve]
    across = _Scale([x for x, _ in points], LEFT, WIDTH - 20)
    down = _Scale([y for _, y in points], HEIGHT - BOTTOM, TOP)
    body = [f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="15">{title}</text>']
    body += [_column(across(x), x) for x in across.ticks()] + [_row(down(y), y) for y in down.ticks()]
    body.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 16}" text-anchor="middle">looks a job</text>')
    body.append(
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">mean delay, seconds</text>'
    )
    for place, (name, curve) in enumerate(curves.items()):
        body += _line(curve, across, down, COLOURS[place % len(COLOURS)])
        body.append(f'<text x="{WIDTH - 250}" y="{TOP + 18 + 18 * place}" fill="{COLOURS[place]}">{name}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><g font-family="sans-serif">{"".join(body)}</g></svg>\n'
    )


class _Scale:
    """A logarithmic axis."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = math.log(min(values)), math.log(max(values))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        return self._start + (self._end - self._start) * (math.log(value) - self._low) / (self._high - self._low)

    def ticks(self) -> list[float]:
        every = [part * 10.0**power for power in range(-3, 4) for part in (1, 2, 5)]
        return [tick for tick in every if self._low <= math.log(tick) <= self._high]


def _column(at: float, value: float) -> str:
    label = f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
    return f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>{label}'


def _row(at: float, value: float) -> str:
    label = f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
    return f'<path d="M{LEFT} {at:.1f}H{WIDTH - 20}" stroke="#ddd"/>{label}'


def _line(curve: Curve, across: _Scale, down: _Scale, colour: str) -> list[str]:
    places = [(across(x), down(y)) for x, y in curve]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>', *dots]
