"""Frozen linear layers and convolutions that save for backward only what the gradient of their input needs.

PyTorch saves more than that:

- The weight as it was used. Where autocast or ComfyUI casts the weight, or moves it to the device, that is a
  copy, and the copies of all layers are in memory at once. Here a layer makes the copy itself, in scratch
  memory, and makes it again in the backward pass, each time in the same memory. (On a CPU, new memory for
  each cast costs several times as much as the cast.)
- The input of a convolution, which only the weight's gradient would need. Here its shape is saved.

What autograd saves is known as the weight by its memory, not by its shape: where a layer's input is not
contiguous, autograd saves a view of the weight that is expanded to the batch. What is not known for certain
is saved as it is.

A convolution that is faster as a matrix product (convolution.py) is computed as one.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge, saved_tensors_hooks

from .adaptable import is_adaptable
from .convolution import quick_convolution
from .wrapping import Forward, forwards_wrapped

CASTABLE = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


def save_memory(modules: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """Inside the `with`, the frozen linear layers and convolutions among `modules` save little for backward.

    They compute the same, and large convolutions are faster on a CPU. Other modules are left alone, and so
    are layers whose weights are more than numbers.
    """
    scratch = _Scratch()
    layers = [module for module in modules if is_adaptable(module) and _is_only_cast(module)]
    return forwards_wrapped(layers, lambda module, forward: _FrozenLayer(module, forward, scratch))


def _is_only_cast(module: nn.Module) -> bool:
    """Whether the weight is used as it is, or cast, and ComfyUI patches nothing into it on the way."""
    weight = module.weight
    return (
        type(weight) is nn.Parameter
        and type(weight.data) is Tensor
        and weight.dtype in CASTABLE
        and weight.is_contiguous()
        and not weight.requires_grad
        and not getattr(module, "weight_function", ())
        # ComfyUI's layers of scaled fp8 multiply with it, in the dtype that they find the weight in
        and getattr(module, "scale_weight", None) is None
    )


class _Scratch:
    """Memory that holds one cast weight at a time; each is used up before the next one is cast."""

    def __init__(self) -> None:
        self._memory: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def cast(self, weight: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        """`weight` in `dtype` on `device`, at the start of its storage. It is valid until the next call."""
        if weight.device != device and weight.dtype != dtype:
            weight = self._copy(weight, weight.dtype, device)
        if device.type == "cpu" and {weight.dtype, dtype} == {torch.float16, torch.bfloat16}:
            # By way of fp32, which is exact: two fast casts instead of one that is 5 times slower.
            weight = self._copy(weight, torch.float32, device)
        return self._copy(weight, dtype, device)

    def _copy(self, weight: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A copy at the start of the largest memory that was needed so far."""
        kind = device, dtype
        if kind not in self._memory or self._memory[kind].numel() < weight.numel():
            self._memory[kind] = torch.empty(weight.numel(), device=device, dtype=dtype)
        room = self._memory[kind][: weight.numel()].view(weight.shape)
        # CUDA's queue keeps the order of copies and of what reads them
        return room.copy_(weight, non_blocking=device.type == "cuda")


