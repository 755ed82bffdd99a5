"""The memory of an optimizer: parameters of one group as views of one tensor, and the blocks of it that a
step works on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from ..errors import TrainerError

ALIGNMENT = 64  # values; every parameter starts on 256 bytes, as the allocator's own tensors do
CPU_BLOCK = (
    2**18
)  # values; run.py bench optimizer --blocks: six arrays of 1 MB stay in the last-level cache, calls are few
Kind = tuple[torch.device, torch.dtype]


class Sums(NamedTuple):
    """What a block of parameters adds to d; 0-dim tensors to write into, or the numbers that came back."""

    numerator: Tensor | float  # <g, s / (sqrt(v) + eps)>
    s_l1: Tensor | float  # |s|_1 of the s that the step would leave, over sqrt(b2)
    g_norm: Tensor | float  # |g|_2: not finite if any gradient is not


class Block(NamedTuple):
    """A stretch of one group's flat tensors that is worked on at once, and where its sums go."""

    group: int  # index into param_groups
    p: Tensor  # (n,) and so are the four below
    g: Tensor
    m: Tensor
    v: Tensor
    s: Tensor | None
    sums: Sums  # 0-dim

    @property
    def kind(self) -> Kind:
        return self.g.device, self.g.dtype


class FlatParameters:
    """Parameters of one group on one device as views of one tensor; their gradients and the optimizer's state
    likewise.

    Padding between parameters is zero in all five and stays zero. Autograd adds into a gradient that is
    already there in place, so from the second step on it writes into `g` by itself.
    """

    def __init__(self, group: int, params: Sequence[Parameter], s_dtype: torch.dtype | None):
        self.group, self.params = group, params
        self.spans = list(_spans(p.numel() for p in params))
        self.size = self.spans[-1].stop
        self.p = torch.zeros(self.size, device=params[0].device, dtype=params[0].dtype)
        self.g, self.m, self.v = (torch.zeros_like(self.p) for _ in range(3))
        self.s = None if s_dtype is None else torch.zeros_like(self.p, dtype=s_dtype)  # None: d is frozen
        self.grads = self.views(self.g)
        for p, home in zip(params, self.views(self.p), strict=True):
            home.copy_(p.data)
            p.data = home
        self.addresses = [p.data_ptr() for p in params]

    @property
    def kind(self) -> Kind:
        return self.p.device, self.p.dtype

    def views(self, flat: Tensor) -> list[Tensor]:
        """`flat` (size,) cut into one view per parameter, of its shape."""
        return [
            flat[span.start : span.start + p.numel()].view(p.shape)
            for p, span in zip(self.params, self.spans, strict=True)
        ]

    def state(self) -> dict[Parameter, dict[str, Any]]:
        """The state under dadaptation's names, as views."""
        flats = {"exp_avg": self.m, "exp_avg_sq": self.v, "s": self.s}
        views = {name: self.views(flat) for name, flat in flats.items() if flat is not None}
        return {
            p: {"step": 0} | {name: of_all[i] for name, of_all in views.items()}
            for i, p in enumerate(self.params)
        }

    def take_gradients(self) -> tuple[bool, ...]:
        """Bring home the gradients that are tensors of their own; which parameters have one at all."""
        strays = []
        present = []
        for p, home, address in zip(self.params, self.grads, self.addresses, strict=True):
            grad = p.grad
            present.append(grad is not None)
            if grad is not None and grad is not home:
                strays.append((home, grad))
                p.grad = home
            if p.data_ptr() != address:
                raise TrainerError(_MOVED.format(tuple(p.shape)))
        if strays:
            torch._foreach_copy_(*zip(*strays, strict=True))
        return tuple(present)

    def zero_gradients(self) -> None:
        self.g.zero_()
        for p, home in zip(self.params, self.grads, strict=True):
            if p.grad is not None:
                p.grad = home

    def stretches(self, present: Sequence[bool], block: int | None) -> Iterator[slice]:
        """Parameters with a gradient as few long stretches, none longer than `block` values."""
        for run in _runs(self.spans, present):
            size = block or run.stop - run.start or 1
            for start in range(run.start, run.stop, size):
                yield slice(start, min(start + size, run.stop))

    def load(self, state: Mapping[Parameter, Mapping[str, Any]]) -> None:
        """Copy in what `state` has under dadaptation's names; the rest stays zero."""
        for p, own in self.state().items():
            for name in own.keys() & state.get(p, {}).keys() - {"step"}:
                own[name].copy_(state[p][name])

    def s_l1(self) -> float:
        return 0.0 if self.s is None else self.s.abs().sum(dtype=self.p.dtype).item()

    def release(self) -> None:
        """Give every parameter a tensor of its own again, without a gradient."""
        for p in self.params:
            p.data, p.grad = p.data.clone(), None


