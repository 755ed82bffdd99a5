"""Which noise levels a run draws: places u between the least noise, 0, and the most, 1.

They are made of uniform numbers by the inverse of the cumulative distribution, so that what a step draws is a
function of the same numbers whatever the distribution is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..distribution import UNIFORM, Distribution
from ..errors import SettingError

EVENLY = Distribution()
BELOW_ONE = 1 - 2**-53  # the largest number below 1: a place in a table made of it always exists
LEAST_SHARE = 1e-6  # of the distribution that has to lie in the range
Place = TypeVar("Place", float, Tensor)


@dataclass(frozen=True)
class DrawnLevels:
    """A distribution of u in a range. It is the distribution given that u lies there: nothing piles up at
    the ends.
    """

    distribution: Distribution = EVENLY
    least: float = 0.0
    most: float = 1.0

    def u(self, uniform: Tensor, shape: Sequence[int]) -> Tensor:
        """u in [0, 1) for numbers in [0, 1): both [batch], float64. shape: of the latents."""
        shift = self.distribution.shift_for(shape)
        below, inside = self._shares(shift)
        drawn = _shifted(_inverse(self.distribution, below + uniform * inside), shift)
        return drawn.clamp(self.least, min(self.most, BELOW_ONE))

    def density(self, u: Tensor, shift: float) -> Tensor:
        """How often u is drawn, per unit of u: [any], float64. It is 0 outside of the range.

        shift: one of the distribution's.
        """
        slope = shift / (shift - (shift - 1) * u) ** 2  # d unshifted / d u
        density = _density(self.distribution, _shifted(u, 1 / shift)) * slope / self._shares(shift)[1]
        return torch.where((u >= self.least) & (u <= self.most), density, 0.0)

    def refuse_empty(self) -> None:
        """Raises `SettingError` where next to nothing of the distribution lies in the range."""
        if min(self._shares(shift)[1] for shift in self.distribution.shifts) < LEAST_SHARE:
            raise SettingError(
                f"least noise {self.least:g} to most noise {self.most:g}: next to nothing of the noise levels"
                f" '{self.distribution}' lies there. Expected a wider range, or other noise levels."
            )

    def _shares(self, shift: float) -> tuple[float, float]:
        """Which share of the distribution lies below the range, and which in it."""
        below, until = (_cumulative(self.distribution, end, shift) for end in (self.least, self.most))
        return below, until - below


def _shifted(u: Place, shift: float) -> Place:
    return u if shift == 1 else shift * u / (1 + (shift - 1) * u)


def _cumulative(of: Distribution, u: float, shift: float) -> float:
    """In plain Python: nobody should wait for a tensor."""
    if u in (0, 1):
        return u
    unshifted = _shifted(u, 1 / shift)
    if of.kind == UNIFORM:
        return unshifted
    return math.erfc((of.mean - math.log(unshifted / (1 - unshifted))) / of.std / math.sqrt(2)) / 2


def _inverse(of: Distribution, shares: Tensor) -> Tensor:
    return shares if of.kind == UNIFORM else torch.sigmoid(of.mean + of.std * torch.special.ndtri(shares))


def _density(of: Distribution, u: Tensor) -> Tensor:
    if of.kind == UNIFORM:
        return torch.ones_like(u)
    z = (torch.logit(u) - of.mean) / of.std
    density = torch.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * of.std * u * (1 - u))
    return density.nan_to_num(0.0)  # at the ends, where it is 0 / 0
