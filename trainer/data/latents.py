"""Encoded pictures."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LatentPicture:
    """One picture as the network sees it."""

    latent: Tensor  # [channels, height, width], fp32, scaled as the network wants it
    caption: str
    repeats: int = 1
