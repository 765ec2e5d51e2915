"""Ridges under a sky, in tones of grey, and the palettes that colour them. Needs Pillow."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import cache

from PIL import Image, ImageColor, ImageDraw

PALETTES = (
    ("#14142b", "#3d2c6e", "#a4508b", "#f49f6c", "#fff1d6"),  # dusk
    ("#0b1d2a", "#14505c", "#3c9d9b", "#a5d8b5", "#fbf7dd"),  # lagoon
    ("#1b1420", "#5b1f3a", "#c8433f", "#f5a25d", "#fff3cf"),  # ember
    ("#101b33", "#25498a", "#5f8fd0", "#b8cdf0", "#fdf3ea"),  # morning
    ("#10211a", "#2c5a3f", "#7fa650", "#e2cf72", "#fffbe3"),  # meadow
    ("#1f1630", "#55307c", "#9b6fc7", "#edb1d0", "#fff3f1"),  # lilac
    ("#1d1a17", "#5a4633", "#b98a54", "#e9cf9f", "#fffaf0"),  # sand
    ("#0d1730", "#3a3a7c", "#d0587e", "#fbb35a", "#fff5d8"),  # banana
)
"""From dark to light."""

RIDGE_TONES = (165, 125, 88, 52, 14)
"""From the farthest ridge to the ground, on which the prompt stands."""

STRETCH = 2
"""Shapes are drawn twice as tall and pressed together, which smooths the slopes of ridges at half the cost of
doubling both sides."""

RIDGE_STEPS = 64
OCTAVES = 3
HORIZON = 0.6
"""Where the sky is lightest, as a share of the height; the farthest ridge stands darker before it."""

Wave = Callable[[float], float]


def paint(chance: random.Random, width: int, height: int) -> Image.Image:
    """A scene in mode `L`, all its shapes drawn from `chance`."""
    tones = _sky(chance, height * STRETCH)
    column = Image.frombytes("L", (1, len(tones)), tones)
    canvas = column.resize((width, len(tones)), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    _stars(pen, chance, width, height)
    _sun(pen, chance, tones, width, height)
    _ridges(pen, chance, width, height)
    return canvas.reduce((1, STRETCH))


def palette(chance: random.Random) -> bytes:
    """256 colours for a painted scene."""
    return _ramp(chance.choice(PALETTES))


def ground_height(width: int, height: int) -> float:
    """Pixels of the dark ground at the bottom: a sixth, more where that would be too low for a line."""
    return min(height * 0.4, max(height / 6, max(width, height) * 0.09))


def _sky(chance: random.Random, rows: int) -> bytes:
    """A tone for each row: with all of a row alike, PNG packs the sky to almost nothing."""
    top, horizon = chance.randint(70, 120), chance.randint(195, 235)
    return bytes(round(top + (horizon - top) * min(1, row / rows / HORIZON)) for row in range(rows))


def _stars(pen: ImageDraw.ImageDraw, chance: random.Random, width: int, height: int) -> None:
    """None, or a handful, in the upper sky."""
    for _ in range(chance.choice((0, 0, 40))):
        x, y = chance.random() * width, chance.random() ** 2 * height * 0.4
        _disc(pen, x, y, chance.uniform(0.6, 1.5), 235)


def _sun(pen: ImageDraw.ImageDraw, chance: random.Random, tones: bytes, width: int, height: int) -> None:
    """A disc within two halos, each a little lighter than the sky around it."""
    radius = min(width, height) * chance.uniform(0.07, 0.13)
    x, y = width * chance.uniform(0.2, 0.8), height * chance.uniform(0.2, 0.4)
    sky = tones[min(height - 1, int(y + radius)) * STRETCH]
    for reach, tone in ((1.9, sky + 6), (1.42, min(245, sky + 18)), (1.0, 252)):
        _disc(pen, x, y, radius * reach, tone)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, tone: int) -> None:
    pen.ellipse((x - radius, (y - radius) * STRETCH, x + radius, (y + radius) * STRETCH), fill=tone)


def _ridges(pen: ImageDraw.ImageDraw, chance: random.Random, width: int, height: int) -> None:
    """Each nearer, lower, calmer and darker."""
    wave = chance.choice((math.sin, _peaks))
    ground = height * 0.955 - ground_height(width, height)
    for depth, tone in enumerate(RIDGE_TONES):
        nearness = depth / (len(RIDGE_TONES) - 1)
        crest, swing = ground * (0.66 + 0.34 * nearness), height * 0.075 * (1 - 0.7 * nearness)
        line = _line(chance, wave, width / height)
        points = [(width * at, (crest - swing * rise) * STRETCH) for at, rise in line]
        bottom = float(height * STRETCH)
        pen.polygon([(0.0, bottom), *points, (float(width), bottom)], fill=tone)


def _line(chance: random.Random, wave: Wave, ratio: float) -> list[tuple[float, float]]:
    """A ridge's height (about -1 to 1) at points from 0 to 1: a slow wave, and faster, smaller ones upon it."""
    pace = math.tau * math.sqrt(ratio)
    waves = [
        (pace * chance.uniform(0.7, 1.5) * 2.1**octave, chance.uniform(0, math.tau), 0.6 / 2**octave)
        for octave in range(OCTAVES)
    ]
    places = (step / RIDGE_STEPS for step in range(RIDGE_STEPS + 1))
    return [(at, sum(share * wave(speed * at + phase) for speed, phase, share in waves)) for at in places]


def _peaks(angle: float) -> float:
    """A triangle wave: mountains where the sine makes hills."""
    return 4 * abs(angle / math.tau % 1 - 0.5) - 1


@cache
def _ramp(stops: tuple[str, ...]) -> bytes:
    colors = [ImageColor.getrgb(stop) for stop in stops]
    return b"".join(_between(colors, tone / 255 * (len(colors) - 1)) for tone in range(256))


def _between(colors: Sequence[tuple[int, ...]], place: float) -> bytes:
    left = min(int(place), len(colors) - 2)
    share = place - left
    return bytes(round(a + (b - a) * share) for a, b in zip(colors[left], colors[left + 1], strict=True))
