"""What the optimizers that estimate d have in common.

The parts share one d, so that "text encoder 0.5" means half the UNet's rate. With one optimizer per part,
each d would grow until it cancels the ratio.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch

from ..settings.optimizer import NO_CAP, OptimizerConfig
from .base import Parts, RunOptimizer


class WithD(RunOptimizer):
    """An optimizer whose groups share one d."""

    # The power of d that each tensor of the optimizer's state has as a factor.
    d_inside: ClassVar[Mapping[str, int]] = {}

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
        self._limit_d()

    def keep_below(self, limit: float) -> None:
        """Limit d for good. A d above the limit comes down to it, and the state as if it had been there."""
        super().keep_below(limit)
        share = min(1.0, limit / self.d)
        if share < 1:
            for state in self.optimizer.state.values():
                for name in self.d_inside.keys() & state.keys():
                    state[name].mul_(share ** self.d_inside[name])
        self._limit_d()

    def _limit_d(self) -> None:
        for group in self.optimizer.param_groups:
            for name in {"d", "d_max"} & group.keys():  # Prodigy goes back up to the highest d that it had
                group[name] = min(group[name], self.limit)
