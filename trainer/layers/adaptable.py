"""Which layers a LoRA can adapt at all, and choosing among them by name."""

import re
from collections.abc import Iterable

from torch import nn


def matching_layers(names: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    """The module names that `pattern` matches, in their order."""
    return [name for name in names if pattern.search(name)]


def is_adaptable(module: nn.Module) -> bool:
    """Whether a LoRA can adapt the module: a linear layer, or a 2D convolution without groups."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
