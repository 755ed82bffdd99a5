"""What the training loop sees of a diffusion model."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """A diffusion model as the training loop sees it."""

    timesteps: int  # number of noise levels, 1000 for SD 1.5
    device: torch.device  # where latents are wanted

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Text embeddings [batch, tokens, channels], with a gradient where the text encoder trains."""

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents [batch, channels, height, width] with noise at the level of `timesteps` [batch], int64."""

    def predict(self, noised: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """The raw output of the network, in the shape of `noised`."""

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the raw output should be: the noise itself for a network that predicts noise."""
