"""The order in which a run shows its pictures, as a function of the seed and the step."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from ..seeds import hashed
from .latents import LatentPicture


@dataclass(frozen=True)
class Batch:
    """Pictures of one size."""

    pictures: tuple[LatentPicture, ...]
    epoch: int  # from 1

    @property
    def latents(self) -> Tensor:
        """[batch, channels, ...]"""
        return torch.stack([picture.latent for picture in self.pictures])


class Order:
    """Which pictures each step shows.

    Each epoch shows each picture `repeats` times, in an order of its own. Pictures of different sizes never
    share a batch, so that the last batch of a size may be smaller than the others.
    """

    def __init__(self, pictures: Sequence[LatentPicture], batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self._shown = [picture for picture in pictures for _ in range(picture.repeats)]
        self._epoch: tuple[int, list[Batch]] = (0, [])  # the one that was asked for last

    @cached_property
    def steps_per_epoch(self) -> int:
        shown: dict[torch.Size, int] = defaultdict(int)
        for picture in self._shown:
            shown[picture.latent.shape] += 1
        return sum(-(-count // self.batch_size) for count in shown.values())

    def batch(self, step: int) -> Batch:
        """The pictures of `step`, from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch + 1:
            self._epoch = (epoch + 1, self._batches_of(epoch + 1))
        return self._epoch[1][place]

    def _batches_of(self, epoch: int) -> list[Batch]:
        by_size: dict[torch.Size, list[LatentPicture]] = defaultdict(list)
        for place in self._shuffled("picture", epoch, len(self._shown)):
            picture = self._shown[place]
            by_size[picture.latent.shape].append(picture)
        chunks = [chunk for same in by_size.values() for chunk in _chunks(same, self.batch_size)]
        return [Batch(chunks[place], epoch) for place in self._shuffled("batch", epoch, len(chunks))]

    def _shuffled(self, what: str, epoch: int, count: int) -> list[int]:
        """The numbers below `count`, sorted by their hashes: the same on every machine."""
        return sorted(range(count), key=lambda place: hashed(self.seed, "order", what, epoch, place))


def _chunks(pictures: Sequence[LatentPicture], size: int) -> Iterator[tuple[LatentPicture, ...]]:
    rest = iter(pictures)
    while chunk := tuple(islice(rest, size)):
        yield chunk
