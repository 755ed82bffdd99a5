"""What the training loop sees of a diffusion model."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..data.latents import LatentPicture
from .levels import Levels

Conditioning = Any  # what a network makes of pictures' captions and sizes: nobody else looks into it


class Network(Protocol):
    """A diffusion model as the training loop sees it."""

    device: torch.device  # where latents are wanted

    def levels(self, u: Tensor) -> Levels:
        """Noise levels for `u` [batch] in [0, 1), float64: 0 is the least noise.

        For a flow, u is the share of noise. For others, uniform u gives the levels as often as the network
        was made to see them.
        """

    def encode(self, pictures: Sequence[LatentPicture]) -> Conditioning:
        """What the network wants beside latents, with a gradient where a text encoder trains."""

    def predict(self, noised: Tensor, levels: Levels, conditioning: Conditioning) -> Tensor:
        """The raw output of the network, in the shape of `noised` [batch, channels, ...]."""
