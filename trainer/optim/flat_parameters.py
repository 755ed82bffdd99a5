"""The memory of an optimizer: the parameters of a group as views of one tensor, and the blocks of a step."""

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
# Values in a block on a CPU: six arrays of 1 MB stay in the last-level cache, and calls are few. Measured
# with `run.py bench optimizer --blocks`.
CPU_BLOCK = 2**18
Kind = tuple[torch.device, torch.dtype]


class Sums(NamedTuple):
    """What a block of parameters adds to d: 0-dim tensors to write into, or the numbers read from them."""

    numerator: Tensor | float  # <g, s / (sqrt(v) + eps)>
    s_l1: Tensor | float  # |s|_1 of the s that the step would leave, over sqrt(b2)
    g_norm: Tensor | float  # |g|_2: not finite if any gradient is not


class Block(NamedTuple):
    """A slice of one group's flat tensors that a step works on at once, and where its sums go."""

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
    """The parameters of one group, device and dtype as views of one flat tensor `p` (size,).

    Their gradients are views of `g`, and the optimizer's state is in `m`, `v` and `s`, all of the same size.
    Padding between parameters is zero in all five and stays zero. Autograd adds in place into a gradient that
    is already there, so from the second step on it writes into `g` by itself.
    """

    def __init__(self, group: int, params: Sequence[Parameter], s_dtype: torch.dtype | None):
        self.group = group
        self.params = params
        self.spans = list(_spans(p.numel() for p in params))
        self.size = self.spans[-1].stop
        self.p = torch.zeros(self.size, device=params[0].device, dtype=params[0].dtype)
        self.g, self.m, self.v = (torch.zeros_like(self.p) for _ in range(3))
        self.s = None if s_dtype is None else torch.zeros_like(self.p, dtype=s_dtype)  # None: d is frozen
        self.grads = self.views(self.g)
        for p, view in zip(params, self.views(self.p), strict=True):
            view.copy_(p.data)
            p.data = view
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
        """The state of each parameter under dadaptation's names, as views."""
        states: dict[Parameter, dict[str, Any]] = {p: {"step": 0} for p in self.params}
        for name, flat in (("exp_avg", self.m), ("exp_avg_sq", self.v), ("s", self.s)):
            if flat is not None:
                for p, view in zip(self.params, self.views(flat), strict=True):
                    states[p][name] = view
        return states

    def collect_gradients(self) -> tuple[bool, ...]:
        """Copy gradients that are tensors of their own into `g`; returns which parameters have a gradient.

        Raises `TrainerError` for a parameter whose data is no longer a view of `p`.
        """
        views = []
        gradients = []
        present = []
        for p, view, address in zip(self.params, self.grads, self.addresses, strict=True):
            grad = p.grad
            present.append(grad is not None)
            if grad is not None and grad is not view:
                views.append(view)
                gradients.append(grad)
                p.grad = view
            if p.data_ptr() != address:
                raise TrainerError(_MOVED.format(tuple(p.shape)))
        if gradients:
            torch._foreach_copy_(views, gradients)
        return tuple(present)

    def zero_gradients(self) -> None:
        self.g.zero_()
        for p, view in zip(self.params, self.grads, strict=True):
            if p.grad is not None:
                p.grad = view

    def slices(self, present: Sequence[bool], block_size: int | None) -> Iterator[slice]:
        """Where the parameters with a gradient lie: few long slices, none longer than `block_size` values."""
        for run in _runs(self.spans, present):
            size = block_size or run.stop - run.start or 1
            for start in range(run.start, run.stop, size):
                yield slice(start, min(start + size, run.stop))

    def block(self, cut: slice, sums: Sums) -> Block:
        s = None if self.s is None else self.s[cut]
        return Block(self.group, self.p[cut], self.g[cut], self.m[cut], self.v[cut], s, sums)

    def load(self, state: Mapping[Parameter, Mapping[str, Any]]) -> None:
        """Copy what `state` has under dadaptation's names; the rest stays zero."""
        for p, own in self.state().items():
            for name in own.keys() & state.get(p, {}).keys() - {"step"}:
                own[name].copy_(state[p][name])

    def s_l1(self) -> float:
        return 0.0 if self.s is None else self.s.abs().sum(dtype=self.p.dtype).item()

    def release(self) -> None:
        """Give every parameter a tensor of its own again, without a gradient."""
        for p in self.params:
            p.data = p.data.clone()
            p.grad = None


