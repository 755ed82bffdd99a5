"""What our D-Adaptation refuses, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import SettingError

# These must be equal in all groups, because they share one d. All but the rate, dadaptation takes from the
# first group without looking at the others.
SHARED_SETTINGS = ("lr", "betas", "growth_rate", "use_bias_correction", "decouple", "d_cap", "d_frozen")
ONE_D = "all groups share one d. Set layer_scale, which is the speed of a group relative to the others."
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (lambda x: 0 <= x < math.inf, "a number from 0 up"),
    "betas": (lambda x: 0 <= x[0] < 1 and 0 < x[1] < 1, "0 <= beta1 < 1 and 0 < beta2 < 1"),
    "eps": (lambda x: x > 0, "a number above 0"),
    "weight_decay": (lambda x: 0 <= x < math.inf, "a number from 0 up"),
    "layer_scale": (
        lambda x: 0 < x < math.inf,
        "a number above 0 (leave a part out, or stop it, instead of scaling it by 0)",
    ),
    "d": (lambda x: 0 < x < math.inf, "a number above 0, as small as 1e-6: d grows from there"),
    "d_cap": (lambda x: x > 0, "a number above 0"),
    "growth_rate": (lambda x: x >= 1, "a factor from 1 up (inf: no limit)"),
}


def refuse_settings(groups: Sequence[dict[str, Any]]) -> None:
    for group in groups:
        for name, (holds, expected) in _RANGES.items():
            expect(holds(group[name]), f"{name}: expected {expected}, got {group[name]}.")
        expect(
            group["decouple"] or group["weight_decay"] == 0,
            f"weight_decay {group['weight_decay']} with decouple=False: the decay would go into the gradient"
            " and with it into d, which then grows without end and destroys the LoRA. Set decouple=True, or"
            " weight_decay=0.",
        )
    for name in SHARED_SETTINGS:
        values = [group[name] for group in groups]
        expect(
            all(value == values[0] for value in values), f"{name} differs between groups ({values}): {ONE_D}"
        )


def refuse_parameters(groups: Sequence[dict[str, Any]]) -> None:
    for group in groups:
        for p in group["params"]:
            expect(
                p.dtype in (torch.float32, torch.float64),
                f"Expected parameters in float32, got {p.dtype}: the first updates have the size of d = 1e-6,"
                " which a half-precision parameter rounds away, so that d stays at 1e-6 for ever. Keep the"
                " LoRA in float32 whatever the model is in.",
            )


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise SettingError(message)
