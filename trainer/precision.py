"""In what the network computes while it trains, and how small gradients survive it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import SettingError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass
class LossScale:
    """Multiplies the loss of an fp16 run, so that small gradients do not vanish below 6e-8.

    Micikevicius et al. 2018, arXiv 1710.03740. The scale is a power of two: it halves after a step that
    overflowed, and doubles after `patience` good steps in a row.
    """

    value: float = 2.0**14
    patience: int = 500
    most: float = 2.0**20
    _good: int = field(default=0, repr=False)

    def after_step(self, finite: bool) -> None:
        if not finite:
            self.value = max(1.0, self.value / 2)
            self._good = 0
        elif self.value < self.most:
            self._good += 1
            if self._good == self.patience:
                self.value *= 2
                self._good = 0

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "good": self._good}

    def load(self, state: Mapping[str, Any]) -> None:
        self.value = state["value"]
        self._good = state["good"]


@dataclass(frozen=True)
class Precision:
    """The compute dtype of one run."""

    dtype: torch.dtype
    device: torch.device

    def autocast(self) -> AbstractContextManager:
        """What the network runs inside. It does nothing in fp32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def loss_scale(self) -> LossScale:
        """The scale of a new run. Only in fp16 it is other than 1, and changes."""
        return LossScale() if self.dtype == torch.float16 else LossScale(value=1.0, most=1.0)

    def __str__(self) -> str:
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)


def choose_precision(choice: str, inference: torch.dtype, device: torch.device) -> Precision:
    """The precision that a person chose. Raises `SettingError` for fp16 on a CPU.

    "auto" is the dtype of inference where that is a 16-bit one on a GPU; otherwise bf16 where the device is
    fast at it, and fp32 where it is not.

    inference: the dtype that ComfyUI computes in when it makes pictures, whatever dtype the weights have.
    """
    if choice == "fp16" and device.type == "cpu":
        raise SettingError(
            "precision: expected auto, bf16 or fp32 on a CPU, got fp16, which CPUs only emulate: a step takes"
            " minutes."
        )
    if choice != "auto":
        return Precision(DTYPES[choice], device)
    if device.type == "cuda" and inference in (torch.float16, torch.bfloat16):
        return Precision(inference, device)
    return Precision(torch.bfloat16 if _is_fast_at_bf16(device) else torch.float32, device)


def _is_fast_at_bf16(device: torch.device) -> bool:
    if device.type == "cpu":
        # torch has no public function that tells
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "xpu" or (
        device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )


def gradient_norm(gradients: list[Tensor], device: torch.device) -> Tensor:
    """L2 norm over all gradients as a 0-dim tensor on `device`; not finite if and only if one of them is not.

    The gradients may lie on several devices: ComfyUI may leave its text encoder on the CPU.
    """
    by_device: dict[torch.device, list[Tensor]] = {}
    for gradient in gradients:
        by_device.setdefault(gradient.device, []).append(gradient)
    norms = [
        torch.linalg.vector_norm(torch.stack(torch._foreach_norm(same))).to(device)
        for same in by_device.values()
    ]
    return torch.linalg.vector_norm(torch.stack(norms))
