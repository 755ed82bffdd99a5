"""What the training loop sees of a diffusion model."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Conditioning = Any  # what a network makes of captions: nobody else looks into it


class Network(Protocol):
    """A diffusion model as the training loop sees it."""

    device: torch.device  # where latents are wanted

    def sigmas(self, u: Tensor) -> Tensor:
        """Noise levels [batch] on `device` for `u` [batch] in [0, 1) on the CPU: 0 is the least noise.

        Uniform u gives the levels as often as the network was made to see them.
        """

    def encode(self, captions: Sequence[str]) -> Conditioning:
        """What the network wants beside latents, with a gradient where a text encoder trains."""

    def noised(self, latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
        """Latents [batch, channels, ...] with noise at the levels `sigmas` [batch]."""

    def predict(self, noised: Tensor, sigmas: Tensor, conditioning: Conditioning) -> Tensor:
        """The raw output of the network, in the shape of `noised`."""

    def target(self, latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
        """What the raw output should be: the noise itself for a network that predicts noise."""
