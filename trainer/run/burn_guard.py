"""Catches a LoRA that burns: D-Adaptation can raise d in a few steps so far that the network breaks, and d
never comes back.

A few training pictures with fixed noises and timesteps are measured as the run goes and at its end. Where
their loss rises well above what the untouched model had on them, the run goes back to the state of the last
good measurement, and d stays below where it burnt.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import DivergedError
from ..optim.base import RunOptimizer
from .events import Notice

SAMPLES = 4
BURNT = 1.2  # times the untouched model's loss; training that learns stays below it
GROWN = 1.5  # d since the last measurement: then it is time for the next
SOON, LATER = 10, 50  # most steps between two measurements
ALERT = 40  # so many steps after the start, after d last grew and after a burn: what burns does so here
SUSPECT = 5  # steps in a row that are not finite
MOST_BURNS = 8  # each halves d


@dataclass(frozen=True)
class Burn:
    """One burn that was caught."""

    step: int  # where it was seen
    back_to: int  # the step whose state was restored
    loss: float | None  # of the probe; None where it was not finite
    untouched: float  # of the probe before the run
    limit: float  # of what follows, from here on
    limited: str  # "d", or "the rate" where the optimizer makes no estimate

    @property
    def text(self) -> str:
        loss = "not finite" if self.loss is None else f"{self.loss:.3f}"
        return (
            f"burnt at step {self.step} (loss of {SAMPLES} fixed samples {loss}, {self.untouched:.3f} before"
            f" training); went back to step {self.back_to}, with {self.limited} held below {self.limit:.1e}"
            " from here on"
        )


class BurnGuard:
    """Watches one run.

    `probe` measures the loss; `snapshot` and `restore` take and give back whatever the run can lose.
    """

    def __init__(
        self,
        optimizer: RunOptimizer,
        probe: Callable[[], float],
        snapshot: Callable[[], object],
        restore: Callable[[object], None],
        notify: Callable[[Notice], None],
    ) -> None:
        self.optimizer, self.probe, self.notify = optimizer, probe, notify
        self.snapshot, self.restore = snapshot, restore
        self.burns: list[Burn] = []
        self.untouched = probe()
        self._probed, self._scale = 0, optimizer.scale  # of the last measurement
        self._grew, self._highest = 0, optimizer.scale
        self._good(step=0)

    def after_step(self, step: int, skipped_in_a_row: int, is_last: bool) -> None:
        """Measures if it is time to, and goes back if it burns. Raises `DivergedError` when halving d again
        and again is no help.

        skipped_in_a_row: steps until this one that were not finite, which a burnt LoRA gives as well.
        """
        if self.optimizer.scale > self._highest:
            self._highest, self._grew = self.optimizer.scale, step
        patience = SOON if step - self._grew <= ALERT else LATER
        is_time = self.optimizer.scale >= GROWN * self._scale or step - self._probed >= patience
        is_suspect = skipped_in_a_row and skipped_in_a_row % SUSPECT == 0
        if not (is_time or is_suspect or is_last):
            return
        loss = self.probe()
        if loss <= BURNT * self.untouched:  # false for a NaN
            self._good(step)
        else:
            self._go_back(step, loss)
        self._probed, self._scale = step, self.optimizer.scale

    def _good(self, step: int) -> None:
        self._good_step, self._state = step, self.snapshot()

    def _go_back(self, step: int, loss: float) -> None:
        limit = min(self.optimizer.scale, self.optimizer.limit) / 2
        self.restore(self._state)
        self.optimizer.keep_below(limit)
        self._grew, self._highest = step, self.optimizer.scale
        limited = "the rate" if self.optimizer.d is None else "d"
        burn = Burn(
            step, self._good_step, loss if math.isfinite(loss) else None, self.untouched, limit, limited
        )
        self.burns.append(burn)
        if len(self.burns) > MOST_BURNS:
            raise DivergedError(
                f"The LoRA burnt {len(self.burns)} times, though {limited} was halved each time. It was left"
                f" as it was at step {self._good_step}, before the last burn. Check the pictures and"
                " captions, and that the model makes good pictures with these settings."
            )
        self.notify(Notice(step, burn.text))
