"""How much memory a step takes: what it will, and what a run took at most."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data.latents import LatentPicture
from ..families import Family
from ..precision import Precision
from ..settings.run import RunConfig

BYTES_PER_VALUE = (
    24  # of the LoRA: weight, gradient, the optimizer's m, v and s in fp32, and what a step casts
)
FILLED = 0.9  # of the room, at most: allocators waste some
# in the messages of errors without a class of their own: Apple's and Intel's GPUs, cuBLAS, a CPU
FULL = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


@dataclass(frozen=True)
class StepMemory:
    """What a training step takes beside the loaded model, in bytes, roughly."""

    activations: int
    checkpointed: int  # activations with gradient checkpointing
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
        """values: how many numbers the LoRA holds."""
        largest = max(picture.latent.shape[-2] * picture.latent.shape[-1] for picture in pictures)
        pixels = largest * run.batch_size * precision.dtype.itemsize // 2
        return cls(
            family.step.activations * pixels, family.step.checkpointed * pixels, BYTES_PER_VALUE * values
        )

    def bytes(self, checkpointing: bool) -> int:
        return self.lora + (self.checkpointed if checkpointing else self.activations)

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
