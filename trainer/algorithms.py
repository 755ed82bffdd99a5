"""The optimizers of a run, each as a `RunOptimizer`. Adding one is a class here, an entry in ALGORITHMS, and a preset.

The parts share one d, so that "text encoder 0.5" means half the UNet's rate. An optimizer a part would let each d grow until it
cancels the ratio.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .dadapt import DAdaptAdam, reference_optimizer
from .optimizer import Numbers, RunOptimizer, groups_of
from .packages import package, quietly
from .settings.optimizer import NO_CAP, OptimizerConfig

Parts = Mapping[str, Sequence[nn.Parameter]]


def build_optimizer(config: OptimizerConfig, parts: Parts, steps: int) -> RunOptimizer:
    """The optimizer of the preset for a run of `steps`, with one group a part ("unet", "text_encoder")."""
    config = config.resolved()
    return ALGORITHMS[config.algorithm](config, parts, steps)


class _WithD(RunOptimizer):
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


class FastDAdapt(_WithD):
    """Our D-Adaptation Adam (Defazio & Mishchenko 2023, arXiv 2301.07733) over flat buffers; a part's speed is its `layer_scale`."""

    optimizer: DAdaptAdam

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        s_dtype = torch.bfloat16 if config.s_in_bf16 else None
        super().__init__(DAdaptAdam(_scaled_groups(config, parts), s_dtype=s_dtype, **_dadapt_settings(config, steps)), config, parts)

    def step(self, loss: Tensor) -> Numbers:
        before = self.optimizer.skipped_steps
        self.optimizer.step(loss=loss)
        return Numbers(self.optimizer.loss, self.optimizer.gradient_norm, self.optimizer.skipped_steps == before)

    def stop(self, part: str) -> None:
        super().stop(part)
        self.optimizer.stop_group(list(self.speeds).index(part))

    def freeze_d(self) -> None:
        super().freeze_d()
        self.optimizer.freeze_d()

    def keep_below(self, limit: float) -> None:
        self.limit = self.optimizer.d_cap = limit

    def restore(self, snapshot: Any) -> None:
        super().restore(snapshot)
        for part in self.stopped:
            if not self._group(part)["stopped"]:
                self.stop(part)
        if self.frozen and not self.optimizer.d_frozen:
            self.freeze_d()

    def release(self) -> None:
        self.optimizer.release()


class ReferenceDAdapt(_WithD):
    """The authors' own D-Adaptation Adam, from the dadaptation package."""

    d_inside: ClassVar[Mapping[str, int]] = {"exp_avg": 1}

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        super().__init__(reference_optimizer(_scaled_groups(config, parts), **_dadapt_settings(config, steps)), config, parts)


class Prodigy(_WithD):
    """Prodigy (Mishchenko & Defazio 2023, arXiv 2306.06101), from the prodigyopt package.

    It has no speeds for parts. A speed r is Prodigy on parameters divided by r: an update of the same size there is r times as large
    here, and the part's share in the estimate of d follows, as with dadaptation's `layer_scale`.
    """

    d_inside: ClassVar[Mapping[str, int]] = {"exp_avg": 1, "exp_avg_sq": 2}

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        published = package("prodigyopt", "The preset 'Prodigy'").Prodigy
        settings = _adam_settings(config) | dict(d0=config.d0, growth_rate=config.growth_limit(steps))
        settings |= dict(use_bias_correction=config.bias_correction, safeguard_warmup=True)
        super().__init__(quietly(published, groups_of(parts), **settings), config, parts)

    def _step(self) -> None:
        with self._rescaled():
            super()._step()

    @contextmanager
    def _rescaled(self) -> Iterator[None]:
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


class ProdigyScheduleFree(_WithD):
    """Prodigy with schedule-free averaging (Defazio et al. 2024, arXiv 2405.15682), from the prodigy-plus-schedule-free package."""

    d_inside: ClassVar[Mapping[str, int]] = {"exp_avg_sq": 2, "exp_avg_sq_row": 2, "exp_avg_sq_col": 2}

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        published = package("prodigyplus", "The preset 'Prodigy + schedule-free'").ProdigyPlusScheduleFree
        settings = dict(lr=config.learning_rate, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay, d0=config.d0)
        settings |= dict(split_groups=False, prodigy_steps=round(steps * config.freeze_d_percent / 100))
        optimizer = quietly(published, groups_of(parts), **settings)
        optimizer.log = lambda message: None  # it prints
        super().__init__(optimizer, config, parts)

    def _group_rate(self, speed: float) -> float:
        return self._rate * speed

    @contextmanager
    def handing_on(self) -> Iterator[None]:
        trained = [p.detach().clone() for p in self.parameters]  # which train() gives back but for rounding
        self.optimizer.eval()
        try:
            yield
        finally:
            self.optimizer.train()
            torch._foreach_copy_([p.data for p in self.parameters], trained)

    def release(self) -> None:
        self.optimizer.eval()
        super().release()


class AdamW(RunOptimizer):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), PyTorch's own, at a rate that somebody chose."""

    def __init__(self, config: OptimizerConfig, parts: Parts, steps: int) -> None:
        self.rate = config.adamw_rate
        speeds = {part: config.speed_of(part) for part in parts}
        super().__init__(torch.optim.AdamW(groups_of(parts), **_adam_settings(config)), speeds, config.learning_rate)

    @property
    def scale(self) -> float:
        return min(self.rate, self.limit)

    def _group_rate(self, speed: float) -> float:
        return self.scale * self._rate * speed


def _dadapt(config: OptimizerConfig, parts: Parts, steps: int) -> RunOptimizer:
    return {"fast": FastDAdapt, "reference": ReferenceDAdapt}[config.implementation](config, parts, steps)


def refuse_missing_package(config: OptimizerConfig) -> None:
    """Raises `SettingError` where the preset needs a package that is not installed, before anything expensive begins."""
    if config.implementation == "reference":
        package("dadaptation", "The implementation 'reference'")
    elif config.algorithm in PACKAGES:
        package(PACKAGES[config.algorithm], f"The preset {config.preset!r}")


PACKAGES = {"prodigy": "prodigyopt", "prodigy_schedule_free": "prodigyplus"}
ALGORITHMS = {"dadapt": _dadapt, "prodigy": Prodigy, "prodigy_schedule_free": ProdigyScheduleFree, "adamw": AdamW}


def _adam_settings(config: OptimizerConfig) -> dict[str, Any]:
    return dict(lr=config.learning_rate, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay)


def _dadapt_settings(config: OptimizerConfig, steps: int) -> dict[str, Any]:
    settings = _adam_settings(config) | dict(decouple=config.decouple, use_bias_correction=config.bias_correction)
    return settings | dict(d0=config.d0, growth_rate=config.growth_limit(steps))


def _scaled_groups(config: OptimizerConfig, parts: Parts) -> list[dict[str, Any]]:
    return [group | {"layer_scale": config.speed_of(part)} for part, group in zip(parts, groups_of(parts), strict=True)]
