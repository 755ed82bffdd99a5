"""Putting something around a module's forward pass for as long as a block lasts."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

Forward = Callable[..., Any]


@contextmanager
def forwards_wrapped(
    modules: Iterable[nn.Module], wrap: Callable[[nn.Module, Forward], Forward]
) -> Iterator[None]:
    """Each module's forward is `wrap(module, forward)` inside the block, and its own again after it.

    Forward hooks stay outside of it.
    """
    with ExitStack() as undo:
        for module in modules:
            undo.callback(_put_back, module, vars(module).get("forward"))
            module.forward = wrap(module, module.forward)
        yield


def _put_back(module: nn.Module, forward: Forward | None) -> None:
    """`forward` None: that of its class."""
    if forward is None:
        vars(module).pop("forward", None)
    else:
        module.forward = forward
