"""What a run tells while it goes: a record of every step, what happens between steps, and how it ended.

Whoever wants to know listens: a listener has one method, `hear(event)`, and knows nothing of the others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .result import TrainingResult


@dataclass(frozen=True)
class StepRecord:
    """One step."""

    step: int  # from 1
    epoch: int  # from 1
    loss: float | None  # mean over the batch; None when it was not finite
    loss_average: float | None  # exponential, over about the last 50 steps; None until a loss was finite
    d: float | None  # None where the optimizer does not estimate one
    # d * learning rate * schedule * the part's speed, per trained part: what AdamW would call its learning
    # rate; None for a part that has stopped
    dlr: Mapping[str, float | None]
    gradient_norm: float | None  # None when it was not finite and the step was skipped
    seconds: float  # since the run began
    peak_memory_mb: float | None  # so far: of the GPU, else of the process; None where the system is silent


@dataclass(frozen=True)
class LoraAtStep:
    """The LoRA that the run would output after a step."""

    record: StepRecord  # of that step
    tensors: dict[str, Tensor]  # as in a LoRA file, in CPU memory


@dataclass(frozen=True)
class Started:
    """The first step is about to be prepared."""

    steps: int  # of the whole run
    done: int  # steps that were done before, in a run that is continued


@dataclass(frozen=True)
class Measuring:
    """The held-out pictures are about to be measured, which takes a while."""

    step: int  # after which; 0: the untouched model


@dataclass(frozen=True)
class HeldoutLoss:
    """Loss of the held-out pictures, over fixed noises and noise levels."""

    step: int  # whose LoRA was measured; 0: the untouched model
    loss: float | None  # None when it was not finite


@dataclass(frozen=True)
class BestSoFar:
    """The LoRA with the lowest held-out loss until now."""

    lora: LoraAtStep


@dataclass(frozen=True)
class IntermediateLora:
    """Somebody asked to save the LoRA every so many steps."""

    lora: LoraAtStep


@dataclass(frozen=True)
class SafetyCopy:
    """Some minutes of training that a crash or a power cut would lose otherwise."""

    lora: LoraAtStep


@dataclass(frozen=True)
class Notice:
    """Something that the person at the graph should hear at once."""

    step: int  # 0: found before the first step
    text: str


@dataclass(frozen=True)
class Finished:
    """The run went to its end, or was asked to finish early."""

    result: TrainingResult
    lora: LoraAtStep


@dataclass(frozen=True)
class Unfinished:
    """An error or a cancel ended the run."""

    reason: BaseException
    cancelled: bool
    lora: LoraAtStep | None  # as it was then; None where no step had changed it


Event = (
    Started
    | StepRecord
    | Measuring
    | HeldoutLoss
    | BestSoFar
    | IntermediateLora
    | SafetyCopy
    | Notice
    | Finished
    | Unfinished
)


class Listener(Protocol):
    """Somebody who wants to know how a run goes."""

    def hear(self, event: Event) -> None:
        """May raise, which ends the run."""


class Listeners:
    """Passes each event on to all listeners, in their order. A listener may tell something in between."""

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self.listeners = list(listeners)

    def hear(self, event: Event) -> None:
        """Raises what a listener raises. That a run has ended unfinished is told to all of them first."""
        errors: list[Exception] = []
        for listener in self.listeners:
            try:
                listener.hear(event)
            except Exception as error:
                if not isinstance(event, Unfinished):
                    raise
                errors.append(error)
        if errors:
            raise errors[0]
