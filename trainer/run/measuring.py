"""Measuring the held-out pictures along a run."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..objective.grid import LossGrid
from .at_once import AtOnce
from .control import Control
from .events import BestSoFar, Event, HeldoutLoss, Measuring
from .heldout import best_of
from .output import OutputWeights
from .work import Work

MOST_AT_ONCE = 8  # pictures


class LossOf:
    """The loss of a grid with the adapters as they are."""

    def __init__(self, work: Work, control: Control) -> None:
        self.work = work
        self.control = control
        self.at_once = AtOnce(MOST_AT_ONCE)

    def __call__(self, grid: LossGrid) -> float:
        """Asks the control before each batch. A wish to finish is answered after the next step."""
        compute = partial(self._loss, grid)
        return self.at_once.fitting(len(grid.pictures), compute, before_again=self.work.free_memory)

    def _loss(self, grid: LossGrid, at_once: int) -> float:
        with self.work.precision.autocast():
            return grid.loss(self.work.network, at_once, before_batch=self.control.wants_to_finish)


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
        return cls(work.heldout, LossOf(work, control), weights, tell)

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
