"""What a run trains, on what, and how it was asked to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from ..adapters.lora import LoraAdapter
from ..data.latents import LatentPicture
from ..data.order import Order
from ..objective.grid import LossGrid
from ..objective.network import Network
from ..objective.objective import Objective
from ..precision import Precision
from ..settings.optimizer import OptimizerConfig
from ..settings.run import RunConfig

PLAIN = Objective()


def nothing() -> None:
    """For networks that hold no memory between two passes."""


@dataclass(frozen=True)
class Work:
    """What a run trains, on what, and how it was asked to."""

    network: Network
    adapters: Sequence[LoraAdapter]  # attached to the network by the caller
    pictures: Sequence[LatentPicture]
    recipe: OptimizerConfig
    run: RunConfig
    precision: Precision
    heldout: LossGrid | None = None  # measured along the run
    objective: Objective = PLAIN
    # frees what a pass that ran out of memory has left, and what the device's allocator holds on to
    free_memory: Callable[[], object] = nothing

    @cached_property
    def order(self) -> Order:
        return Order(self.pictures, self.run.batch_size, self.run.seed)

    @cached_property
    def parts(self) -> Mapping[str, list[nn.Parameter]]:
        """The parameters of each part that has adapters, down before up."""
        parts: dict[str, list[nn.Parameter]] = {}
        for adapter in self.adapters:
            parts.setdefault(adapter.part, []).extend((adapter.down, adapter.up))
        return parts
