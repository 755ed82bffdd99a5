"""Measuring the held-out pictures along a run."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..objective.grid import LossGrid
from ..objective.network import Network
from ..precision import Precision
from .control import Control
from .events import BestSoFar, Event, HeldoutLoss, Measuring
from .heldout import best_of
from .output import OutputWeights
from .work import Work


class LossOf:
    """The loss of a grid with the adapters as they are."""

    def __init__(self, network: Network, precision: Precision, control: Control) -> None:
        self.network = network
        self.precision = precision
        self.control = control

    def __call__(self, grid: LossGrid) -> float:
        """Asks the control before each batch. A wish to finish is answered after the next step."""
        with self.precision.autocast():
            return grid.loss(self.network, before_batch=self.control.wants_to_finish)


class HeldoutMeasuring:
    """Measures what would be output, and says which LoRA was best so far."""

    def __init__(
        self, grid: LossGrid, loss_of: LossOf, weights: OutputWeights, tell: Callable[[Event], None]
    ) -> None:
        self.grid = grid
        self.loss_of = loss_of
        self.weights = weights
        self.tell = tell
        self.losses: list[HeldoutLoss] = []

    @classmethod
    def of(
        cls, work: Work, weights: OutputWeights, tell: Callable[[Event], None], control: Control
    ) -> "HeldoutMeasuring":
        return cls(work.heldout, LossOf(work.network, work.precision, control), weights, tell)

    def measure(self) -> None:
        """Measures the LoRA, unless it is one that was measured before: a burnt one may have gone back."""
        step = self.weights.step
        if any(measured.step == step for measured in self.losses):
            return
        self.tell(Measuring(step))
        with self.weights.shown():
            loss = self.loss_of(self.grid)
        measured = HeldoutLoss(step, loss if math.isfinite(loss) else None)
        self.losses.append(measured)
        self.tell(measured)
        if best_of(self.losses) is measured:
            self.tell(BestSoFar(self.weights.lora()))

    def state(self) -> dict[str, Any]:
        return {"losses": [[measured.step, measured.loss] for measured in self.losses]}

    def load(self, state: Mapping[str, Any]) -> None:
        self.losses = [HeldoutLoss(step, loss) for step, loss in state["losses"]]
