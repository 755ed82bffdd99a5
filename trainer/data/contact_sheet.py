"""One picture that shows a data set: a thumbnail of each picture with its caption."""

import math

from PIL import Image, ImageDraw, ImageFont

from .dataset import THUMBNAIL_SIDE, Dataset, Picture

MOST = 60  # pictures on one sheet
_LABEL_HEIGHT = 30  # pixels, two lines
_MARGIN = 6


def contact_sheet(dataset: Dataset) -> Image.Image:
    """The training pictures, then the held-out ones in a blue frame; a large data set is thinned out
    evenly.
    """
    pictures = [(picture, False) for picture in dataset.pictures] + [
        (picture, True) for picture in dataset.heldout
    ]
    shown = pictures[:: math.ceil(len(pictures) / MOST)]
    columns = min(len(shown), math.ceil(math.sqrt(len(shown) * 1.5)))
    rows = math.ceil(len(shown) / columns)
    cell = (THUMBNAIL_SIDE + 2 * _MARGIN, THUMBNAIL_SIDE + _LABEL_HEIGHT + 2 * _MARGIN)
    sheet = Image.new("RGB", (columns * cell[0], rows * cell[1]), (245, 245, 245))
    for place, (picture, heldout) in enumerate(shown):
        row, column = divmod(place, columns)
        sheet.paste(_cell(picture, heldout, cell), (column * cell[0], row * cell[1]))
    return sheet


def _cell(picture: Picture, heldout: bool, size: tuple[int, int]) -> Image.Image:
    cell = Image.new("RGB", size, (245, 245, 245))
    draw = ImageDraw.Draw(cell)
    thumbnail = picture.thumbnail
    corner = ((size[0] - thumbnail.width) // 2, _MARGIN + (THUMBNAIL_SIDE - thumbnail.height) // 2)
    cell.paste(thumbnail, corner)
    if heldout:
        frame = (
            corner[0] - 2,
            corner[1] - 2,
            corner[0] + thumbnail.width + 1,
            corner[1] + thumbnail.height + 1,
        )
        draw.rectangle(frame, outline=(40, 90, 220), width=2)
    font = ImageFont.load_default(size=11)
    text = "held out" if heldout else f"{picture.path.stem[:18]} x{picture.repeats}"
    draw.text(
        (_MARGIN, THUMBNAIL_SIDE + _MARGIN + 3),
        text,
        fill=(40, 90, 220) if heldout else (20, 20, 20),
        font=font,
    )
    draw.text(
        (_MARGIN, THUMBNAIL_SIDE + _MARGIN + 16),
        picture.caption[:22] or "(no caption)",
        fill=(110, 110, 110),
        font=font,
    )
    return cell
