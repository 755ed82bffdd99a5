"""LoRAs that are saved while a run goes on."""

from collections.abc import Callable, Mapping
from typing import Any

from .events import Event, IntermediateLora, SafetyCopy, StepRecord
from .output import OutputWeights
from .plan import Plan

SAFETY_SECONDS = 300.0  # between two safety copies


class Copies:
    """Tells of a LoRA when the plan asks for one, and every few minutes for safety."""

    def __init__(self, plan: Plan, weights: OutputWeights, tell: Callable[[Event], None]) -> None:
        self.plan = plan
        self.weights = weights
        self.tell = tell
        self._copied = 0.0  # seconds of the run at the last safety copy

    def after_step(self, record: StepRecord) -> None:
        asked = self.plan.saves_after(record.step)
        is_time = record.seconds >= self._copied + SAFETY_SECONDS
        lora = self.weights.lora() if asked or is_time else None
        if lora is None:
            return
        if asked:
            self.tell(IntermediateLora(lora))
        if is_time:
            self._copied = record.seconds
            self.tell(SafetyCopy(lora))

    def state(self) -> dict[str, Any]:
        return {"copied": self._copied}

    def load(self, state: Mapping[str, Any]) -> None:
        self._copied = state["copied"]
