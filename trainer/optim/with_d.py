"""What the optimizers that estimate d have in common.

The parts share one d, so that "text encoder 0.5" means half the UNet's rate. An optimizer a part would let
each d grow until it cancels the ratio.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch

from ..settings.optimizer import NO_CAP, OptimizerConfig
from .base import Parts, RunOptimizer


class WithD(RunOptimizer):
    """An optimizer whose groups hold one d between them."""

    d_inside: ClassVar[Mapping[str, int]] = {}  # the power of d that each tensor of the state has as a factor

    def __init__(self, optimizer: torch.optim.Optimizer, config: OptimizerConfig, parts: Parts) -> None:
        super().__init__(optimizer, {part: config.speed_of(part) for part in parts}, config.learning_rate)
        if config.d_cap != NO_CAP:
            self.keep_below(config.d_cap)

    @property
    def d(self) -> float:
        return float(self.optimizer.param_groups[0]["d"])

    @property
    def scale(self) -> float:
        return self.d

    def _step(self) -> None:
        self.optimizer.step()
        self._hold_d()

    def keep_below(self, limit: float) -> None:
        """Also against a d that is above: the state becomes what it would be, had d been at the limit."""
        super().keep_below(limit)
        share = min(1.0, limit / self.d)
        if share < 1:
            for state in self.optimizer.state.values():
                for name in self.d_inside.keys() & state.keys():
                    state[name].mul_(share ** self.d_inside[name])
        self._hold_d()

    def _hold_d(self) -> None:
        for group in self.optimizer.param_groups:
            for name in {"d", "d_max"} & group.keys():  # Prodigy remembers the highest, and follows it
                group[name] = min(group[name], self.limit)
