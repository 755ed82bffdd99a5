"""Weights that ComfyUI loaded for inference, made fit for a backward pass, and put back as they were.

ComfyUI's executor runs nodes under `torch.inference_mode()`, so the weights that its loaders made are
inference tensors, which autograd cannot save for backward. Inside `trainable` each is replaced by a parameter
over the same memory; nothing is copied.

Quantized weights are tensors of classes of their own. They are left as they are: a layer makes a new tensor
of numbers from them at each use.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor, nn

# integer types that stand in for a float type that dlpack does not know, by their bytes
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


@contextmanager
def trainable(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Autograd works through the modules inside the block.

    Load them before: each load replaces their parameters.
    """
    with ExitStack() as undo, torch.inference_mode(False), torch.enable_grad():
        _switch_to_training(undo)
        for module in modules:
            for owner in module.modules():
                _compute_in_full_precision(owner, undo)
                _replace_all(owner._parameters, _as_parameter, undo)
                _replace_all(owner._buffers, _as_normal, undo)
        yield


def _switch_to_training(undo: ExitStack) -> None:
    """Switches off what ComfyUI does for inference and a backward pass cannot take."""
    management = comfy.model_management
    # newer versions of ComfyUI: operations that have a gradient, in place of fused ones
    _set(undo, management, "in_training", True)
    # weights that come from CPU memory: autograd holds them past their stream's turn
    _set(undo, management, "NUM_STREAMS", 0)
    # --fast: a LoRA's gradients would overflow
    _set(undo, torch.backends.cuda.matmul, "allow_fp16_accumulation", False)
    # --fast: products of fp8 have no gradient. Where this gives None, layers cast their weights instead
    _set(undo, comfy.ops, "fp8_linear", lambda layer, x: None)


def _compute_in_full_precision(layer: nn.Module, undo: ExitStack) -> None:
    """A layer of quantized weights multiplies the numbers that they stand for, which has a gradient.

    Where a GPU can, it would quantize its input too.
    """
    _set(undo, layer, "_full_precision_mm", True)
    layout = getattr(layer._parameters.get("weight"), "_layout_params", None)
    if isinstance(layout, dict) and "orig_dtype" in layout:
        # ComfyUI notes here which dtype the numbers were last asked for in
        undo.callback(layout.__setitem__, "orig_dtype", layout["orig_dtype"])


def _set(undo: ExitStack, owner: object, name: str, value: object) -> None:
    """Sets it for as long as the block lasts, where this ComfyUI or this torch has it."""
    if hasattr(owner, name):
        undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)


def _replace_all(slots: dict[str, Tensor | None], make, undo: ExitStack) -> None:
    for name, original in slots.items():
        if original is not None and original.is_inference() and _is_numbers(original):
            slots[name] = replacement = make(original)
            undo.callback(_put_back, slots, name, original, replacement)


def _is_numbers(tensor: Tensor) -> bool:
    """Whether it is a tensor of plain numbers, and not a quantized one."""
    if _is_of_gguf(tensor):
        return tensor.is_floating_point()
    return tensor.__class__ in (Tensor, nn.Parameter)


def _is_of_gguf(tensor: Tensor) -> bool:
    """Whether ComfyUI-GGUF made it, which has its own class for plain numbers as well."""
    return type(tensor).__name__ == "GGMLTensor"


def _put_back(slots: dict[str, Tensor | None], name: str, original: Tensor, replacement: Tensor) -> None:
    if slots.get(name) is replacement:  # else ComfyUI has put something new there, which stays
        slots[name] = original


def _as_parameter(original: Tensor) -> nn.Parameter:
    numbers = original.data
    if _is_of_gguf(numbers):
        numbers = numbers.as_subclass(Tensor)
    return nn.Parameter(_as_normal(numbers), requires_grad=False)


def _as_normal(original: Tensor) -> Tensor:
    """A tensor over the same memory that is no inference tensor.

    It is a copy where dlpack knows neither the dtype nor the device.
    """
    for bits in (original.dtype, _BITS.get(original.element_size(), original.dtype)):
        try:
            return torch.from_dlpack(original.view(bits)).view(original.dtype)
        except (BufferError, RuntimeError, TypeError, ValueError):
            continue
    return original.clone()
