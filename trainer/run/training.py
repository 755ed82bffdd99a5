"""One run: its steps one after the other, and what is done between them.

    result = Training.of(work, Plan.of(work), tell, control).run()

Nothing here knows where the model lives or who is watching. The caller attaches the adapters, and owns them
before, during and after the run.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import DivergedError, SettingError
from .advice import Advice
from .burn_guard import BurnGuard
from .control import Control
from .copies import Copies
from .events import Event, Finished, Started, Unfinished
from .measuring import HeldoutMeasuring
from .output import OutputWeights
from .plan import Plan
from .records import Records
from .result import TrainingResult
from .state import RunState, Stateful
from .step import TrainingStep, not_finite_advice
from .work import Work


@dataclass
class Training:
    """One run from its first step to its last: a plan, a state in parts, and somebody to tell."""

    plan: Plan
    weights: OutputWeights
    training_step: TrainingStep
    records: Records
    advice: Advice
    copies: Copies
    guard: BurnGuard
    heldout: HeldoutMeasuring | None
    tell: Callable[[Event], None]
    control: Control
    also: Mapping[str, Stateful]  # owners of state outside of the run
    done: int = 0  # steps

    @classmethod
    def of(
        cls,
        work: Work,
        plan: Plan,
        tell: Callable[[Event], None],
        control: Control | None = None,
        also: Mapping[str, Stateful] | None = None,
    ) -> "Training":
        """A run that has not begun.

        also: what has to be in its state beside its own, by name: what its listeners have heard.
        """
        control = control or Control()
        weights = OutputWeights.of(work, plan)
        return cls(
            plan=plan,
            weights=weights,
            training_step=TrainingStep(work, weights.optimizer, tell),
            records=Records(work.network.device, control),
            advice=Advice.of(work, plan),
            copies=Copies(plan, weights, tell),
            guard=BurnGuard.of(work, plan, weights, tell, control),
            heldout=HeldoutMeasuring.of(work, weights, tell, control) if work.heldout else None,
            tell=tell,
            control=control,
            also=also or {},
        )

    def run(self) -> TrainingResult:
        """Trains to the end of the plan, or until the control says to finish.

        However it ends, the adapters hold what is output: the weights of the last step, or their average
        where the recipe averages. The burn guard has looked at those of a whole run. Raises `DivergedError`
        when the numbers stay not finite, when the LoRA burns again and again, or when nothing was learned.
        """
        try:
            self._begin()
            while self.done < self.plan.steps and not self._finishes_early():
                self.step()
            self._refuse_nothing()
        except BaseException as reason:
            self._tell_unfinished(reason)
            raise
        return self._finish()

    def step(self) -> None:
        """One step, and what follows it."""
        self._begin_step()
        optimizer = self.weights.optimizer
        d = optimizer.d
        dlr = optimizer.rates()
        with self.advice.watching(self.done):
            batch, numbers = self.training_step(self.done)
        self.done += 1
        record = self.records.of_step(self.done, batch.epoch, numbers, d, dlr)
        self.weights.trained(record)
        self.tell(record)
        is_last = self.done == self.plan.steps
        self.guard.after_step(self.done, self.training_step.skipped_in_a_row, is_last)
        for notice in self.advice.after_step(record):
            self.tell(notice)
        if self.heldout and self.plan.measures_after(self.done):
            self.heldout.measure()
        self.copies.after_step(record)

    def _begin(self) -> None:
        """Measures the untouched model, unless the run goes on from a state."""
        self.tell(Started(self.plan.steps, self.done))
        if self.done == 0:
            if self.heldout:
                self.heldout.measure()
            self.guard.begin()
        self.records.start()

    def _begin_step(self) -> None:
        """What the plan has for the step that comes."""
        optimizer = self.weights.optimizer
        for part in self.plan.stops.get(self.done, ()):
            optimizer.stop(part)
        if self.done == self.plan.freezes_d:
            optimizer.freeze_d()
        optimizer.set_rate(self.plan.rate_factor(self.done))

    def _finishes_early(self) -> bool:
        """Asks the control. A run that finishes early is looked at as one that has come to its end."""
        if not self.control.wants_to_finish() or self.done == 0:
            return False
        self.guard.after_step(self.done, self.training_step.skipped_in_a_row, is_last=True)
        if self.heldout:
            self.heldout.measure()
        return True

    def _refuse_nothing(self) -> None:
        """Raises `DivergedError` for a run of which nothing is left."""
        if self.weights.record is not None:
            return
        if self.training_step.skipped == self.done:
            raise DivergedError(
                f"None of the {self.done} steps gave a finite loss and gradient, so that nothing was trained."
                f" {not_finite_advice(self.training_step.work.precision)}"
            )
        raise DivergedError(
            "The LoRA burnt and went back to the model as it was before training, so that the run ended with"
            " nothing. Lower the learning rate or d0 at DAdapt Optimizer, or train for more steps."
        )

    def _finish(self) -> TrainingResult:
        for notice in self.advice.at_end(self.done, self.weights.optimizer.d):
            self.tell(notice)
        result = self._result()
        self.tell(Finished(result, self.weights.finalized()))
        return result

    def _tell_unfinished(self, reason: BaseException) -> None:
        """Tells what is left. What goes wrong with that is logged: `reason` is what a person has to hear."""
        cancelled = isinstance(reason, self.control.cancels)
        try:
            self.tell(Unfinished(reason, cancelled, self.weights.finalized()))
        except Exception:
            logging.getLogger(__name__).exception(
                "What was trained until the run ended could not be recorded"
            )

    def _result(self) -> TrainingResult:
        return TrainingResult(
            steps=self.done,
            planned_steps=self.plan.steps,
            last_step=self.weights.step,
            skipped_steps=self.training_step.skipped,
            d_first=self.records.first_d,
            d_last=self.weights.optimizer.d,
            update_ratio=self.advice.updates.ratio,
            update_share=self.advice.updates.share,
            burns=tuple(self.guard.burns),
            seconds=self.records.seconds,
        )

    # -- going on in another process

    def owners(self) -> dict[str, Stateful]:
        """Everything that is lost with this process, by the name of what owns it.

        What refuses another run's state comes first, and the number of steps last: a refused state leaves the
        run as it was.
        """
        owners = {
            "plan": _SamePlan(self.plan),
            "weights": self.weights,
            "step": self.training_step,
            "records": self.records,
            "advice": self.advice,
            "copies": self.copies,
            "guard": self.guard,
            "heldout": self.heldout,
            **self.also,
            "progress": _StepsDone(self),
        }
        return {name: owner for name, owner in owners.items() if owner is not None}

    def state(self) -> dict[str, Any]:
        """Between two steps: everything that the run can lose."""
        return RunState(self.owners()).state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken, as that run would have. To be called before `run`."""
        RunState(self.owners()).load(state)


class _StepsDone:
    """How many steps are done, as an owner of state."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def state(self) -> dict[str, Any]:
        return {"done": self.training.done}

    def load(self, state: Mapping[str, Any]) -> None:
        self.training.done = state["done"]


class _SamePlan:
    """Refuses the state of a run that was planned otherwise."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def state(self) -> dict[str, Any]:
        return self.plan.identity()

    def load(self, state: Mapping[str, Any]) -> None:
        """Raises `SettingError` that names what differs."""
        own = self.plan.identity()
        other = [name.replace("_", " ") for name in own if own[name] != state.get(name)]
        if other:
            raise SettingError(
                f"This state is of a run with other settings: {', '.join(other)}. Continue it with the"
                " settings of its beginning."
            )
