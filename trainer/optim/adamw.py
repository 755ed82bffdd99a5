"""AdamW as the optimizer of a run: the baseline to compare with."""

import torch

from ..settings.optimizer import OptimizerConfig
from .base import Parts, RunOptimizer, adam_settings, groups_of


class AdamW(RunOptimizer):
    """PyTorch's AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), at a rate that somebody chose."""

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        self.rate = config.adamw_rate
        speeds = {part: config.speed_of(part) for part in parts}
        super().__init__(
            torch.optim.AdamW(groups_of(parts), **adam_settings(config)), speeds, config.learning_rate
        )

    @property
    def scale(self) -> float:
        return min(self.rate, self.limit)

    def _group_rate(self, speed: float) -> float:
        return self.scale * self._rate * speed
