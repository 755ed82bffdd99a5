"""The noise of a step: plain, or with what brings dark and bright pictures within reach.

All of it is a function of seed, step and place, as everything that a step draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..seeds import noise_of_step, uniform

RESIZED = {1: "linear", 2: "bilinear"}  # how torch calls it, by the number of dimensions


@dataclass(frozen=True)
class NoiseRecipe:
    """What is done to the noise. All off: normal noise as it is drawn.

    Offset and multires noise change the noise that the network should find. Input perturbation changes only
    what the network sees.
    """

    offset: float = 0.0
    multires_iterations: int = 0
    multires_discount: float = 0.3
    perturbation: float = 0.0

    def of_step(
        self, seed: int, step: int, shape: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """For latents of `shape` [batch, channels, ...]: the noise to find, and the noise that is added.

        Both are the same tensor where nothing is perturbed.
        """
        noise = noise_of_step(seed, step, shape, device)
        if self.offset:
            noise = noise + self.offset * offset_of_step(seed, step, shape, device)
        if self.multires_iterations:
            noise = multires(noise, seed, step, self.multires_iterations, self.multires_discount)
        if not self.perturbation:
            return noise, noise
        # Ning et al. 2023, arXiv 2301.11706, algorithm 1
        perturbed = noise_of_step(seed, step, shape, device, "input perturbation")
        return noise, noise + self.perturbation * perturbed


def offset_of_step(seed: int, step: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """One normal number per channel, in a shape that is added to noise of `shape`.

    Guttenberg 2023, crosslabs.org/blog/diffusion-with-offset-noise.
    """
    channels = (*shape[:2], *[1] * (len(shape) - 2))
    return noise_of_step(seed, step, channels, device, "noise offset")


def multires(noise: Tensor, seed: int, step: int, iterations: int, discount: float) -> Tensor:
    """Noise with coarser and coarser noise on it, each picture brought back to a deviation of 1.

    Whitaker 2023, "Multi-Resolution Noise for Diffusion Model Training", in the variant of kohya's
    sd-scripts: level i is smaller by r^i, with r from 2 to 4 drawn for each level, weighs discount^i, and the
    first one has the full size. There one deviation is taken of the whole batch.
    """
    sizes = noise.shape[-2:] if noise.dim() > 3 else noise.shape[-1:]
    total = noise.reshape(len(noise), -1, *sizes)  # what lies over each other counts as channels
    for level in range(iterations):
        smaller = (2 + 2 * uniform(seed, "multires size", step, level)) ** level
        small = [max(1, int(size / smaller)) for size in sizes]
        coarse = noise_of_step(seed, step, (*total.shape[:2], *small), total.device, f"multires {level}")
        total = total + discount**level * F.interpolate(coarse, size=list(sizes), mode=RESIZED[len(sizes)])
        if min(small) == 1:
            break
    deviation = total.flatten(1).std(1)
    return (total / deviation.view(-1, *[1] * (total.dim() - 1))).view(noise.shape)
