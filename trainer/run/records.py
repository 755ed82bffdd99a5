"""Makes the record of each step."""

import time
from collections.abc import Mapping
from typing import Any

from torch import device as Device

from ..optim.base import Numbers
from .control import Control
from .events import StepRecord
from .loss_average import RunningAverage
from .memory import peak_memory_mb, start_of_peak


class Records:
    """Makes the record of each step: its averages, its rates, its time."""

    def __init__(self, device: Device, control: Control) -> None:
        self.device = device
        self.control = control
        self.loss_average = RunningAverage()
        self._began = self._now()
        self.first_d: float | None = None  # of the first step
        self._before = 0.0  # seconds of the run in earlier processes

    def start(self) -> None:
        """The first step of this process comes now."""
        start_of_peak(self.device)
        self._began = self._now()

    @property
    def seconds(self) -> float:
        """Since the run began, without pauses and without the time between two processes of it."""
        return self._before + self._now() - self._began

    def _now(self) -> float:
        return time.perf_counter() - self.control.paused_seconds

    def of_step(
        self, step: int, epoch: int, numbers: Numbers, d: float | None, dlr: Mapping[str, float | None]
    ) -> StepRecord:
        """`step` and `epoch` from 1; `d` and `dlr` as the step used them."""
        if step == 1:
            self.first_d = d
        if numbers.finite:
            self.loss_average.update(numbers.loss)
        return StepRecord(
            step=step,
            epoch=epoch,
            loss=numbers.loss if numbers.finite else None,
            loss_average=self.loss_average.value,
            d=d,
            dlr=dict(dlr),
            gradient_norm=numbers.gradient_norm if numbers.finite else None,
            seconds=self.seconds,
            peak_memory_mb=peak_memory_mb(self.device),
        )

    def state(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "first_d": self.first_d, "loss_average": self.loss_average.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        self._before = state["seconds"]
        self.first_d = state["first_d"]
        self.loss_average.load(state["loss_average"])
