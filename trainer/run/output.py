"""The weights that a run would output now, and going back to earlier ones."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from ..adapters.file import lora_tensors
from ..adapters.lora import LoraAdapter
from ..errors import SettingError
from ..optim.averaging import WeightAverage
from ..optim.base import RunOptimizer
from ..optim.registry import build_optimizer
from ..settings.optimizer import NO_EMA
from .events import LoraAtStep, StepRecord
from .plan import Plan
from .work import Work


class OutputWeights:
    """The weights of the adapters: those that are trained, or their average where the recipe averages.

    It knows after which step they are as they are. That is an earlier step than the last one when a burnt
    LoRA has just gone back.
    """

    def __init__(
        self, adapters: Sequence[LoraAdapter], optimizer: RunOptimizer, average: WeightAverage | None
    ) -> None:
        self.adapters = adapters
        self.optimizer = optimizer
        self.average = average
        self.record: StepRecord | None = None  # None: as they were before the first step

    @classmethod
    def of(cls, work: Work, plan: Plan) -> "OutputWeights":
        optimizer = build_optimizer(plan.recipe, work.parts, plan.steps)
        averages = plan.recipe.ema != NO_EMA
        average = WeightAverage(optimizer.parameters, plan.recipe.ema) if averages else None
        return cls(work.adapters, optimizer, average)

    @property
    def step(self) -> int:
        """After which step the weights are as they are; 0 before the first."""
        return self.record.step if self.record else 0

    def trained(self, record: StepRecord) -> None:
        """A step is over. One that was not finite has changed nothing, and counts as none."""
        if record.loss is None:
            return
        if self.average:
            self.average.update()
        self.record = record

    def lora(self) -> LoraAtStep | None:
        """The LoRA as it would be output now; None where no step has changed it."""
        if self.record is None:
            return None
        with self.shown():
            return LoraAtStep(self.record, lora_tensors(self.adapters))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside the block the adapters hold what would be output, after it what is trained on."""
        with ExitStack() as stack:
            stack.enter_context(self.optimizer.output_weights())
            if self.average:
                stack.enter_context(self.average.swapped_in())
            yield

    def finalized(self) -> LoraAtStep | None:
        """The LoRA that the run outputs, which the adapters hold from now on in tensors of their own.

        None where no step has changed it. Nothing is allocated on the device, which may be full.
        """
        self.optimizer.release()
        if self.average:
            self.average.take_over()
        return LoraAtStep(self.record, lora_tensors(self.adapters)) if self.record else None

    # -- going back

    def snapshot(self) -> dict[str, Any]:
        return self._around(self.optimizer.snapshot())

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Goes back to a snapshot of this run."""
        self.optimizer.restore(snapshot["optimizer"])
        self._load_rest(snapshot)

    # -- going on in another process

    def state(self) -> dict[str, Any]:
        layers = [[adapter.name, adapter.dim] for adapter in self.adapters]
        return self._around(self.optimizer.state()) | {"layers": layers}

    def load(self, state: Mapping[str, Any]) -> None:
        """Raises `SettingError` for the state of a LoRA of other layers or another dim."""
        own = [[adapter.name, adapter.dim] for adapter in self.adapters]
        if state["layers"] != own:
            raise SettingError(
                f"This state is of a LoRA of {len(state['layers'])} layers, and this one has {len(own)}, or"
                " other ones, or another dim. Continue it with the LoRA Config that it was begun with."
            )
        self.optimizer.load(state["optimizer"])
        self._load_rest(state)

    def _around(self, of_optimizer: dict[str, Any]) -> dict[str, Any]:
        return {
            "optimizer": of_optimizer,
            "average": self.average.state() if self.average else None,
            "record": asdict(self.record) if self.record else None,
        }

    def _load_rest(self, state: Mapping[str, Any]) -> None:
        if self.average:
            self.average.load(state["average"])
        self.record = StepRecord(**state["record"]) if state["record"] else None
