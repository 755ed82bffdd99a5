"""How large the optimizer's updates really are: part against part, and against the weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..parts import UNET, text_encoders

SAMPLES = 10  # steps of a run that are measured, evenly spaced: measuring copies the parameters


class UpdateSizes:
    """Measures updates at a few steps of a run, as root mean squares of one value's change."""

    def __init__(self, parts: Mapping[str, Sequence[nn.Parameter]], steps: int) -> None:
        self.parts = parts
        self.steps = steps
        self._watched = {round(steps * (place + 0.5) / SAMPLES) for place in range(SAMPLES)}
        self._ratios: list[float] = []
        self._shares: list[float] = []

    @contextmanager
    def watching(self, step: int) -> Iterator[None]:
        """Measures what the block does to the parameters, if `step` is one of the sampled ones."""
        if step not in self._watched:
            yield
            return
        before = {part: [p.detach().clone() for p in parameters] for part, parameters in self.parts.items()}
        yield
        changes = {part: _rms(_changes(before[part], self.parts[part])) for part in self.parts}
        if step >= self.steps / 2:
            sizes = {part: _rms(before[part]) for part in self.parts}
            self._shares.append(max(changes[part] / sizes[part] for part in self.parts))
        encoders = [changes[part] for part in text_encoders(self.parts)]
        if encoders and changes.get(UNET, 0) > 0 and min(encoders) > 0:
            self._ratios.append(sum(encoders) / len(encoders) / changes[UNET])

    @property
    def ratio(self) -> float | None:
        """The text encoders' update over the UNet's, mean over the sampled steps and the encoders.

        None when only the UNet trains, or only text encoders.
        """
        return _mean(self._ratios)

    @property
    def share(self) -> float | None:
        """One update over the weights, mean over the sampled steps of the run's second half.

        Of the part where that is larger.
        """
        return _mean(self._shares)

    def state(self) -> dict[str, Any]:
        return {"ratios": list(self._ratios), "shares": list(self._shares)}

    def load(self, state: Mapping[str, Any]) -> None:
        self._ratios = list(state["ratios"])
        self._shares = list(state["shares"])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _changes(before: Sequence[Tensor], after: Sequence[Tensor]) -> list[Tensor]:
    return [a.detach() - b for b, a in zip(before, after, strict=True)]


def _rms(tensors: Sequence[Tensor]) -> float:
    return torch.sqrt(sum(t.square().sum() for t in tensors) / sum(t.numel() for t in tensors)).item()