class Layout(NamedTuple):
    """The blocks of a step for one pattern of gradients, and the tensors (blocks of that device, 3) behind
    their sums.
    """

    present: list[tuple[bool, ...]]
    blocks: list[Block]
    sums: list[Tensor]
    longest: dict[Kind, int]  # values in the longest block

    @classmethod
    def of(
        cls, flats: Sequence[FlatParameters], present: list[tuple[bool, ...]], block_size: int | None
    ) -> Layout:
        """`block_size` None: stretches stay whole on an accelerator and fit the cache on a CPU."""
        stretches = defaultdict(list)
        for flat, has_gradient in zip(flats, present, strict=True):
            size = block_size or (CPU_BLOCK if flat.p.device.type == "cpu" else None)
            stretches[flat.kind] += [(flat, cut) for cut in flat.stretches(has_gradient, size)]
        blocks, sums, longest = [], [], {}
        for (device, dtype), cuts in stretches.items():
            rows = torch.zeros(len(cuts), len(Sums._fields), device=device, dtype=dtype)
            sums.append(rows)
            longest[device, dtype] = max((cut.stop - cut.start for _, cut in cuts), default=0)
            for (flat, cut), row in zip(cuts, rows, strict=True):
                s = None if flat.s is None else flat.s[cut]
                blocks.append(
                    Block(flat.group, flat.p[cut], flat.g[cut], flat.m[cut], flat.v[cut], s, Sums(*row))
                )
        return cls(present, blocks, sums, longest)

    def scratch(self) -> list[Tensor]:
        """(n,) for every block: all on one device the same memory, which lives for one step."""
        memory = {
            kind: torch.empty(size, device=kind[0], dtype=kind[1]) for kind, size in self.longest.items()
        }
        return [memory[block.kind][: len(block.g)] for block in self.blocks]

    def read(self, loss: Tensor | None) -> tuple[list[Sums], float]:
        """The sums of all blocks and the loss on the host: the step's one synchronization (one per device
        where there are several).
        """
        sums, value = [], 0.0
        waiting = loss
        for rows in self.sums:
            if waiting is not None and waiting.device == rows.device:
                *read, (value, *_) = torch.cat(
                    (rows, waiting.to(rows.dtype).expand(1, rows.shape[1]))
                ).tolist()
                waiting = None
            else:
                read = rows.tolist()
            sums += [Sums(*row) for row in read]
        return sums, value if waiting is None else waiting.item()


_MOVED = (
    "A parameter of shape {} no longer lies where the optimizer put it: something replaced its data"
    " (module.to(), load_state_dict(assign=True)). Copy into it instead, or build the optimizer after the"
    " move."
)


def _spans(sizes: Iterable[int]) -> Iterator[slice]:
    start = 0
    for size in sizes:
        stop = start + math.ceil(size / ALIGNMENT) * ALIGNMENT
        yield slice(start, stop)
        start = stop


def _runs(spans: Sequence[slice], present: Sequence[bool]) -> Iterator[slice]:
    """The spans that are present, neighbours joined."""
    for here, neighbours in groupby(zip(spans, present, strict=True), key=lambda pair: pair[1]):
        if here:
            run = [span for span, _ in neighbours]
            yield slice(run[0].start, run[-1].stop)


def by_kind(params: Iterable[Parameter]) -> list[list[Parameter]]:
    kinds = defaultdict(list)
    for p in params:
        kinds[p.device, p.dtype].append(p)
    return list(kinds.values())
