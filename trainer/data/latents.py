"""Encoded pictures."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Framing:
    """How a picture was brought to its bucket: (width, height) or (left, top), in pixels.

    SDXL is told this of every picture (Podell et al. 2023, arXiv 2307.01952, section 2.2).
    """

    original: tuple[int, int]  # size of the picture before it was scaled
    crop: tuple[int, int]  # what was cut off at the left and at the top, after it was scaled
    size: tuple[int, int]  # of the bucket


@dataclass(frozen=True)
class LatentPicture:
    """One picture as the network sees it."""

    latent: Tensor  # [channels, ...], fp32, in CPU memory, scaled as the network expects it
    caption: str
    repeats: int = 1
    framing: Framing | None = None  # None: as large as its latent, and not cropped


def pixels_of(picture: LatentPicture) -> int:
    """Height times width of its latent."""
    return picture.latent.shape[-2] * picture.latent.shape[-1]