class _FrozenLayer:
    """The forward pass of one frozen layer."""

    def __init__(self, module: nn.Module, forward: Forward, scratch: _Scratch) -> None:
        self.module = module
        self.weight = module.weight
        self.scratch = scratch
        self.is_convolution = isinstance(module, nn.Conv2d)
        self.forward = quick_convolution(module, forward) if self.is_convolution else forward

    def __call__(self, x: Tensor, *others: Any, **named: Any) -> Tensor:
        if self.module.weight is not self.weight:  # ComfyUI has loaded another
            return self.forward(x, *others, **named)
        x = x.to(self._compute_dtype(x))
        with self._weight_used(x.dtype, x.device) as weight:
            if weight is self.weight and not self.is_convolution:
                # A linear layer then saves its own weight and nothing else, which takes no memory.
                return self.forward(x, *others, **named)
            saving = _Saving(weight, is_copy=weight is not self.weight, x=x if self.is_convolution else None)
            with saved_tensors_hooks(saving.pack, self._unpack):
                output = self.forward(x, *others, **named)
        saving.end(output)
        return output

    def _compute_dtype(self, x: Tensor) -> torch.dtype:
        """Autocast's dtype; without autocast the input's, to which ComfyUI casts weights of another dtype."""
        device = x.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype

    @contextmanager
    def _weight_used(self, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
        """The module's weight is in `dtype` on `device` inside the block, and given to it.

        So nobody casts it into new memory, or moves it there.
        """
        weight = self.weight
        if weight.dtype == dtype and weight.device == device:
            yield weight
            return
        cast = nn.Parameter(self.scratch.cast(weight.detach(), dtype, device), requires_grad=False)
        self.module._parameters["weight"] = cast
        try:
            yield cast
        finally:
            self.module._parameters["weight"] = weight

    def _unpack(self, saved: "Tensor | _ViewOfCast | _Input") -> Tensor:
        """The tensor for the backward pass, from what `_Saving.pack` saved."""
        if isinstance(saved, _ViewOfCast):
            cast = self.scratch.cast(self.weight.detach(), saved.dtype, saved.device)
            return cast.as_strided(saved.size, saved.stride, saved.offset)
        return saved.restored() if isinstance(saved, _Input) else saved


class _Saving:
    """What one call of a layer saves for backward.

    `weight` is the weight as it is used, in scratch memory if it `is_copy`; `x` the input of a convolution.
    """

    def __init__(self, weight: Tensor, is_copy: bool, x: Tensor | None) -> None:
        self.weight = weight
        self.is_copy = is_copy
        self.x = x
        self.inputs: list[_Input] = []

    def pack(self, tensor: Tensor) -> "Tensor | _ViewOfCast | _Input":
        """What is saved in place of `tensor`. Autograd calls this for all that it would save."""
        if _share_memory(tensor, self.weight):
            return _ViewOfCast.of(tensor, self.weight) if self.is_copy else tensor
        if self.x is not None and _share_memory(tensor, self.x):
            self.inputs.append(_Input(tensor))
            return self.inputs[-1]
        return tensor

    def end(self, output: Tensor) -> None:
        """Nothing but what was saved is needed any more; of a convolution's input, only the shape."""
        if self.inputs and _is_convolution_of(self.x, output):
            for saved in self.inputs:
                saved.forget_values()
        del self.weight, self.x, self.inputs


def _share_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _is_convolution_of(x: Tensor, output: Tensor) -> bool:
    """Whether a convolution is all that lies between x and `output`: its gradient does not read x."""
    node, edge = output.grad_fn, get_gradient_edge(x)
    if node is None or node.name() != "ConvolutionBackward0":
        return False
    return node.next_functions[0] == (edge.node, edge.output_nr)


class _ViewOfCast(NamedTuple):
    """How the cast weight was seen by the operation that saved it; the cast weight itself is not saved."""

    dtype: torch.dtype
    device: torch.device
    size: torch.Size
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, tensor: Tensor, weight: Tensor) -> "_ViewOfCast | Tensor":
        """A copy of what is seen in another dtype, which is not described here."""
        if tensor.dtype != weight.dtype:
            return tensor.clone()
        return cls(tensor.dtype, tensor.device, tensor.size(), tensor.stride(), tensor.storage_offset())


class _Input:
    """A convolution's input, of which the backward pass needs only the shape once that is certain."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor
        self._layout = tensor.size(), tensor.stride()
        self._kind = {"dtype": tensor.dtype, "device": tensor.device}

    def forget_values(self) -> None:
        self.tensor = None

    def restored(self) -> Tensor:
        """In place of values that were forgotten, memory that is neither written nor read.

        An expanded single number would not do: PyTorch would make a contiguous tensor of it.
        """
        return torch.empty_strided(*self._layout, **self._kind) if self.tensor is None else self.tensor
