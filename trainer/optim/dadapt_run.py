"""D-Adaptation as the optimizer of a run: ours, and its authors'."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..settings.optimizer import OptimizerConfig
from .base import Numbers, Parts, adam_settings, groups_of
from .dadapt import DAdaptAdam, reference_optimizer
from .with_d import WithD


class FastDAdapt(WithD):
    """Our D-Adaptation Adam (Defazio & Mishchenko 2023, arXiv 2301.07733) over flat buffers.

    The speed of a part is its group's `layer_scale`.
    """

    optimizer: DAdaptAdam

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        s_dtype = torch.bfloat16 if config.s_in_bf16 else None
        super().__init__(
            DAdaptAdam(_scaled_groups(config, parts), s_dtype=s_dtype, **_dadapt_settings(config, steps)),
            config,
            parts,
        )

    def step(self, loss: Tensor) -> Numbers:
        before = self.optimizer.skipped_steps
        self.optimizer.step(loss=loss)
        return Numbers(
            self.optimizer.loss, self.optimizer.gradient_norm, self.optimizer.skipped_steps == before
        )

    def stop(self, part: str) -> None:
        super().stop(part)
        self.optimizer.stop_group(list(self.speeds).index(part))

    def freeze_d(self) -> None:
        super().freeze_d()
        self.optimizer.freeze_d()

    def keep_below(self, limit: float) -> None:
        self.limit = limit
        self.optimizer.d_cap = limit

    def restore(self, snapshot: Any) -> None:
        super().restore(snapshot)
        for part in self.stopped:
            if not self._group(part)["stopped"]:
                self.stop(part)
        if self.frozen and not self.optimizer.d_frozen:
            self.freeze_d()

    def release(self) -> None:
        self.optimizer.release()


class ReferenceDAdapt(WithD):
    """The authors' own D-Adaptation Adam, from the dadaptation package."""

    d_inside: ClassVar[Mapping[str, int]] = {"exp_avg": 1}

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        super().__init__(
            reference_optimizer(_scaled_groups(config, parts), **_dadapt_settings(config, steps)),
            config,
            parts,
        )


def _dadapt_settings(config: OptimizerConfig, steps: int) -> dict[str, Any]:
    settings = adam_settings(config) | dict(
        decouple=config.decouple, use_bias_correction=config.bias_correction
    )
    return settings | dict(d0=config.d0, growth_rate=config.growth_limit(steps))


def _scaled_groups(config: OptimizerConfig, parts: Parts) -> list[dict[str, Any]]:
    return [
        group | {"layer_scale": config.speed_of(part)}
        for part, group in zip(parts, groups_of(parts), strict=True)
    ]
