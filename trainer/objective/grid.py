"""Losses that can be compared: pictures with fixed noises and noise levels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.latents import LatentPicture
from .loss import losses
from .network import Network

FEWEST_SAMPLES = 32  # of a grid: fewer make a curve that depends on which


@dataclass(frozen=True)
class LossGrid:
    """Pictures with fixed noises and noise levels, so that two measurements differ by the LoRA alone."""

    pictures: tuple[LatentPicture, ...]
    noises: tuple[Tensor, ...]  # [channels, ...] each, on the CPU
    u: tuple[float, ...]  # where each sample lies between the least noise, 0, and the most, 1

    @classmethod
    def draw(
        cls, pictures: Sequence[LatentPicture], generator: torch.Generator, samples: int | None = None
    ) -> "LossGrid":
        """`samples` of the pictures, spread evenly over them and repeated where there are fewer.

        None takes each picture once, and 32 samples at least. The samples cover the noise levels evenly, in
        the middles of equal intervals of u.
        """
        count = samples or max(FEWEST_SAMPLES, len(pictures))
        repeated = [pictures[int(place * len(pictures) / count)] for place in range(count)]
        order = torch.randperm(count, generator=generator).tolist()
        noises = tuple(torch.randn(picture.latent.shape, generator=generator) for picture in repeated)
        return cls(tuple(repeated), noises, tuple((place + 0.5) / count for place in order))

    @torch.no_grad()
    def loss(
        self, network: Network, batch_size: int = 8, before_batch: Callable[[], object] = lambda: None
    ) -> float:
        """Mean loss over the grid. `before_batch` is called before each batch, and may raise to stop."""
        total = 0.0
        for start in range(0, len(self.pictures), batch_size):
            before_batch()
            total += self._losses(network, slice(start, start + batch_size))
        return total / len(self.pictures)

    def loss_of_nothing(self, network: Network) -> float:
        """What `loss` would be for an output of zeros: how large the targets are."""
        total = 0.0
        for picture, noise, u in zip(self.pictures, self.noises, self.u, strict=True):
            levels = network.levels(torch.tensor([u], dtype=torch.float64))
            total += levels.target(picture.latent[None], noise[None]).square().mean().item()
        return total / len(self.pictures)

    def _losses(self, network: Network, part: slice) -> float:
        """Sum of the losses of one batch; a batch of mixed sizes goes picture by picture."""
        pictures = self.pictures[part]
        if len({picture.latent.shape for picture in pictures}) > 1:
            places = range(part.start, part.start + len(pictures))
            return sum(self._losses(network, slice(place, place + 1)) for place in places)
        latents = torch.stack([picture.latent for picture in pictures]).to(network.device)
        noise = torch.stack(self.noises[part]).to(network.device)
        levels = network.levels(torch.tensor(self.u[part], dtype=torch.float64))
        return losses(network, pictures, latents, noise, levels).sum().item()
