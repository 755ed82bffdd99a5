"""What noise levels mean to a network: how latents are noised, and what the raw output should be then.

In every model that ComfyUI loads, whether it predicts noise, a velocity, a flow or the picture itself, the
output enters linearly into the estimate of the picture. Four numbers per noise level say all of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """The noise levels of a batch: [batch], float64, on the CPU, where nobody waits for a GPU.

    noised  = of_latents * latents + of_noise * noise
    latents = of_noised  * noised  + slope    * output
    """

    sigmas: Tensor  # as the network's own sampling counts noise
    of_latents: Tensor
    of_noise: Tensor
    of_noised: Tensor
    slope: Tensor

    @property
    def snr(self) -> Tensor:
        """Signal over noise, as variances, for latents and noise of variance 1."""
        return (self.of_latents / self.of_noise) ** 2

    def noised(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Latents [batch, channels, ...] with noise."""
        return _mixed(latents, self.of_latents, noise, self.of_noise)

    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        """What the raw output should be, in the shape of `latents`.

        It is computed from latents and noise, and not from their sum: at little noise the difference of large
        numbers would be left.
        """
        return _mixed(latents, self.target_of_latents, noise, self.target_of_noise)

    @property
    def target_of_latents(self) -> Tensor:
        """How much of the latents is in the target."""
        return (1 - self.of_noised * self.of_latents) / self.slope

    @property
    def target_of_noise(self) -> Tensor:
        """How much of the noise is in the target."""
        return -self.of_noised * self.of_noise / self.slope


def _mixed(latents: Tensor, of_latents: Tensor, noise: Tensor, of_noise: Tensor) -> Tensor:
    factors = torch.stack((of_latents, of_noise)).to(latents.device, latents.dtype, non_blocking=True)
    ours, theirs = factors.view(2, -1, *[1] * (latents.dim() - 1))
    return ours * latents + theirs * noise
