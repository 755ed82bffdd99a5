"""Losses that can be compared: pictures with fixed noises and timesteps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.latents import LatentPicture
from .loss import losses
from .network import Network

FEWEST_SAMPLES = 32  # of a grid: fewer make a curve that depends on which


@dataclass(frozen=True)
class LossGrid:
    """Pictures with fixed noises and timesteps, so that two measurements differ by the LoRA alone."""

    pictures: tuple[LatentPicture, ...]
    noises: tuple[Tensor, ...]  # [channels, height, width] each
    timesteps: tuple[int, ...]

    @classmethod
    def draw(
        cls,
        pictures: Sequence[LatentPicture],
        timesteps: int,
        generator: torch.Generator,
        samples: int | None = None,
    ) -> "LossGrid":
        """`samples` of the pictures, spread evenly over them, repeated where there are fewer; None takes each
        picture once, at least 32.

        The samples cover the timesteps evenly, in the middles of equal intervals.
        """
        count = samples or max(FEWEST_SAMPLES, len(pictures))
        repeated = [pictures[int(place * len(pictures) / count)] for place in range(count)]
        order = torch.randperm(count, generator=generator).tolist()
        noises = tuple(torch.randn(picture.latent.shape, generator=generator) for picture in repeated)
        return cls(tuple(repeated), noises, tuple(int((place + 0.5) / count * timesteps) for place in order))

    @torch.no_grad()
    def loss(self, network: Network, batch_size: int = 8) -> float:
        """Mean loss over the grid."""
        total = 0.0
        for start in range(0, len(self.pictures), batch_size):
            total += self._losses(network, slice(start, start + batch_size))
        return total / len(self.pictures)

    def _losses(self, network: Network, part: slice) -> float:
        """Sum of the losses of one batch; a batch of mixed sizes goes picture by picture."""
        pictures, device = self.pictures[part], network.device
        noises, timesteps = self.noises[part], torch.tensor(self.timesteps[part], device=device)
        if len({picture.latent.shape for picture in pictures}) > 1:
            places = range(part.start, part.start + len(pictures))
            return sum(self._losses(network, slice(place, place + 1)) for place in places)
        latents = torch.stack([picture.latent for picture in pictures]).to(device)
        captions = [picture.caption for picture in pictures]
        return losses(network, latents, captions, torch.stack(noises).to(device), timesteps).sum().item()
