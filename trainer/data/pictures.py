"""Reading one picture file: upright, RGB, transparent parts on white."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".avif", ".tif", ".tiff"})
# of pictures that are not read: Pillow alone cannot, or they are not one still picture
OTHER_SUFFIXES = frozenset(
    {".heic", ".heif", ".jxl", ".jp2", ".gif", ".psd", ".svg", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
)


def read_picture(path: Path) -> Image.Image:
    """The picture in RGB as its viewer sees it.

    Raises what Pillow raises for a broken file (`OSError` and kin).
    """
    with Image.open(path) as image:
        return upright_rgb(image)


def read_thumbnail(path: Path, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """The picture decoded whole, at most `side` pixels wide and high, and its full (width, height).

    Raises as `read_picture`.
    """
    with Image.open(path) as image:
        size = image.size
        image.draft(
            "RGB", (2 * side, 2 * side)
        )  # JPEG decodes straight to a small size; other formats ignore it
        picture = upright_rgb(image)
    if (picture.width > picture.height) != (size[0] > size[1]) and size[0] != size[1]:
        size = (size[1], size[0])  # turned upright
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture, size


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says, transparency laid on white, as RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would cut off at 255
        image = Image.fromarray(
            (np.asarray(image, dtype=np.float32) / 257).clip(0, 255).round().astype(np.uint8)
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
