"""The order in which a run shows its pictures."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from .latents import LatentPicture


@dataclass(frozen=True)
class Batch:
    """Pictures of one size."""

    pictures: tuple[LatentPicture, ...]
    epoch: int  # from 1

    @property
    def latents(self) -> Tensor:
        """[batch, channels, height, width]"""
        return torch.stack([picture.latent for picture in self.pictures])

    @property
    def captions(self) -> list[str]:
        return [picture.caption for picture in self.pictures]


def batches_per_epoch(pictures: Sequence[LatentPicture], batch_size: int) -> int:
    """How many batches show every picture as often as it is repeated; pictures of different sizes never share
    one.
    """
    shown: dict[torch.Size, int] = defaultdict(int)
    for picture in pictures:
        shown[picture.latent.shape] += picture.repeats
    return sum(-(-count // batch_size) for count in shown.values())


def epochs(pictures: Sequence[LatentPicture], batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Batches without end.

    Each epoch shows each picture `repeats` times, in a new order; its last batch of a size may be smaller.
    """
    shown = [picture for picture in pictures for _ in range(picture.repeats)]
    epoch = 0
    while True:
        epoch += 1
        by_size: dict[torch.Size, list[LatentPicture]] = defaultdict(list)
        for place in torch.randperm(len(shown), generator=generator).tolist():
            by_size[shown[place].latent.shape].append(shown[place])
        batches = [Batch(chunk, epoch) for same in by_size.values() for chunk in _chunks(same, batch_size)]
        for place in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[place]


def _chunks(pictures: Sequence[LatentPicture], size: int) -> Iterator[tuple[LatentPicture, ...]]:
    rest = iter(pictures)
    while chunk := tuple(islice(rest, size)):
        yield chunk
