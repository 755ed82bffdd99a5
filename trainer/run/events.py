"""What a run tells while it goes: a record of every step, and what happens between steps."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class StepRecord:
    """One step. d * lr is d * learning rate * schedule * the part's speed: what AdamW would call its learning
    rate.
    """

    step: int  # from 1
    epoch: int  # from 1
    loss: float | None  # mean over the batch; None when it was not finite
    loss_average: float | None  # exponential, over about the last 50 steps; None until a loss was finite
    d: float | None  # None where the optimizer does not estimate one
    dlr_unet: float | None  # None when the part does not train, or no longer
    dlr_text_encoder: float | None
    gradient_norm: float | None  # None when it was not finite and the step was skipped
    seconds: float  # since the run began
    peak_memory_mb: (
        float | None
    )  # so far: of the GPU, else of the process; None where the system does not say


@dataclass(frozen=True)
class Measuring:
    """The held-out pictures are about to be measured, which takes a while."""

    step: int  # after which; 0: the untouched model


@dataclass(frozen=True)
class HeldoutLoss:
    """Loss of the held-out pictures, over fixed noises and timesteps."""

    step: int  # 0: the untouched model
    loss: float | None  # None when it was not finite


@dataclass(frozen=True)
class KeptLora:
    """A LoRA of the run, as it would be handed on after a step."""

    record: StepRecord  # of that step
    tensors: dict[str, Tensor]  # as in a LoRA file, on the CPU


@dataclass(frozen=True)
class SavedOnTheWay:
    """Somebody asked to keep the LoRA of this step."""

    lora: KeptLora


@dataclass(frozen=True)
class SafetyCopy:
    """Some minutes of training that a crash or a power cut would lose otherwise."""

    lora: KeptLora


@dataclass(frozen=True)
class BestSoFar:
    """The LoRA with the lowest held-out loss until now."""

    lora: KeptLora


@dataclass(frozen=True)
class Notice:
    """Something that the person at the graph should hear at once."""

    step: int
    text: str


Event = StepRecord | Measuring | HeldoutLoss | BestSoFar | SavedOnTheWay | SafetyCopy | Notice
