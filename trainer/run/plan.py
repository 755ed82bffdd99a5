"""What a run is going to do, made once from the settings."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..data.order import Order
from ..objective.objective import Objective
from ..settings.optimizer import NEVER_FROZEN, TO_THE_END, OptimizerConfig
from ..settings.run import RunConfig
from ..settings.schedule import rate_factor, warmup_steps
from .work import Work

SHARE_OF_TIME = 0.2  # of the training's, that measuring may take when nobody has said how often
FEWEST, MOST = 4, 20  # measurements per run


@dataclass(frozen=True)
class Plan:
    """What a run is going to do. Steps are counted from 0 where something happens before them."""

    recipe: OptimizerConfig  # resolved: what the preset stands for
    objective: Objective
    seed: int
    batch_size: int
    steps: int
    warmup: int  # steps
    freezes_d: int | None  # before which step d is frozen; None: never
    stops: Mapping[int, tuple[str, ...]]  # before which step which parts stop training
    measured: frozenset[int]  # after how many steps the held-out pictures are measured
    save_every: int  # steps between two intermediate LoRAs; 0: none

    @classmethod
    def of(cls, work: Work) -> "Plan":
        """Raises `SettingError` for a recipe in which none of the trained parts trains to the end."""
        recipe = work.recipe.resolved()
        run = work.run
        recipe.refuse_stopping(work.parts)
        steps = total_steps(run, work.order)
        samples = len(work.heldout.pictures) if work.heldout else 0
        never = recipe.freeze_d_percent == NEVER_FROZEN
        return cls(
            recipe=recipe,
            objective=work.objective,
            seed=run.seed,
            batch_size=run.batch_size,
            steps=steps,
            warmup=warmup_steps(steps, recipe.warmup_percent),
            freezes_d=None if never else _step_at(recipe.freeze_d_percent, steps),
            stops=_stops(recipe, work.parts, steps),
            measured=measured_steps(steps, run.batch_size, samples, run.measure_every),
            save_every=run.save_every * _steps_per_unit(run, work.order),
        )

    def identity(self) -> dict[str, Any]:
        """What two processes of one run must have in common, as plain values."""
        return asdict(self.recipe) | {
            "objective": self.objective.identity(),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "steps": self.steps,
            "save_every": self.save_every,
            "measured": sorted(self.measured),
        }

    def rate_factor(self, step: int) -> float:
        """What the learning rate is multiplied by at `step`."""
        return rate_factor(self.recipe.schedule, step, self.steps, self.warmup)

    def measures_after(self, step: int) -> bool:
        """Whether the held-out pictures are measured after so many steps."""
        return step in self.measured

    def saves_after(self, step: int) -> bool:
        """Whether an intermediate LoRA is saved after so many steps."""
        return self.save_every > 0 and step % self.save_every == 0


def total_steps(run: RunConfig, order: Order) -> int:
    """Length of the run in steps."""
    return run.duration * _steps_per_unit(run, order)


def measured_steps(steps: int, batch_size: int, samples: int, every: int) -> frozenset[int]:
    """After how many steps a grid of `samples` is measured, the last one included.

    `every` 0: as often as is cheap.

    A step costs three forward passes of its batch (backward takes two), a measurement one of its grid.
    """
    if samples == 0:
        return frozenset()
    if every == 0:
        affordable = SHARE_OF_TIME * 3 * batch_size * steps / samples
        every = max(1, round(steps / min(MOST, max(FEWEST, affordable))))
    return frozenset({*range(every, steps, every), steps})


def _steps_per_unit(run: RunConfig, order: Order) -> int:
    return 1 if run.duration_unit == "steps" else order.steps_per_epoch


def _stops(recipe: OptimizerConfig, parts: Iterable[str], steps: int) -> dict[int, tuple[str, ...]]:
    stops: dict[int, tuple[str, ...]] = {}
    for part in parts:
        percent = recipe.stop_percent(part)
        if percent != TO_THE_END:
            step = _step_at(percent, steps)
            stops[step] = (*stops.get(step, ()), part)
    return stops


def _step_at(percent: float, steps: int) -> int:
    """The step before which a share of the run is over: never the first one, nor after the last."""
    return min(max(1, round(steps * percent / 100)), steps - 1)
