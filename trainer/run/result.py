"""What a finished run says of itself."""

from dataclasses import dataclass

from .burn_guard import Burn


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run says of itself."""

    steps: int
    skipped_steps: int  # not finite, and left out whole
    d_first: float | None  # d of the first step; None where the optimizer does not estimate one
    d_last: float | None
    update_ratio: (
        float | None
    )  # size of the text encoder's updates over the UNet's, a value; None when one part trains
    update_share: (
        float | None
    )  # size of an update over the size of the weights, in the second half of the run
    burns: tuple[Burn, ...]
    seconds: float
