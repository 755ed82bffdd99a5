"""How a frozen layer is computed: what its backward pass keeps is as little as the gradient of its input
needs.

PyTorch keeps the weight as it was used. Where autocast or the host casts it for that, or moves it to the
device, a copy of each weight of the network would be there at once; here that is done again in the backward
pass, each time into the same scratch memory. New memory for each cast costs a CPU several times as much as
the cast. Of a convolution, PyTorch keeps the input as well, which only the weight's gradient would need.
Where a convolution is quicker in another way (convolution.py), it takes that.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from .adaptable import is_adaptable
from .convolution import quick_convolution
from .wrapping import Forward, forwards_wrapped

CASTABLE = (torch.float32, torch.float16, torch.bfloat16)  # fp8 weights may have a scale beside them


def lean_and_quick(modules: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """The frozen linear layers and convolutions among `modules` keep as little as they can inside the `with`,
    and are quick on a CPU.
    """
    scratch = _Scratch()
    plain = [module for module in modules if is_adaptable(module) and _weight_is_plain(module)]
    return forwards_wrapped(plain, lambda module, forward: _LeanLayer(module, forward, scratch))


def _weight_is_plain(module: nn.Module) -> bool:
    """The weight is used as it is, or cast: nothing else is made of it on the way, as the host's patches
    do.
    """
    weight = module.weight
    return (
        type(weight.data) is Tensor
        and weight.dtype in CASTABLE
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
        if weight.device.type == "cpu" and {weight.dtype, dtype} == {torch.float16, torch.bfloat16}:
            weight = self._room(weight, torch.float32).copy_(
                weight
            )  # exact, and two fast casts in place of one that is 5 times slower
        return self._room(weight, dtype).copy_(weight)

    def _room(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        kind = weight.device, dtype
        if kind not in self._memory or self._memory[kind].numel() < weight.numel():
            self._memory[kind] = torch.empty(weight.numel(), device=weight.device, dtype=dtype)
        return self._memory[kind][: weight.numel()].view(weight.shape)


class _LeanLayer:
    """One layer's forward pass."""

    def __init__(self, module: nn.Module, forward: Forward, scratch: _Scratch) -> None:
        self.module, self.scratch, self.weight = module, scratch, module.weight
        self.forward = quick_convolution(module, forward) if isinstance(module, nn.Conv2d) else forward

    def __call__(self, x: Tensor, *others: Any, **named: Any) -> Tensor:
        if isinstance(self.module, nn.Conv2d) and x.shape == self.weight.shape:
            return self.forward(
                x, *others, **named
            )  # what is kept of the two could not be told from each other
        dtype = self._computed_in(x)
        if (
            isinstance(self.module, nn.Linear)
            and self.weight.dtype == dtype
            and self.weight.device == x.device
        ):
            return self.forward(x.to(dtype), *others, **named)  # keeps the weight itself, and nothing else
        with (
            self._weight_in(dtype, x.device),
            saved_tensors_hooks(partial(self._keep, x.shape), self._give_back),
        ):
            return self.forward(x.to(dtype), *others, **named)

    def _computed_in(self, x: Tensor) -> torch.dtype:
        """Autocast's dtype, or that of the input, which a host follows that keeps its weights in another."""
        device = x.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype

    @contextmanager
    def _weight_in(self, dtype: torch.dtype, device: torch.device) -> Iterator[None]:
        """The weight is already in `dtype`, so that nobody casts it into new memory; one on another device is
        left for the host to move.
        """
        if self.weight.dtype == dtype or self.weight.device != device:
            yield
            return
        weight = self.weight
        self.module._parameters["weight"] = nn.Parameter(
            self.scratch.cast(weight.detach(), dtype), requires_grad=False
        )
        try:
            yield
        finally:
            self.module._parameters["weight"] = weight

    def _keep(self, input_shape: torch.Size, saved: Tensor) -> "Tensor | _Cast | _Shape":
        weight, is_convolution = self.weight, isinstance(self.module, nn.Conv2d)
        matrix = weight.flatten(1).shape  # as which a convolution's may be kept
        if saved.shape in (weight.shape, matrix) or (not is_convolution and saved.shape == matrix[::-1]):
            is_cast = saved.data_ptr() != weight.data_ptr()
            return _Cast(saved.dtype, saved.device, saved.size(), saved.stride()) if is_cast else saved
        if is_convolution and saved.shape == input_shape:
            return _Shape(saved.size(), saved.stride(), saved.dtype, saved.device)
        return saved

    def _give_back(self, kept: "Tensor | _Cast | _Shape") -> Tensor:
        if isinstance(kept, _Cast):
            on_device = self.weight.detach().to(kept.device)
            return self.scratch.cast(on_device, kept.dtype).as_strided(kept.size, kept.stride)
        if isinstance(kept, _Shape):
            # memory that nobody touches; of an expanded number, PyTorch would make a contiguous tensor
            return torch.empty_strided(kept.size, kept.stride, dtype=kept.dtype, device=kept.device)
        return kept


class _Cast(NamedTuple):
    """How a weight was cast, moved or copied; what it became is not kept."""

    dtype: torch.dtype
    device: torch.device
    size: torch.Size
    stride: tuple[int, ...]


class _Shape(NamedTuple):
    """An input of which only the shape is needed."""

    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
