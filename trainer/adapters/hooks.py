"""Adapters attached to a model's own modules, as forward hooks.

The base weights are neither copied nor changed and get no gradients. The adapters stay outside of the module
tree, so that ComfyUI's `state_dict` and memory counts do not see them.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .lora import LoraAdapter, in_lora_dtype, lora_down, lora_up

# Names of q, k and v of one attention, without their ends. Those that read the same tensor share one matmul
# for their downs, which saves that tensor once for backward.
_ATTENTION_INPUT = re.compile(r"^(.*_)(?:to_[qkv]|[qkv]_proj)$")


@contextmanager
def attached(adapters: Iterable[LoraAdapter]) -> Iterator[Callable[[], None]]:
    """The adapters take part in their modules' forward passes inside the block, and are gone after it.

    The block is given a function that lets go of what a forward pass that did not end has left.
    """
    handles = []
    shared = []
    try:
        for sharers in _by_input(adapters):
            downs = _SharedDowns(sharers) if len(sharers) > 1 else None
            if downs:
                shared.append(downs)
            for adapter in sharers:
                handles.append(adapter.module.register_forward_hook(_forward_hook(adapter, downs)))
        yield partial(_forget, shared)
    finally:
        for handle in handles:
            handle.remove()


def _forget(shared: Iterable["_SharedDowns"]) -> None:
    for downs in shared:
        downs.forget()


def _by_input(adapters: Iterable[LoraAdapter]) -> Iterable[list[LoraAdapter]]:
    """The adapters in groups; the layers of a group may read the same tensor."""
    groups: dict[tuple, list[LoraAdapter]] = defaultdict(list)
    for adapter in adapters:
        match = None if adapter.is_convolution else _ATTENTION_INPUT.match(adapter.name)
        key = (match[1], adapter.down.shape) if match else (adapter.name,)
        groups[key].append(adapter)
    return groups.values()


def _forward_hook(adapter: LoraAdapter, downs: "_SharedDowns | None"):
    def add_lora(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        hidden = downs.of(adapter, x) if downs else lora_down(x, module, adapter.down)
        return output + lora_up(hidden, adapter.up).to(output.dtype)

    return add_lora


class _SharedDowns:
    """`down x` of several adapters as one matmul, where their layers read the same x.

    The layers run in the order of `adapters`, as to_q, to_k and to_v of one attention do.
    """

    def __init__(self, adapters: Sequence[LoraAdapter]) -> None:
        self.adapters = list(adapters)
        self.forget()

    def of(self, adapter: LoraAdapter, x: Tensor) -> Tensor:
        """`down x` of one adapter, [..., dim].

        The first layer that reads an x computes it for itself and for all layers after it. In self-attention
        these read the same x and find theirs ready. In cross-attention to_k reads the text, another x than
        to_q: then to_k computes again, for itself and to_v, and what to_q made for them is dropped.
        """
        if self._x is not x or adapter not in self._ready:
            self._compute(x, self.adapters[self.adapters.index(adapter) :])
        hidden = self._ready.pop(adapter)
        if not self._ready:
            self.forget()
        return hidden

    def _compute(self, x: Tensor, adapters: Sequence[LoraAdapter]) -> None:
        weight = torch.cat([adapter.down for adapter in adapters])  # [adapters * dim, in]
        joined = F.linear(in_lora_dtype(x, weight), weight)  # [..., adapters * dim]
        self._x = x
        self._ready = dict(zip(adapters, joined.chunk(len(adapters), dim=-1), strict=True))

    def forget(self) -> None:
        """Holds no tensor between two forward passes."""
        self._x: Tensor | None = None
        self._ready: dict[LoraAdapter, Tensor] = {}
