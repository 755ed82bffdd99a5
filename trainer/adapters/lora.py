"""LoRA (Hu et al. 2021, arXiv 2106.09685): y = W x + up (down x).

alpha is always dim, so that the usual factor alpha / dim is 1 and does not appear here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from ..layers.adaptable import is_adaptable, weight_shape


@dataclass(eq=False)
class LoraAdapter:
    """One adapted layer.

    For a convolution of kernel k, down has that kernel and up has kernel 1, as in LoRA files.
    """

    name: str  # in a LoRA file, as "lora_unet_mid_block_attentions_0_proj_in"
    part: str  # of trainer/parts.py
    module: nn.Module  # a linear layer or a convolution
    down: nn.Parameter  # [dim, in] or [dim, in, k, k], fp32
    up: nn.Parameter  # [out, dim] or [out, dim, 1, 1], fp32

    @property
    def is_convolution(self) -> bool:
        return self.down.dim() == 4

    @property
    def dim(self) -> int:
        return self.down.shape[0]


def new_adapter(
    name: str, part: str, module: nn.Module, dim: int, generator: torch.Generator, device: torch.device
) -> LoraAdapter:
    """An adapter for `module` that computes zero, with fp32 parameters on `device`.

    Raises `ModelError` for a layer that has no LoRA.
    """
    if not is_adaptable(module):
        raise ModelError(f"{name}: expected a linear layer or a 2D convolution without groups, got {module}.")
    down, up = init_lora(weight_shape(module), dim, generator)
    return LoraAdapter(name, part, module, nn.Parameter(down.to(device)), nn.Parameter(up.to(device)))


def init_lora(shape: Sequence[int], dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """down and up of a new LoRA for a weight [out, in] or [out, in, k, k], which changes nothing yet.

    down is uniform in +-1/sqrt(in k k), as `nn.Linear` starts; up is zero.
    """
    out, *inside = shape
    bound = 1 / math.sqrt(math.prod(inside))
    down = (torch.rand(dim, *inside, generator=generator) * 2 - 1) * bound
    return down, torch.zeros(out, dim, *[1] * (len(shape) - 2))


def layers_by_part(adapters: Iterable[LoraAdapter]) -> dict[str, int]:
    """How many layers of each part are adapted."""
    return dict(Counter(adapter.part for adapter in adapters))


def count_values(adapters: Iterable[LoraAdapter]) -> int:
    """How many values the adapters hold."""
    return sum(adapter.down.numel() + adapter.up.numel() for adapter in adapters)


def lora_values(modules: Iterable[nn.Module], dim: int) -> int:
    """The number of values in LoRAs of `dim` for these layers."""
    shapes = map(weight_shape, modules)
    return sum(dim * (out + math.prod(inside)) for out, *inside in shapes)


def lora_down(x: Tensor, module: nn.Module, down: Tensor) -> Tensor:
    x = in_lora_dtype(x, down)
    if down.dim() == 2:
        return F.linear(x, down)
    if tuple(down.shape[2:]) == (1, 1) and _is_pointwise(module):
        return _over_channels(x, down)
    return F.conv2d(x, down, None, module.stride, module.padding, module.dilation)


def _is_pointwise(module: nn.Module) -> bool:
    return tuple(module.stride) == (1, 1) and module.padding in (0, (0, 0))


def lora_up(hidden: Tensor, up: Tensor) -> Tensor:
    return F.linear(hidden, up) if up.dim() == 2 else _over_channels(hidden, up)


def _over_channels(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution of kernel 1 as a matmul, which on a CPU is several times as fast with so few channels."""
    return (weight.flatten(1) @ x.flatten(2)).unflatten(2, x.shape[2:])


def in_lora_dtype(x: Tensor, weight: Tensor) -> Tensor:
    """x in the dtype that the LoRA computes in: its own, unless autocast chooses one."""
    return x if torch.is_autocast_enabled(x.device.type) else x.to(weight.dtype)
