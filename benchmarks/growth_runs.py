"""The training runs of benchmarks/growth.py, without ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch

from ..trainer.adapters.hooks import attached
from ..trainer.adapters.lora import LoraAdapter
from ..trainer.data.latents import LatentPicture
from ..trainer.layers.frozen import save_memory
from ..trainer.precision import Precision
from ..trainer.run.events import StepRecord
from ..trainer.run.plan import Plan
from ..trainer.run.training import Training
from ..trainer.run.work import Work
from ..trainer.settings.optimizer import OptimizerConfig
from ..trainer.settings.run import RunConfig
from .plain_unet import CHANNELS, PIXELS, PlainNetwork, Sizes

WARM_UP = 2  # steps of every run that are not counted: state is made in them
RECIPE_OF_RUNS = OptimizerConfig(burn_guard=False)


@dataclass(frozen=True)
class Point:
    """One training run."""

    side: int  # of a picture, pixels
    rank: int = 16
    batch: int = 1
    every: int = 1  # 2: every second layer is adapted
    depth: int = 1  # transformer blocks in each transformer
    pictures: int = 32  # a multiple of all batches: no epoch ends with a smaller one


@dataclass(frozen=True)
class Scale:
    """How large a network and pictures suit a device."""

    narrower: int  # times, than SD 1.5
    side: int  # of a picture, pixels
    sides: tuple[int, ...]
    dtype: torch.dtype


class Bench:
    """The networks and data that the points of a curve share, on one device."""

    def __init__(self, device: str, scale: Scale) -> None:
        self.device = torch.device(device)
        self.scale = scale
        self.precision = Precision(scale.dtype, self.device)
        self.network = cache(self._network)
        self.latents = cache(self._latents)

    def _network(self, depth: int) -> PlainNetwork:
        return PlainNetwork(Sizes.narrower(self.scale.narrower, depth), self.device, self.scale.dtype)

    def _latents(self, count: int, side: int) -> list[LatentPicture]:
        generator = torch.Generator().manual_seed(0)
        shape = (count, CHANNELS, side // PIXELS, side // PIXELS)
        return [
            LatentPicture(latent.clone(), f"picture {place} of a style")
            for place, latent in enumerate(torch.randn(shape, generator=generator))
        ]

    def adapters(self, point: Point) -> list[LoraAdapter]:
        return self.network(point.depth).new_adapters(point.rank, every=point.every)

    def step_seconds(self, point: Point, adapters: Sequence[LoraAdapter], steps: int) -> list[float]:
        """The seconds of each step of one run after its warm-up."""
        ends: list[float] = []

        def hear(event: Any) -> None:
            if isinstance(event, StepRecord):
                ends.append(event.seconds)

        run = RunConfig(duration=WARM_UP + steps, batch_size=point.batch)
        network = self.network(point.depth)
        pictures = self.latents(point.pictures, point.side)
        with save_memory([*network.unet.modules(), *network.text_encoder.modules()]), attached(adapters):
            work = Work(network, adapters, pictures, RECIPE_OF_RUNS, run, self.precision)
            Training.of(work, Plan.of(work), hear).run()
        return [end - start for start, end in pairwise(ends[WARM_UP - 1 :])]
