"""How much memory a step takes: what it will, and what a run took at most."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data.latents import LatentPicture, pixels_of
from ..families import Family
from ..precision import Precision
from ..settings.run import RunConfig
from .activations import Activations, PerPicture

BYTES_PER_VALUE = (
    24  # of the LoRA: weight, gradient, the optimizer's m, v and s in fp32, and what a step casts
)
FILLED = 0.9  # of the room, at most: allocators waste some
# in the messages of errors without a class of their own: Apple's and Intel's GPUs, cuBLAS, a CPU
FULL = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


@dataclass(frozen=True)
class StepMemory:
    """What a training step takes beside the loaded model, in bytes."""

    activations: Activations  # of one picture
    pixels: int  # of the largest latent
    pictures: int  # that are computed at once
    lora: int  # the LoRA, its gradient and its optimizer

    @classmethod
    def of(
        cls,
        run: RunConfig,
        precision: Precision,
        pictures: Sequence[LatentPicture],
        family: Family,
        values: int,
    ) -> "StepMemory":
        """By rule of thumb, before the model is loaded. values: how many numbers the LoRA holds."""
        halves = precision.dtype.itemsize / 2
        table = (family.step.activations, family.step.checkpointed)
        activations = Activations(*(PerPicture(per_pixel * halves) for per_pixel in table))
        largest = max(map(pixels_of, pictures))
        return cls(activations, largest, run.most_at_once, BYTES_PER_VALUE * values)

    def step(self, checkpointing: bool) -> int:
        """What goes again after each step."""
        return self.pictures * self.activations.bytes(checkpointing, self.pixels)

    def bytes(self, checkpointing: bool) -> int:
        return self.lora + self.step(checkpointing)

    def wants_checkpointing(self, choice: str, room: int) -> bool:
        """`choice` as a person sets it; "auto" where a step would not fit into `room` bytes without it."""
        return choice == "on" or (choice == "auto" and self.bytes(checkpointing=False) > FILLED * room)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch raised it because the memory of a device is full."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)


def start_of_peak(device: torch.device) -> None:
    """A GPU counts its peak from here on; a process cannot forget its own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float | None:
    """Megabytes: the most that tensors took on the GPU, else the most that this process took.

    None where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # not on Windows
        import sys
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, kilobytes elsewhere
