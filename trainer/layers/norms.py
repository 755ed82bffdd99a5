"""Copies of what norms read, for networks that write over it afterwards.

Blocks of ComfyUI's networks write `x += attention(norm(x))`, as Flux's, CLIP's and T5's do. The norm's
backward pass needs x as it was. PyTorch raises an error there, but not inside a checkpointed block: that is
computed again, and its norm's gradient then comes from the x that was written over.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def norm_inputs_copied(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside the `with`, each norm among `modules` reads a copy of its first tensor.

    A norm is what has "Norm" in the name of its class. No copy is made where no gradient is computed.
    """
    with ExitStack() as undo:
        for module in modules:
            if "Norm" in type(module).__name__:
                handle = module.register_forward_pre_hook(_with_copy, with_kwargs=True)
                undo.callback(handle.remove)
        yield


def _with_copy(norm: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple, dict] | None:
    """The arguments with a copy of the first tensor among them; None for the arguments as they are."""
    if not torch.is_grad_enabled():
        return None
    values = [*inputs, *named.values()]
    first = next((place for place, value in enumerate(values) if isinstance(value, Tensor)), None)
    if first is None:
        return None
    values[first] = values[first].clone()
    return tuple(values[: len(inputs)]), dict(zip(named, values[len(inputs) :], strict=True))
