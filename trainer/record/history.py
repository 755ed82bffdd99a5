"""Everything that a run has told, for whoever asks later."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..run.events import Event, HeldoutLoss, Notice, Started, StepRecord


class History:
    """The records, measurements and notices of a run."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.heldout: list[HeldoutLoss] = []  # in the order of their steps
        self.notices: list[Notice] = []
        self.planned_steps = 0

    @property
    def last_step(self) -> int:
        """The step that was done last; 0 before the first."""
        return self.records[-1].step if self.records else 0

    def hear(self, event: Event) -> None:
        match event:
            case Started(steps):
                self.planned_steps = steps
            case StepRecord():
                self.records.append(event)
            case HeldoutLoss():
                self.heldout.append(event)
                self.heldout.sort(key=lambda measured: measured.step)
            case Notice():
                self.notices.append(event)

    def state(self) -> dict[str, Any]:
        return {
            "records": [asdict(record) for record in self.records],
            "heldout": [[measured.step, measured.loss] for measured in self.heldout],
            "notices": [[notice.step, notice.text] for notice in self.notices],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.records = [StepRecord(**record) for record in state["records"]]
        self.heldout = [HeldoutLoss(step, loss) for step, loss in state["heldout"]]
        self.notices = [Notice(step, text) for step, text in state["notices"]]
