"""What a run's numbers mean, in one line each, with what to change: said once, as soon as it can be known."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ..optim.updates import UpdateSizes
from ..precision import Precision
from ..settings.optimizer import OptimizerConfig
from ..settings.presets import PRESETS
from .events import HeldoutLoss, Notice, StepRecord
from .heldout import best_of
from .plan import Plan
from .result import TrainingResult
from .step import not_finite_advice
from .work import Work

STUCK_AT, STUCK_BELOW = 0.3, 10  # share of the run; times d0
TRAINS = 1e-4  # a d0 from here on trains as it is
LAST_STRETCH, CLIMBED = 0.9, 1.1  # share of the run; d at the end over d there
HARSH = 0.05  # an update over the weights
MOSTLY = 0.5  # share of skipped steps from which a run has hardly trained
USUAL_IN_FP16 = 20  # skipped steps, while the loss scale finds its place


class Advice:
    """Watches d, and at a few steps how large the updates are, over a run of `steps`."""

    def __init__(self, recipe: OptimizerConfig, steps: int, updates: UpdateSizes) -> None:
        """`recipe` is resolved."""
        self.updates = updates
        self.recipe = recipe
        self.steps = steps
        self._limit = recipe.growth_limit(steps)
        self._before_last_stretch: float | None = None
        self._last_d = recipe.d0

    @classmethod
    def of(cls, work: Work, plan: Plan) -> "Advice":
        return cls(plan.recipe, plan.steps, UpdateSizes(work.parts, plan.steps))

    def watching(self, step: int) -> AbstractContextManager[None]:
        """Around what step `step`, from 0, does to the parameters."""
        return self.updates.watching(step)

    def after_step(self, record: StepRecord) -> Iterator[Notice]:
        if record.d is None:
            return
        if record.step == round(LAST_STRETCH * self.steps):
            self._before_last_stretch = record.d
        if record.step == max(1, round(STUCK_AT * self.steps)) and self._is_stuck(record.d):
            yield Notice(record.step, self._stuck(record))
        self._last_d = record.d

    def _is_stuck(self, d: float) -> bool:
        """Hardly above its start, neither on its way up as fast as it may, nor held low on purpose."""
        climbs = d >= self._last_d * (1 + 0.9 * (self._limit - 1)) > self._last_d
        return (
            d <= STUCK_BELOW * self.recipe.d0 and d < min(self.recipe.d_cap or TRAINS, TRAINS) and not climbs
        )

    def at_end(self, step: int, d_last: float | None) -> Iterator[Notice]:
        """`step`: the one that was done last."""
        share = self.updates.share
        before = self._before_last_stretch
        if before and d_last > CLIMBED * before:
            yield Notice(
                step,
                f"d was still climbing at the end ({before:.1e} to {d_last:.1e} over the last tenth of the"
                " run), so the right rate was not found yet: train longer, or raise d0",
            )
        if share is not None and share > HARSH:
            yield Notice(
                step,
                f"each step changed the weights by {share:.0%} of their size, which is harsh and costs"
                f" detail: halve the learning rate (here {self.recipe.learning_rate:g})",
            )

    def state(self) -> dict[str, Any]:
        return {
            "before_last_stretch": self._before_last_stretch,
            "last_d": self._last_d,
            "updates": self.updates.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self._before_last_stretch = state["before_last_stretch"]
        self._last_d = state["last_d"]
        self.updates.load(state["updates"])

    def _stuck(self, record: StepRecord) -> str:
        change = f"raise d0 (to {10 * self.recipe.d0:.0e}, say), or train longer"
        may_change = "freeze_d_percent" not in PRESETS[self.recipe.preset].settings
        if may_change and self.recipe.freeze_d_percent and self.recipe.freeze_d_percent <= 100 * STUCK_AT:
            change = "let d move for longer before it is frozen, " + change
        elif self.recipe.learning_rate < 1:
            change = "set the learning rate to 1.0, " + change
        return (
            f"after {STUCK_AT:.0%} of the run d is {record.d:.1e}, hardly above its start, so that next to"
            f" nothing is learned yet: {change}"
        )


def of_finished_run(
    result: TrainingResult, heldout: Sequence[HeldoutLoss], precision: Precision
) -> Iterator[str]:
    """What only the report says, because it takes the whole run.

    `heldout` begins with the untouched model, or is empty.
    """
    if result.skipped_steps:
        yield _skipped(result, precision)
    best = best_of(heldout)
    if best and heldout[0].loss is not None and best.loss >= heldout[0].loss:
        yield (
            "the held-out loss was never below the untouched model's: on pictures that it has not seen, this"
            " LoRA is no gain. Check that captions say what is in the pictures, and that the held-out"
            " pictures are of the same style or subject"
        )


def _skipped(result: TrainingResult, precision: Precision) -> str:
    skipped = result.skipped_steps
    left_out = f"{skipped} of {result.steps} steps gave numbers that were not finite and changed nothing"
    if skipped > MOSTLY * result.steps:
        return (
            f"THIS RUN TRAINED LITTLE: {left_out}. Do not rely on this LoRA. {not_finite_advice(precision)}"
        )
    if str(precision) == "fp16" and skipped <= USUAL_IN_FP16:
        return f"{left_out}; in fp16 a few are usual"
    return f"{left_out}. {not_finite_advice(precision)}"
