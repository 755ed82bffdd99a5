"""What a step keeps in memory for its backward pass, measured."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves

from ..layers.checkpointing import checkpointed

# What else is in memory at the peak of a pass, without and with checkpointing, over what autograd saves:
# measured on tiny models of seven families, 1.04 to 1.4 and 1.1 to 2.0.
AT_THE_PEAK = (1.25, 1.5)


@dataclass(frozen=True)
class PerPicture:
    """Bytes that one picture takes until its backward pass is over."""

    per_pixel: float  # of the latent
    fixed: float = 0.0  # whatever its size: what its caption takes

    @classmethod
    def through(cls, measured: Sequence[tuple[int, int]]) -> "PerPicture":
        """The line through pairs of (pixels, bytes), of which the last has the most pixels."""
        (fewest, least), (pixels, most) = measured[0], measured[-1]
        per_pixel = (most - least) / (pixels - fewest) if pixels > fewest else most / pixels
        # attention that is computed in another way for large pictures can make it fall
        per_pixel = min(max(per_pixel, 0.0), most / pixels)
        return cls(per_pixel, most - per_pixel * pixels)

    def bytes(self, pixels: int) -> int:
        return round(self.fixed + self.per_pixel * pixels)


@dataclass(frozen=True)
class Activations:
    """What pictures take without and with gradient checkpointing."""

    plain: PerPicture
    checkpointed: PerPicture

    def bytes(self, checkpointing: bool, pixels: int) -> int:
        """Of a picture with a latent of so many pixels."""
        return (self.checkpointed if checkpointing else self.plain).bytes(pixels)


def bytes_of_pass(
    device: torch.device, blocks: Sequence[nn.Module], forward: Callable[[], Tensor]
) -> tuple[int, int]:
    """What the passes of `forward`, which gives a loss, take without and with gradient checkpointing.

    The gradients are there already. A GPU tells its peak. Elsewhere what autograd saves is counted.
    """
    if device.type == "cuda":
        plain = _peak(device, forward)
        with checkpointed(blocks):
            return plain, _peak(device, forward)
    saved = SavedBytes()
    with saved.counted(blocks):
        forward()
    return round(AT_THE_PEAK[0] * saved.plain), round(AT_THE_PEAK[1] * saved.checkpointed)


def _peak(device: torch.device, forward: Callable[[], Tensor]) -> int:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    forward().backward()
    return torch.cuda.max_memory_allocated(device) - before


Sizes = dict[int, int]  # bytes of each piece of memory, by its address


class SavedBytes:
    """Counts what autograd saves for backward, inside of each block and outside of them."""

    def __init__(self) -> None:
        self._inside: dict[nn.Module | None, Sizes] = {None: {}}
        self._inputs: Sizes = {}  # of blocks, which a checkpointed block saves
        self._block: nn.Module | None = None  # that is being computed
        self._alive: list[Tensor] = []  # so that no two have one address

    @property
    def plain(self) -> int:
        return _total(*self._inside.values())

    @property
    def checkpointed(self) -> int:
        """Blocks save their inputs, and one at a time what is inside of it."""
        kept = self._inputs | self._inside[None]
        largest = max((_total(sizes) for block, sizes in self._inside.items() if block), default=0)
        return _total(kept) + largest

    @contextmanager
    def counted(self, blocks: Iterable[nn.Module]) -> Iterator[None]:
        """A forward pass inside the block is counted."""
        handles = []
        for block in blocks:
            handles.append(block.register_forward_pre_hook(self._enter, with_kwargs=True))
            handles.append(block.register_forward_hook(self._leave))
        try:
            with saved_tensors_hooks(self._save, _unpack):
                yield
        finally:
            for handle in handles:
                handle.remove()
            self._alive.clear()

    def _enter(self, block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._block = block
        for leaf in tree_leaves((inputs, named)):
            if isinstance(leaf, Tensor):
                self._count(leaf, self._inputs)

    def _leave(self, block: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._block = None

    def _save(self, tensor: Tensor) -> None:
        """Saves nothing: no backward pass follows.

        An operation that saves its own output, as softmax does, would hold itself in memory for ever if it
        were given it back.
        """
        if not _is_parameter(tensor):
            self._count(tensor, self._inside.setdefault(self._block, {}))

    def _count(self, tensor: Tensor, sizes: Sizes) -> None:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        self._alive.append(tensor)


def _unpack(saved: None) -> Tensor:
    raise AssertionError("what was only counted has no backward pass")


def _is_parameter(tensor: Tensor) -> bool:
    """Whether it is a weight or a view of one, which takes no memory of its own."""
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)


def _total(*several: Sizes) -> int:
    return sum({address: size for sizes in several for address, size in sizes.items()}.values())
