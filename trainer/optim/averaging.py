"""An exponential average of the LoRA's weights, which is calmer than the weights themselves.

Polyak & Juditsky 1992.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follows `parameters` with `decay` per step: about the last 1 / (1 - decay) steps.

    At first it is the plain mean of all steps so far, which forgets the start of the run sooner.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self._steps = 0
        self._average = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """After each step."""
        self._steps += 1
        weight = max(1 - self.decay, 1 / self._steps)
        torch._foreach_lerp_(self._average, [p.data for p in self.parameters], weight)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The parameters are the average inside the block."""
        trained = [p.detach().clone() for p in self.parameters]
        self._put(self._average)
        try:
            yield
        finally:
            self._put(trained)

    def take_over(self) -> None:
        """The parameters become the average, for good."""
        self._put(self._average)

    def state(self) -> dict[str, Any]:
        return {
            "steps": self._steps,
            "average": [average.to("cpu", copy=True) for average in self._average],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self._steps = state["steps"]
        for own, average in zip(self._average, state["average"], strict=True):
            own.copy_(average)

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        torch._foreach_copy_([p.data for p in self.parameters], list(values))
