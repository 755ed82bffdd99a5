"""What the backward pass of a frozen layer keeps: as little as the gradient of its input needs.

PyTorch keeps the weight as it was used. Where autocast casts it for that, a copy of each weight of the network would be there at once; here
the cast is done again in the backward pass, each time into the same scratch memory. Of a convolution, PyTorch keeps the input as well,
which only the weight's gradient would need.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from .targets import is_adaptable


@contextmanager
def lean_backward(modules: Iterable[nn.Module]) -> Iterator[None]:
    """The frozen linear layers and convolutions among `modules` keep as little as they can inside the block. Gradients are the same."""
    scratch, layers = _Scratch(), []
    try:
        for module in modules:
            if is_adaptable(module) and _weight_is_plain(module):
                layers.append(_LeanLayer(module, scratch))
        yield
    finally:
        for layer in layers:
            layer.remove()


def _weight_is_plain(module: nn.Module) -> bool:
    """The weight is used as it is, or cast: nothing else is made of it on the way, as the host's patches do."""
    weight = module.weight
    return (
        type(weight.data) is Tensor
        and weight.is_contiguous()
        and not weight.requires_grad
        and not getattr(module, "weight_function", ())
    )


class _Scratch:
    """Memory that one cast weight after the other is put into: each is used up before the next one comes."""

    def __init__(self) -> None:
        self._memory: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def cast(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """`weight` in `dtype`, until the next call."""
        kind = weight.device, dtype
        if kind not in self._memory or self._memory[kind].numel() < weight.numel():
            self._memory[kind] = torch.empty(weight.numel(), device=weight.device, dtype=dtype)
        return self._memory[kind][: weight.numel()].view(weight.shape).copy_(weight)


class _LeanLayer:
    """Hooks around one layer's forward pass."""

    def __init__(self, module: nn.Module, scratch: _Scratch) -> None:
        self.module, self.scratch, self.weight = module, scratch, module.weight
        self._keeping: saved_tensors_hooks | None = None
        self._handles = [
            module.register_forward_pre_hook(self._before),
            module.register_forward_hook(self._after, prepend=True, always_call=True),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        weight, x = self.weight, inputs[0]
        if isinstance(module, nn.Conv2d) and x.shape == weight.shape:
            return  # what is kept of the two could not be told from each other
        device = weight.device.type
        if x.device == weight.device and torch.is_autocast_enabled(device) and weight.dtype == torch.float32:
            cast = self.scratch.cast(weight.detach(), torch.get_autocast_dtype(device))
            module._parameters["weight"] = nn.Parameter(cast, requires_grad=False)
        self._keeping = saved_tensors_hooks(partial(self._keep, x.shape), self._give_back)
        self._keeping.__enter__()

    def _after(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        module._parameters["weight"] = self.weight
        if self._keeping:
            self._keeping.__exit__(None, None, None)
            self._keeping = None

    def _keep(self, input_shape: torch.Size, saved: Tensor) -> "Tensor | _Cast | _Shape":
        weight, is_convolution = self.weight, isinstance(self.module, nn.Conv2d)
        if saved.shape == weight.shape or (not is_convolution and saved.shape == weight.shape[::-1]):
            is_cast = saved.dtype != weight.dtype or saved.device != weight.device
            return _Cast(saved.dtype, saved.device, saved.size(), saved.stride()) if is_cast else saved
        if is_convolution and saved.shape == input_shape:
            return _Shape(saved.size(), saved.dtype, saved.device)
        return saved

    def _give_back(self, kept: "Tensor | _Cast | _Shape") -> Tensor:
        if isinstance(kept, _Cast):
            on_device = self.weight.detach().to(kept.device)
            return self.scratch.cast(on_device, kept.dtype).as_strided(kept.size, kept.stride)
        if isinstance(kept, _Shape):
            return torch.empty((), dtype=kept.dtype, device=kept.device).expand(kept.size)
        return kept


class _Cast(NamedTuple):
    """How a weight was cast; the cast itself is not kept."""

    dtype: torch.dtype
    device: torch.device
    size: torch.Size
    stride: tuple[int, ...]


class _Shape(NamedTuple):
    """An input of which only the shape is needed."""

    size: torch.Size
    dtype: torch.dtype
    device: torch.device