class Layout(NamedTuple):
    """The blocks of a step, and the tensors that their sums are views of.

    It can be used again in every step in which the same parameters have a gradient.
    """

    present: list[tuple[bool, ...]]  # which parameters of each FlatParameters have a gradient
    blocks: list[Block]
    sums: list[Tensor]  # (blocks, 3), one tensor per device and dtype
    longest: dict[Kind, int]  # values in the longest block

    @classmethod
    def of(
        cls, flats: Sequence[FlatParameters], present: list[tuple[bool, ...]], block_size: int | None
    ) -> Layout:
        """`block_size` None: slices stay whole on an accelerator and fit the cache on a CPU."""
        blocks = []
        sums = []
        longest = {}
        for kind, cuts in _cuts_by_kind(flats, present, block_size).items():
            device, dtype = kind
            # A row for the sums of each block: they are read together, which waits for the device once.
            rows = torch.zeros(len(cuts), len(Sums._fields), device=device, dtype=dtype)
            sums.append(rows)
            longest[kind] = max((cut.stop - cut.start for _, cut in cuts), default=0)
            for (flat, cut), row in zip(cuts, rows, strict=True):
                blocks.append(flat.block(cut, Sums(*row)))
        return cls(present, blocks, sums, longest)

    def scratch(self) -> list[Tensor]:
        """(n,) for every block, in memory that all blocks of a device and dtype share, for one step."""
        memory = {}
        for (device, dtype), size in self.longest.items():
            memory[device, dtype] = torch.empty(size, device=device, dtype=dtype)
        return [memory[block.kind][: len(block.g)] for block in self.blocks]

    def read(self, loss: Tensor | None) -> tuple[list[Sums], float]:
        """The sums of all blocks and the loss, as numbers.

        This is the step's one synchronization (one per device where there are several).
        """
        sums = []
        value = 0.0
        unread = loss
        for rows in self.sums:
            if unread is not None and unread.device == rows.device:
                # The loss goes along as one more row, so that it does not wait for the device by itself.
                loss_row = unread.to(rows.dtype).expand(1, rows.shape[1])
                *numbers, (value, *_) = torch.cat((rows, loss_row)).tolist()
                unread = None
            else:
                numbers = rows.tolist()
            sums += [Sums(*row) for row in numbers]
        return sums, value if unread is None else unread.item()


_MOVED = (
    "A parameter of shape {} no longer lies where the optimizer put it: something replaced its data"
    " (module.to(), load_state_dict(assign=True)). Copy into it instead, or build the optimizer after the"
    " move."
)


def _cuts_by_kind(
    flats: Sequence[FlatParameters], present: Sequence[tuple[bool, ...]], block_size: int | None
) -> dict[Kind, list[tuple[FlatParameters, slice]]]:
    """The slices that become blocks, by device and dtype."""
    cuts = defaultdict(list)
    for flat, has_gradient in zip(flats, present, strict=True):
        size = block_size or (CPU_BLOCK if flat.p.device.type == "cpu" else None)
        for cut in flat.slices(has_gradient, size):
            cuts[flat.kind].append((flat, cut))
    return cuts


def _spans(sizes: Iterable[int]) -> Iterator[slice]:
    """Where parameters of these sizes lie in a flat tensor, with the padding after each."""
    start = 0
    for size in sizes:
        stop = start + math.ceil(size / ALIGNMENT) * ALIGNMENT
        yield slice(start, stop)
        start = stop


def _runs(spans: Sequence[slice], present: Sequence[bool]) -> Iterator[slice]:
    """The spans of parameters that have a gradient, neighbours joined."""
    for here, neighbours in groupby(zip(spans, present, strict=True), key=lambda pair: pair[1]):
        if here:
            run = [span for span, _ in neighbours]
            yield slice(run[0].start, run[-1].stop)


def by_kind(params: Iterable[Parameter]) -> list[list[Parameter]]:
    kinds = defaultdict(list)
    for p in params:
        kinds[p.device, p.dtype].append(p)
    return list(kinds.values())
