"""Adapters attached to a model's own modules, as forward hooks.

The base weights are neither copied, changed nor given gradients; the adapters are kept outside of the module
tree, so that the host's `state_dict` and memory counts do not see them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .lora import LoraAdapter, in_lora_dtype, lora_down, lora_up

# q, k and v of one attention: where they read the same tensor, their downs are one matmul, which keeps that
# tensor once for backward
_ATTENTION_INPUT = re.compile(r"^(.*_)(?:to_[qkv]|[qkv]_proj)$")


@contextmanager
def attached(adapters: Iterable[LoraAdapter]) -> Iterator[None]:
    """The adapters take part in their modules' forward passes inside the block, and are gone after it."""
    handles = []
    try:
        for sharers in _by_input(adapters):
            downs = _SharedDowns(sharers) if len(sharers) > 1 else None
            handles += [a.module.register_forward_hook(_forward_hook(a, downs)) for a in sharers]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by_input(adapters: Iterable[LoraAdapter]) -> Iterable[list[LoraAdapter]]:
    """Adapters whose layers may read the same tensor, together."""
    groups: dict[tuple, list[LoraAdapter]] = defaultdict(list)
    for adapter in adapters:
        match = None if adapter.is_convolution else _ATTENTION_INPUT.match(adapter.name)
        groups[(match[1], adapter.down.shape) if match else (adapter.name,)].append(adapter)
    return groups.values()


def _forward_hook(adapter: LoraAdapter, downs: "_SharedDowns | None"):
    def add_lora(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        hidden = downs.of(adapter, x) if downs else lora_down(x, module, adapter.down)
        return output + lora_up(hidden, adapter.up).to(output.dtype)

    return add_lora


class _SharedDowns:
    """down x for adapters whose layers run in this order: computed once, by the first of those that read the
    same x.
    """

    def __init__(self, adapters: Sequence[LoraAdapter]) -> None:
        self.adapters = list(adapters)
        self._forget()

    def of(self, adapter: LoraAdapter, x: Tensor) -> Tensor:
        """[..., dim]"""
        if self._x is not x or adapter not in self._left:
            coming = self.adapters[self.adapters.index(adapter) :]
            joined = F.linear(in_lora_dtype(x, adapter.down), torch.cat([one.down for one in coming]))
            self._x, self._left = x, dict(zip(coming, joined.chunk(len(coming), dim=-1), strict=True))
        hidden = self._left.pop(adapter)
        if not self._left:
            self._forget()
        return hidden

    def _forget(self) -> None:
        """Nothing is held on to between two passes."""
        self._x: Tensor | None = None
        self._left: dict[LoraAdapter, Tensor] = {}
