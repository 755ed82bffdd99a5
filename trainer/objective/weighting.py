"""How much a picture's loss counts, by its noise level.

A weight is written for the loss of the raw output. Its square `slope` is what an error of the output is worth
as an error of the estimated picture, so that one formula holds for every kind of prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..settings.objective import DEBIASED, MIN_SNR, NO_WEIGHTS
from .levels import Levels


@dataclass(frozen=True)
class Weighting:
    """By name, in `WEIGHTS`."""

    kind: str = NO_WEIGHTS
    gamma: float = 5.0  # of min-SNR

    def of(self, levels: Levels) -> Tensor | None:
        """Weights [batch], float64; None where every picture counts the same."""
        return WEIGHTS[self.kind](levels, self.gamma) if self.kind in WEIGHTS else None


def min_snr(levels: Levels, gamma: float) -> Tensor:
    """min(SNR, gamma) on the loss of the estimated picture. Hang et al. 2023, arXiv 2303.09556, section 3.4.

    Of noise: min(SNR, gamma) / SNR. Of v: min(SNR, gamma) / (SNR + 1). kohya's sd-scripts has the same.
    """
    return levels.snr.clamp(max=gamma) * levels.slope**2


def debiased(levels: Levels, gamma: float) -> Tensor:
    """sqrt(SNR) on the loss of the estimated picture. Yu et al. 2023, arXiv 2310.08442.

    Of noise, which the paper is about: 1 / sqrt(SNR). kohya's sd-scripts has the same there, with SNR at most
    1000. For v it takes 1 / (SNR + 1), which is 1 on the estimated picture, and more at much noise than what
    is here: sqrt(SNR) / (SNR + 1).
    """
    return levels.snr.sqrt() * levels.slope**2


WEIGHTS: dict[str, Callable[[Levels, float], Tensor]] = {MIN_SNR: min_snr, DEBIASED: debiased}
