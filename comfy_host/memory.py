"""Getting the host's loaded modules ready to be trained through, and giving them back as they were.

The host's executor runs nodes under `torch.inference_mode()`, so the weights that its loaders made are inference tensors, which autograd
cannot save for backward. Inside `trainable` each is replaced by a parameter over the same memory; nothing is copied.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import comfy.model_management
import torch
from torch import Tensor, nn

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}  # integer types that stand in for a float type dlpack does not know


def load_together(patchers: Iterable, memory: int) -> None:
    """Loads the host's model patchers on their devices, with their LoRAs applied, and keeps `memory` bytes free beside them."""
    comfy.model_management.load_models_gpu(list(patchers), memory_required=memory)


@contextmanager
def trainable(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Autograd works through the modules inside the block. Load them before: each load replaces their parameters."""
    with ExitStack() as undo, torch.inference_mode(False), torch.enable_grad():
        for module in modules:
            for owner in module.modules():
                _replace_all(owner._parameters, _as_parameter, undo)
                _replace_all(owner._buffers, _as_normal, undo)
        yield


def _replace_all(slots: dict[str, Tensor | None], make, undo: ExitStack) -> None:
    for name, original in slots.items():
        if original is not None and original.is_inference():
            slots[name] = replacement = make(original)
            undo.callback(_put_back, slots, name, original, replacement)


def _put_back(slots: dict[str, Tensor | None], name: str, original: Tensor, replacement: Tensor) -> None:
    if slots.get(name) is replacement:  # else the host has put something new there, which stays
        slots[name] = original


def _as_parameter(original: Tensor) -> nn.Parameter:
    return nn.Parameter(_as_normal(original.data), requires_grad=False)


def _as_normal(original: Tensor) -> Tensor:
    """A tensor over the same memory that is no inference tensor."""
    try:
        return torch.from_dlpack(original)
    except (BufferError, RuntimeError, TypeError):  # a dtype that dlpack does not know
        return torch.from_dlpack(original.view(_BITS[original.element_size()])).view(original.dtype)
