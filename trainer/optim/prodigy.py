"""Prodigy, and Prodigy with schedule-free averaging, from their authors' packages."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch

from ..packages import package, quietly
from ..settings.optimizer import OptimizerConfig
from .base import Parts, adam_settings, groups_of
from .with_d import WithD


class Prodigy(WithD):
    """Prodigy (Mishchenko & Defazio 2023, arXiv 2306.06101), from the prodigyopt package.

    Prodigy has no speeds for parts. A part with speed r is given to it divided by r: an update of the same
    size is then r times as large for the part itself. The part's share in the estimate of d follows, as with
    dadaptation's `layer_scale`.
    """

    d_inside: ClassVar[Mapping[str, int]] = {"exp_avg": 1, "exp_avg_sq": 2}

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        published = package("prodigyopt", "The preset 'Prodigy'").Prodigy
        settings = adam_settings(config) | dict(d0=config.d0, growth_rate=config.growth_limit(steps))
        settings |= dict(use_bias_correction=config.bias_correction, safeguard_warmup=True)
        super().__init__(quietly(published, groups_of(parts), **settings), config, parts)

    def _step(self) -> None:
        with self._rescaled():
            super()._step()

    @contextmanager
    def _rescaled(self) -> Iterator[None]:
        """Parameters are divided, and their gradients multiplied, by their part's speed inside the block."""
        scaled = [(self._group(part)["params"], speed) for part, speed in self.speeds.items() if speed != 1]
        with torch.no_grad():
            for parameters, speed in scaled:
                torch._foreach_div_([p.data for p in parameters], speed)
                torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], speed)
            try:
                yield
            finally:
                for parameters, speed in scaled:
                    torch._foreach_mul_([p.data for p in parameters], speed)


class ProdigyScheduleFree(WithD):
    """Prodigy with schedule-free averaging (Defazio et al. 2024, arXiv 2405.15682).

    It comes from the prodigy-plus-schedule-free package.
    """

    d_inside: ClassVar[Mapping[str, int]] = {"exp_avg_sq": 2, "exp_avg_sq_row": 2, "exp_avg_sq_col": 2}

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        published = package("prodigyplus", "The preset 'Prodigy + schedule-free'").ProdigyPlusScheduleFree
        settings = dict(
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            d0=config.d0,
        )
        settings |= dict(split_groups=False, prodigy_steps=round(steps * config.freeze_d_percent / 100))
        optimizer = quietly(published, groups_of(parts), **settings)
        optimizer.log = lambda message: None  # it prints
        super().__init__(optimizer, config, parts)

    def _group_rate(self, speed: float) -> float:
        return self._rate * speed

    @contextmanager
    def output_weights(self) -> Iterator[None]:
        # train() would bring these back too, but rounded.
        trained = [p.detach().clone() for p in self.parameters]
        self.optimizer.eval()
        try:
            yield
        finally:
            self.optimizer.train()
            torch._foreach_copy_([p.data for p in self.parameters], trained)

    def release(self) -> None:
        self.optimizer.eval()
        super().release()
