"""What the raw output of a network is, told from numbers and not from names.

Each kind is a mixture of latents and noise. Which one it is follows from what ComfyUI makes of an output.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .levels import Levels

EPS, V, EDM, FLOW, PICTURE, OTHER = "eps", "v", "edm", "flow", "x0", "other"
WORDS = {
    EPS: "noise (eps)",
    V: "v",
    EDM: "the output of EDM",
    FLOW: "a flow",
    PICTURE: "the picture (x0)",
    OTHER: "something that is none of noise, v, EDM's output, a flow and the picture",
}
NO_SIGNAL = 1e-6  # SNR. At the most noise SD's has 5e-3, and zero terminal SNR, as ComfyUI has it, 5e-8
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Prediction:
    """What a network predicts."""

    kind: str = EPS
    zero_terminal_snr: bool = False  # whether the most noise leaves nothing of the picture; of a flow, always

    @classmethod
    def of(cls, levels: Levels) -> "Prediction":
        """Told from noise levels, of which the last one is the most noise."""
        kind = next((name for name, form in _FORMS.items() if _is_mixture(levels, form(levels))), OTHER)
        return cls(kind, bool(levels.snr[-1] < NO_SIGNAL))

    @property
    def is_flow(self) -> bool:
        return self.kind == FLOW

    def __str__(self) -> str:
        zero = self.zero_terminal_snr and not self.is_flow
        return WORDS[self.kind] + (" with zero terminal SNR" if zero else "")


Mixture = tuple[Tensor, Tensor]  # how much of the latents, and how much of the noise


def _is_mixture(levels: Levels, expected: Mixture) -> bool:
    found = (levels.target_of_latents, levels.target_of_noise)
    return all(
        torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)
        for one, other in zip(found, expected, strict=True)
    )


def _eps(levels: Levels) -> Mixture:
    """Ho et al. 2020, arXiv 2006.11239: the noise."""
    return torch.zeros_like(levels.sigmas), torch.ones_like(levels.sigmas)


def _v(levels: Levels) -> Mixture:
    """Salimans & Ho 2022, arXiv 2202.00512: alpha noise - sigma latents, with alpha^2 + sigma^2 = 1."""
    size = torch.hypot(levels.of_latents, levels.of_noise)
    return -levels.of_noise / size, levels.of_latents / size


def _edm(levels: Levels) -> Mixture:
    """Karras et al. 2022, arXiv 2206.00364, table 1: (latents - c_skip noised) / c_out.

    Their sigma_data is the one that makes the noise's part right, at the middle level.
    """
    middle = len(levels.sigmas) // 2
    sigma, part = levels.sigmas[middle], levels.target_of_noise[middle]
    data = sigma * part.abs() / (1 - part**2).clamp(min=1e-12).sqrt()
    size = torch.hypot(levels.sigmas, data)
    return levels.sigmas / (data * size), -data / size


def _flow(levels: Levels) -> Mixture:
    """Liu et al. 2022, arXiv 2209.03003: noise - latents."""
    return -torch.ones_like(levels.sigmas), torch.ones_like(levels.sigmas)


def _picture(levels: Levels) -> Mixture:
    return torch.ones_like(levels.sigmas), torch.zeros_like(levels.sigmas)


_FORMS: dict[str, Callable[[Levels], Mixture]] = {
    EPS: _eps,
    V: _v,
    FLOW: _flow,
    PICTURE: _picture,
    EDM: _edm,
}
