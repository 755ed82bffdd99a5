"""A small picture of which noise levels a run draws, and how often."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont

from ..distribution import Distribution
from ..errors import SettingError
from ..settings.objective import FAMILY, ObjectiveConfig
from .objective import drawn_levels
from .sigmas import DrawnLevels

WIDTH, PLOT_HEIGHT, LINE_HEIGHT = 880, 280, 22  # pixels
LEFT, RIGHT, TOP, BELOW = 16, 16, 30, 30  # margins of the plot
LABEL_LEFT, LABEL_SIZE = 48, 13
SCALE = 2  # drawn larger and made smaller, for smooth lines
POINTS = 400
MOST_NAMES = 4  # of families in one line
PAPER, BLACK, GREY, OUTSIDE = (250, 250, 250), (30, 30, 30), (150, 150, 150), (228, 228, 228)
COLOURS = (
    *((31, 119, 180), (217, 95, 2), (42, 157, 74), (142, 91, 181), (181, 148, 91), (51, 51, 51)),
    *((214, 39, 140), (23, 190, 207), (188, 189, 34), (214, 39, 40), (120, 120, 120), (140, 86, 75)),
)


@dataclass(frozen=True)
class Curve:
    """One distribution and what is written beside it."""

    label: str
    drawn: DrawnLevels

    @property
    def heights(self) -> list[float]:
        """How often each of POINTS noise levels is drawn; where the shift goes by size, for the larger one.

        They lie in the middles of equal intervals.
        """
        u = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
        return self.drawn.density(u, self.drawn.distribution.shifts[-1]).tolist()


def draw_noise_levels(config: ObjectiveConfig, customs: Mapping[str, Distribution]) -> Image.Image:
    """What somebody asked for. customs: of families, by their names, for what depends on the family.

    Raises `SettingError` where next to no noise levels lie in the range.
    """
    curves = curves_of(config, customs)
    size = (WIDTH * SCALE, (PLOT_HEIGHT + LINE_HEIGHT * len(curves)) * SCALE)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    _draw_axes(draw, config)
    colours = colours_of(curves)
    heights = [curve.heights for curve in curves]
    top = max(map(max, heights), default=1) * 1.1
    for colour, of_one in zip(colours, heights, strict=True):
        points = [_at((n + 0.5) / POINTS, height / top) for n, height in enumerate(of_one)]
        draw.line(points, fill=colour, width=2 * SCALE, joint="curve")
    _draw_labels(draw, curves, colours)
    return picture.resize((size[0] // SCALE, size[1] // SCALE), Image.Resampling.LANCZOS)


def curves_of(config: ObjectiveConfig, customs: Mapping[str, Distribution]) -> list[Curve]:
    """One curve, or one for each custom where it is the family's."""
    if config.noise_levels != FAMILY:
        drawn = drawn_levels(config, Distribution())
        return [Curve(str(drawn.distribution), drawn)]
    families: dict[DrawnLevels, list[str]] = {}
    for name, custom in customs.items():
        with contextlib.suppress(SettingError):  # of another family, perhaps; Train knows
            families.setdefault(drawn_levels(config, custom), []).append(name)
    return [Curve(f"{_listed(names)}: {_said(drawn)}", drawn) for drawn, names in families.items()]


def colours_of(curves: Sequence[Curve]) -> list[tuple[int, int, int]]:
    """Of each curve; those that lie on each other, because only their origin differs, have one."""
    kinds = list(dict.fromkeys(str(curve.drawn.distribution) for curve in curves))
    return [COLOURS[kinds.index(str(curve.drawn.distribution)) % len(COLOURS)] for curve in curves]


def label_width(label: str) -> float:
    """Pixels, from the picture's left side to the label's end."""
    return LABEL_LEFT + _font(LABEL_SIZE).getlength(label) / SCALE


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _said(drawn: DrawnLevels) -> str:
    custom = drawn.distribution.custom
    return f"{drawn.distribution} ({custom})" if custom else str(drawn.distribution)


def _draw_axes(draw: ImageDraw.ImageDraw, config: ObjectiveConfig) -> None:
    for start, end in ((0, config.least_noise), (config.most_noise, 1)):
        if start < end:
            draw.rectangle((*_at(start, 1), *_at(end, 0)), fill=OUTSIDE)
    draw.line((_at(0, 0), _at(1, 0)), fill=GREY, width=SCALE)
    for tenth in range(11):
        x, y = _at(tenth / 10, 0)
        draw.line((x, y, x, y + 4 * SCALE), fill=GREY, width=SCALE)
        draw.text((x, y + 6 * SCALE), f"{tenth / 10:g}", fill=GREY, font=_font(11), anchor="mt")
    draw.text(_at(0.01, 1), "how often", fill=BLACK, font=_font(13), anchor="lb")
    draw.text(_at(1, 1), "least noise 0, most noise 1", fill=BLACK, font=_font(13), anchor="rb")


def _draw_labels(
    draw: ImageDraw.ImageDraw, curves: Sequence[Curve], colours: Sequence[tuple[int, int, int]]
) -> None:
    for place, (curve, colour) in enumerate(zip(curves, colours, strict=True)):
        middle = (PLOT_HEIGHT + (place + 0.5) * LINE_HEIGHT) * SCALE
        draw.line((LEFT * SCALE, middle, 40 * SCALE, middle), fill=colour, width=3 * SCALE)
        draw.text((LABEL_LEFT * SCALE, middle), curve.label, fill=BLACK, font=_font(LABEL_SIZE), anchor="lm")


def _at(u: float, height: float) -> tuple[float, float]:
    """Where u and a share of the plot's height lie, in pixels."""
    x = LEFT + u * (WIDTH - LEFT - RIGHT)
    y = TOP + (1 - height) * (PLOT_HEIGHT - TOP - BELOW)
    return x * SCALE, y * SCALE


def _font(size: int):
    return ImageFont.load_default(size=size * SCALE)
