"""Replaces the forward pass of modules for as long as a `with` block lasts."""

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

    Forward hooks are not wrapped: they run around the new forward.
    """
    with ExitStack() as undo:
        for module in modules:
            undo.callback(_restore, module, vars(module).get("forward"))
            module.forward = wrap(module, module.forward)
        yield


def _restore(module: nn.Module, forward: Forward | None) -> None:
    """Put back the forward that was set on the module itself; None stands for its class's."""
    if forward is None:
        vars(module).pop("forward", None)
    else:
        module.forward = forward
