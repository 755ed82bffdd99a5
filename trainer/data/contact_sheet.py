"""One picture that shows a data set: thumbnails of its pictures with their captions."""

import math

from PIL import Image, ImageDraw, ImageFont

from .dataset import THUMBNAIL_SIDE, Dataset, Picture

_LABEL_HEIGHT = 30  # pixels, two lines
_MARGIN = 6
_CELL = (THUMBNAIL_SIDE + 2 * _MARGIN, THUMBNAIL_SIDE + _LABEL_HEIGHT + 2 * _MARGIN)  # width, height
_PAPER = (245, 245, 245)
_BLACK = (20, 20, 20)
_GREY = (110, 110, 110)
_BLUE = (40, 90, 220)


def contact_sheet(dataset: Dataset) -> Image.Image:
    """The training pictures, then the held-out ones in a blue frame: those that have a thumbnail, which are
    all of a small data set and some, spread evenly, of a large one.
    """
    cells = [
        *(_cell(picture, False) for picture in dataset.pictures if picture.thumbnail),
        *(_cell(picture, True) for picture in dataset.heldout if picture.thumbnail),
    ]
    columns = min(len(cells), math.ceil(math.sqrt(len(cells) * 1.5)))
    rows = math.ceil(len(cells) / columns)
    sheet = Image.new("RGB", (columns * _CELL[0], rows * _CELL[1]), _PAPER)
    for place, cell in enumerate(cells):
        row, column = divmod(place, columns)
        sheet.paste(cell, (column * _CELL[0], row * _CELL[1]))
    return sheet


def _cell(picture: Picture, heldout: bool) -> Image.Image:
    """A thumbnail in the middle of its square, with two lines of text below."""
    cell = Image.new("RGB", _CELL, _PAPER)
    draw = ImageDraw.Draw(cell)
    thumbnail = picture.thumbnail
    left, top = (_CELL[0] - thumbnail.width) // 2, _MARGIN + (THUMBNAIL_SIDE - thumbnail.height) // 2
    cell.paste(thumbnail, (left, top))
    if heldout:
        frame = (left - 2, top - 2, left + thumbnail.width + 1, top + thumbnail.height + 1)
        draw.rectangle(frame, outline=_BLUE, width=2)
    title = "held out" if heldout else f"{picture.path.stem[:18]} x{picture.repeats}"
    font = ImageFont.load_default(size=11)
    draw.text((_MARGIN, THUMBNAIL_SIDE + _MARGIN + 3), title, fill=_BLUE if heldout else _BLACK, font=font)
    caption = picture.caption[:22] or "(no caption)"
    draw.text((_MARGIN, THUMBNAIL_SIDE + _MARGIN + 16), caption, fill=_GREY, font=font)
    return cell
