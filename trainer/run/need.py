"""What memory a run needs, beside what is free, and what to change where it does not fit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..settings.dataset import SIZE_STEP
from .memory import StepMemory

GB = 2**30
LOWEST = 256  # resolution that is advised
LEAST_DIM = 4


@dataclass(frozen=True)
class Need:
    """What a run needs of a device's memory, and what decides on it."""

    model: int  # bytes; all of it, also where a part is left in CPU memory
    memory: StepMemory
    checkpointing: bool
    free: int  # bytes, before the model was loaded
    resolution: int  # that pictures are brought to
    dim: int
    text_encoders: int = 0  # bytes of the model, where they could do without training
    lora_of_text: int = 0  # bytes

    @property
    def total(self) -> int:
        return self.model + self.memory.bytes(self.checkpointing)

    @property
    def fits(self) -> bool:
        return self.total <= self.free

    def __str__(self) -> str:
        parts = {
            "model": self.model,
            "LoRA and optimizer": self.memory.lora,
            "one step": self.memory.step(self.checkpointing),
        }
        shares = ", ".join(f"{name} {_gb(size)}" for name, size in parts.items())
        return f"needs about {_gb(self.total)} GB: {shares}; {_gb(max(self.free, 0))} free"

    def advice(self) -> str | None:
        """What to change so that it fits, the cheapest change first. None where it fits as it is."""
        if self.fits:
            return None
        changes, need = [], self
        for words, ways in CHANGES:
            found = list(ways(need))
            if not found:
                continue
            value, need = next((way for way in found if way[1].fits), found[-1])
            changes.append(f"{words} {value} ({_gb(need.total)} GB)")
            if need.fits:
                break
        rest = "" if need.fits else "; that is still too much: use a smaller model, or one in fewer bits"
        return f"training {self}, so that it does not fit. Set {', then '.join(changes)}{rest}"

    def _with(self, **memory: Any) -> "Need":
        return replace(self, memory=replace(self.memory, **memory))


def _gb(size: int) -> str:
    return f"{size / GB:.1f}" if size >= GB else f"{size / GB:.2f}"


Ways = Iterator[tuple[Any, Need]]  # a value, and the need with it; each needs less than the one before


def _checkpointed(need: Need) -> Ways:
    if not need.checkpointing and need.memory.step(True) < need.memory.step(False):
        yield "'on'", replace(need, checkpointing=True)


def _fewer_at_once(need: Need) -> Ways:
    for pictures in range(need.memory.pictures - 1, 0, -1):
        yield pictures, need._with(pictures=pictures)


def _smaller_pictures(need: Need) -> Ways:
    lowest = max(LOWEST, need.resolution // 2)
    for side in range(need.resolution - SIZE_STEP, lowest - 1, -SIZE_STEP):
        pixels = round(need.memory.pixels * (side / need.resolution) ** 2)
        yield side, replace(need._with(pixels=pixels), resolution=side)


def _smaller_lora(need: Need) -> Ways:
    dim = need.dim // 2
    while dim >= LEAST_DIM:
        share = dim / need.dim
        smaller = need._with(lora=round(need.memory.lora * share))
        yield dim, replace(smaller, dim=dim, lora_of_text=round(need.lora_of_text * share))
        dim //= 2


def _without_text_encoders(need: Need) -> Ways:
    if need.text_encoders:
        smaller = need._with(lora=need.memory.lora - need.lora_of_text)
        yield "off", replace(smaller, model=need.model - need.text_encoders, text_encoders=0, lora_of_text=0)


CHANGES: tuple[tuple[str, Callable[[Need], Ways]], ...] = (
    ("checkpointing at Train to", _checkpointed),
    ("pictures_at_once at Train to", _fewer_at_once),
    ("resolution at Load Dataset to", _smaller_pictures),
    ("dim at LoRA Config to", _smaller_lora),
    ("train_text_encoder at LoRA Config", _without_text_encoders),
)
