"""Encoded pictures."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LatentPicture:
    """One picture as the network sees it."""

    latent: Tensor  # [channels, height, width], fp32, in CPU memory, scaled as the network expects it
    caption: str
    repeats: int = 1
