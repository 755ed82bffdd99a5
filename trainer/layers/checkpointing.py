"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): a block keeps its inputs, and is computed
again in the backward pass.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .wrapping import Forward, forwards_wrapped


def checkpointed(blocks: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """Each of the blocks is computed twice in a training step inside the `with`.

    They must not draw random numbers.
    """
    return forwards_wrapped(blocks, _computed_twice)


def _computed_twice(block: nn.Module, forward: Forward) -> Forward:
    def on_copies(*inputs: Any, **named: Any) -> Any:
        return forward(*map(_copied, inputs), **{name: _copied(value) for name, value in named.items()})

    def computed_twice(*inputs: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **named)
        return checkpoint(on_copies, *inputs, use_reentrant=False, preserve_rng_state=False, **named)

    return computed_twice


def _copied(value: Any) -> Any:
    """The host's text layers write over their input (`x += ...`), which would make the second time another
    one.
    """
    return value.clone() if isinstance(value, Tensor) else value
