"""The optimizer of a run: D-Adaptation Adam (Defazio & Mishchenko 2023, arXiv 2301.07733).

The parts share one d, so that "text encoder 0.5" means half the UNet's update: as `layer_scale`, which multiplies a part's rate and
its share in the estimate of d alike. Unequal learning rates are refused by the package, and one optimizer a part would let each d
grow until it cancels the ratio.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from .dadapt import DAdaptAdam, reference_optimizer
from .recipe import OptimizerConfig

IMPLEMENTATIONS = {"reference": reference_optimizer, "fast": DAdaptAdam}


def build_optimizer(
    config: OptimizerConfig, parts: Mapping[str, Sequence[nn.Parameter]], steps: int
) -> torch.optim.Optimizer:
    """D-Adaptation Adam for a run of `steps`, with one group a part ("unet", "text_encoder"), each with its speed as `layer_scale`."""
    config = config.resolved()
    groups = [{"params": list(parameters), "layer_scale": config.speed_of(part)} for part, parameters in parts.items()]
    return IMPLEMENTATIONS[config.implementation](
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        decouple=config.decouple,
        use_bias_correction=config.bias_correction,
        d0=config.d0,
        growth_rate=config.growth_limit(steps),
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The same rate for all groups: their speeds are in `layer_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def current_d(optimizer: torch.optim.Optimizer) -> float:
    """The estimate of the distance to the solution, that all groups share."""
    return float(optimizer.param_groups[0]["d"])
