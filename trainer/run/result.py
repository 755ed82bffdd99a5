"""What a finished run says of itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Burn:
    """One burn that the guard caught."""

    step: int  # where it was seen
    back_to: int  # the step whose state was restored
    loss: float | None  # of the guard's samples; None where it was not finite
    untouched: float  # of the same samples before the run
    limit: float  # of what follows, from here on
    limited: str  # "d", or "the rate" where the optimizer makes no estimate
    samples: int

    @property
    def text(self) -> str:
        loss = "not finite" if self.loss is None else f"{self.loss:.3f}"
        return (
            f"burnt at step {self.step} (loss of {self.samples} fixed samples {loss}, {self.untouched:.3f}"
            f" before training); went back to step {self.back_to}, with {self.limited} held below"
            f" {self.limit:.1e} from here on"
        )


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run says of itself."""

    steps: int  # that were done
    planned_steps: int  # more than `steps` where somebody asked to finish early
    last_step: int  # whose LoRA the run ended with: an earlier one than `steps` after a burn at the end
    skipped_steps: int  # not finite, and left out whole
    d_first: float | None  # d of the first step; None where the optimizer does not estimate one
    d_last: float | None
    update_ratio: (
        float | None
    )  # size of the text encoders' updates over the UNet's, per value; None for one kind of part
    update_share: float | None  # size of an update over the size of the weights, in the run's second half
    burns: tuple[Burn, ...]
    seconds: float
