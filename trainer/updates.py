"""How large the optimizer's updates really are, part by part."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

SAMPLES = 10  # steps of a run that are measured, evenly spaced: measuring copies the parameters


class UpdateRatio:
    """Measures the size of the text encoder's updates over the UNet's, as root mean squares of one value's change."""

    def __init__(self, parts: Mapping[str, Sequence[nn.Parameter]], steps: int) -> None:
        self.parts = parts
        self._watched = {round(steps * (place + 0.5) / SAMPLES) for place in range(SAMPLES)} if len(parts) == 2 else set()
        self._ratios: list[float] = []

    @contextmanager
    def watching(self, step: int) -> Iterator[None]:
        """Measures what the block does to the parameters, if `step` is one of the sampled ones."""
        if step not in self._watched:
            yield
            return
        before = {part: [p.detach().clone() for p in parameters] for part, parameters in self.parts.items()}
        yield
        unet, text_encoder = (_rms_change(before[part], self.parts[part]) for part in ("unet", "text_encoder"))
        if unet > 0:
            self._ratios.append(text_encoder / unet)

    @property
    def value(self) -> float | None:
        """Mean over the sampled steps."""
        return sum(self._ratios) / len(self._ratios) if self._ratios else None


def _rms_change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    squares = sum((b - a.detach()).square().sum() for b, a in zip(before, after, strict=True))
    return torch.sqrt(squares / sum(b.numel() for b in before)).item()
