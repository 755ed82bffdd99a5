"""One record a step: what a run did, for the console, the page, a file and the report."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepRecord:
    """One step. Rates are d * learning rate * schedule * the part's speed: what AdamW would call the learning rate."""

    step: int  # from 1
    epoch: int  # from 1
    loss: float | None  # mean over the batch; None when it was not finite
    loss_average: float | None  # exponential, over about the last 50 steps; None until a loss was finite
    d: float
    dlr_unet: float | None  # None when the part does not train
    dlr_text_encoder: float | None
    gradient_norm: float | None  # None when it was not finite and the step was skipped
    seconds: float  # since the run began


class RunningAverage:
    """Exponential average with the start corrected, as Adam does it."""

    def __init__(self, memory: float = 0.98) -> None:
        self.memory, self._sum, self._weight = memory, 0.0, 0.0

    def update(self, value: float) -> None:
        self._sum = self.memory * self._sum + (1 - self.memory) * value
        self._weight = self.memory * self._weight + (1 - self.memory)

    @property
    def value(self) -> float | None:
        """None before the first value."""
        return self._sum / self._weight if self._weight else None


def append_records(path: Path, records: Iterable[StepRecord]) -> None:
    """Adds one line of JSON a record to the file at `path`."""
    with path.open("a", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(asdict(record), allow_nan=False) + "\n")
