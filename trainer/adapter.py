"""LoRA (Hu et al. 2021, arXiv 2106.09685): y = W x + up (down x), with alpha = dim, so that its scale alpha / dim is 1.

Adapters are attached to a model's own modules as forward hooks. The base weights are neither copied, changed nor given gradients; the
adapters are kept outside of the module tree, so that the host's `state_dict` and memory counts do not see them.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ModelError


@dataclass
class LoraAdapter:
    """One adapted layer."""

    name: str  # in a LoRA file, as "lora_unet_mid_block_attentions_0_proj_in"
    part: str  # "unet" or "text_encoder"
    module: nn.Module  # a linear layer or a convolution of kernel 1
    down: nn.Parameter  # [dim, in], fp32
    up: nn.Parameter  # [out, dim], fp32

    @property
    def is_convolution(self) -> bool:
        return self.module.weight.dim() == 4

    @property
    def dim(self) -> int:
        return self.down.shape[0]


def init_lora(in_features: int, out_features: int, dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """down [dim, in] uniform in +-1/sqrt(in), as `nn.Linear` starts; up [out, dim] zero, so that nothing changes at first."""
    bound = 1 / math.sqrt(in_features)
    down = (torch.rand(dim, in_features, generator=generator) * 2 - 1) * bound
    return down, torch.zeros(out_features, dim)


def lora_linear(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """up (down x) for x [..., in]."""
    return F.linear(F.linear(x, down), up)


def lora_convolution(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """up (down x) for x [batch, in, height, width] and a convolution of kernel 1."""
    return F.conv2d(F.conv2d(x, down[:, :, None, None]), up[:, :, None, None])


def new_adapter(
    name: str, part: str, module: nn.Module, dim: int, generator: torch.Generator, device: torch.device
) -> LoraAdapter:
    """An adapter for `module` that computes zero, with fp32 parameters on `device`."""
    shape = tuple(module.weight.shape)
    if len(shape) not in (2, 4) or shape[2:] not in ((), (1, 1)):
        raise ModelError(f"{name}: expected a linear layer or a convolution of kernel 1, got a weight of shape {shape}.")
    down, up = init_lora(shape[1], shape[0], dim, generator)
    return LoraAdapter(name, part, module, nn.Parameter(down.to(device)), nn.Parameter(up.to(device)))


@contextmanager
def attached(adapters: Iterable[LoraAdapter]) -> Iterator[None]:
    """The adapters take part in their modules' forward passes inside the block, and are gone after it."""
    handles = []
    try:
        for adapter in adapters:
            handles.append(adapter.module.register_forward_hook(_forward_hook(adapter)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward_hook(adapter: LoraAdapter):
    apply = lora_convolution if adapter.is_convolution else lora_linear

    def add_lora(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(adapter.down.dtype)
        return output + apply(x, adapter.down, adapter.up).to(output.dtype)

    return add_lora
