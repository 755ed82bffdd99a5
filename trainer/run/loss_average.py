"""The loss of the last steps."""

from collections.abc import Mapping
from typing import Any


class RunningAverage:
    """Exponential average with the start corrected, as Adam does it."""

    def __init__(self, memory: float = 0.98) -> None:
        self.memory = memory
        self._sum = 0.0
        self._weight = 0.0

    def update(self, value: float) -> None:
        self._sum = self.memory * self._sum + (1 - self.memory) * value
        self._weight = self.memory * self._weight + (1 - self.memory)

    @property
    def value(self) -> float | None:
        """None before the first value."""
        return self._sum / self._weight if self._weight else None

    def state(self) -> dict[str, Any]:
        return {"sum": self._sum, "weight": self._weight}

    def load(self, state: Mapping[str, Any]) -> None:
        self._sum = state["sum"]
        self._weight = state["weight"]
