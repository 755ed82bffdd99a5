"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174).

A checkpointed block saves only its inputs for backward and is computed again in the backward pass.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .wrapping import Forward, forwards_wrapped


def checkpointed(blocks: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """Each of the blocks is checkpointed inside the `with`. They must not draw random numbers.

    Where no gradient is computed, as in a measurement of the held-out loss, they run as they are.
    """
    return forwards_wrapped(blocks, _checkpointed_forward)


def _checkpointed_forward(block: nn.Module, forward: Forward) -> Forward:
    def forward_on_copies(*inputs: Any, **named: Any) -> Any:
        copies = [_copied(value) for value in inputs]
        named_copies = {name: _copied(value) for name, value in named.items()}
        return forward(*copies, **named_copies)

    def checkpointed_forward(*inputs: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **named)
        return checkpoint(forward_on_copies, *inputs, use_reentrant=False, preserve_rng_state=False, **named)

    return checkpointed_forward


def _copied(value: Any) -> Any:
    """A copy of a tensor, and any other value as it is.

    ComfyUI's text layers write over their input (`x += ...`). Without the copy, the block would be computed
    from another input the second time. What they write over between two of their own layers is another
    matter, see norms.py.
    """
    return value.clone() if isinstance(value, Tensor) else value
