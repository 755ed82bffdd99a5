"""Reading one picture file: upright, RGB, transparent parts on white."""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from .unreadable import reason_in_words

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".avif", ".tif", ".tiff"})
# Pictures that are not read: Pillow alone cannot, or they are not one still picture.
OTHER_SUFFIXES = frozenset(
    {".heic", ".heif", ".jxl", ".jp2", ".gif", ".psd", ".svg", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
)
_LIES_ON_ITS_SIDE = {5, 6, 7, 8}  # values of EXIF's Orientation for which width and height change places
_16_BIT_TO_8 = 257  # 65535 / 255


def read_picture(path: Path) -> Image.Image:
    """The picture in RGB, as a viewer shows it.

    Raises `DatasetError` with the reason alone if the file cannot be read.
    """
    with reason_in_words(), Image.open(path) as image:
        return _upright_rgb(image)


def read_thumbnail(path: Path, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """The picture at most `side` pixels wide and high, and the (width, height) of the whole, upright.

    The file is decoded to its end, so that one that is cut off is found. Raises as `read_picture`.
    """
    with reason_in_words(), Image.open(path) as image:
        full = image.size
        on_its_side = image.getexif().get(ExifTags.Base.Orientation) in _LIES_ON_ITS_SIDE
        # A JPEG decodes straight to a smaller size, which is faster; other formats return None.
        is_smaller = image.draft("RGB", (2 * side, 2 * side)) is not None
        picture = _upright_rgb(image)
    if not is_smaller:
        full = picture.size
    elif on_its_side:
        full = full[::-1]
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture, full


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says, transparent parts on white, as RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _8_bit_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _8_bit_grey(image: Image.Image) -> Image.Image:
    """Of 16-bit grey; Pillow's own conversion would turn everything above 255 of 65535 white."""
    values = np.asarray(image, dtype=np.float32) / _16_BIT_TO_8
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
