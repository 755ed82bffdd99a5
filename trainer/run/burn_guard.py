"""Catches a LoRA that burns, and brings it back.

D-Adaptation can raise d in a few steps so far that the network breaks, and d never comes back. So a few
training pictures with fixed noises and noise levels are measured as the run goes and at its end. Where their
loss rises well above what the untouched model had on them, the run goes back to the state of the last good
measurement, and d stays below where it burnt.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ..errors import DivergedError
from ..objective.grid import LossGrid
from ..seeds import stream
from .control import Control
from .events import Event, Notice
from .measuring import LossOf
from .output import OutputWeights
from .plan import Plan
from .result import Burn
from .work import Work

SAMPLES = 4
BURNT = 1.2  # times the untouched model's loss; training that learns stays below it
GROWN = 1.5  # d since the last measurement: then it is time for the next
SOON, LATER = 10, 50  # most steps between two measurements
ALERT = 40  # so many steps after the start, after d last grew and after a burn: what burns does so here
SUSPECT = 5  # steps in a row that are not finite
MOST_BURNS = 8  # each halves d
# Times the loss of an output of zeros, below which a model that draws is. The best output at a noise level is
# the mean of what the target may be, which is nearer to it than zero is, whether that is noise, v or a flow.
# The demo's model is at 0.08; with its weights taken for the other kind of fp8 at 0.996, or at 16.
DRAWS_BELOW = 0.9


class Probe:
    """Measures the loss of a few training pictures with the LoRA as it is."""

    def __init__(self, grid: LossGrid, loss_of: LossOf) -> None:
        self.grid = grid
        self.loss_of = loss_of

    @classmethod
    def of(cls, work: Work, control: Control) -> "Probe":
        return cls(
            LossGrid.draw(work.pictures, stream(work.run.seed, "probe"), SAMPLES), LossOf(work, control)
        )

    def __call__(self) -> float:
        return self.loss_of(self.grid)

    def of_nothing(self) -> float:
        """The loss of an output of zeros."""
        return self.grid.loss_of_nothing(self.loss_of.work.network)


class BurnGuard:
    """Watches one run. One that does not watch only looks at the model before the run."""

    def __init__(
        self, weights: OutputWeights, probe: Probe, tell: Callable[[Event], None], watches: bool
    ) -> None:
        self.weights = weights
        self.probe = probe
        self.tell = tell
        self.watches = watches
        self.burns: list[Burn] = []
        self.untouched = math.nan  # loss of the probe before the run; not finite: nothing to compare with
        self._probed = 0  # step of the last measurement
        self._scale = self._highest = weights.optimizer.scale  # at the last measurement; at most so far
        self._grew = 0  # the step at which the scale was highest
        self._good: Mapping[str, Any] = {}  # state at the last good measurement

    @classmethod
    def of(
        cls, work: Work, plan: Plan, weights: OutputWeights, tell: Callable[[Event], None], control: Control
    ) -> "BurnGuard":
        return cls(weights, Probe.of(work, control), tell, plan.recipe.burn_guard)

    def begin(self) -> None:
        """Measures the untouched model, and tells where it is none that draws."""
        self.untouched = self.probe()
        if not math.isfinite(self.untouched):
            off = "the burn guard is off: " if self.watches else ""
            self.tell(
                Notice(
                    0,
                    f"{off}the model without the LoRA gives a loss that is not finite on its training"
                    " pictures, so that there is nothing to compare with. Check that the model makes good"
                    " pictures, or set precision to fp32 at Train",
                )
            )
            return
        nothing = self.probe.of_nothing()
        if self.untouched > DRAWS_BELOW * nothing:
            self.tell(Notice(0, _does_not_draw(self.untouched, nothing)))
        if self.watches:
            self._good = self.weights.snapshot()

    @property
    def _is_off(self) -> bool:
        return not (self.watches and math.isfinite(self.untouched))

    def after_step(self, step: int, skipped_in_a_row: int, is_last: bool) -> None:
        """Measures if it is time to, and goes back if the LoRA burns.

        skipped_in_a_row: steps until this one that were not finite, which a burnt LoRA gives as well.
        Raises `DivergedError` when halving d again and again is no help.
        """
        if self._is_off:
            return
        scale = self.weights.optimizer.scale
        if scale > self._highest:
            self._highest = scale
            self._grew = step
        if is_last or self._is_time(step, scale) or self._is_suspect(skipped_in_a_row):
            self._look(step)

    def _is_time(self, step: int, scale: float) -> bool:
        patience = SOON if step - self._grew <= ALERT else LATER
        return scale >= GROWN * self._scale or step - self._probed >= patience

    def _is_suspect(self, skipped_in_a_row: int) -> bool:
        return skipped_in_a_row > 0 and skipped_in_a_row % SUSPECT == 0

    def _look(self, step: int) -> None:
        loss = self.probe()
        if loss <= BURNT * self.untouched:  # false for a NaN
            self._good = self.weights.snapshot()
        else:
            self._go_back(step, loss)
        self._probed = step
        self._scale = self.weights.optimizer.scale

    def _go_back(self, step: int, loss: float) -> None:
        optimizer = self.weights.optimizer
        limit = min(optimizer.scale, optimizer.limit) / 2
        self.weights.restore(self._good)
        optimizer.keep_below(limit)
        self._grew = step
        self._highest = optimizer.scale
        burn = Burn(
            step=step,
            back_to=self.weights.step,
            loss=loss if math.isfinite(loss) else None,
            untouched=self.untouched,
            limit=limit,
            limited="the rate" if optimizer.d is None else "d",
            samples=SAMPLES,
        )
        self.burns.append(burn)
        if len(self.burns) > MOST_BURNS:
            raise DivergedError(
                f"The LoRA burnt {len(self.burns)} times, though {burn.limited} was halved each time. It was"
                f" left as it was at step {burn.back_to}, before the last burn. Check the pictures and"
                " captions, and that the model makes good pictures with these settings."
            )
        self.tell(Notice(step, burn.text))

    def state(self) -> dict[str, Any]:
        return {
            "burns": [asdict(burn) for burn in self.burns],
            "untouched": self.untouched,
            "probed": self._probed,
            "scale": self._scale,
            "highest": self._highest,
            "grew": self._grew,
            "good": self._good,  # a snapshot shares no memory with the run, and is replaced, not changed
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.burns = [Burn(**burn) for burn in state["burns"]]
        self.untouched = state["untouched"]
        self._probed = state["probed"]
        self._scale = state["scale"]
        self._highest = state["highest"]
        self._grew = state["grew"]
        self._good = state["good"]


def _does_not_draw(loss: float, nothing: float) -> str:
    return (
        f"the model without the LoRA has a loss of {loss:.2f} on its training pictures. An output of zeros"
        f" has {nothing:.2f}, and a model that draws much less: a LoRA of this one is of no use. Check that"
        " it makes good pictures in this graph: that its weights are of the kind that the loader takes them"
        " for (there are two of fp8), that a ModelSampling node before Train fits it, and that the VAE is its"
        " own"
    )
