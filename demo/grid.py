"""Draws before_after.png: a row without the LoRA, one with it, and one of held-out pictures."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

CELL = 160  # pixels
GAP = 8
LABEL_WIDTH = 150
TITLE_HEIGHT = 40
CAPTION_HEIGHT = 34
INK = "#222222"


def draw_grid(
    title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Image.Image]]], cell: int = CELL
) -> Image.Image:
    """A picture of labelled rows and columns.

    rows: (label, one picture per column). Labels stand left of the rows and above the columns.
    """
    top = TITLE_HEIGHT + CAPTION_HEIGHT
    pitch = cell + GAP
    grid = Image.new("RGB", (LABEL_WIDTH + len(columns) * pitch, top + len(rows) * pitch), "white")
    draw = ImageDraw.Draw(grid)
    draw.text((GAP, TITLE_HEIGHT // 2), title, INK, _font(18), anchor="lm")
    for x, caption in enumerate(columns):
        draw.text((LABEL_WIDTH + x * pitch + cell // 2, top - 12), caption, INK, _font(16), anchor="ms")
    for y, (label, pictures) in enumerate(rows):
        draw.text((GAP, top + y * pitch + cell // 2), label, INK, _font(17), anchor="lm")
        for x, picture in enumerate(pictures):
            grid.paste(_fit(picture, cell), (LABEL_WIDTH + x * pitch, top + y * pitch))
    return grid


def _fit(picture: Image.Image, cell: int) -> Image.Image:
    return picture.convert("RGB").resize((cell, cell), Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font, so that no font of the machine is needed. It needs Pillow 10.1 or newer."""
    return ImageFont.load_default(size)
