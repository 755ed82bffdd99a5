"""Frozen linear layers and convolutions that save for backward only what the gradient of their input needs.

PyTorch saves more than that:

- The weight as it was used. Where autocast or ComfyUI casts the weight, or moves it to the device, that is a
  copy, and the copies of all layers are in memory at once. Here a layer saves how the weight was cast, and
  casts it again in the backward pass, each time into the same scratch memory. (On a CPU, new memory for each
  cast costs several times as much as the cast.)
- The input of a convolution, which only the weight's gradient would need. Here its shape is saved.

A convolution that is faster as a matrix product (convolution.py) is computed as one.
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


def save_memory(modules: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """Inside the `with`, the frozen linear layers and convolutions among `modules` save little for backward.

    They compute the same, and large convolutions are faster on a CPU. Other modules are left alone.
    """
    scratch = _Scratch()
    layers = [module for module in modules if is_adaptable(module) and _is_only_cast(module)]
    return forwards_wrapped(layers, lambda module, forward: _FrozenLayer(module, forward, scratch))


def _is_only_cast(module: nn.Module) -> bool:
    """Whether the weight is used as it is, or cast, and ComfyUI patches nothing into it on the way."""
    weight = module.weight
    return (
        type(weight.data) is Tensor
        and weight.dtype in CASTABLE
        and weight.is_contiguous()
        and not weight.requires_grad
        and not getattr(module, "weight_function", ())
    )


class _Scratch:
    """Memory that holds one cast weight at a time; each is used up before the next one is cast."""

    def __init__(self) -> None:
        self._memory: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def cast(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """`weight` in `dtype`, valid until the next call."""
        if weight.device.type == "cpu" and {weight.dtype, dtype} == {torch.float16, torch.bfloat16}:
            # By way of fp32, which is exact: two fast casts instead of one that is 5 times slower.
            weight = self._room(weight, torch.float32).copy_(weight)
        return self._room(weight, dtype).copy_(weight)

    def _room(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Memory in the shape of `weight`, the start of the largest that was needed so far."""
        kind = weight.device, dtype
        if kind not in self._memory or self._memory[kind].numel() < weight.numel():
            self._memory[kind] = torch.empty(weight.numel(), device=weight.device, dtype=dtype)
        return self._memory[kind][: weight.numel()].view(weight.shape)


class _FrozenLayer:
    """The forward pass of one frozen layer."""

    def __init__(self, module: nn.Module, forward: Forward, scratch: _Scratch) -> None:
        self.module = module
        self.weight = module.weight
        self.scratch = scratch
        self.forward = quick_convolution(module, forward) if isinstance(module, nn.Conv2d) else forward

    def __call__(self, x: Tensor, *others: Any, **named: Any) -> Tensor:
        if isinstance(self.module, nn.Conv2d) and x.shape == self.weight.shape:
            # `_pack` tells weight and input apart by their shapes, which it cannot do here.
            return self.forward(x, *others, **named)
        dtype = self._compute_dtype(x)
        is_used_as_it_is = self.weight.dtype == dtype and self.weight.device == x.device
        if isinstance(self.module, nn.Linear) and is_used_as_it_is:
            # A linear layer then saves its own weight and nothing else, which takes no memory.
            return self.forward(x.to(dtype), *others, **named)
        saving_little = saved_tensors_hooks(partial(self._pack, x.shape), self._unpack)
        with self._weight_cast(dtype, x.device), saving_little:
            return self.forward(x.to(dtype), *others, **named)

    def _compute_dtype(self, x: Tensor) -> torch.dtype:
        """Autocast's dtype; without autocast the input's, to which ComfyUI casts weights of another dtype."""
        device = x.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype

    @contextmanager
    def _weight_cast(self, dtype: torch.dtype, device: torch.device) -> Iterator[None]:
        """The module's weight is in `dtype` inside the block, so that nobody casts it into new memory.

        A weight on another device is left for ComfyUI to move.
        """
        if self.weight.dtype == dtype or self.weight.device != device:
            yield
            return
        weight = self.weight
        cast = self.scratch.cast(weight.detach(), dtype)
        self.module._parameters["weight"] = nn.Parameter(cast, requires_grad=False)
        try:
            yield
        finally:
            self.module._parameters["weight"] = weight

    def _pack(self, input_shape: torch.Size, tensor: Tensor) -> "Tensor | _CastWeight | _InputShape":
        """What is saved for backward in place of `tensor`. Autograd calls this for all that it would save."""
        if self._has_shape_of_weight(tensor):
            if tensor.data_ptr() == self.weight.data_ptr():
                return tensor  # the weight itself, which is in memory anyway
            return _CastWeight(tensor.dtype, tensor.device, tensor.size(), tensor.stride())
        if isinstance(self.module, nn.Conv2d) and tensor.shape == input_shape:
            return _InputShape(tensor.size(), tensor.stride(), tensor.dtype, tensor.device)
        return tensor

    def _unpack(self, saved: "Tensor | _CastWeight | _InputShape") -> Tensor:
        """The tensor for the backward pass, from what `_pack` saved."""
        if isinstance(saved, _CastWeight):
            on_device = self.weight.detach().to(saved.device)
            return self.scratch.cast(on_device, saved.dtype).as_strided(saved.size, saved.stride)
        if isinstance(saved, _InputShape):
            # Memory that is neither written nor read. An expanded single number would not do: PyTorch would
            # make a contiguous tensor of it.
            return torch.empty_strided(saved.size, saved.stride, dtype=saved.dtype, device=saved.device)
        return saved

    def _has_shape_of_weight(self, tensor: Tensor) -> bool:
        matrix = self.weight.flatten(1).shape  # [out, in * kernel]
        if isinstance(self.module, nn.Conv2d):
            # nn.Conv2d saves the weight as it is, a convolution as a product saves the matrix.
            return tensor.shape in (self.weight.shape, matrix)
        # A linear layer saves the weight or its transpose.
        return tensor.shape in (matrix, matrix[::-1])


class _CastWeight(NamedTuple):
    """How a weight was cast, moved or copied; the copy itself is not saved."""

    dtype: torch.dtype
    device: torch.device
    size: torch.Size
    stride: tuple[int, ...]


class _InputShape(NamedTuple):
    """An input of which the backward pass needs only the shape."""

    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
