"""What somebody wants of a run that is going on: go on, pause, finish, or cancel.

Whoever does something long asks between two pieces of it: between steps, between the batches of a
measurement, between pictures that are encoded or read.
"""

import time
from enum import Enum

LOOKS_AGAIN = 0.1  # seconds between two questions of a run that pauses


class Asked(Enum):
    """What is wanted now."""

    GO = "go"
    PAUSE = "pause"
    FINISH = "finish"  # end after this step, with the LoRA so far as the output


class Control:
    """Nobody wants anything: the run goes to its end. A subclass says otherwise in `ask`."""

    cancels: tuple[type[BaseException], ...] = ()  # what `ask`, or anything else, raises for a cancel
    paused_seconds = 0.0  # so far

    def ask(self) -> Asked:
        """What is wanted now. Raises one of `cancels` to end the run at once."""
        return Asked.GO

    def wait(self) -> None:
        """A moment of a pause."""
        time.sleep(LOOKS_AGAIN)

    def wants_to_finish(self) -> bool:
        """Whether to finish. Returns only when no pause is wanted."""
        while (asked := self.ask()) is Asked.PAUSE:
            began = time.perf_counter()
            self.wait()
            self.paused_seconds += time.perf_counter() - began
        return asked is Asked.FINISH
